"""Signals that end a pilot in good order."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from picas.pilot.loop import Pilot

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
"""Schedulers' TERM, a person's Ctrl-C, and the warning that ``sbatch --signal=USR1@60`` sends."""

PATIENCE_SECONDS = 5.0
"""How long a pilot that has to end waits for one answer of the pool."""

INTERRUPTED = 128 + signal.SIGINT
"""Exit status of a pilot that was stopped by Ctrl-C."""


@contextmanager
def handled(pilot: Pilot) -> Iterator[list[signal.Signals]]:
    """Have signals stop the pilot; yields the list of those that came.

    The first one ends what runs with a grace period and releases it. A second INT allows no grace
    period, a third leaves at once, with nothing told to the pool. Main thread only.
    """
    came: list[signal.Signals] = []

    def handler(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        came.append(signal.Signals(number))
        interrupts = came.count(signal.SIGINT)
        if interrupts > 2:
            os._exit(INTERRUPTED)
        pilot.stop(came[0].name, now=interrupts > 1)
        if interrupts > 1:
            pilot.stop_waiting(1.0)
        else:
            signal.setitimer(signal.ITIMER_REAL, PATIENCE_SECONDS, PATIENCE_SECONDS)

    def impatient(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        pilot.stop_waiting(PATIENCE_SECONDS / 2)

    before = {number: signal.signal(number, handler) for number in STOP_SIGNALS}
    before[signal.SIGALRM] = signal.signal(signal.SIGALRM, impatient)
    try:
        yield came
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, old in before.items():
            signal.signal(number, old)
