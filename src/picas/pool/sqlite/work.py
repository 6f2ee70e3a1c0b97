"""Finding tokens that may be claimed, in the order in which they were pushed.

That is how they lie in the file: what is claimed together, and later recorded together, is then
on a few pages. Indexes of their own hold the free tokens, and no others.

Each pilot remembers for a while where it found the first that was ready for it, so that it does not
pass over the same ones each time. Where its claims meet those of others, it goes on at a random
place.
"""

import sqlite3
import time
from dataclasses import dataclass

from picas.dice import dice
from picas.pool.base import Candidates, ReadyAt
from picas.pool.sqlite.designs import Free
from picas.pool.sqlite.file import document
from picas.token import Document

AGAIN_SECONDS = 10.0
"""How often a look begins anew at the oldest: tokens come due, are given back, or were passed over
for want of room, while new ones come in behind them all the time."""

AGAIN_TIMES = 20
"""So many times as long as such a look took it is at least."""


@dataclass(slots=True)
class _Walk:
    """A pilot's way through a view.

    Attributes:
        behind: Only tokens with higher numbers are looked at.
        until: When the walk begins anew, by the monotonic clock.
    """

    behind: int = 0
    until: float = 0.0


@dataclass(frozen=True, slots=True)
class _Found:
    """Tokens that are ready, the number of the first, and when those come due that are not."""

    docs: list[Document]
    first: int
    later: list[float]


class WorkFinder:
    """Finds candidates in the rows of a file."""

    def __init__(self) -> None:
        self._walks: dict[str, _Walk] = {}
        self._leap = False

    def crowded(self) -> None:
        """A write met another revision than was read: others are at work in the same place."""
        self._leap = True

    def candidates(
        self, db: sqlite3.Connection, view: str, free: Free, limit: int, ready_at: ReadyAt
    ) -> Candidates:
        """See `picas.pool.base.Store.candidates`.

        Args:
            db: The database.
            view: The name of the view.
            free: Its free tokens.
            limit: How many at most.
            ready_at: From when on a document may be claimed.
        """
        now, begun = time.time(), time.monotonic()
        walk = self._walks.setdefault(view, _Walk())
        anew = begun >= walk.until
        if anew:
            walk.behind = 0
        if self._leap:
            self._leap, walk.behind = False, _anywhere(db, free, now, walk.behind)
        found = _take(db, free, now, walk.behind, limit, ready_at)
        if not found.docs and walk.behind:
            found = _take(db, free, now, 0, limit, ready_at)
        if anew:
            ended = time.monotonic()
            walk.until = ended + max(AGAIN_SECONDS, AGAIN_TIMES * (ended - begun))
        if found.docs:
            walk.behind = found.first - 1
            return Candidates(found.docs)
        due = db.execute(f"SELECT not_before FROM {free.waiting} LIMIT 1", (now,)).fetchone()
        return Candidates.later([*found.later, *(due or ())])


def _anywhere(db: sqlite3.Connection, free: Free, now: float, behind: int) -> int:
    """A random place among the tokens behind one."""
    ends = (f"SELECT number FROM {free.ready} {way} LIMIT 1" for way in ("", "DESC"))
    numbers = [row[0] for end in ends for row in db.execute(end, (now, behind))]
    return dice.randint(numbers[0], numbers[1]) - 1 if numbers else 0


def _take(
    db: sqlite3.Connection, free: Free, now: float, behind: int, limit: int, ready_at: ReadyAt
) -> _Found:
    docs: list[Document] = []
    first, later = 0, []
    query = f"SELECT number, id, rev, body FROM {free.ready}"
    for number, *row in db.execute(query, (now, behind)):
        doc = document(row)
        if (at := ready_at(doc)) > now:
            later.append(at)
            continue
        first = first or number
        docs.append(doc)
        if len(docs) >= limit:
            break
    return _Found(docs, first, later)
