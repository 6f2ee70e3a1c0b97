"""What a pilot shows while it runs: log lines, and how far it is."""

import json
import logging
import os
import sys
import threading
import time

from picas import figures
from picas.errors import PoolError
from picas.pilot import Pilot
from picas.pool import Pool

SAYING = "picas.run"
"""Logger of a pilot's first and last words, which are shown without the time."""

PLAIN_SECONDS = 30.0
"""How often progress is told where standard error is no terminal."""

_LIVE_SECONDS = 0.5
_COUNT_SECONDS = 15.0

log = logging.getLogger("picas.run.progress")


class Screen(logging.Handler):
    """Standard error: log lines, and on a terminal below them one line that changes.

    Installed on the logger ``picas`` for the length of a ``with``, and a little longer: the last
    words come behind it.

    Args:
        as_json: Lines for programs.
        verbose: A line for each token.
    """

    def __init__(self, *, as_json: bool, verbose: bool) -> None:
        super().__init__()
        self.live = sys.stderr.isatty() and not as_json and os.environ.get("TERM") != "dumb"
        self._line = ""
        self.setFormatter(JsonLines() if as_json else HumanLines())
        top = logging.getLogger("picas")
        top.setLevel(logging.INFO if verbose else logging.WARNING)
        top.addHandler(self)
        logging.getLogger(SAYING).setLevel(logging.INFO)  # and so our progress below it

    def __enter__(self) -> "Screen":
        return self

    def __exit__(self, *_: object) -> None:
        self.show("")

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line that stays, above the one that changes."""
        self._write(self.format(record) + "\n")

    def show(self, line: str) -> None:
        """Replace the line that changes."""
        self.acquire()
        try:
            if line != self._line:
                self._line = line
                self._write("")
        finally:
            self.release()

    def _write(self, text: str) -> None:
        erase = "\r\x1b[K" if self.live else ""
        try:
            sys.stderr.write(f"{erase}{text}{self._line}")
            sys.stderr.flush()
        except OSError:
            # Whoever read this is gone; the tasks matter more.
            return


class HumanLines(logging.Formatter):
    """``12:03:04 warning: …``; our own first and last words without the time."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever characters a token's id may hold."""
        text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in record.getMessage())
        if record.levelno >= logging.WARNING:
            text = f"{record.levelname.lower()}: {text}"
        if hasattr(record, "wall") and record.wall:
            text += f", {figures.duration(record.wall)}"
        if record.name == SAYING:
            return f"picas: {text}"
        return f"{time.strftime('%H:%M:%S', time.localtime(record.created))} {text}"


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and the record's own facts."""

    _USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

    def format(self, record: logging.LogRecord) -> str:
        """One object."""
        facts = {name: value for name, value in vars(record).items() if name not in self._USUAL}
        line = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **facts,
        }
        return json.dumps(line, ensure_ascii=False, default=str)


class Progress:
    """Tells how far the pilot is: a line that changes on a terminal, else a line now and then."""

    def __init__(self, pilot: Pilot, opened: Pool, view: str, screen: Screen) -> None:
        self._pilot, self._pool, self._view, self._screen = pilot, opened, view, screen
        self._meter = figures.RateMeter(span=60.0, least=2.0)
        self._counted: tuple[int, int] | None = None
        """What was in the view, and how many tokens the pilot had run then."""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._tell, name="progress", daemon=True)

    def __enter__(self) -> "Progress":
        self._meter.saw(time.monotonic(), 0)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        # It may be waiting for a pool that does not answer; that must not hold up the end.
        self._thread.join(timeout=1.0)

    def _tell(self) -> None:
        live = self._screen.live
        every = _LIVE_SECONDS if live else PLAIN_SECONDS
        count_at = time.monotonic()
        while not self._ended.wait(every):
            now = time.monotonic()
            self._meter.saw(now, self._pilot.summary.counters.ran)
            if now >= count_at:
                self._count()
                count_at = time.monotonic() + (_COUNT_SECONDS if live else 0.0)
            if self._ended.is_set():
                return
            if live:
                self._screen.show(self.line()[: max(20, _columns() - 1)])
            else:
                log.info("%s", self.line())

    def _count(self) -> None:
        ran = self._pilot.summary.counters.ran
        try:
            self._counted = self._pool.count(self._view), ran
        except PoolError:
            self._counted = None

    def line(self) -> str:
        """How far the pilot is, in one line."""
        did, rate = self._pilot.summary.counters, self._meter.per_minute
        parts = [
            f"{did.done:,} done",
            f"{did.error + did.scrubbed:,} failed",
            f"{self._pilot.running:,} running",
        ]
        if rate:
            parts.append(figures.rate(rate))
        if self._counted is not None:
            number, ran = self._counted
            # Counts are rare: in between, each token that ran made room for one more.
            left = max(0, number - (did.ran - ran))
            parts.append(f"{left:,} left{_time_left(left, rate)}")
        return "  ".join(parts) if self._screen.live else ", ".join(parts)


def _time_left(left: int, rate: float | None) -> str:
    """How long this pilot alone would take for what is left."""
    seconds = figures.time_left(left, rate) if left else None
    return "" if seconds is None else f" (about {figures.duration(seconds)} for this pilot)"


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns
    except OSError:
        return 80
