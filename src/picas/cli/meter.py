"""How far long work is."""

import sys
import time
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from picas import figures
from picas.cli import common

LINE_SECONDS = 5.0
"""How often progress is told where there is no terminal."""

_BAR_SECONDS = 0.2


class Meter:
    """Tells on standard error how far long work is: a bar on a terminal, else a line now and then.

    Work that takes no time is not told.

    Args:
        what: What is being done: ``pushing``.
        noun: To what, one of them.
        total: How many there are, if that is known.
    """

    def __init__(self, what: str, noun: str, total: int | None = None) -> None:
        self._what = what
        self._noun = noun
        self._total = total
        self._number = 0
        self._bar: Progress | None = None
        self._task = TaskID(0)
        console = Console(stderr=True)
        self._live = sys.stderr.isatty() and console.is_interactive
        self._console = console
        self._every = _BAR_SECONDS if self._live else LINE_SECONDS

    def __enter__(self) -> Self:
        self._start = time.monotonic()
        self._due = self._start + self._every
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, number: int = 1) -> None:
        """So many more are done."""
        self._number += number
        if time.monotonic() >= self._due:
            self._tell()
            self._due = time.monotonic() + self._every

    def _tell(self) -> None:
        if not self._live:
            common.note(f"{self._what}: {self._progress()}")
            return
        if self._bar is None:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[at]}"),
            )
            self._bar = Progress(
                *columns,
                console=self._console,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._task = self._bar.add_task(self._what, total=self._total, at="")
            self._bar.start()
        self._bar.update(self._task, completed=self._number, at=self._progress())

    def _progress(self) -> str:
        """The count, the rate and what is left: ``500 of 1,000 tokens, 100/s, 5 s left``."""
        rate = self._number / max(time.monotonic() - self._start, 1e-9)
        if self._total is None:
            return f"{common.counted(self._number, self._noun)}, {rate:,.0f}/s"
        left = figures.duration(max(0.0, (self._total - self._number) / max(rate, 1e-9)))
        return (
            f"{self._number:,} of {common.counted(self._total, self._noun)}, {rate:,.0f}/s, "
            f"{left} left"
        )
