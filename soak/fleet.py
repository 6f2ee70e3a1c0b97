"""The pilots of a round: real processes, started, hurt and replaced."""

import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.acceptance.cli import PICAS

from soak import clock
from soak.history import PilotEnd

SLOTS = 2
START_SECONDS = 0.3
"""Pilots are not started faster than this."""

_ENDLESS = 0.3
_CLOCK_OFF = 0.3
_PILOT_ID = re.compile(r"\bpilot_[\w.-]+")


@dataclass(frozen=True, slots=True)
class Setting:
    """What all pilots of a round share.

    Attributes:
        folder: Where they run, and for what they say.
        environ: Their environment.
        options: Options of ``picas run``.
        logs: A folder for their logs.
        small: One on a small disk, for the logs of every other pilot; None: there is none.
        shift: The library that shifts a host's clock; None: clocks are right.
    """

    folder: Path
    environ: Mapping[str, str]
    options: tuple[str, ...]
    logs: Path
    small: Path | None
    shift: Path | None


@dataclass(slots=True)
class Pilot:
    """One process.

    Attributes:
        name: ``p001``, …
        process: The process.
        said: The file of what it says.
        small: Whether its logs are on the small disk.
        endless: Whether it waits for more work when there is none.
        off: By how many seconds its clock is off.
        killed: It was killed.
        frozen: It is stopped right now.
        hung: It did not end in time.
        terminated: It was sent a TERM.
    """

    name: str
    process: "subprocess.Popen[bytes]"
    said: Path
    small: bool
    endless: bool
    off: int = 0
    killed: bool = False
    frozen: bool = False
    hung: bool = False
    terminated: bool = False

    @property
    def alive(self) -> bool:
        """Whether the process is there."""
        return self.process.poll() is None

    def children(self) -> list[int]:
        """The processes of its tasks: each leads a session."""
        return list(_children(self.process.pid))

    def ids(self) -> list[str]:
        """What the pool calls it, as it said itself."""
        return _PILOT_ID.findall(self.said.read_text(errors="replace"))[:1]

    def end(self) -> PilotEnd:
        """How it ended."""
        text = self.said.read_text(errors="replace")
        lines = text.strip().splitlines()
        status = self.process.returncode
        # A TERM that comes before the pilot minds it ends it as it ends any process.
        unheard = self.terminated and status == -signal.SIGTERM
        return PilotEnd(
            self.name,
            status,
            hung=self.hung,
            killed=self.killed or unheard,
            told=lines[-1] if lines else "",
            broken="Traceback" in text,
        )


class Fleet:
    """Keeps a number of pilots at work.

    Args:
        setting: What they share.
        seed: Decides what each is like.
    """

    def __init__(self, setting: Setting, seed: int) -> None:
        self._setting = setting
        self._chance = random.Random(f"{seed} fleet")
        self._started_at = 0.0
        self.pilots: list[Pilot] = []

    def alive(self) -> list[Pilot]:
        """The pilots that are at work: not killed, not frozen."""
        return [p for p in self.pilots if not (p.frozen or p.killed) and p.alive]

    def keep(self, number: int, *, plain: bool = False) -> Pilot | None:
        """Start one pilot if fewer are alive; returns it.

        Args:
            number: How many there should be.
            plain: One that ends when there is no work, with a clock that is right.
        """
        if sum(p.alive for p in self.pilots) >= number:
            return None
        if time.monotonic() - self._started_at < START_SECONDS:
            return None
        self._started_at = time.monotonic()
        return self._start(plain=plain)

    def choose(self, pick: float) -> Pilot | None:
        """One of those alive, by a number from 0 to 1."""
        there = self.alive()
        return there[int(pick * len(there))] if there else None

    def kill(self, pilot: Pilot) -> None:
        """End a pilot without warning; its tasks go on."""
        pilot.killed = True
        pilot.process.kill()

    def kill_tree(self, pilot: Pilot) -> None:
        """End a pilot and its tasks without warning, as when a node dies."""
        pilot.process.send_signal(signal.SIGSTOP)  # so that it sees no task of it die
        tasks = pilot.children()
        self.kill(pilot)
        _kill_sessions(tasks)

    def freeze(self, pilot: Pilot) -> None:
        """Stop a pilot; its tasks go on."""
        pilot.frozen = True
        pilot.process.send_signal(signal.SIGSTOP)

    def thaw(self, pilot: Pilot) -> None:
        """Let a stopped pilot go on."""
        pilot.frozen = False
        if pilot.alive:
            pilot.process.send_signal(signal.SIGCONT)

    def terminate(self, pilot: Pilot) -> None:
        """Tell a pilot to end in good order."""
        pilot.terminated = True
        pilot.process.terminate()

    def wait(self, seconds: float) -> None:
        """Wait for all pilots to end; kill those that do not, and note that they hung."""
        deadline = time.monotonic() + seconds
        for pilot in self.pilots:
            try:
                pilot.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                pilot.hung = True
                self.kill_tree(pilot)
                pilot.process.wait()

    def close(self) -> None:
        """Kill whatever is left."""
        for pilot in self.pilots:
            if pilot.alive:
                self.kill_tree(pilot)
            pilot.process.wait()

    def names(self) -> dict[str, str]:
        """Our name of each pilot, by the id that the pool has."""
        return {known: pilot.name for pilot in self.pilots for known in pilot.ids()}

    def _start(self, *, plain: bool) -> Pilot:
        number = len(self.pilots) + 1
        name = f"p{number:03}"
        setting = self._setting
        endless = self._chance.random() < _ENDLESS and not plain
        is_off = self._chance.random() < _CLOCK_OFF and not plain
        off = self._chance.choice(clock.CLOCKS) if is_off and setting.shift else 0
        environ = {**setting.environ, "SOAK_PILOT": name}
        if setting.shift and off:
            environ |= clock.shifted(setting.shift, off)
        small = setting.small is not None and number % 2 == 1
        logs = (setting.small if small and setting.small else setting.logs) / name
        said = setting.folder / f"{name}.said"
        options = [*setting.options, "--slots", str(SLOTS), "--logs", str(logs)]
        options += ["--endless"] if endless else []
        with said.open("wb") as output:
            process = subprocess.Popen(
                [PICAS, "run", *options],
                cwd=setting.folder,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        pilot = Pilot(name, process, said, small, endless, off)
        self.pilots.append(pilot)
        return pilot


def _children(pid: int) -> Iterator[int]:
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            yield int(status.parent.name)


def _kill_sessions(leaders: Iterable[int]) -> None:
    for leader in leaders:
        try:
            if os.getpgid(leader) == leader:  # never our own group
                os.killpg(leader, signal.SIGKILL)
        except ProcessLookupError:
            pass
