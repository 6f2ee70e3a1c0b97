"""Many pilots in front of one server, minute by minute."""

import heapq
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.scale.costs import Costs
from benchmarks.scale.engine import Command, Cores, Engine, Index, Shard, Then, all_of
from benchmarks.scale.model import FRESH_SECONDS, PAGE, Demands, Load, Server, bounds
from picas.errors import InputError

GATHER_SECONDS = 0.05
"""How long a pilot lets a result wait for others, while its slots have work."""

STALE = 0.25
"""Share of stale rows above which a pilot asks for the views to be brought up to date."""

THOROUGH = 0.25
"""Share of the looks for lost pilots that read all locked tokens."""

CLAIMS = 2_000
"""Claims after which a run has seen enough."""

LEAST_SECONDS, MOST_SECONDS = 30.0, 4 * 3600.0
SETTLE_SECONDS = 300.0
"""Longest time before a run counts; tokens that run when it begins have any age already."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run showed, after it had settled.

    Attributes:
        pilots: How many there were.
        rate: Tokens a second.
        lasting: The same, if what the server puts off while it is full had to be done, too.
        busy: Processors kept busy, in the mean.
        load: The same as a share of all processors.
        parts: Processors kept busy, by what they did.
        median: Seconds from the end of a token to the start of the next in its slot, in the median.
        late: The same for the slowest claim in a hundred.
        drain: Seconds until all tokens of the database are done at this rate.
        seconds: Simulated time.
    """

    pilots: int
    rate: float
    lasting: float
    busy: float
    load: float
    parts: dict[str, float]
    median: float
    late: float
    drain: float
    seconds: float


class Site:
    """A server with its pilots.

    Args:
        costs: What was measured.
        server: The server.
        load: The pilots.
        seed: Of what is random.
        together: All pilots start at once, with free slots, and look for lost pilots as new ones
            do. Otherwise they are long at work when the run begins.
    """

    def __init__(
        self, costs: Costs, server: Server, load: Load, *, seed: int = 1, together: bool = False
    ) -> None:
        self.server, self.load, self.together = server, load, together
        self.random = random.Random(seed)
        self.engine = Engine()
        self.cores = Cores(self.engine, server.processors)
        self.demands = Demands(costs, server, load)
        self.waits: list[float] = []
        self.ended = 0
        shards, demands = range(server.shards), self.demands
        once, each = demands.commit, demands.document
        self._shards = [
            Shard(self.engine, self.cores, once, each, server.flush, demands.spread) for _ in shards
        ]
        self._views = [
            Index(self.engine, self.cores, *demands.index, server.copies) for _ in shards
        ]
        for _ in range(load.pilots):
            self.engine.start(_Pilot(self).work())
            self.engine.start(self._beats())
        self.engine.start(self._compact())

    def ask(self, what: str, cpu: float) -> Command:
        """A request that only reads."""
        return self.cores.serve(what, cpu)

    def write(self, documents: int) -> Command:
        """Commits of documents that belong to shards at random."""
        counts: dict[int, int] = {}
        for _ in range(documents):
            shard = self.random.randrange(self.server.shards)
            counts[shard] = counts.get(shard, 0) + 1
        return all_of([self._commit(shard, number) for shard, number in counts.items()])

    def refresh(self) -> None:
        """A read asks for the views to be brought up to date behind it."""
        for index in self._views:
            index.ask()

    def stale(self) -> float:
        """The share of the rows in the view of free tokens whose tokens are gone."""
        behind = sum(index.behind for index in self._views) / 2
        return behind / (behind + self.load.tokens)

    def token_seconds(self) -> float:
        """How long the next token takes."""
        return self.load.seconds * self.random.uniform(0.5, 1.5)

    def seconds_left(self) -> float:
        """How long a token still takes that is found running: the longer it takes, the likelier."""
        whole = math.sqrt(0.25 + 2 * self.random.random())
        return self.load.seconds * whole * self.random.random()

    def _commit(self, shard: int, documents: int) -> Command:
        def command(then: Then) -> None:
            def committed() -> None:
                self._views[shard].behind += documents
                self._views[shard].notice()
                then()

            self._shards[shard].write(documents)(committed)

        return command

    def _beats(self) -> Iterator[Command]:
        """The heartbeats of one pilot."""
        if not self.together:
            yield self.engine.sleep(self.random.uniform(0, self.load.heartbeat))
        while True:
            yield self.ask("heartbeats", self.demands.beat())
            yield self.write(1)
            yield self.engine.sleep(self.load.heartbeat)

    def _compact(self) -> Iterator[Command]:
        """What compaction takes, a little every second."""
        each, before = self.demands.compaction() * self.server.copies, 0
        while True:
            yield self.engine.sleep(1.0)
            owed, before = each * (self.ended - before), self.ended
            for _ in range(math.ceil(owed / 0.02)):
                yield self.cores.serve("compaction", min(owed, 0.02))
                owed -= 0.02


