"""This machine: pilots as processes in the background.

What is known of a job is in a folder of its own below ``~/.local/state/picas/jobs``: its facts, its
output, and which process it is. That is written by the job itself, so that no end of the submitter
can leave a job behind of which nothing is known.
"""

import functools
import json
import os
import secrets
import shutil
import signal
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from picas import proctree
from picas.errors import TaskError
from picas.schedulers.base import Batch, Job, JobState, Limits, Scheduler
from picas.spawn import spawn

START_SECONDS = 30.0
"""A job that has not said by then which process it is was never started."""

KEPT = 7 * 86400.0
"""Seconds for which the folder of a job that ended is kept."""

_FACTS = "job.json"
_PROCESS = "process"
_OUTPUT = "output"
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class Local(Scheduler):
    """This machine.

    It starts what it is asked to at once, and counts neither memory nor GPUs. A folder that several
    hosts share may hold the jobs of each; only those of this host are seen.

    Args:
        via: Nothing: another machine is no local one.
    """

    elsewhere = False

    def __init__(self, via: str = "") -> None:
        if via:
            raise ValueError("pilots of the scheduler local run on this machine: leave out 'via'")
        self._folder = _state_folder() / "jobs"
        self._children: set[int] = set()

    def script(self, batch: Batch) -> str:
        """What bash is given for each of the pilots."""
        return _script(batch)

    def submit(self, batch: Batch) -> Iterator[tuple[str, int]]:
        """Start pilots, each of them a job."""
        self._tidy()
        for _ in range(batch.pilots):
            job = secrets.token_hex(4)
            try:
                self._start(job, batch)
            except OSError as error:
                raise TaskError(
                    f"cannot start a pilot: {error.strerror} ({error.filename})"
                ) from error
            yield job, 1

    def jobs(self, prefix: str) -> list[Job]:
        """The jobs of this machine since it was started."""
        self._reap()
        found = [job for folder in self._folders() if (job := _Record.read(folder)) is not None]
        return [job.seen() for job in found if job.name.startswith(prefix)]

    def cancel(self, ids: Sequence[str], *, pending_only: bool = False) -> None:
        """Send a TERM to the pilots' processes."""
        for job in () if pending_only else ids:
            record = _Record.read(self._folder / job)
            if record is not None and record.is_running() and record.pid:
                with suppress(ProcessLookupError):
                    os.kill(record.pid, signal.SIGTERM)

    def limits(self) -> Limits:
        """There are none, but what the machine can bear."""
        return Limits(1000)

    def output(self, job: str) -> str:
        """In the job's folder."""
        return str(self._folder / job / _OUTPUT)

    def _start(self, job: str, batch: Batch) -> None:
        folder = self._folder / job
        folder.mkdir(parents=True, mode=0o700)
        facts = {"name": batch.name, "machine": machine(), "submitted": time.time()}
        (folder / _FACTS).write_text(json.dumps(facts))
        environ = {**os.environ, "PICAS_LOCAL_JOB": job, "PICAS_CORES": str(batch.shape.cores)}
        if batch.shape.time is not None:
            environ["PICAS_JOB_END"] = str(int(time.time() + batch.shape.time))
        with (folder / _OUTPUT).open("wb") as output, open(os.devnull, "rb") as nothing:  # noqa: PTH123
            streams = (nothing.fileno(), output.fileno(), output.fileno())
            command = ["/bin/bash", "-c", _script(batch), str(folder / _PROCESS)]
            self._children.add(spawn(command, environ, streams))

    def _reap(self) -> None:
        """Let those children go that ended."""
        for pid in list(self._children):
            try:
                ended, _ = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                ended = pid
            if ended:
                self._children.discard(pid)

    def _folders(self) -> list[Path]:
        try:
            return sorted(self._folder.iterdir())
        except FileNotFoundError:
            return []

    def _tidy(self) -> None:
        """Remove what is left of jobs of this machine that ended long ago."""
        for folder in self._folders():
            record = _Record.read(folder)
            if record is None or record.is_running():
                continue
            if max(record.submitted, _changed(folder / _OUTPUT)) + KEPT < time.time():
                shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class _Record:
    """What a job's folder tells.

    Attributes:
        id: The job's.
        name: The job's.
        submitted: Epoch seconds.
        pid: Of its process; None if it did not say yet.
        start: When that process started, in clock ticks since boot; None where nothing tells.
    """

    id: str
    name: str
    submitted: float
    pid: int | None
    start: int | None

    @staticmethod
    def read(folder: Path) -> "_Record | None":
        """Read it; None for what is no job of this machine since it was started."""
        try:
            facts = json.loads((folder / _FACTS).read_text())
            if facts["machine"] != machine():
                return None
            pid, start = _process(folder / _PROCESS)
            return _Record(folder.name, str(facts["name"]), float(facts["submitted"]), pid, start)
        except (OSError, ValueError, LookupError, TypeError):
            return None

    def is_running(self) -> bool:
        """Tell whether its process lives; another one may have its number by now."""
        if self.pid is None:
            return time.time() < self.submitted + START_SECONDS
        if self.start is not None:
            there = proctree.look(self.pid)
            return there is not None and there.alive and there.start == self.start
        try:
            os.kill(self.pid, 0)
        except OSError:
            return False
        return True

    def seen(self) -> Job:
        """The job as it is now."""
        if not self.is_running():
            return Job(self.id, self.name, JobState.ENDED, "its process has ended")
        state = JobState.PENDING if self.pid is None else JobState.RUNNING
        return Job(self.id, self.name, state, "")


def time_left(environ: Mapping[str, str] = os.environ) -> float | None:
    """Seconds that this process's job may still run; None outside a job, or without a limit."""
    end = environ.get("PICAS_JOB_END", "")
    return max(0.0, int(end) - time.time()) if end.isdigit() else None


def _script(batch: Batch) -> str:
    """What bash runs; its argument 0 is where to write which process this is."""
    who = 'cat /proc/$$/stat >"$0" 2>/dev/null || echo $$ >"$0"'
    return "\n".join([who, *batch.lines(batch.shape.setup.splitlines())])


def _process(file: Path) -> tuple[int | None, int | None]:
    """The number and the start of a job's process, of a line as in ``/proc/PID/stat``."""
    try:
        text = file.read_text()
    except FileNotFoundError:
        return None, None
    if not text.endswith("\n"):  # it is being written
        return None, None
    rest = text.rpartition(")")[2].split()
    return int(text.split()[0]), int(rest[19]) if len(rest) > 19 else None


@functools.cache
def machine() -> str:
    """This host since it was started: then the numbers of processes begin anew."""
    boot = _BOOT.read_text().strip() if _BOOT.exists() else ""
    return f"{socket.gethostname()} {boot}".strip()


def _state_folder() -> Path:
    """Source: the XDG base directory specification, which has relative paths ignored."""
    base = Path(os.environ.get("XDG_STATE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".local/state") / "picas"


def _changed(file: Path) -> float:
    with suppress(OSError):
        return file.stat().st_mtime
    return 0.0
