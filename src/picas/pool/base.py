"""What every store promises: documents under revision control, and views of them.

A store knows documents, not what they mean; `picas.pool.pool.Pool` says what a claim or a settle
is, once, over every store. The contract suite in ``tests/contract`` runs over each store and is the
executable form of the docstrings below.
"""

import abc
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from picas.errors import PoolError
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
    """

    id: str
    rev: str | None
    error: PoolError | None = None


@dataclass(frozen=True, slots=True)
class Changes:
    """What changed in the pool since a point.

    Attributes:
        seq: The point to ask from next; opaque.
        ids: Ids of documents that changed, each once, in no particular order.
    """

    seq: str
    ids: Sequence[str] = ()


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
    def read(self, ids: Sequence[str]) -> list[Document | None]:
        """The newest revisions, in the order asked, attachments as stubs; None where missing."""

    @abc.abstractmethod
    def write(self, docs: Sequence[Document]) -> list[Written]:
        """Write each document against the exact revision in its ``_rev``.

        None of them depends on another: some may be written and others not. The answers come in
        the order of the documents. A document without ``_rev`` is created, and conflicts where the
        id exists. An attachment left out of ``_attachments`` is dropped.
        """

    @abc.abstractmethod
    def candidates(self, view: str, limit: int) -> list[Document]:
        """At most `limit` documents of a view, to be claimed; they may be stale.

        Callers at work side by side are shown different ones as far as the store can manage. An
        empty list means that the view was empty, up to date.

        Raises:
            ViewMissing: There is no such view.
        """

    def exclusive(self) -> AbstractContextManager[object]:
        """A span in which nobody else writes, where the store has such a thing; else nothing.

        Claims read and write inside it. They are right without it (`write` checks revisions); with
        it they meet no conflicts.
        """
        return nullcontext()

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
            todo: Only tokens that are todo now count as a change.
        """

    @abc.abstractmethod
    def designs(self) -> dict[str, Document]:
        """All design documents, by name (without ``_design/``)."""

    def hurry(self, seconds: float) -> None:  # noqa: B027 - most stores answer at once anyway
        """Let no verb take longer than `seconds` from now on: whoever uses it has to end."""

    @abc.abstractmethod
    def close(self) -> None:
        """Give back connections; the store is not used afterwards."""
