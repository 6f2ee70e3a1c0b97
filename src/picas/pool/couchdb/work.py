"""Finding tokens that may be claimed, so that pilots seldom meet and seldom ask.

A design of ours has an index for this (`picas.views.Design.claims`): a row for each free token, in
an order that is random but fixed, and each look begins at a random place of it. The index is read
as it stands (``update=lazy``), for bringing it up to date takes the time of all writes since; what
is stale in it shows when the tokens are read, or at last when a claim meets another revision. Only
when nothing was found is it brought up to date. Views without such an index (raw ones, and those
of databases that a classic client prepared) are read themselves.
"""

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from picas import token, views
from picas.pool.base import Candidates, ReadyAt
from picas.pool.couchdb.http import encode
from picas.token import Document, State
from picas.views import Design

READ_AHEAD = 50
"""Tokens read at once for claims of a few."""

FRESH_SECONDS = 2.0
"""How long tokens that were read ahead are offered."""

SPREAD = 2_000
"""Furthest row at which a look into a plain view begins: skipping rows costs time."""

PAGE = 200
KNOWN_SECONDS = 600.0
"""How long it is taken for granted that a design has an index, or none."""

Row = Mapping[str, Any]
AskView = Callable[[str, dict[str, object]], Any]
"""Gives the answer of a view, by its name and a query."""

Read = Callable[[Sequence[str]], list[Document | None]]

_BEHIND: Mapping[str, object] = {}
"""Sorts behind every number."""


class _Rows(Protocol):
    """Where rows of free tokens come from; each names a token and may tell what it needs."""

    def some(self, number: int) -> Sequence[Row]:
        """Some rows from a random place, perhaps stale."""

    def all(self, now: float) -> Iterator[Sequence[Row]]:
        """All rows of tokens that need not wait any more, up to date, a page at a time."""

    def later(self, now: float) -> Iterator[Sequence[Row]]:
        """Rows of tokens that still wait, the earliest first."""


@dataclass(frozen=True, slots=True)
class _Index:
    """The index of a design; its keys: until when a token waits (or 0), and a random number."""

    ask: AskView
    view: str

    def some(self, number: int) -> Sequence[Row]:
        for low, high in self._ring():
            if rows := self._page(low, high, number, "lazy"):
                return rows
        return ()

    def all(self, now: float) -> Iterator[Sequence[Row]]:
        # First what had to wait: else it would have to wait until all the rest is done.
        for low, high in (([0, _BEHIND], [now, _BEHIND]), *self._ring()):
            yield from self._pages(low, high)

    def later(self, now: float) -> Iterator[Sequence[Row]]:
        yield from self._pages([now, _BEHIND], [_BEHIND])

    def _ring(self) -> Sequence[tuple[list[Any], list[Any]]]:
        """The rows of tokens that need not wait, from a random place on and around."""
        start = random.getrandbits(32)
        return ([0, start], [0, _BEHIND]), ([0], [0, start])

    def _pages(self, low: list[Any], high: list[Any]) -> Iterator[Sequence[Row]]:
        rows = self._page(low, high, PAGE, "true")
        while rows:
            yield rows
            rows = self._page(low, high, PAGE, "true", behind=rows[-1])

    def _page(
        self, low: object, high: object, number: int, update: str, behind: Row | None = None
    ) -> Sequence[Row]:
        query = {"startkey": _json(low), "endkey": _json(high), "limit": number, "update": update}
        return page_of(self.ask, self.view, query, behind)


@dataclass(frozen=True, slots=True)
class _Plain:
    """A view as it is; its rows tell nothing of their tokens, which must be read."""

    ask: AskView
    view: str

    def some(self, number: int) -> Sequence[Row]:
        total = self.ask(self.view, {"limit": 0, "update": "lazy"}).get("total_rows", 0)
        skip = random.randint(0, max(0, min(total, SPREAD) - number))
        query = {"limit": number, "skip": skip, "update": "lazy"}
        return [_silent(row) for row in page_of(self.ask, self.view, query)]

    def all(self, now: float) -> Iterator[Sequence[Row]]:  # noqa: ARG002 - it has waiting ones too
        rows = page_of(self.ask, self.view, {"limit": PAGE})
        while rows:
            yield [_silent(row) for row in rows]
            rows = page_of(self.ask, self.view, {"limit": PAGE}, rows[-1])

    def later(self, now: float) -> Iterator[Sequence[Row]]:  # noqa: ARG002
        yield from ()


