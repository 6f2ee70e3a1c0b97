"""When a pilot looks for others that are gone, and what it says of it."""

import logging
import time

from picas.dice import dice
from picas.errors import ViewMissing
from picas.pilot.requeue import JobRun
from picas.pool import Pool, Reaped
from picas.pool.reap import grace, pause

SHARE = 4
"""Looks of one pilot within the lease time, while there are few pilots."""

CROWD = 8
"""From so many pilots on, each looks less often: all together look the same number of times."""

THOROUGH = 0.25
"""Share of the looks that also find pilots without a document."""

TIDY = 0.02
"""Share of the looks that also delete the documents of pilots that ended long ago."""

log = logging.getLogger("picas.pilot")


class Reaper:
    """Gives back the tokens of pilots that are gone, at random moments.

    In a batch job that was requeued the first look is at once: the pilot of its former run is dead.

    Args:
        pool: The pool.
        lease: Its lease time, in seconds.
    """

    def __init__(self, pool: Pool, lease: float) -> None:
        self._pool = pool
        self._lease = lease
        self._at = 0.0
        self._job = JobRun.of()
        self._first = self._job.restarts > 0
        if not self._first:
            self._plan(living=0)

    @property
    def wait(self) -> float:
        """Seconds until it is time to look."""
        return max(0.0, self._at - time.monotonic())

    @property
    def telling(self) -> float:
        """Seconds until it can be told if a pilot that is suspected now is gone."""
        return 2 * grace(self._lease) + 2 * pause(self._lease)

    @property
    def is_due(self) -> bool:
        """True if it is time to look."""
        return time.monotonic() >= self._at

    def reap(self, *, thorough: bool = False) -> Reaped:
        """Look; while somebody is suspected, the next look is as soon as that can be decided.

        Raises:
            PoolError: The pool did not answer, or refused.
        """
        thorough = thorough or dice.random() < THOROUGH
        try:
            tidy = dice.random() < TIDY
            dead = self._former()
            reaped = self._pool.reap(self._lease, thorough=thorough, tidy=tidy, dead=dead)
            self._first = False
        except ViewMissing as error:
            # The pilot's own work does not need that view: no reason to end.
            log.warning("tokens of pilots that are gone cannot be looked for: %s", error)
            reaped = Reaped()
        self._plan(reaped.living)
        if reaped.suspects:
            self._at = time.monotonic() + pause(self._lease)
        if reaped.tokens or reaped.errors:
            log.warning(
                "%d pilots are gone: %d of their tokens given back, %d closed as errors",
                len(reaped.pilots),
                reaped.tokens,
                reaped.errors,
            )
        return reaped

    def _former(self) -> list[str]:
        """The pilots of this job's former runs, as long as nobody looked for them."""
        pilots = self._pool.pilots(past=False) if self._first else ()
        return [doc["_id"] for doc in pilots if self._job.follows(doc)]

    def _plan(self, living: int) -> None:
        """Choose the time of the next look: at random, so that pilots do not look in step."""
        mean = self._lease / SHARE * max(1.0, living / CROWD)
        self._at = time.monotonic() + mean * dice.uniform(0.5, 1.5)
