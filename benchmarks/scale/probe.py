"""A private CouchDB, and the processor time and memory that it takes."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from tests.couchdb import cluster
from tests.couchdb import server as couchdb
from tests.couchdb.raw import Raw

QUIET_SECONDS = 0.15
"""How long the server must do next to nothing until what was asked of it counts as done."""

BUSY_CORES = 0.05
"""Below this it does next to nothing."""


class Measured(couchdb.InstalledCouch):
    """A private server whose schedulers sleep when idle, so that its time is what its work takes.

    By default Erlang's schedulers spin for a while before they sleep, which looks like work.
    """

    def _configure(self, home: Path) -> None:
        super()._configure(home)
        with (home / "vm.args").open("a") as arguments:
            arguments.write("+sbwt none\n+sbwtdcpu none\n+sbwtdio none\n")

    def cpu(self) -> float:
        """Seconds of processor time that its processes took so far."""
        assert self.process is not None, "it does not run"
        return sum(map(_ran, [self.process.pid, *_below(self.process.pid)]))


class MeasuredNode(Measured, cluster.Node):
    """The same as one node of a cluster."""


class MeasuredCluster(cluster.InstalledCluster):
    """Three such nodes, with a copy of each database on each."""

    def __init__(self) -> None:
        super().__init__()
        self.measured = [MeasuredNode(self, number) for number in range(1, cluster.NODES + 1)]
        self.nodes = tuple(self.measured)

    def cpu(self) -> float:
        """Seconds of processor time of all nodes."""
        return sum(node.cpu() for node in self.measured)


class MeasuredCouch(Measured):
    """A single server, and what it says of itself."""

    def memory(self) -> int:
        """Bytes that its connections and what they do take, by its own account."""
        with self.raw() as raw:
            told = raw.get("/_node/_local/_system").json["memory"]
        return sum(told[part] for part in ("processes", "binary", "ets", "other"))

    def stat(self, name: str) -> Any:
        """One of CouchDB's own counters, such as ``couchdb/fsync/count``."""
        with self.raw() as raw:
            return raw.get(f"/_node/_local/_stats/{name}").json["value"]

    @contextmanager
    def database(self, shards: int, *designs: dict[str, Any]) -> Iterator[Raw]:
        """A connection to a new database with these design documents, removed at the end."""
        name = self.new_database("scale", shards=shards)
        try:
            with self.raw(f"/{name}") as raw:
                for design in designs:
                    checked(raw.put(f"/{design['_id']}", design))
                yield raw
        finally:
            self.delete_database(name)


PARTS = 5
"""Of how many parts of a measurement the median is taken."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What an operation took, in seconds.

    Attributes:
        cpu: The server's processor time.
        wall: Until the answer was there.
    """

    cpu: float
    wall: float


def settle(server: MeasuredCouch | MeasuredCluster) -> None:
    """Wait until it has finished what goes on behind the answers."""
    while True:
        before, begun = server.cpu(), time.perf_counter()
        time.sleep(QUIET_SECONDS)
        if server.cpu() - before < BUSY_CORES * (time.perf_counter() - begun):
            return


def take(server: MeasuredCouch | MeasuredCluster, work: Callable[[], object], times: int) -> Taken:
    """Do something several times, one after the other; medians, for other work disturbs by fits."""
    settle(server)
    cpus: list[float] = []
    walls: list[float] = []
    part = max(1, times // PARTS)
    while len(walls) < times:
        before = server.cpu()
        for _ in range(part):
            begun = time.perf_counter()
            work()
            walls.append(time.perf_counter() - begun)
        if len(walls) >= times:
            settle(server)
        cpus.append((server.cpu() - before) / part)
    return Taken(median(cpus), median(walls))


def checked(reply: Any) -> Any:
    """The JSON of an answer that must not be an error."""
    if reply.status >= 300:
        raise RuntimeError(f"CouchDB answered {reply.status}: {reply.body[:200]!r}")
    return reply.json


def _ran(pid: int) -> float:
    """Seconds for which a process's threads were on a processor, by Linux's clock of it."""
    try:
        return time.clock_gettime((~pid << 3) | 2)  # as clock_getcpuclockid(3) makes it
    except OSError:  # it ended
        return 0.0


def _below(pid: int) -> Iterator[int]:
    """The processes that a process started, and those that they started."""
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found = children.read_text().split()
        except OSError:
            continue
        for child in map(int, found):
            yield child
            yield from _below(child)
