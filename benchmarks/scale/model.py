"""Pilots, a server, and what the first ask of the second: formulas, nothing random."""

import math
from dataclasses import dataclass, replace
from statistics import median

from benchmarks.scale.costs import Costs
from picas.errors import InputError

MEASURED_TOKENS = 5_000
"""Tokens in the database where most was measured."""

LARGE_TOKENS = 100_000
SIZES = (1, 10, 100)
"""Tokens a request where requests are compared."""

OLD = 1_000
"""Revisions of the oldest pilots that were measured."""

READ_AHEAD = 50
"""Tokens that it reads at once for claims of a few."""

MOST_PILOTS = 1 << 22
PAGE = 200
"""Documents that a pilot reads by one request."""

AHEAD_SECONDS, MOST_AHEAD = 0.5, 200
FRESH_SECONDS = 2.0
"""For how long candidates that were read may be claimed."""


@dataclass(frozen=True, slots=True)
class Server:
    """A CouchDB, or a cluster of them, with processors as fast as those of the measurement.

    Attributes:
        cores: Processors of each node.
        shards: CouchDB's q.
        copies: CouchDB's n.
        nodes: Nodes of the cluster.
        revs_limit: Revisions remembered of each document.
        ratio: File size over size of the data at which a file is compacted; 0: never.
        flush: Seconds that the disk takes to make a commit safe.
    """

    cores: int = 8
    shards: int = 2
    copies: int = 1
    nodes: int = 1
    revs_limit: int = 1000
    ratio: float = 2.0
    flush: float = 0.001

    def __post_init__(self) -> None:
        if min(self.cores, self.shards, self.copies, self.nodes, self.revs_limit) < 1:
            raise InputError("a server has at least one of everything")
        if self.copies > self.nodes:
            raise InputError("each copy is on a node of its own: more copies than nodes")

    @property
    def processors(self) -> int:
        """Processors of all nodes."""
        return self.cores * self.nodes


@dataclass(frozen=True, slots=True)
class Load:
    """Pilots and their tokens.

    Attributes:
        pilots: How many.
        seconds: How long a token takes, in the mean.
        slots: Tokens that a pilot runs at once.
        tokens: Tokens in the database.
        log: Whether 2 kB of logs come with each result.
        heartbeat: Seconds between the heartbeats of a pilot.
        beats: Heartbeats that each pilot has made so far.
        lease: Seconds after which a silent pilot counts as gone.
        looks: How lost pilots are looked for: ``all`` reads the document of every pilot, ``view``
            asks an index for silent ones.
        due: Seconds between two looks of a pilot for tokens that had to wait; they bring the views
            up to date.
    """

    pilots: int
    seconds: float
    slots: int = 1
    tokens: int = 10_000_000
    log: bool = True
    heartbeat: float = 60.0
    beats: int = 720
    lease: float = 300.0
    looks: str = "all"
    due: float = 10.0

    def __post_init__(self) -> None:
        if self.pilots < 1 or self.slots < 1 or self.seconds <= 0:
            raise InputError("there must be pilots with slots, and tokens that take time")

    @property
    def ahead(self) -> int:
        """Tokens that a pilot holds beyond those that run."""
        return int(min(MOST_AHEAD, AHEAD_SECONDS * self.slots / self.seconds))

    @property
    def candidates(self) -> int:
        """Tokens that a pilot reads at once: as many as it claims before they are stale."""
        soon = min(READ_AHEAD, FRESH_SECONDS * self.slots / self.seconds)
        return max(1, self.ahead, math.ceil(soon))

    @property
    def look_seconds(self) -> float:
        """Mean time between two looks of one pilot, once it knows how many there are."""
        return self.lease / 4 * max(1.0, self.pilots / 8)


