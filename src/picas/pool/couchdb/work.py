"""Finding tokens that may be claimed, so that pilots seldom meet and seldom ask.

Each pilot walks through a view from a random place on, and leaps ahead where it meets others. It
goes by ids, so that what it claims lies close together in the database: that is cheaper to write.
The view is read as it stands, for bringing it up to date takes the time of all writes since; what
is stale in it shows when the tokens are read, or at last when a claim meets another revision. Only
when much of it is stale is it brought up to date behind a look (``update=lazy``), and before one
when nothing was found, unless results wait for that look.

A design of ours has a view for this (`picas.views.FREE`), in which tokens that must wait stand
apart, and which tells what tokens need. Of other designs the view itself is walked through.
"""

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import dropwhile
from typing import Any, ClassVar

from picas import token, views
from picas.dice import dice
from picas.errors import ViewMissing
from picas.pool.base import Candidates, ReadyAt
from picas.pool.couchdb.http import as_text
from picas.pool.couchdb.ids import between, shard
from picas.token import Document, State
from picas.views import Design

READ_AHEAD = 100
"""Tokens read at once for claims of a few."""

FRESH_SECONDS = 2.0
"""How long tokens that were read ahead are offered."""

LEAP = 2_000
"""Rows that a pilot leaps at most, to get away from others: skipping rows costs time."""

MOSTLY = 0.75
"""Share of rows that name free tokens, below which a view is due to be brought up to date: one
that is updated seldom is spared the states that a token passes through in between."""

DUE_SECONDS = 10.0
"""How often it is looked first for tokens that had to wait, and now may be claimed."""

ROWS = 50
"""Rows of a view that are asked for at least: they cost little beside the request."""

PAGE = 200
KNOWN_SECONDS = 600.0
"""How long it is taken for granted that a design has the view of free tokens, or not."""

Row = Mapping[str, Any]
Parameters = Mapping[str, object]
AskView = Callable[[str, Parameters], Any]
"""Gives the answer of a view, by its name and a query."""

Read = Callable[[Sequence[str]], list[Document | None]]

_BEHIND: Parameters = {}
"""Sorts behind every number and text."""


class WorkFinder:
    """Finds candidates in the views of a database.

    Args:
        ask: Asks a view.
        read: Reads documents.
        now: The server's time.
        shards: In how many pieces the server keeps the documents.
    """

    def __init__(
        self, ask: AskView, read: Read, now: Callable[[], float], shards: Callable[[], int]
    ) -> None:
        self._ask = ask
        self._read = read
        self._now = now
        self._shards = shards
        self._latest = secrets.token_hex(4)  # each pilot begins somewhere else
        self._walks: dict[str, _Walk] = {}

    def crowded(self) -> None:
        """A write met other revisions than were read: others are at work in the same place."""
        for walk in list(self._walks.values()):
            walk.shelf.docs = []
            walk.leap = True

    def candidates(self, view: str, limit: int, ready_at: ReadyAt, *, quick: bool) -> Candidates:
        """See `picas.pool.base.Store.candidates`."""
        walk = self._walks.get(view)
        if walk is None or time.monotonic() >= walk.known_until:
            walk = self._walks[view] = self._begin(view)
        try:
            return self._look(walk, limit, ready_at, quick=quick)
        except ViewMissing:
            if not isinstance(walk, _FreeWalk):
                raise
            # Somebody put other views in the place of ours.
            walk = self._walks[view] = self._begin(view)
            return self._look(walk, limit, ready_at, quick=quick)

    def _begin(self, view: str) -> "_Walk":
        design, part = views.split(view)
        (doc,) = self._read([f"_design/{design}"])
        found = Design.from_document(doc or {})
        has_free = part == views.TODO and not found.raw and views.FREE in found.views
        return (
            _FreeWalk(self._ask, f"{design}/{views.FREE}") if has_free else _Walk(self._ask, view)
        )

    def _look(self, walk: "_Walk", limit: int, ready_at: ReadyAt, *, quick: bool) -> Candidates:
        now = self._now()
        if taken := walk.shelf.take(limit, lambda doc: ready_at(doc) <= now):
            return self._offered(taken)
        number = max(limit, walk.shelf.ahead())
        later: list[float] = []
        for page in walk.pages(number, now, quick=quick):
            if free := self._free(page, number, walk, ready_at, now, later):
                if len(free) > limit:
                    free = self._gathered(free)
                walk.shelf.fill(free[limit:], offered=min(limit, len(free)))
                return self._offered(free[:limit])
        if quick:
            return Candidates()
        for rows in walk.later(now):
            later += [ready_at(walk.tells(row)) for row in rows]
            if min(later) <= rows[-1]["key"][0]:  # none behind can be due before
                break
        return Candidates.later(later)

    def _offered(self, docs: list[Document]) -> Candidates:
        if docs:
            self._latest = docs[-1]["_id"]
        return Candidates(docs)

    def _gathered(self, docs: list[Document]) -> list[Document]:
        """Tokens shard by shard, those of the shard of the latest claim first; see `shard`."""
        shards = self._shards()
        here = shard(self._latest, shards)
        return sorted(docs, key=lambda doc: (shard(doc["_id"], shards) - here) % shards)

    def _free(
        self,
        page: "_Page",
        number: int,
        walk: "_Walk",
        ready_at: ReadyAt,
        now: float,
        later: list[float],
    ) -> list[Document]:
        """About `number` tokens of a page that may be claimed now; notes when others may be."""
        fit: list[Row] = []
        for row in page.rows:
            at = ready_at(walk.tells(row))
            if at <= now:
                fit.append(row)
            elif page.fresh:
                later.append(at)
        while fit:
            part, fit = fit[:number], fit[number:]
            ids = list(dict.fromkeys(row["id"] for row in part))  # each once, however many rows
            number *= 2  # where many were taken already, not one request for each
            docs, stale = [], 0
            for doc in self._read(ids):
                if doc is None or token.state(doc) is not State.TODO:
                    stale += 1
                elif (at := ready_at(doc)) <= now:
                    docs.append(doc)
                elif page.fresh:
                    later.append(at)
            if not page.fresh:
                walk.met(stale, len(ids))
            if docs:
                walk.go_on_behind(part[-1])
                return docs
        return []


