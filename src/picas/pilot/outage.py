"""Asking the pool, and the times in which it does not answer."""

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from picas.backoff import delays
from picas.errors import Forbidden, PoolError, PoolUnreachable, ServerError, Unauthorized
from picas.pool import Pool

log = logging.getLogger("picas.pilot")


class Outage:
    """When to ask the pool again, and how long it has not answered.

    Args:
        pool: The pool.
        began: Called when a request met an outage, each time.
        answered: Called when one was answered.
    """

    def __init__(
        self, pool: Pool, began: Callable[[], object], answered: Callable[[], object]
    ) -> None:
        self._pool = pool
        self._began = began
        self._answered = answered
        self._since: float | None = None
        self._next = 0.0
        self._waits = delays(0.5, 30.0)
        self._asked: float | None = None
        self._passing: tuple[type[PoolError], ...] = (PoolUnreachable, ServerError)

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Ask the pool; what may pass begins an outage, an answer ends it."""
        self._asked = time.monotonic()
        try:
            yield
        except self._passing as error:
            self._asked = None  # the disk is not to be given up for want of an answer
            self.failed(error)
            self._pool.touch.broke()
            self._began()
        else:
            self._end()
            self._answered()
        finally:
            self._asked = None

    def stop_asking(self, seconds: float) -> None:
        """Give up a request that has no answer for `seconds`; for a signal handler.

        Raises:
            PoolUnreachable: Inside that request: what becomes of it is not known.
        """
        if self._asked is not None and time.monotonic() - self._asked > seconds:
            self._asked = None
            raise PoolUnreachable(f"no answer from {self._pool.url} in time")

    def admitted(self) -> None:
        """The pool took a claim of ours: being refused from now on is no mistake of ours.

        CouchDB locks an address out after wrong passwords from it.
        """
        self._passing = (PoolUnreachable, ServerError, Unauthorized, Forbidden)

    @property
    def is_admitted(self) -> bool:
        """True once the pool took a claim of ours."""
        return Forbidden in self._passing

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

    def failed(self, error: PoolError) -> None:
        """Note a failure; logged once an outage."""
        now = time.monotonic()
        if self._since is None:
            self._since = now
            log.warning("%s; trying again, running tasks go on", error)
        self._next = now + next(self._waits)

    def _end(self) -> None:
        if self._since is not None:
            log.warning("the pool is back after %.0f s", self.lasted())
            self._since = None
            self._waits = delays(0.5, 30.0)
