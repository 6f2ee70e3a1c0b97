"""``picas run``: a pilot on this machine, until there is no work left."""

import json
import logging
import os
import signal
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from picas import figures, jobid, views
from picas.cli import exits
from picas.cli.common import counted, pool, pool_option
from picas.cli.params import Duration, Size
from picas.errors import PoolError
from picas.pilot import (
    CommandRunner,
    Pilot,
    Runner,
    Running,
    StopCriteria,
    Summary,
    handled,
)
from picas.pilot.command import LOG_LIMIT, check_template
from picas.pilot.runner import Result
from picas.pool import Pool
from picas.process import adopt_orphans
from picas.token import Document

PLAIN_SECONDS = 30.0
"""How often progress is told where standard error is no terminal."""

_LIVE_SECONDS = 0.5
_COUNT_SECONDS = 15.0
_NAMED = 10

log = logging.getLogger("picas.run")
_progress_log = logging.getLogger("picas.run.progress")


@click.command("run", context_settings={"allow_interspersed_args": False})
@click.option("--view", default="Monitor/todo", show_default=True, help="Which tokens to run.")
@click.option(
    "--slots",
    type=click.IntRange(min=1),
    default=jobid.allowed_cores,
    show_default="the cores this process may use",
    help="Tokens to run at once.",
)
@click.option(
    "--max-token-time",
    type=Duration(),
    help="Time limit of one token: 90s, 30m, 24h; then its exit code is 124.",
)
@click.option(
    "--max-total-time",
    type=Duration(),
    help="Start no token after this time; those that run are finished.",
)
@click.option("--max-tasks", type=click.IntRange(min=1), help="Run this many tokens at most.")
@click.option(
    "--max-scrub",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Give a failed token back for another try, this often.",
)
@click.option("--endless", is_flag=True, help="Wait for new tokens when there are none.")
@click.option(
    "--attach",
    multiple=True,
    metavar="GLOB",
    help="Attach these files to the token; may hold {id} and fields. Can be given again.",
)
@click.option(
    "--logs",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the logs while tasks run.  [default: picas-logs/PILOT]",
)
@click.option("--keep-logs", is_flag=True, help="Keep the logs on disk when they are in the pool.")
@click.option(
    "--log-limit",
    type=Size(),
    default=LOG_LIMIT,
    show_default="1M",
    help="Bytes of each log that go into the token; of a longer one its beginning and end.",
)
@click.option(
    "--grace",
    type=Duration(),
    default=10.0,
    show_default="10s",
    help="Time between TERM and KILL when a task is ended.",
)
@click.option("-v", "--verbose", is_flag=True, help="Show a line for each token.")
@click.option("--log-json", is_flag=True, help="Show what happens as JSON lines.")
@pool_option
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def run_command(
    command: tuple[str, ...],
    view: str,
    slots: int,
    attach: tuple[str, ...],
    logs: Path | None,
    keep_logs: bool,
    log_limit: int,
    grace: float,
    verbose: bool,
    log_json: bool,
    pool_url: str | None,
    **criteria: Any,
) -> int:
    """Claim tokens, run them here, and record how each one ended, until none is left.

    Without COMMAND a token's input is run by bash. With it, {input}, {id} and other fields of the
    token are filled in, each as (part of) a single argument, without a shell:

        picas run -- python analyse.py --sample {input}

    The first TERM, INT (Ctrl-C) or USR1 stops the pilot: tasks get the grace time to end, and
    their tokens are given back. A second Ctrl-C leaves them no time.

    Tokens that fail do not change the exit status: 'picas list error' shows them.
    """
    check_template([*command, *attach])
    view = "/".join(views.split(view))
    adopt_orphans()
    with pool(pool_url) as opened:
        runner = CommandRunner(
            opened.url,
            command or None,
            attach=attach,
            logs=logs or Path("picas-logs"),
            keep_logs=keep_logs,
            log_limit=log_limit,
            grace=grace,
        )
        with closing(runner):
            work = _Counted(runner)
            stop = StopCriteria(**criteria)
            pilot = Pilot(opened, work, view=view, slots=slots, criteria=stop)
            if logs is None:
                runner.logs = (Path("picas-logs") / pilot.holder.pilot).absolute()
            screen = _Screen(as_json=log_json, verbose=verbose)
            _say_start(pilot, opened, view, slots)
            with screen, _Progress(pilot, opened, view, work, screen), handled(pilot) as came:
                summary = pilot.run()
        return _say_end(summary, view, runner.logs, interrupted=signal.SIGINT in came)


def _say_start(pilot: Pilot, opened: Pool, view: str, slots: int) -> None:
    facts = {"pool": opened.url, "view": view, "slots": slots, "pilot": pilot.holder.pilot}
    log.info(
        "%s on %s in %s (%s)",
        counted(slots, "slot"),
        view,
        opened.url,
        pilot.holder.pilot,
        extra=facts,
    )


