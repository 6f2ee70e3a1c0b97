"""A time in which the pool does not answer."""

import logging
import math
import time

from picas.backoff import delays
from picas.errors import PoolError

log = logging.getLogger("picas.pilot")


class Outage:
    """When to ask the pool again, and how long it has not answered."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._next = 0.0
        self._waits = delays(0.5, 30.0)

    def began(self, error: PoolError) -> None:
        """Note a failure; logged once an outage."""
        now = time.monotonic()
        if self._since is None:
            self._since = now
            log.warning("%s; trying again, running tasks go on", error)
        self._next = now + next(self._waits)

    def ended(self) -> None:
        """Note that the pool answered."""
        if self._since is not None:
            log.warning("the pool is back after %.0f s", self.lasted())
            self._since = None
            self._waits = delays(0.5, 30.0)

    def ask_now(self) -> None:
        """Do not wait: somebody reached the pool."""
        self._next = 0.0

    def over(self) -> bool:
        """Tell whether the pool may be asked (again)."""
        return self._since is None or time.monotonic() >= self._next

    def lasted(self) -> float:
        """Seconds since the first failure; 0 outside an outage."""
        return 0.0 if self._since is None else time.monotonic() - self._since

    @property
    def wait(self) -> float:
        """Seconds until the pool may be asked again; without end outside an outage."""
        return math.inf if self._since is None else max(0.001, self._next - time.monotonic())
