"""Carries out the plan: begins each fault at its time, ends it, and writes it down."""

import heapq
import itertools
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path

from soak.fleet import Fleet, Pilot
from soak.hands import Hands
from soak.history import Fault
from soak.plan import NETWORK, PERSON, Step
from soak.sites import Site, SmallDisk

TICK_SECONDS = 0.02
STORM = 3
"""Pilots that are killed at once, or nearly."""

_OF_SITE = frozenset(NETWORK) | {"server_kill", "lock_held", "torn_write", "disk_pool"}


class FaultsLog:
    """The faults that were injected, in a file of JSON lines and in memory; for any thread.

    Args:
        file: The file; made here.
    """

    def __init__(self, file: Path) -> None:
        self.faults: list[Fault] = []
        self.met: Counter[str] = Counter()
        """Single requests that a fault of the network met."""
        self._lock = threading.Lock()
        self._file = file.open("w", encoding="utf-8")

    def note(self, fault: Fault) -> None:
        """Write down a fault."""
        with self._lock:
            self.faults.append(fault)
            self._file.write(fault.line() + "\n")
            self._file.flush()

    def meet(self, kind: str) -> None:
        """Count a request that was met."""
        with self._lock:
            self.met[kind] += 1

    def counts(self) -> Counter[str]:
        """Faults by kind; those of the network as the requests that they met."""
        kinds = Counter(fault.kind for fault in self.faults if fault.kind not in NETWORK)
        return kinds + self.met

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Injector:
    """Works through a plan, in the thread that calls `run`.

    Args:
        fleet: The pilots.
        site: The pool.
        hands: The person.
        disk: The small disk with logs of pilots, if there is one.
        log: Where faults are written down.
        left_out: Kinds that this machine cannot have.
    """

    def __init__(
        self,
        fleet: Fleet,
        site: Site,
        hands: Hands,
        disk: SmallDisk | None,
        log: FaultsLog,
        left_out: Collection[str],
    ) -> None:
        self._fleet = fleet
        self._site = site
        self._hands = hands
        self._disk = disk
        self._log = log
        self._left_out = left_out
        self._order = itertools.count()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._lasting: set[str] = set()

    def run(self, plan: list[Step], seconds: float, pilots: int) -> None:
        """Inject for that time, and keep that many pilots at work; then heal everything."""
        begun = time.monotonic()
        waiting = [step for step in plan if step.kind not in self._left_out][::-1]
        while (elapsed := time.monotonic() - begun) < seconds:
            self._end_due(time.monotonic())
            while waiting and waiting[-1].at <= elapsed:
                self._begin(waiting.pop())
            self._keep(pilots)
            time.sleep(TICK_SECONDS)
        self._end_due(float("inf"))

    def _keep(self, pilots: int) -> None:
        started = self._fleet.keep(pilots)
        if started is not None and started.off:
            detail = {"seconds": started.off}
            self._log.note(Fault("clock", time.time(), target=started.name, detail=detail))

    def _begin(self, step: Step) -> None:
        if step.kind in PERSON:
            self._hands.do(step)
        elif step.kind == "disk_logs" or step.kind in _OF_SITE:
            self._last(step)
        elif step.kind == "storm":
            for _ in range(STORM):
                self._hurt(Step(step.at, "kill", 0.0, step.pick, step.more))
        else:
            self._hurt(step)

    def _hurt(self, step: Step) -> None:
        """Do something to one of the pilots."""
        pilot = self._fleet.choose(step.pick)
        if pilot is None:
            return
        now = time.time()
        match step.kind:
            case "kill":
                self._fleet.kill(pilot)
            case "kill_tree":
                self._fleet.kill_tree(pilot)
            case "term":
                self._fleet.terminate(pilot)
            case "stop":
                self._fleet.freeze(pilot)
                self._later(step.seconds, lambda: self._thaw(pilot, now))
                return
            case "kill_task":
                if not self._kill_task(pilot, step.more):
                    return
        self._log.note(Fault(step.kind, now, target=pilot.name))

    def _thaw(self, pilot: Pilot, since: float) -> None:
        self._fleet.thaw(pilot)
        self._log.note(Fault("stop", since, time.time(), pilot.name))

    def _kill_task(self, pilot: Pilot, more: float) -> bool:
        """Kill a task of a pilot, as the kernel does when memory runs out."""
        tasks = pilot.children()
        if not tasks:
            return False
        try:
            os.kill(tasks[int(more * len(tasks))], signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True

    def _last(self, step: Step) -> None:
        """Begin a fault that lasts; one of a kind at a time."""
        if step.kind in self._lasting:
            return
        now = time.time()
        if step.kind == "disk_logs":
            if self._disk is not None:
                self._disk.fill()
        elif not self._site.begin(step.kind):
            return
        self._lasting.add(step.kind)
        self._later(step.seconds, lambda: self._heal(step, now))

    def _heal(self, step: Step, since: float) -> None:
        self._lasting.discard(step.kind)
        if step.kind == "disk_logs":
            if self._disk is not None:
                self._disk.empty()
        else:
            self._site.end(step.kind, step.more)
        self._log.note(Fault(step.kind, since, time.time()))

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._due, (time.monotonic() + seconds, next(self._order), act))

    def _end_due(self, now: float) -> None:
        while self._due and self._due[0][0] <= now:
            heapq.heappop(self._due)[2]()
