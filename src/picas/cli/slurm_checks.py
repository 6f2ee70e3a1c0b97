"""What ``picas doctor --slurm`` looks at: Slurm's commands, its partitions, and a job on a node."""

import contextlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from picas.cli.checks import POOL, Check, Finding, Findings, Subject
from picas.cli.common import counted
from picas.cli.submit import address_for, own_command
from picas.errors import TaskError
from picas.schedulers import Batch, JobState, Shape
from picas.schedulers.slurm import Partition, Slurm

COMMANDS = {
    "sbatch": "no pilot can be submitted",
    "sinfo": "nothing can be told of the partitions",
    "squeue": "nobody sees which jobs wait, and pilots may not know when theirs ends",
    "scontrol": "the limit of job arrays is not known: 1,001 is taken for it",
    "scancel": "jobs that wait cannot be taken out of the queue",
}
"""The commands that are used, and what is missed without each."""

NO_SLURM = "load Slurm's module, set SLURM_CONF, or go to a login node"

QUEUE_SECONDS = 120.0
"""How long the job on a node may wait for its start, unless told otherwise."""

JOB_SECONDS = 180.0
"""How long it may run: a pool that does not answer takes a while to say so."""

FILE_SECONDS = 15.0
"""How long a file that a node wrote may need to be seen here."""


@dataclass(slots=True)
class SlurmChecks:
    """The checks, with what they are told, and what the earlier ones found.

    Attributes:
        partition: Where pilots are to run; None for Slurm's default.
        job: Also run a job on a node.
        queue: Seconds it may wait for its start.
        options: More options of ``sbatch`` for it.
        setup: Lines of shell that go before it, as before pilots.
    """

    partition: str | None = None
    job: bool = False
    queue: float = QUEUE_SECONDS
    options: Sequence[str] = ()
    setup: str = ""
    _slurm: Slurm = field(default_factory=Slurm)
    _partitions: list[Partition] = field(default_factory=list)

    def checks(self) -> tuple[Check, ...]:
        """All of them, in order."""
        own = (
            Check("slurm", self.commands),
            Check("controller", self.controller, ("slurm",)),
            Check("partition", self.partitions, ("controller",)),
            Check("pool for jobs", self.pool, ("configuration",)),
        )
        needs = (*POOL, *(check.name for check in own))
        return (*own, Check("job", self.node, needs)) if self.job else own

    def commands(self, subject: Subject) -> Findings:  # noqa: ARG002
        """Are Slurm's commands here?"""
        missing = [name for name in COMMANDS if shutil.which(name) is None]
        if "sbatch" in missing:
            yield Finding("problem", f"no sbatch here: {COMMANDS['sbatch']}", NO_SLURM)
            return
        for name in missing:
            yield Finding("warning", f"no {name} here: {COMMANDS[name]}", NO_SLURM)
        if not missing:
            yield Finding("ok", f"{', '.join(COMMANDS)} are here")

    def controller(self, subject: Subject) -> Findings:  # noqa: ARG002
        """Does Slurm answer?"""
        began = time.monotonic()
        try:
            self._partitions = self._slurm.partitions()
        except TaskError as error:
            conf = os.environ.get("SLURM_CONF")
            asked = f"is SLURM_CONF={conf} right, and slurmctld up? 'scontrol ping' tells more"
            what = str(error).partition("; ")[0]
            yield Finding("problem", what, asked if conf else NO_SLURM)
            return
        yield Finding("ok", f"Slurm answers in {time.monotonic() - began:.1f} s")

    def partitions(self, subject: Subject) -> Findings:  # noqa: ARG002
        """Is there a place for the jobs?"""
        there = ", ".join(found.name for found in self._partitions)
        wanted = [
            found
            for found in self._partitions
            if (found.default if self.partition is None else found.name == self.partition)
        ]
        if not there:
            advice = "ask the site for an account that may use one"
            yield Finding("problem", "Slurm shows you no partition", advice)
        elif not wanted:
            name = "default partition" if self.partition is None else f"partition {self.partition}"
            yield Finding("problem", f"Slurm has no {name}", f"name one by --partition: {there}")
        else:
            yield _state(wanted[0])

    def pool(self, subject: Subject) -> Findings:
        """May nodes reach the pool, by its address?"""
        address = address_for(self._slurm, subject.settings.pool)
        host = urlsplit(address).hostname or ""
        if host not in ("localhost", "::1") and not host.startswith("127."):
            yield Finding("ok", f"{address} is no address of this host only")
            return
        text = f"the pool is at {host}, which on another node is that node itself"
        if self.job:
            yield Finding("warning", text, "the job below tells whether it is reached all the same")
        else:
            advice = "write the server's name into the pool's address ('picas init' keeps it)"
            yield Finding("problem", text, f"{advice}; 'picas doctor --slurm --job' tries it out")

    def node(self, subject: Subject) -> Findings:
        """A job on a node that looks at the pool from there, as a pilot would."""
        output = Path(f"picas-doctor-{secrets.token_hex(4)}.out")
        shape = Shape(
            time=JOB_SECONDS,
            partition=self.partition,
            options=(*self.options, f"--output={output}"),
            setup=f'echo "node $SLURMD_NODENAME"\n{self.setup}',
        )
        address = address_for(self._slurm, subject.settings.pool)
        command = [own_command(), "doctor", "--json"]
        batch = Batch(command, {"PICAS_POOL": address}, shape=shape, name=output.stem)
        try:
            if (trouble := self._run(batch)) is not None:
                yield trouble
            else:
                yield from _report(_read(output), output)
        finally:
            output.unlink(missing_ok=True)

    def _run(self, batch: Batch) -> Finding | None:
        """Submit a job and wait for its end; what is wrong where it does not get there."""
        ((job, _),) = self._slurm.submit(batch)
        try:
            deadline, started = time.monotonic() + self.queue, False
            while True:
                states = {found.state for found in self._slurm.jobs(batch.name)}
                if not states - {JobState.ENDED}:
                    return None
                if JobState.RUNNING in states and not started:
                    deadline, started = time.monotonic() + JOB_SECONDS, True
                if time.monotonic() > deadline:
                    return self._late(job, started=started)
                time.sleep(1)
        finally:
            # Also after Ctrl-C; to a job that has ended it does nothing.
            with contextlib.suppress(TaskError):
                self._slurm.cancel([job])

    def _late(self, job: str, *, started: bool) -> Finding:
        if started:
            text = f"the job {job} did not end in {JOB_SECONDS:g} s, and was cancelled"
            return Finding("problem", text, "is the node, or its file system, stuck?")
        text = f"the job {job} did not start in {self.queue:g} s, and was cancelled"
        advice = f"is it the queue? Give it longer: --wait {2 * self.queue:g}s; 'squeue --start'"
        return Finding("problem", text, f"{advice} tells when jobs are to start")


