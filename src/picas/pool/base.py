"""What every store promises: documents under revision control, and views of them.

A store knows documents, not what they mean; `picas.pool.pool.Pool` says what a claim or a settle
is, once, over every store. The contract suite in ``tests/contract`` runs over each store and is the
executable form of the docstrings below.
"""

import abc
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from picas.errors import PoolError, Unsupported
from picas.token import Document, State

INLINE_LIMIT = 256 * 1024
"""Attachments up to this many bytes travel inside the document's own write; larger ones stream."""


@dataclass(frozen=True, slots=True)
class Written:
    """What became of one document of a write.

    Attributes:
        id: The document's id.
        rev: Its new revision, or None if it was not written.
        error: Why it was not: a `Conflict` where the stored revision is another one than the
            document's (or exists, where the document has none), `TooLarge`, `Forbidden`.
        whole: False if only the lesser part of a cluster's copies took it: others may have
            another revision, and that one may stand in the end.
    """

    id: str
    rev: str | None
    error: PoolError | None = None
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Leaf:
    """A revision that no other follows; a document may have several on a cluster.

    Attributes:
        doc: The document in that revision.
        history: Digests of the revisions that led to it, its own first, where they matter.
    """

    doc: Document
    history: Sequence[str] = ()

    @property
    def generation(self) -> int:
        """How many revisions led to it, itself counted."""
        return int(self.doc["_rev"].partition("-")[0])

    @property
    def parent(self) -> str | None:
        """The revision that it follows, if that is known."""
        known = len(self.history) > 1
        return f"{self.generation - 1}-{self.history[1]}" if known else None


@dataclass(frozen=True, slots=True)
class Changes:
    """What changed in the pool since a point.

    Attributes:
        seq: The point to ask from next; opaque.
        ids: Ids of documents that changed, each once, in no particular order.
    """

    seq: str
    ids: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Candidates:
    """What of a view may be claimed.

    Attributes:
        docs: Documents that are free and ready, as far as the store knows.
        due: If there are none: when the first of those that wait comes due, in epoch seconds;
            None if none ever will.
        unfit: If there are none: how many never will.
    """

    docs: Sequence[Document] = ()
    due: float | None = None
    unfit: int = 0

    @staticmethod
    def later(moments: Iterable[float]) -> "Candidates":
        """No documents, but when those that were passed over come due; infinite: never."""
        due, unfit = math.inf, 0
        for moment in moments:
            unfit += moment == math.inf
            due = min(due, moment)
        return Candidates((), None if due == math.inf else due, unfit)


Query = Mapping[str, Any]
"""What of a view is asked for, by the names of CouchDB's parameters."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a view.

    Attributes:
        rows: Each with ``id``, ``key``, ``value``, and ``doc`` where that was asked for; those of
            a reduced view have no ``id``.
        total: How many rows the view has; None for a reduced one.
        offset: How many of them come before these; None for a reduced one.
    """

    rows: Sequence[Mapping[str, Any]]
    total: int | None = None
    offset: int | None = None


ReadyAt = Callable[[Document], float]
"""From when on a document may be claimed, in epoch seconds; infinite if never."""