class _Pilot:
    """One pilot.

    Args:
        site: Where it works.
    """

    def __init__(self, site: Site) -> None:
        self._site, self._load, self._engine = site, site.load, site.engine
        slots, random_ = site.load.slots, site.random
        self._idle = [0.0] * slots if site.together else []
        self._ends = sorted(site.seconds_left() for _ in range(slots - len(self._idle)))
        self._waiting = self._ended = 0
        self._read, self._read_at = 0, -math.inf
        self._due_at = random_.uniform(0, site.load.due)
        first = site.load.lease / 4 if site.together else site.load.look_seconds
        self._look_at = first * random_.uniform(0.5 if site.together else 0.0, 1.5)

    def work(self) -> Iterator[Command]:
        """Claim, run and settle, for ever."""
        while True:
            want = self._want()
            if want:
                yield from self._turn(want)
            if self._engine.now >= self._look_at:
                yield from self._look()
            self._advance()
            if self._want() == 0:
                gather = GATHER_SECONDS if self._waiting else 0.0
                pause = max(0.0, min(self._ends[0], self._look_at) - self._engine.now)
                yield self._engine.sleep(pause + gather)
                self._advance()

    def _want(self) -> int:
        """How many to claim now."""
        held, ahead = len(self._ends) + self._waiting, self._load.ahead
        enough = self._load.slots + ahead * 3 // 4
        full = self._load.slots + ahead
        return full - held if held < max(self._load.slots, enough) else 0

    def _turn(self, want: int) -> Iterator[Command]:
        """Settle what ended and claim what comes next."""
        site = self._site
        demands = site.demands
        while True:
            if self._read < want or self._engine.now - self._read_at > FRESH_SECONDS:
                yield from self._read_ahead()
            settled, self._ended = self._ended, 0
            yield site.ask("turns", demands.turn((settled + want) / 2))
            yield site.write(settled + want)
            site.ended += settled
            self._read -= want
            if site.server.copies > 1:
                yield site.ask("candidates", demands.get(want))
            if want > 1 or site.random.random() >= site.stale():
                break
        self._advance()
        self._waiting += want
        self._fill(self._engine.now)

    def _read_ahead(self) -> Iterator[Command]:
        """Read tokens that may be claimed, and now and then look for those that had to wait."""
        site, load = self._site, self._load
        if self._engine.now >= self._due_at:
            self._due_at = self._engine.now + load.due
            yield site.ask("candidates", site.demands.due())
            site.refresh()
        yield site.ask("candidates", site.demands.candidates(load.candidates))
        if site.stale() > STALE:
            site.refresh()
        self._read, self._read_at = load.candidates, self._engine.now

    def _advance(self) -> None:
        """Tokens that have ended meanwhile, and those that waited for their slots."""
        while self._ends and self._ends[0] <= self._engine.now:
            at = heapq.heappop(self._ends)
            self._ended += 1
            self._idle.append(at)
            self._fill(at)

    def _fill(self, now: float) -> None:
        while self._idle and self._waiting:
            self._site.waits.append(now - self._idle.pop(0))
            self._waiting -= 1
            heapq.heappush(self._ends, now + self._site.token_seconds())

    def _look(self) -> Iterator[Command]:
        """Look for lost pilots."""
        site = self._site
        for cpu in site.demands.look():
            yield site.ask("looks", cpu)
        if self._load.looks == "all" and site.random.random() < THOROUGH:
            locked = self._load.pilots * self._load.slots
            for first in range(0, locked, PAGE):
                yield site.ask("looks", site.demands.candidates(min(PAGE, locked - first)))
        self._look_at = self._engine.now + self._load.look_seconds * site.random.uniform(0.5, 1.5)


def simulate(costs: Costs, server: Server, load: Load, *, seed: int = 1) -> Outcome:
    """Run pilots for as long as it takes to see how they do, and no longer.

    Raises:
        InputError: The costs lack what this server needs.
    """
    site = Site(costs, server, load, seed=seed)
    expected = max(1e-9, bounds(costs, server, load).rate)
    slots = load.pilots * load.slots
    cycle = slots / expected
    seconds = min(MOST_SECONDS, max(LEAST_SECONDS, CLAIMS / expected))
    site.engine.run(min(3 * cycle, SETTLE_SECONDS))
    begun, ended = site.engine.now, site.ended
    site.waits.clear()
    site.cores.busy.clear()
    site.engine.run(begun + seconds)
    parts = {name: busy / seconds for name, busy in sorted(site.cores.busy.items())}
    rate = (site.ended - ended) / seconds
    lasting = min(rate, expected)
    waits = sorted(site.waits)
    return Outcome(
        load.pilots,
        rate,
        lasting,
        sum(parts.values()),
        sum(parts.values()) / server.processors,
        parts,
        _quantile(waits, 0.5),
        _quantile(waits, 0.99),
        load.tokens / lasting,
        seconds,
    )


def _quantile(ordered: list[float], share: float) -> float:
    if not ordered:
        raise InputError("nothing was claimed in the simulated time")
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