@dataclass(slots=True)
class _Shelf:
    """Tokens that were read ahead.

    Attributes:
        docs: Those not offered yet.
        until: When they are too old to be offered, by the monotonic clock.
        offered: How many of them were.
    """

    docs: list[Document] = field(default_factory=list)
    until: float = 0.0
    offered: int = 0

    def take(self, limit: int) -> list[Document]:
        """Some tokens, if there are enough and they are fresh."""
        if len(self.docs) < limit or time.monotonic() >= self.until:
            return []
        taken, self.docs = self.docs[:limit], self.docs[limit:]
        self.offered += len(taken)
        return taken

    def ahead(self) -> int:
        """How many are worth reading now: as many as are taken while they are fresh."""
        used_up = time.monotonic() < self.until
        return min(READ_AHEAD, self.offered * 2 if used_up else self.offered)

    def fill(self, docs: list[Document]) -> None:
        """Put tokens there that were read just now."""
        self.docs, self.until, self.offered = docs, time.monotonic() + FRESH_SECONDS, 0


class WorkFinder:
    """Finds candidates in the views of a database.

    Args:
        ask: Asks a view.
        read: Reads documents.
        now: The server's time.
    """

    def __init__(self, ask: AskView, read: Read, now: Callable[[], float]) -> None:
        self._ask = ask
        self._read = read
        self._now = now
        self._shelves: dict[str, _Shelf] = {}
        self._known: dict[str, tuple[_Rows, float]] = {}

    def forget(self) -> None:
        """Drop what was read ahead: a write met other revisions than were read."""
        for shelf in list(self._shelves.values()):
            shelf.docs = []

    def candidates(self, view: str, limit: int, ready_at: ReadyAt) -> Candidates:
        """See `picas.pool.base.Store.candidates`."""
        shelf = self._shelves.setdefault(view, _Shelf())
        if taken := shelf.take(limit):
            return Candidates(taken)
        return self._look(self._rows(view), shelf, limit, ready_at)

    def _rows(self, view: str) -> _Rows:
        """Where to look for the tokens of a view; asked of the database now and then."""
        rows, until = self._known.get(view, (None, 0.0))
        if rows is None or time.monotonic() >= until:
            has_index = self._has_index(*views.split(view))
            design = views.split(view)[0]
            rows = _Index(self._ask, views.claim_index(design)) if has_index else None
            rows = rows or _Plain(self._ask, view)
            self._known[view] = rows, time.monotonic() + KNOWN_SECONDS
        return rows

    def _has_index(self, design: str, view: str) -> bool:
        """Tell whether a view has the index that its design, as it is now, would get."""
        names = views.claim_index(design).partition("/")[0], design
        index, doc = self._read([f"_design/{name}" for name in names])
        if view != views.TODO or index is None or doc is None:
            return False
        found = Design.from_document(doc)
        return not found.raw and index == {**found.claims(), "_rev": index["_rev"]}

    def _look(self, rows: _Rows, shelf: _Shelf, limit: int, ready_at: ReadyAt) -> Candidates:
        now, number = self._now(), max(limit, shelf.ahead())
        free = self._free(rows.some(number + number // 4), ready_at, now)
        passed_over: list[float] = []
        for page in () if free else rows.all(now):
            free = self._free(page, ready_at, now, passed_over)
            if free:
                break
        if free:
            shelf.fill(free)
            return Candidates(shelf.take(min(limit, len(free))))
        for page in rows.later(now):
            moments = [ready_at(_told(row)) for row in page]
            passed_over += moments
            if min(moments) < float("inf"):
                break
        return Candidates.later(passed_over)

    def _free(
        self,
        rows: Sequence[Row],
        ready_at: ReadyAt,
        now: float,
        passed_over: list[float] | None = None,
    ) -> list[Document]:
        """The tokens of these rows that may be claimed now; notes when the others may be."""
        moments = [(row["id"], ready_at(_told(row))) for row in rows]
        later = [at for _, at in moments if at > now]
        wanted = [doc_id for doc_id, at in moments if at <= now]
        docs = []
        for doc in self._read(wanted) if wanted else ():
            if doc is not None and token.state(doc) is State.TODO:
                if (at := ready_at(doc)) <= now:
                    docs.append(doc)
                else:
                    later.append(at)
        if passed_over is not None:
            passed_over += later
        return docs


def _told(row: Row) -> Document:
    """What a row of an index tells of its token."""
    value = row["value"] if isinstance(row["value"], dict) else {}
    return {**value, "not_before": row["key"][0]}


def _silent(row: Row) -> Row:
    """A row of a plain view in the form of an index that tells nothing."""
    return {"id": row["id"], "key": [0], "value": None}


def page_of(
    ask: AskView, view: str, query: dict[str, object], behind: Row | None = None
) -> Sequence[Row]:
    """Rows of a view, behind a row of it if one is given."""
    if behind is None:
        rows: list[Row] = ask(view, query)["rows"]
        return rows
    # One more, since that row comes first if it is still there.
    number = int(str(query["limit"])) + 1
    start = {"startkey": _json(behind["key"]), "startkey_docid": behind["id"], "limit": number}
    rows = ask(view, query | start)["rows"]
    return [row for row in rows if row["id"] != behind["id"]][: number - 1]


def _json(value: object) -> str:
    return encode(value).decode()
