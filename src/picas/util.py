"""Small helpers of the classic API: a stopwatch, and dicts that are merged."""

import time
from collections.abc import Mapping
from copy import deepcopy
from typing import Any


class Timer:
    """A stopwatch that runs from the moment it is made.

    It counts the seconds that really pass, also where somebody sets the host's clock.
    """

    def __init__(self) -> None:
        self._begun = time.monotonic()

    def elapsed(self) -> float:
        """Seconds since it was made, or reset."""
        return time.monotonic() - self._begun

    def reset(self) -> float:
        """Begin again at zero; returns the seconds that had passed."""
        now = time.monotonic()
        passed, self._begun = now - self._begun, now
        return passed


def time_elapsed(timer: Timer, max: float = 30.0) -> bool:
    """Tell whether more than `max` seconds have passed: to stop an `EndlessViewIterator`."""
    return timer.elapsed() > max


def merge_dicts(dict1: Mapping[str, Any], dict2: Mapping[str, Any]) -> dict[str, Any]:
    """A deep copy of `dict1`, with the entries of `dict2` before its own."""
    return {**deepcopy(dict(dict1)), **dict2}


def seconds() -> int:
    """The time of this host, in whole epoch seconds."""
    return int(time.time())