class Demands:
    """Seconds of processor time that each request takes from a server.

    Args:
        costs: What was measured.
        server: The server.
        load: The pilots.
    """

    def __init__(self, costs: Costs, server: Server, load: Load) -> None:
        self._costs, self._server, self._load = costs, server, load
        larger = self._larger = self._growth()
        q = server.shards
        shared = costs.cpu("turn", 1, q) - costs.cpu("turn", 1, q, "crowd")
        self.commit = larger * max(0.0, shared) / self.touched(2)
        """Of one commit of one shard: what a turn costs less where many share them."""

        more = larger * (costs.cpu("turn", 100, q) - costs.cpu("turn", 10, q))
        commits = self.commit * (self.touched(200) - self.touched(20))
        self.document = max(0.0, more - commits) / 180
        """Of each document in a commit."""

        self.spread = self._for_copies("turn")
        """Times that of one node which a write takes on all nodes together."""

        self.index = self._index()
        """What one update of one shard's views takes, and what each document adds to that."""

    def turn(self, batch: float) -> float:
        """Of a request that settles and claims so many tokens, apart from its commits."""
        costs, q = self._costs, self._server.shards
        whole = costs.cpu("turn", batch, q) * self._larger
        if self._load.log:
            whole += self._logs(batch)
        commits = self.commit * self.touched(2 * batch) + 2 * batch * self.document
        return self.spread * max(0.0, whole - commits)

    def _logs(self, batch: float) -> float:
        """What the logs of so many tokens add to a turn."""
        with_logs, without = (self._costs.cpu("turn", batch, 2, kind) for kind in ("log", "bare"))
        return max(0.0, with_logs - without)

    def candidates(self, number: float) -> float:
        """Of reading the view of free tokens, and the tokens that it names."""
        return self._costs.cpu("read", number, self._server.shards) + self.get(number)

    def due(self) -> float:
        """Of looking for tokens that had to wait; as a rule there are none."""
        return self._costs.cpu("read", 1, self._server.shards)

    def get(self, number: float) -> float:
        """Of reading tokens; on a cluster claims are read back by one more such request."""
        return self._costs.cpu("get", number, self._server.shards) * self._for_copies("get")

    def beat(self) -> float:
        """Of a heartbeat, apart from its commit."""
        whole = self._costs.cpu("beat", self._revisions()) * self._larger
        return self.spread * max(0.0, whole - self.commit - self.document)

    def look(self) -> list[float]:
        """Of each request of a look for lost pilots."""
        pilots, costs = self._load.pilots, self._costs
        if self._load.looks == "view":
            return [costs.cpu("read", 10, self._server.shards)]
        young, old = (costs.of("pilots", 2, kind)[0] for kind in ("", "old"))
        page = young.cpu + (old.cpu - young.cpu) * self._revisions() / OLD
        sizes = [min(PAGE, pilots - first) for first in range(0, pilots, PAGE)]
        return [costs.cpu("ids", pilots), *(page * size / young.n for size in sizes)]

    def _revisions(self) -> int:
        """How many revisions the document of a pilot has."""
        return min(self._load.beats, self._server.revs_limit)

    def compaction(self) -> float:
        """Of compacting the database, for each token that was run.

        A compaction copies all that is live, when the file has become `ratio` times as large.
        """
        if not self._server.ratio:
            return 0.0
        kind = "log" if self._load.log else ""
        (row, *_), (bare, *_) = self._costs.of("compact", 2, kind), self._costs.of("compact")
        grown = (
            self._costs.of("turn", 2, "crowd")[0].more["grown"]
            + row.more["grown"]
            - bare.more["grown"]
        )
        return row.cpu * max(0.0, grown) / row.more["left"] / (self._server.ratio - 1)

    def touched(self, documents: float) -> float:
        """Shards to which so many documents belong, in the mean."""
        q = self._server.shards
        return float(q * (1 - (1 - 1 / q) ** documents))

    def _for_copies(self, op: str) -> float:
        """How much more a request takes with several copies; measured with three."""
        if self._server.copies == 1:
            return 1.0
        cpu = self._costs.cpu
        three = median(cpu(op, n, 2, "cluster") / cpu(op, n) for n in SIZES)
        return 1 + max(0.0, three - 1) * (self._server.copies - 1) / 2

    def _growth(self) -> float:
        """How much more a turn takes in a database of this size; it goes with the trees' height."""
        cpu = self._costs.cpu
        larger = median(cpu("turn", n, 2, "large") / cpu("turn", n) for n in SIZES)
        height = math.log(max(1.0, self._load.tokens / MEASURED_TOKENS))
        measured = math.log(LARGE_TOKENS / MEASURED_TOKENS)
        return 1 + max(0.0, larger - 1) * height / measured

    def _index(self) -> tuple[float, float]:
        """What an update of the views takes once, and for each document.

        It was measured together with the changes that it takes up, and the read that asks for it.
        """
        costs, q = self._costs, self._server.shards
        taken = {
            row.n: row.cpu - costs.cpu("turn", row.n / 2, q) - costs.cpu("read", 1, q)
            for row in costs.of("index", q)
        }
        few, *_, many = sorted(taken)
        # Two equations: taken = shards touched x once + documents x each.
        a, b = self.touched(few), self.touched(many)
        each = (taken[many] * a - taken[few] * b) / (many * a - few * b)
        each = max(0.0, each)
        return max(0.0, taken[few] - few * each) / a, each


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the operational laws say of a server and its pilots, whatever the order of requests.

    Attributes:
        token: Processor seconds that a token takes at least: where all is shared that can be.
        alone: The same with nobody to share with.
        pilot: Processor seconds that a pilot takes each second, whatever its tokens.
        rate: Most tokens a second.
    """

    token: float
    alone: float
    pilot: float
    rate: float


def bounds(costs: Costs, server: Server, load: Load) -> Bounds:
    """The asymptotic bounds of operational analysis.

    In a second no more tokens end than slots divided by token time, nor than processors divided
    by the time that a token takes there, nor than each shard can write, or take up into its
    views: it does either by one process, and a token is written twice.
    """
    demands = Demands(costs, server, load)
    copies = server.copies
    once, each = demands.index
    each = 2 * each + demands.compaction()
    reads = demands.candidates(load.candidates) / _claims_a_read(load)
    batch = max(1.0, load.ahead / 4)
    token = demands.turn(batch) / batch + reads + copies * each
    token += 2 * demands.spread * demands.document
    if copies > 1:
        token += demands.get(1)
    commits = demands.spread * demands.commit + copies * once
    alone = token + demands.touched(2) * commits
    beats = (demands.beat() + demands.spread * demands.commit) / load.heartbeat
    dues = demands.due() / max(load.due, load.seconds / load.slots)
    pilot = beats + dues + sum(demands.look()) / load.look_seconds
    left = max(0.0, server.processors - load.pilots * pilot)
    shard = server.shards / (2 * max(demands.document, demands.index[1], 1e-9))
    return Bounds(
        token, alone, pilot, min(load.pilots * load.slots / load.seconds, left / token, shard)
    )


def bend(costs: Costs, server: Server, load: Load) -> int:
    """Pilots from which on the server has no more time left, whatever it shares.

    Up to there more pilots bring more tokens a second; from there on they only wait longer.
    """
    low, high = 1, MOST_PILOTS
    while low < high:
        pilots = (low + high) // 2
        found = bounds(costs, server, replace(load, pilots=pilots))
        each = load.slots * found.token / (load.seconds + found.token) + found.pilot
        low, high = (pilots + 1, high) if pilots * each < server.processors else (low, pilots)
    return low


def _claims_a_read(load: Load) -> float:
    return max(1.0, min(FRESH_SECONDS * load.slots / load.seconds, load.candidates))


def listening(costs: Costs, pilots: int, changes: float, shards: int = 2) -> float:
    """Processors that idle pilots keep busy by listening, each with a long poll of its own.

    Args:
        costs: What was measured.
        pilots: How many listen.
        changes: Writes to the database a second.
        shards: CouchDB's q.
    """
    alone, heard = costs.of("listen", shards, "_selector")
    return pilots * changes * max(0.0, heard.cpu - alone.cpu) / heard.n
