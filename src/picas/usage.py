"""What a piece of Python code used, between two moments of this process."""

import resource
import time

from picas.token import Outcome


class Usage:
    """Counts from the moment it is made: this process, and its children that ended meanwhile."""

    def __init__(self) -> None:
        self._start = time.time()
        self._clock = time.monotonic()
        self._cpu = _cpu()

    def outcome(self, exit_code: int | None, reason: str) -> Outcome:
        """How an attempt ended that began then and ends now; see `picas.token.Outcome`."""
        wall = time.monotonic() - self._clock
        used = max(0.0, _cpu() - self._cpu)
        return Outcome(exit_code, self._start, self._start + wall, reason, wall, cpu=used)


def _cpu() -> float:
    """CPU seconds, user and system."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used)
