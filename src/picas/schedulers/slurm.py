"""Slurm: job arrays of pilots, and how much time a job has left.

Sources: the manuals of ``sbatch``, ``squeue`` and ``scontrol``.
"""

import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from picas.errors import ConfigError, TaskError

ANSWER_SECONDS = 15.0
"""How long a command of Slurm may take to answer; a controller that is busy takes seconds."""

SUBMIT_SECONDS = 120.0

USUAL_ARRAY_SIZE = 1001
"""Slurm's default for ``MaxArraySize``."""

_LEFT = re.compile(r"(?:(?P<days>\d+)-)?(?:(?P<hours>\d+):)?(?P<minutes>\d+):(?P<seconds>\d+)")


@dataclass(frozen=True, slots=True)
class Array:
    """Pilots to be submitted as a job array, each of them one job on one node.

    Attributes:
        command: What starts a pilot: a command and its arguments.
        environ: Variables that the jobs get beside those of the submitter.
        pilots: How many.
        cores: Of each.
        memory: Bytes of each; None for the site's default.
        gpus: Of each.
        time: Seconds of wall-clock time of each; None for the site's default.
        partition: Where; None for the site's default.
        options: More options of ``sbatch``.
        setup: Lines of shell that go before the pilot.
    """

    command: Sequence[str]
    environ: Mapping[str, str]
    pilots: int = 1
    cores: int = 1
    memory: int | None = None
    gpus: int = 0
    time: float | None = None
    partition: str | None = None
    options: Sequence[str] = ()
    setup: str = ""

    def script(self, pilots: int | None = None) -> str:
        """The batch script.

        Args:
            pilots: How many of them it is for; all by default.
        """
        own, setup = _options_in(self.setup)
        lines = ["#!/bin/bash"]
        lines += [f"#SBATCH {option}" for option in (*self._options(pilots or self.pilots), *own)]
        lines += ["", *setup]
        lines += [f"export {name}={shlex.quote(value)}" for name, value in self.environ.items()]
        # exec: the pilot takes the place of the shell, so that Slurm's signals reach it.
        lines += [f"exec {shlex.join(self.command)}", ""]
        return "\n".join(lines)

    def _options(self, pilots: int) -> Iterator[str]:
        yield "--job-name=picas"
        yield f"--array=0-{pilots - 1}"
        yield "--ntasks=1"
        yield f"--cpus-per-task={self.cores}"
        if self.memory is not None:
            yield f"--mem={max(1, self.memory >> 20)}M"
        if self.gpus:
            yield f"--gpus={self.gpus}"
        if self.time is not None:
            yield f"--time={_minutes(self.time)}"
        if self.partition is not None:
            yield f"--partition={self.partition}"
        yield from self.options

    def parts(self) -> Iterator[int]:
        """How many pilots each of the arrays has: a site limits their size."""
        left, most = self.pilots, max_array_size() if self.pilots > 1 else 1
        while left > 0:
            yield min(left, most)
            left -= most


def submit(array: Array) -> Iterator[tuple[str, int]]:
    """Hand pilots to ``sbatch``, in as many arrays as it takes.

    Yields:
        For each array its id, and how many pilots it has.

    Raises:
        ConfigError: This host has no ``sbatch``.
        TaskError: Slurm refused, or did not answer: the text has its own words.
    """
    if shutil.which("sbatch") is None:
        raise ConfigError("this host has no sbatch; go to a login node, or load Slurm's module")
    for pilots in array.parts():
        said = _ask(["sbatch", "--parsable"], SUBMIT_SECONDS, stdin=array.script(pilots))
        yield said.strip().partition(";")[0], pilots


def max_array_size() -> int:
    """How many jobs an array may have; Slurm's default where it does not tell."""
    try:
        said = _ask(["scontrol", "show", "config"], ANSWER_SECONDS)
    except TaskError:
        return USUAL_ARRAY_SIZE
    match = re.search(r"^MaxArraySize\s*=\s*(\d+)", said, re.M)
    return max(1, int(match[1])) if match else USUAL_ARRAY_SIZE


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
    try:
        said = _ask(["squeue", "--noheader", f"--jobs={job}", "--format=%L"], ANSWER_SECONDS)
    except TaskError:
        return None
    match = _LEFT.fullmatch(said.strip().partition("\n")[0])
    if match is None:  # UNLIMITED, NOT_SET, INVALID
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


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


def _ask(command: Sequence[str], seconds: float, stdin: str = "") -> str:
    """What a command of Slurm prints.

    Raises:
        TaskError: It failed, or did not answer.
    """
    name = command[0]
    try:
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise TaskError(
            f"{name} did not answer for {seconds:g} s: look with squeue whether it did it"
        ) from error
    except OSError as error:
        raise TaskError(f"{name} cannot be started: {error.strerror}") from error
    if done.returncode != 0:
        why = done.stderr.strip().rpartition("\n")[2] or f"exit code {done.returncode}"
        raise TaskError(f"{name}: {why.removeprefix(f'{name}: error: ')}")
    return done.stdout
