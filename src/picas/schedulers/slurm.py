"""Slurm: job arrays of pilots, and how much time a job has left.

Sources: the manuals of ``sbatch``, ``squeue``, ``scancel`` and ``scontrol``.
"""

import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from picas.errors import ConfigError, TaskError
from picas.schedulers.base import Batch, Job, JobState, Limits, Scheduler

ANSWER_SECONDS = 15.0
"""How long a command of Slurm may take to answer; a controller that is busy takes seconds."""

SUBMIT_SECONDS = 120.0

USUAL_ARRAY_SIZE = 1001
"""Slurm's default for ``MaxArraySize``."""

_LEFT = re.compile(r"(?:(?P<days>\d+)-)?(?:(?P<hours>\d+):)?(?P<minutes>\d+):(?P<seconds>\d+)")

_PENDING = frozenset("PENDING REQUEUED REQUEUE_FED REQUEUE_HOLD SPECIAL_EXIT RESV_DEL_HOLD".split())
_ENDED = frozenset(
    "BOOT_FAIL CANCELLED COMPLETED DEADLINE FAILED NODE_FAIL OUT_OF_MEMORY PREEMPTED REVOKED "
    "TIMEOUT".split()
)


_NO_JOBS = ("down", "drain", "fail", "unk", "error", "maint", "inval", "no_respond", "future")
"""How the states of nodes begin that take no job; one with a ``*`` behind does not answer."""


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition, as far as it matters to whoever submits jobs.

    Attributes:
        name: Its name.
        default: Whether jobs go there that name none.
        up: Whether its jobs may start.
        nodes: How many it has.
        ready: How many of them may take jobs, now or when others have ended.
    """

    name: str
    default: bool
    up: bool
    nodes: int = 0
    ready: int = 0


class Slurm(Scheduler):
    """Slurm, by its commands.

    Args:
        via: What stands in front of them, as for ``ssh login``; it gets each command line as one
            argument, for a shell.
    """

    elsewhere = True

    def __init__(self, via: str = "") -> None:
        self._via = shlex.split(via)

    def script(self, batch: Batch) -> str:
        """The batch script of the first array."""
        return _script(batch, min(batch.pilots, self._array_size(batch.pilots)))

    def submit(self, batch: Batch) -> Iterator[tuple[str, int]]:
        """Hand pilots to ``sbatch``, in as many arrays as it takes."""
        if not self._via and shutil.which("sbatch") is None:
            raise ConfigError("this host has no sbatch; go to a login node, or load Slurm's module")
        left, most = batch.pilots, self._array_size(batch.pilots)
        while left > 0:
            pilots = min(left, most)
            script = _script(batch, pilots)
            said = self._ask(["sbatch", "--parsable"], SUBMIT_SECONDS, stdin=script)
            # A login over ssh may greet; the id comes last.
            yield said.strip().rpartition("\n")[2].partition(";")[0], pilots
            left -= pilots

    def jobs(self, prefix: str) -> list[Job]:
        """All jobs of this user by one ``squeue``, those too that ended minutes ago."""
        options = ["--me", "--noheader", "--array", "--states=all", "--format=%i|%T|%j"]
        found = []
        for line in self._ask(["squeue", *options], ANSWER_SECONDS).splitlines():
            job, _, rest = line.strip().partition("|")
            word, _, name = rest.partition("|")
            if name.startswith(prefix):
                found.append(Job(job, name, _state(word), word))
        return found

    def cancel(self, ids: Sequence[str], *, pending_only: bool = False) -> None:
        """Ask ``scancel``, which ends pilots by a TERM."""
        if ids:
            only = ["--state=PENDING"] if pending_only else []
            self._ask(["scancel", "--quiet", *only, *ids], ANSWER_SECONDS)

    def limits(self) -> Limits:
        """How many jobs an array may have; Slurm's default where it does not tell."""
        try:
            said = self._ask(["scontrol", "show", "config"], ANSWER_SECONDS)
        except TaskError:
            return Limits(USUAL_ARRAY_SIZE)
        match = re.search(r"^MaxArraySize\s*=\s*(\d+)", said, re.M)
        return Limits(max(1, int(match[1])) if match else USUAL_ARRAY_SIZE)

    def partitions(self) -> list[Partition]:
        """The partitions that this user may see, by one ``sinfo``."""
        found: dict[str, Partition] = {}
        said = self._ask(["sinfo", "--noheader", "--format=%P|%a|%T|%D"], ANSWER_SECONDS)
        for line in said.splitlines():
            fields = line.strip().split("|")
            if len(fields) != 4 or not fields[3].isdigit():
                continue  # what a wrapper, or the shell at the other end of ssh, has to say
            name, up, state, number = fields
            first = Partition(name.rstrip("*"), name.endswith("*"), up == "up")
            so_far, nodes = found.get(name, first), int(number)
            lost = state.startswith(_NO_JOBS) or state.endswith("*")
            ready = so_far.ready + (0 if lost else nodes)
            found[name] = replace(so_far, nodes=so_far.nodes + nodes, ready=ready)
        return list(found.values())

    def output(self, job: str) -> str:
        """By default the folder in which ``sbatch`` was called has it."""
        return f"slurm-{job}_*.out in the folder that it was submitted from"

    def _array_size(self, pilots: int) -> int:
        return self.limits().pilots if pilots > 1 else 1

    def _ask(self, command: Sequence[str], seconds: float, stdin: str = "") -> str:
        line = [*self._via, shlex.join(command)] if self._via else command
        return _answer(line, command[0], seconds, stdin)