def _say_end(summary: Summary, view: str, logs: Path, *, interrupted: bool) -> int:
    """The last words, and the status to end with."""
    counters = summary.counters.as_dict()
    log.info("%s", _last_line(summary, view), extra={**counters, "reason": summary.reason})
    if summary.trouble:
        log.error("this host could not run tasks: %s; logs: %s", summary.trouble, logs)
    if summary.unsettled:
        some = ", ".join(summary.unsettled[:_NAMED])
        more = len(summary.unsettled) - _NAMED
        log.error(
            "the results of %s could not be recorded (%s); logs: %s",
            counted(len(summary.unsettled), "token"),
            f"{some} and {more:,} more" if more > 0 else some,
            logs,
            extra={"unsettled": summary.unsettled},
        )
    if interrupted:
        return exits.INTERRUPTED
    return exits.HOST if summary.trouble or summary.unsettled else exits.OK


def _last_line(summary: Summary, view: str) -> str:
    did = summary.counters
    failed = f"{did.error:,} failed"
    if did.error:
        failed += f" (picas list {views.split(view)[0]}/error)"
    parts = [f"{counted(did.done, 'token')} done", failed, f"{did.released:,} given back"]
    if did.scrubbed:
        parts.insert(2, f"{counted(did.scrubbed, 'failure')} to be tried again")
    if did.fenced:
        parts.append(f"{counted(did.fenced, 'result')} not recorded: the token was taken away")
    reason = summary.reason
    if summary.trouble:
        reason = "stopped"
    elif reason.startswith("SIG"):
        reason = f"stopped by {reason}"
    return f"{', '.join(parts)}; {reason}"


class _Screen(logging.Handler):
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
        self.setFormatter(_JsonLines() if as_json else _HumanLines())
        top = logging.getLogger("picas")
        top.setLevel(logging.INFO if verbose else logging.WARNING)
        top.addHandler(self)
        log.setLevel(logging.INFO)

    def __enter__(self) -> "_Screen":
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


class _HumanLines(logging.Formatter):
    """``12:03:04 warning: …``; our own first and last words without the time."""

    def format(self, record: logging.LogRecord) -> str:
        text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in record.getMessage())
        if record.levelno >= logging.WARNING:
            text = f"{record.levelname.lower()}: {text}"
        if hasattr(record, "wall") and record.wall:
            text += f", {figures.duration(record.wall)}"
        if record.name == log.name:
            return f"picas: {text}"
        return f"{time.strftime('%H:%M:%S', time.localtime(record.created))} {text}"


class _JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and the record's own facts."""

    _USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

    def format(self, record: logging.LogRecord) -> str:
        facts = {name: value for name, value in vars(record).items() if name not in self._USUAL}
        line = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **facts,
        }
        return json.dumps(line, ensure_ascii=False, default=str)


class _Progress:
    """Tells how far the pilot is: a line that changes on a terminal, else a line now and then."""

    def __init__(
        self, pilot: Pilot, opened: Pool, view: str, work: "_Counted", screen: _Screen
    ) -> None:
        self._pilot, self._pool, self._view = pilot, opened, view
        self._work, self._screen = work, screen
        self._meter = figures.RateMeter(span=60.0, least=2.0)
        self._left: int | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._tell, name="progress", daemon=True)

    def __enter__(self) -> "_Progress":
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
        count_at = time.monotonic() + (_COUNT_SECONDS if live else 0.0)
        while not self._ended.wait(every):
            now = time.monotonic()
            self._meter.saw(now, self._pilot.summary.counters.ran)
            if now >= count_at:
                self._left = self._count()
                count_at = time.monotonic() + (_COUNT_SECONDS if live else 0.0)
            if self._ended.is_set():
                return
            if live:
                self._screen.show(self.line()[: max(20, _columns() - 1)])
            else:
                _progress_log.info("%s", self.line())

    def _count(self) -> int | None:
        try:
            return self._pool.count(self._view)
        except PoolError:
            return None

    def line(self) -> str:
        """How far the pilot is, in one line."""
        did, rate = self._pilot.summary.counters, self._meter.per_minute
        parts = [
            f"{did.done:,} done",
            f"{did.error + did.scrubbed:,} failed",
            f"{self._work.running:,} running",
        ]
        if rate:
            parts.append(figures.rate(rate))
        if self._left is not None:
            parts.append(f"{self._left:,} left")
        return "  ".join(parts) if self._screen.live else ", ".join(parts)


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns
    except OSError:
        return 80


class _Counted:
    """Hands tokens on to a runner, and knows how many run now."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._lock = threading.Lock()
        self.running = 0

    def start(self, doc: Document, time_limit: float | None) -> Running:
        return _CountedTask(self, self._runner.start(doc, time_limit))

    def close(self) -> None:
        self._runner.close()

    def add(self, number: int) -> None:
        with self._lock:
            self.running += number


class _CountedTask:
    """One token at work, counted while it is."""

    def __init__(self, work: _Counted, task: Running) -> None:
        self._work, self._task = work, task

    def run(self) -> Result:
        self._work.add(1)
        try:
            return self._task.run()
        finally:
            self._work.add(-1)

    def stop(self, *, now: bool = False) -> None:
        self._task.stop(now=now)