def _state(found: Partition) -> Finding:
    """How a partition is."""
    name = f"{found.name} (the default)" if found.default else found.name
    if not found.up:
        text = f"partition {name} is not up: jobs wait there"
        return Finding("problem", text, "take another by --partition, or ask the site")
    text = f"partition {name}: {found.ready:,} of {counted(found.nodes, 'node')} may take jobs"
    advice = "" if found.ready else "'sinfo --list-reasons' tells why"
    return Finding("ok" if found.ready else "problem", text, advice)


def _read(output: Path) -> list[str]:
    """The lines of a job's output, when they are seen here; none if there is no file."""
    deadline = time.monotonic() + FILE_SECONDS
    while not output.exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    return output.read_text(errors="replace").splitlines() if output.exists() else []


def _report(lines: Sequence[str], output: Path) -> Iterator[Finding]:
    """What a doctor on a node said."""
    if not lines:
        text = f"the job ended, and {output.absolute()} is not there"
        yield Finding("problem", text, "is this folder on a file system that the nodes share?")
        return
    node = next((s.split()[1] for s in lines if s.startswith("node ") and s.split()[1:]), "a node")
    found = next((json.loads(s) for s in reversed(lines) if s.startswith('{"ok"')), None)
    if found is None:
        text = f"picas does not start on {node}: {lines[-1]}"
        advice = "is it installed where nodes see it, and do they need modules? See --script"
        yield Finding("problem", text, advice)
        return
    yield from _seen(node, found["checks"])


def _seen(node: str, checks: Sequence[dict[str, Any]]) -> Iterator[Finding]:
    problems = [check for check in checks if check["status"] == "problem"]
    for check in problems:
        yield Finding("problem", f"{node}: {check['check']}: {check['text']}", check["advice"])
    if not problems:
        texts = {check["check"]: check["text"] for check in checks}
        yield Finding("ok", f"{node} reaches the pool; {texts['software']}")
