"""When a pilot stops taking new tokens."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StopCriteria:
    """What ends a pilot, and how long and how often a token is tried.

    Attributes:
        max_token_time: Seconds one token may run; then its processes are ended and it is given
            back while tries remain, else closed as an error with exit code 124.
        max_total_time: Seconds after which no new token is started; running ones finish.
        max_tasks: Tokens to run at most.
        max_scrub: How often a failing token is given back for another try.
        stop_function: Asked after each token; true: no new token is started.
        endless: Wait for new tokens instead of ending when there are none.
    """

    max_token_time: float | None = None
    max_total_time: float | None = None
    max_tasks: int | None = None
    max_scrub: int = 0
    stop_function: Callable[[], bool] | None = None
    endless: bool = False

    def reason(self, tasks: int, elapsed: float) -> str | None:
        """Why no new token may be started, or None.

        Args:
            tasks: Tokens that ended so far, whichever way.
            elapsed: Seconds since the pilot started.
        """
        if self.max_tasks is not None and tasks >= self.max_tasks:
            return f"max_tasks: {tasks} tokens were run"
        if self.max_total_time is not None and elapsed >= self.max_total_time:
            return f"max_total_time: {self.max_total_time:g} s have passed"
        return None
