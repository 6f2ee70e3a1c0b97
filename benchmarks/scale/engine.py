"""Events in the order of time: processes, processors, and shards that write in turn."""

import heapq
import itertools
from collections import defaultdict, deque
from collections.abc import Callable, Iterator

Then = Callable[[], None]
Command = Callable[[Then], None]
"""What a process waits for: it is given what to do afterwards."""


class Engine:
    """Runs processes in simulated time.

    A process is a generator that yields commands, and goes on when they are done.

    Attributes:
        now: The time, in seconds.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Then]] = []
        self._order = itertools.count()

    def after(self, delay: float, then: Then) -> None:
        """Do something later."""
        heapq.heappush(self._events, (self.now + delay, next(self._order), then))

    def sleep(self, delay: float) -> Command:
        """A command that takes time and nothing else."""
        return lambda then: self.after(delay, then)

    def start(self, process: Iterator[Command]) -> None:
        """Let a process begin."""
        command = next(process, None)
        if command is not None:
            command(lambda: self.start(process))

    def run(self, until: float) -> None:
        """Let time pass."""
        events = self._events
        while events and events[0][0] <= until:
            self.now, _, then = heapq.heappop(events)
            then()
        self.now = until


class Cores:
    """Processors that serve in the order of arrival.

    Args:
        engine: Whose time it is.
        number: How many.

    Attributes:
        busy: Seconds served so far, by what they were for.
    """

    def __init__(self, engine: Engine, number: int) -> None:
        self._engine = engine
        self._free = number
        self._waiting: deque[tuple[str, float, Then]] = deque()
        self.busy: defaultdict[str, float] = defaultdict(float)

    def serve(self, what: str, seconds: float) -> Command:
        """A command that takes a processor for some time."""

        def command(then: Then) -> None:
            if self._free:
                self._free -= 1
                self._begin(what, seconds, then)
            else:
                self._waiting.append((what, seconds, then))

        return command

    def _begin(self, what: str, seconds: float, then: Then) -> None:
        self.busy[what] += seconds
        self._engine.after(seconds, lambda: self._done(then))

    def _done(self, then: Then) -> None:
        if self._waiting:
            self._begin(*self._waiting.popleft())
        else:
            self._free += 1
        then()


class Shard:
    """One piece of a database: it commits what has come together, one commit after the other.

    Args:
        engine: Whose time it is.
        cores: The processors that it needs for that.
        once: Processor seconds of a commit.
        each: Processor seconds of each document in it.
        flush: Seconds until the disk has it.
        spread: How much work it is on all nodes together, as a multiple.
    """

    def __init__(
        self, engine: Engine, cores: Cores, once: float, each: float, flush: float, spread: float
    ) -> None:
        self._engine, self._cores = engine, cores
        self._once, self._each, self._flush, self._spread = once, each, flush, spread
        self._waiting: list[tuple[int, Then]] = []
        self._writing = False

    def write(self, documents: int) -> Command:
        """A command that ends when these documents are safe."""

        def command(then: Then) -> None:
            self._waiting.append((documents, then))
            if not self._writing:
                self._engine.start(self._commit())

        return command

    def _commit(self) -> Iterator[Command]:
        self._writing = True
        while self._waiting:
            group, self._waiting = self._waiting, []
            cpu = self._once + self._each * sum(documents for documents, _ in group)
            if self._spread > 1:
                self._cores.serve("commit", cpu * (self._spread - 1))(_nothing)
            yield self._cores.serve("commit", cpu)
            yield self._engine.sleep(self._flush)
            for _, then in group:
                then()
        self._writing = False


class Index:
    """The views of one shard: brought up to date one update at a time.

    Args:
        engine: Whose time it is.
        cores: The processors that it needs for that.
        once: Processor seconds of an update.
        each: Processor seconds of each changed document.
        copies: How many nodes do the same.

    Attributes:
        behind: Changed documents that it does not know of yet.
    """

    PIECE = 100
    """Documents after which an update lets others have a processor."""

    SHUT_SECONDS = 60.0
    """How long CouchDB's background indexer leaves alone what it found busy."""

    def __init__(
        self, engine: Engine, cores: Cores, once: float, each: float, copies: int = 1
    ) -> None:
        self._engine, self._cores = engine, cores
        self._once, self._each, self._copies = once, each, copies
        self._updating = self._again = False
        self._opens = 0.0
        self.behind = 0

    def ask(self) -> None:
        """A reader wants it up to date: if it is busy, it goes on with what came meanwhile."""
        if self._updating:
            self._again = True
        else:
            self._engine.start(self._update())

    def notice(self) -> None:
        """The background indexer hears of a write."""
        if self._engine.now < self._opens:
            return
        if self._updating:
            self._opens = self._engine.now + self.SHUT_SECONDS
        else:
            self._engine.start(self._update())

    def _update(self) -> Iterator[Command]:
        self._updating = self._again = True
        while self._again and self.behind:
            self._again = False
            taking, cpu = self.behind, self._once
            while taking:
                piece = min(taking, self.PIECE)
                cpu += self._each * piece
                for _ in range(self._copies - 1):
                    self._cores.serve("indexes", cpu)(_nothing)
                yield self._cores.serve("indexes", cpu)
                taking, cpu = taking - piece, 0.0
                self.behind -= piece
        self._updating = False


def all_of(commands: list[Command]) -> Command:
    """A command that ends when the last of several has ended; there must be one."""

    def command(then: Then) -> None:
        left = len(commands)

        def one_done() -> None:
            nonlocal left
            left -= 1
            if not left:
                then()

        for one in commands:
            one(one_done)

    return command


def _nothing() -> None:
    """Nobody waits for it."""