class Store(abc.ABC):
    """Documents with revisions, attachments, views and a change feed.

    Documents are plain dicts in CouchDB's form: ``_id``, ``_rev``, ``_deleted``, and
    ``_attachments`` whose entries are stubs (``{"stub": true, …}``, to keep what is there) or carry
    base64 text in ``data``. Views are named ``design/view``.

    Every verb raises `PoolUnreachable` if no answer came: a write may then have been applied.
    """

    url: str
    """Where it is, as a person would write it; never holds a password."""

    address: str
    """The same for a process in any folder."""

    shared: bool
    """True if pilots on other hosts can reach it."""

    @property
    def sure(self) -> bool:
        """True if a write that was answered is the only one that follows its revision.

        A cluster that keeps several copies may take two: a claim is then read back before it
        counts.
        """
        return True

    @abc.abstractmethod
    def exists(self) -> bool:
        """Tell whether the database is there."""

    @abc.abstractmethod
    def create(self) -> bool:
        """Make the database with the standard views, where missing; False if it was there."""

    @abc.abstractmethod
    def now(self) -> float:
        """The store's clock: epoch seconds, the same for all its users (promise 6)."""

    @abc.abstractmethod
    def version(self) -> str:
        """Name and version of what stores the documents: ``CouchDB 3.5.0``, ``SQLite 3.40.1``."""

    @abc.abstractmethod
    def info(self) -> Mapping[str, Any]:
        """Facts about the database: ``doc_count``, all kinds of documents counted, and others."""

    @abc.abstractmethod
    def read(self, ids: Sequence[str]) -> list[Document | None]:
        """The newest revisions, in the order asked, attachments as stubs; None where missing."""

    def leaves(self, ids: Sequence[str]) -> list[list[Leaf]]:
        """All revisions in which each document stands, by every copy that can be reached."""
        return [[] if doc is None else [Leaf(doc)] for doc in self.read(ids)]

    def spread(self, leaves: Sequence[Leaf]) -> None:  # noqa: B027
        """Bring revisions that `leaves` gave to every copy that can be reached."""

    @abc.abstractmethod
    def write(self, docs: Sequence[Document]) -> list[Written]:
        """Write each document against the exact revision in its ``_rev``.

        None of them depends on another: some may be written and others not. The answers come in
        the order of the documents. A document without ``_rev`` is created, and conflicts where the
        id exists. An attachment left out of ``_attachments`` is dropped.
        """

    @abc.abstractmethod
    def candidates(
        self, view: str, limit: int, ready_at: ReadyAt, *, quick: bool = False
    ) -> Candidates:
        """At most `limit` documents of a view that are ready, to be claimed; they may be stale.

        Callers at work side by side are shown different ones as far as the store can manage. No
        documents means that the view, up to date, has none that is ready.

        Args:
            view: ``design/view``.
            limit: How many at most.
            ready_at: From when on a document may be claimed.
            quick: Do not wait for the view to be brought up to date; then no documents mean
                nothing.

        Raises:
            ViewMissing: There is no such view.
        """

    @abc.abstractmethod
    def find(self, view: str, *, after: str = "", limit: int | None = None) -> Iterator[Document]:
        """The documents of a view in the order of their ids, in flat memory.

        Args:
            view: ``design/view``.
            after: Begin behind this id.
            limit: Stop after this many.

        Raises:
            ViewMissing: There is no such view.
        """

    @abc.abstractmethod
    def rows(self, view: str, query: Query) -> Rows:
        """The rows of a view as they are asked for, up to date.

        Args:
            view: ``design/view``, or ``_all_docs``.
            query: Parameters as CouchDB's views have them, with Python's values: ``key``, ``keys``,
                ``startkey``, ``endkey``, ``inclusive_end``, ``startkey_docid``, ``endkey_docid``,
                ``limit``, ``skip``, ``descending``, ``include_docs``, ``reduce``, ``group``.

        Raises:
            ViewMissing: There is no such view.
            Refused: A parameter cannot be.
        """

    @abc.abstractmethod
    def count(self, view: str) -> int:
        """How many documents a view holds, up to date."""

    @abc.abstractmethod
    def counts(self, design: str) -> dict[State, int]:
        """Tokens of a design's four states (its ``overview_total``), up to date."""

    @abc.abstractmethod
    def ids(self, prefix: str, limit: int) -> list[str]:
        """Ids of documents that begin with `prefix`, in order; at most `limit`."""

    @abc.abstractmethod
    def read_attachment(self, doc_id: str, name: str) -> Iterator[bytes]:
        """The bytes of an attachment, in pieces.

        Raises:
            TokenMissing: No such document or attachment.
        """

    @abc.abstractmethod
    def attach(self, doc_id: str, rev: str, name: str, file: Path) -> str:
        """Stream a file into an attachment, against revision `rev`; returns the new revision.

        Raises:
            Conflict: The document has another revision.
            TooLarge: The store does not take attachments of that size.
        """

    @abc.abstractmethod
    def changes(self, since: str | None, *, timeout: float, todo: bool = False) -> Changes:
        """Wait until a document changes after `since`, `timeout` seconds at most.

        Args:
            since: A ``seq`` from before; None answers at once with the present point.
            timeout: Seconds.
            todo: Only tokens that may be claimed now count as a change: those that are todo and
                whose ``not_before`` has passed.
        """

    @abc.abstractmethod
    def designs(self) -> dict[str, Document]:
        """All design documents, by name (without ``_design/``)."""

    def security(self) -> dict[str, Any]:
        """Who may use the database, as CouchDB has it; raises `Unsupported` without users."""
        raise Unsupported(f"{self.url} has no users: who may read the file may use it")

    def set_security(self, security: Mapping[str, Any]) -> None:  # noqa: ARG002
        """Replace what `security` tells."""
        raise Unsupported(f"{self.url} has no users: who may read the file may use it")

    def hurry(self, seconds: float) -> None:  # noqa: B027 - most stores answer at once anyway
        """Let no verb take longer than `seconds` from now on: whoever uses it has to end."""

    def within(self, seconds: float) -> AbstractContextManager[object]:  # noqa: ARG002
        """A span in which no request of this thread takes longer; most stores answer anyway."""
        return nullcontext()

    @abc.abstractmethod
    def close(self) -> None:
        """Give back connections; the store is not used afterwards."""