def time_left(environ: Mapping[str, str] = os.environ) -> float | None:
    """Seconds that this process's job may still run; None outside a job, or without a limit.

    Newer versions tell the job by a variable, others are asked.
    """
    job, end = environ.get("SLURM_JOB_ID"), environ.get("SLURM_JOB_END_TIME", "")
    if not job:
        return None
    if end.isdigit():
        return max(0.0, int(end) - time.time())
    if shutil.which("squeue", path=environ.get("PATH")) is None:
        return None
    command = ["squeue", "--noheader", f"--jobs={job}", "--format=%L"]
    try:
        said = _answer(command, "squeue", ANSWER_SECONDS)
    except TaskError:
        return None
    match = _LEFT.fullmatch(said.strip().partition("\n")[0])
    if match is None:  # UNLIMITED, NOT_SET, INVALID
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


def _script(batch: Batch, pilots: int) -> str:
    """The batch script of an array."""
    own, setup = _options_in(batch.shape.setup)
    options = (*_options(batch, pilots), *own)
    lines = ["#!/bin/bash", *(f"#SBATCH {option}" for option in options), ""]
    return "\n".join([*lines, *batch.lines(setup)])


def _options(batch: Batch, pilots: int) -> Iterator[str]:
    shape = batch.shape
    yield f"--job-name={batch.name}"
    yield f"--array=0-{pilots - 1}"
    yield "--ntasks=1"
    yield f"--cpus-per-task={shape.cores}"
    if shape.memory is not None:
        yield f"--mem={max(1, shape.memory >> 20)}M"
    if shape.gpus:
        yield f"--gpus={shape.gpus}"
    if shape.time is not None:
        yield f"--time={_minutes(shape.time)}"
    if shape.partition is not None:
        yield f"--partition={shape.partition}"
    yield from shape.options


def _options_in(setup: str) -> tuple[list[str], list[str]]:
    """What of a user's script are options for ``sbatch``, and its other lines."""
    lines = setup.splitlines()
    own = [line.removeprefix("#SBATCH").strip() for line in lines if line.startswith("#SBATCH")]
    rest = [line for line in lines if not line.startswith(("#SBATCH", "#!"))]
    return own, rest


def _minutes(seconds: float) -> str:
    """A time limit as Slurm has it; it counts whole minutes."""
    minutes = max(1, -int(-seconds // 60))
    return f"{minutes // 60}:{minutes % 60:02}:00"


def _state(word: str) -> JobState:
    """What one of Slurm's words for a job's state means; a job in one of the others has not ended.

    A job that is COMPLETING is among those: its pilot may be giving back what it ran.
    """
    if word in _PENDING:
        return JobState.PENDING
    return JobState.ENDED if word in _ENDED else JobState.RUNNING


def _answer(command: Sequence[str], name: str, seconds: float, stdin: str = "") -> str:
    """What a command of Slurm prints.

    Raises:
        TaskError: It failed, or did not answer.
    """
    try:
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise TaskError(
            f"{name} did not answer for {seconds:g} s; look with squeue whether it did it"
        ) from error
    except OSError as error:
        raise TaskError(f"{command[0]} cannot be started: {error.strerror}") from error
    if done.returncode != 0:
        why = done.stderr.strip().rpartition("\n")[2] or f"exit code {done.returncode}"
        raise TaskError(f"{name}: {why.removeprefix(f'{name}: error: ')}")
    return done.stdout
