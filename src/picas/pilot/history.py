"""How long tokens take, by those that are done."""

import statistics
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from itertools import islice

from picas import token, units, views
from picas.errors import PoolError
from picas.pool import Pool
from picas.token import Document

REMEMBERED = 500
"""Tokens that the estimate rests on at most: first some that the pool has, then the latest."""

ENOUGH = 5
"""Without so many there is no estimate."""

USEFUL = 0.9
"""An estimate of use is below this part of a pilot's whole time."""

PERCENTILE = 95
"""Nearly all tokens take less."""


class History:
    """Wall times of a view's tokens that ended with exit code 0."""

    def __init__(self) -> None:
        self._walls: deque[float] = deque(maxlen=REMEMBERED)

    def read(self, pool: Pool, view: str) -> None:
        """Begin with what the pool has; where that is nothing, or cannot be read, with none."""
        done = f"{views.split(view)[0]}/{views.DONE}"
        with suppress(PoolError):
            self._walls.extend(_walls(islice(pool.find(done, limit=REMEMBERED), REMEMBERED)))

    def saw(self, wall: float) -> None:
        """Take note of how long one token took, in seconds."""
        self._walls.append(wall)

    def usual(self, most: float) -> float:
        """Seconds within which nearly all tokens end; 0 if that is not known.

        Args:
            most: The longest time that would be of use. Where tokens take longer than a pilot ever
                has, waiting for a better one would be in vain, so that counts as not known.
        """
        if len(self._walls) < ENOUGH:
            return 0.0
        # A pilot has a little less than all of its time once it has begun.
        usual = statistics.quantiles(self._walls, n=100, method="inclusive")[PERCENTILE - 1]
        return usual if usual < USEFUL * most else 0.0


def _walls(docs: Iterable[Document]) -> Iterable[float]:
    for doc in docs:
        runs = [entry for entry in token.attempts(doc) if entry.get("exit_code") == 0]
        if runs and (wall := units.number(runs[-1].get("wall"))) is not None:
            yield wall