@dataclass(frozen=True, slots=True)
class _Page:
    """A page of a view, and whether it is up to date."""

    rows: Sequence[Row]
    fresh: bool


@dataclass(slots=True)
class _Shelf:
    """Tokens that were read ahead.

    Attributes:
        docs: Those not offered yet.
        until: When they are too old to be offered, by the monotonic clock.
        offered: How many were, of those read at the same time.
    """

    docs: list[Document] = field(default_factory=list)
    until: float = 0.0
    offered: int = 0

    def take(self, limit: int, fits: Callable[[Document], bool]) -> list[Document]:
        """Some tokens, if there are enough that are fresh and fit."""
        if time.monotonic() >= self.until:
            self.docs = []
        taken: list[Document] = []
        passed: list[Document] = []
        rest = iter(self.docs)
        while len(taken) < limit:
            doc = next(rest, None)
            if doc is None:
                return []
            (taken if fits(doc) else passed).append(doc)
        self.docs = [*passed, *rest]
        self.offered += limit
        return taken

    def ahead(self) -> int:
        """How many are worth reading now: as many as are taken while they are fresh."""
        used_up = time.monotonic() < self.until
        return min(READ_AHEAD, self.offered * 2 if used_up else self.offered)

    def fill(self, docs: list[Document], *, offered: int) -> None:
        """Put tokens there that were read just now, beside those that were offered at once."""
        self.docs, self.until, self.offered = docs, time.monotonic() + FRESH_SECONDS, offered


