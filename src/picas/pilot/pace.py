"""How many tokens to hold ahead of the free slots."""

AHEAD_SECONDS = 0.5
"""Work a pilot holds ahead: enough to hide the pool's answers, too little to starve others."""

MOST_AHEAD = 200
"""Tokens held ahead at most, however short they are."""


class Pace:
    """Learns how long tokens take, and says how many to claim.

    Tokens that take seconds are claimed only for slots that are free now, so that no pilot sits on
    work that another could do; tokens of milliseconds are claimed by the batch.

    Args:
        slots: How many tokens run at once.
        ahead: Seconds of work to hold ahead; 0: none.
    """

    def __init__(self, slots: int, ahead: float = AHEAD_SECONDS) -> None:
        self._slots = slots
        self._seconds = ahead
        self._mean: float | None = None

    def saw(self, wall: float) -> None:
        """Take note of how long one token took, in seconds."""
        self._mean = wall if self._mean is None else 0.8 * self._mean + 0.2 * wall

    def forget(self) -> None:
        """What was learned does not hold: tokens wait behind others that run for long."""
        self._mean = None

    @property
    def ahead(self) -> int:
        """Tokens worth holding beyond those that run."""
        if self._mean is None:
            return 0
        return int(min(MOST_AHEAD, self._seconds * self._slots / max(self._mean, 1e-6)))

    def want(self, held: int, *, settling: bool = False) -> int:
        """How many to claim now; 0: enough is at hand.

        Args:
            held: Tokens waiting or running.
            settling: Results are to be written anyway: a claim goes with them, the sooner the
                better.
        """
        full = self._slots + self.ahead
        enough = self._slots + self.ahead * (3 if settling else 2) // 4
        return full - held if held < enough else 0
