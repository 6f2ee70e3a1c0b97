"""What a pilot has for its tokens, from its start to its end."""

import time
from dataclasses import replace
from typing import Any

from picas.needs import Offer
from picas.pilot.history import History
from picas.pool import Pool


class Offering:
    """What a pilot has; of time, what is left until its batch job ends.

    Args:
        offer: What it has throughout.
        ends_in: Seconds until it has to end; None where that is not known.
    """

    def __init__(self, offer: Offer, ends_in: float | None) -> None:
        self._offer, self._ends_in = offer, ends_in
        self._started = time.monotonic()
        self._history = History()

    def facts(self, now: float) -> dict[str, Any]:
        """The same as the pilot's document tells it.

        Args:
            now: By the pool's clock.
        """
        offer = self._offer
        told = {"cores": offer.cores, "memory": offer.memory, "gpus": offer.gpus}
        return told if self._ends_in is None else {**told, "until": round(now + self._ends_in, 3)}

    def learn(self, pool: Pool, view: str) -> None:
        """See how long the view's tokens take, if that is of use."""
        if self._ends_in is not None:
            self._history.read(pool, view)

    def saw(self, wall: float) -> None:
        """Take note of how long one token took, in seconds."""
        self._history.saw(wall)

    def now(self) -> Offer:
        """What there is now."""
        if self._ends_in is None:
            return self._offer
        left = max(0.0, self._started + self._ends_in - time.monotonic())
        return replace(self._offer, time=left, usual=self._history.usual(self._ends_in))