class _Walk:
    """A pilot's way through a view whose rows tell nothing but ids.

    Attributes:
        shelf: What was read ahead.
        leap: Get away from others.
        known_until: When it is to be looked again if it is the right view, by the monotonic clock.
    """

    within: ClassVar[Parameters] = {}
    """Where in the view the tokens are that need not wait."""

    backwards: ClassVar[Parameters] = {}
    """The same, to be read from its end."""

    def __init__(self, ask: AskView, view: str) -> None:
        self.shelf = _Shelf()
        self.leap = True
        self.known_until = time.monotonic() + KNOWN_SECONDS
        self._ask = ask
        self._view = view
        self._behind: Row | None = None
        self._stale = self._looked = False

    def pages(self, number: int, now: float, *, quick: bool) -> Iterator[_Page]:
        """Rows of tokens that need not wait: some as the view stands, then all, up to date."""
        if quick or not self._looked:
            yield _Page(self._some(number), fresh=False)
        self._looked = quick  # in vain; the thorough look that follows need not do it again
        if quick:
            return
        for rows in self._all(now):
            yield _Page(rows, fresh=True)

    def later(self, now: float) -> Iterator[Sequence[Row]]:  # noqa: ARG002 - they are among all
        """Rows of tokens that must wait, the earliest first."""
        yield from ()

    def tells(self, row: Row) -> Document:  # noqa: ARG002
        """What a row tells of the needs of its token."""
        return {}

    def key(self, doc_id: str) -> object:
        """The key of the row of a token that need not wait."""
        return doc_id

    def met(self, stale: int, seen: int) -> None:
        """Take note of how many of the tokens in a page were taken already."""
        self._stale = self.leap = stale > (1 - MOSTLY) * seen

    def go_on_behind(self, row: Row) -> None:
        """Begin the next look there."""
        self._behind = row

    def _some(self, number: int) -> Sequence[Row]:
        """Rows from where the last ones ended, or from further on; at the end from the head."""
        update = "lazy" if self._stale else "false"
        query = {**self.within, "limit": max(ROWS, number + number // 8), "update": update}
        skip = 0
        if self.leap:
            most = self._start(query, number) if self._behind is None else LEAP
            skip = dice.randint(0, max(0, most))
        leaping = {**query, "skip": skip}
        rows = page_of(self._ask, self._view, leaping, self._behind)
        if not rows and self._behind is not None:  # at the end of the view
            rows = page_of(self._ask, self._view, leaping)
        if not rows and skip:
            rows = page_of(self._ask, self._view, query)
        self._behind, self.leap = rows[-1] if rows else None, False
        return rows

    def _start(self, query: Parameters, number: int) -> int:
        """Choose a place in a large view; returns how many rows to leap at most from there."""
        answer = self._ask(self._view, {**query, "limit": 1})
        total = answer.get("total_rows", 0)
        if total <= LEAP + number:
            return int(min(LEAP, total - number))
        backwards = {**query, **self.backwards, "descending": "true", "limit": 1}
        ends: list[Row] = [*answer["rows"], *self._ask(self._view, backwards)["rows"]]
        # A view of somebody's own may have any keys: there it is the head of the view.
        if len(ends) == 2 and all(row["key"] == self.key(row["id"]) for row in ends):
            place = between(ends[0]["id"], ends[1]["id"])
            self._behind = {"key": self.key(place), "id": place}
        return LEAP

    def _all(self, now: float) -> Iterator[Sequence[Row]]:  # noqa: ARG002
        yield from self._pages(self.within)

    def _pages(self, within: Parameters) -> Iterator[Sequence[Row]]:
        query = {**within, "limit": PAGE}
        rows = page_of(self._ask, self._view, query)
        while rows:
            yield rows
            rows = page_of(self._ask, self._view, query, rows[-1])


class _FreeWalk(_Walk):
    """A way through the view of free tokens: by when they need not wait any more, then by id."""

    within: ClassVar[Parameters] = {"startkey": "[0]", "endkey": "[0,{}]"}
    backwards: ClassVar[Parameters] = {"startkey": "[0,{}]", "endkey": "[0]"}

    def __init__(self, ask: AskView, view: str) -> None:
        super().__init__(ask, view)
        self._due_at = 0.0

    def pages(self, number: int, now: float, *, quick: bool) -> Iterator[_Page]:
        # Those that had to wait go first now and then: else they would go last.
        if time.monotonic() >= self._due_at:
            self._due_at = time.monotonic() + DUE_SECONDS
            due = {**self._due(now), "limit": number, "update": "lazy"}
            yield _Page(page_of(self._ask, self._view, due), fresh=False)
        yield from super().pages(number, now, quick=quick)

    def later(self, now: float) -> Iterator[Sequence[Row]]:
        yield from self._pages(_between([now, _BEHIND], [_BEHIND]))

    def key(self, doc_id: str) -> object:
        return [0, doc_id]

    def tells(self, row: Row) -> Document:
        needs = row["value"] if isinstance(row["value"], dict) else {}
        return {**needs, "not_before": row["key"][0]}

    def go_on_behind(self, row: Row) -> None:
        if row["key"][0] == 0:  # not among those that had to wait
            super().go_on_behind(row)

    def _all(self, now: float) -> Iterator[Sequence[Row]]:
        yield from self._pages(self._due(now))
        yield from self._pages(self.within)

    def _due(self, now: float) -> Parameters:
        return _between([0, _BEHIND], [now, _BEHIND])


def page_of(ask: AskView, view: str, query: Parameters, behind: Row | None = None) -> Sequence[Row]:
    """Rows of a view, behind a row of it if one is given."""
    if behind is None:
        rows: list[Row] = ask(view, query)["rows"]
        return rows
    # One more, since that row comes first if it is still there; in a view of somebody's own a
    # document may have many rows of one key.
    number, skip = int(str(query["limit"])) + 1, int(str(query.get("skip", 0)))
    start = {"startkey": as_text(behind["key"]), "startkey_docid": behind["id"], "limit": number}
    place = behind["key"], behind["id"]
    while True:
        rows = ask(view, {**query, **start, "skip": skip})["rows"]
        rest = list(dropwhile(lambda row: (row["key"], row["id"]) == place, rows))
        if rest or len(rows) < number:
            return rest[: number - 1]
        skip += len(rows)


def _between(low: object, high: object) -> Parameters:
    return {"startkey": as_text(low), "endkey": as_text(high)}
