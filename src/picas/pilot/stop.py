"""When a pilot stops taking new tokens."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class StopCriteria:
    """What ends a pilot, and how long and how often a token is tried.

    Attributes:
        max_token_time: Seconds one token may run; then its processes are ended and it is given
            back while tries remain, else closed as an error with exit code 124.
        max_total_time: Seconds after which no new token is started; running ones finish.
        max_tasks: Tokens to run at most.
        max_scrub: How often a failing token is given back for another try; None: as the pool's
            settings say, by default never. A token's own ``retry`` comes before both.
        stop_function: Asked when a token has ended, before its result is recorded; true: no new
            token is started.
        idle: Seconds to wait for new tokens before ending when there are none.
        endless: Wait for them without an end.
        ends_in: Seconds after which the pilot has to end, whatever runs: its batch job does.
        drain_after: End after so many different tokens failed one after another as soon as they
            were started: this host may be what fails them. 0: never.
    """

    max_token_time: float | None = None
    max_total_time: float | None = None
    max_tasks: int | None = None
    max_scrub: int | None = None
    stop_function: Callable[[], bool] | None = None
    idle: float = 0.0
    endless: bool = False
    ends_in: float | None = None
    drain_after: int = 20

    def retry_layers(self) -> Sequence[Mapping[str, Any]]:
        """The retry policy that `max_scrub` makes, if it is set."""
        return () if self.max_scrub is None else ({"tries": self.max_scrub + 1},)

    def left(self, elapsed: float) -> float:
        """Seconds left of `max_total_time`; 0 if there is no such limit."""
        return 0.0 if self.max_total_time is None else self.max_total_time - elapsed

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
