"""What each operation of a pilot costs a real CouchDB, and how its files grow."""

import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from tests.couchdb.raw import Raw

from benchmarks.scale.costs import Costs, Row
from benchmarks.scale.listen import listening
from benchmarks.scale.probe import MeasuredCluster, MeasuredCouch, Taken, checked, settle, take
from benchmarks.scale.work import VIEWS, Pilots, Work, together

SHARDS = (1, 2, 4, 8)
USUAL = 2
"""Shards where only one number of them is measured: CouchDB's default."""

BATCHES = {1: 40, 10: 15, 100: 5}
"""Tokens a request, and how often it is repeated."""

CHANGES = {2: 20, 20: 12, 200: 5}
"""Changed documents an update of an index, and how often it is repeated."""

TOKENS = 5_000
CROWD, CROWD_TURNS = 32, 20
"""Connections that write at the same time, and what each of them writes."""

LISTENERS = 64
LOG = 1_500
"""Bytes of logs of a token: 2,000 in base64."""

MANY = 100_000
SHARED = "couchdb/coalesced_updates/interactive"
"""CouchDB's count of writes that went into the commit of another."""


Tell = Callable[[str], None]


def measure(rounds: int, tell: Tell, earlier: Iterable[Row] = ()) -> Costs:
    """Measure everything; needs some minutes, and as quiet a machine as can be had.

    Args:
        rounds: How often; of each figure the least counts, since other work only adds to it.
        tell: Is told what is measured now.
        earlier: What was measured on this machine before: it counts as more rounds.
    """
    found: dict[tuple[str, int, int, str], Row] = {}

    def note(rows: Iterable[Row]) -> None:
        for row in rows:
            key = (row.op, row.n, row.shards, row.kind)
            found[key] = row.least(found.get(key, row))

    note(earlier)
    with MeasuredCouch() as server:
        for number in range(rounds):
            tell(f"round {number + 1} of {rounds}")
            note(_round(server, tell))
        tell(f"a database with {MANY:,} tokens")
        note(_large(server, rounds))
        about = _about(server)
    tell("three nodes with three copies")
    note(_cluster(rounds))
    return Costs(about, tuple(found.values()))


def _round(server: MeasuredCouch, tell: Tell) -> Iterator[Row]:
    for shards in SHARDS:
        tell(f"requests, indexes and listeners with {shards} shards")
        yield from _requests(server, shards)
        yield from _crowd(server, shards)
        yield from _indexes(server, shards)
        yield from _listeners(server, shards, "_selector")
    tell("logs, heartbeats, looks for lost pilots, other ways to listen")
    yield from _logs(server)
    yield from _pilots(server)
    for kind in ("_doc_ids", "local"):
        yield from _listeners(server, USUAL, kind)
    tell("files, compaction, memory")
    yield from _storage(server)
    yield from _memory(server)


def _row(op: str, n: int, shards: int, taken: Taken, kind: str = "", **more: float) -> Row:
    return Row(op, n, shards, kind, taken.cpu, taken.wall, more)


def _requests(server: MeasuredCouch, shards: int) -> Iterator[Row]:
    """Turns, reading documents, and a look at nothing at all for comparison."""
    with server.database(shards) as raw:
        work = Work(raw)
        work.push(TOKENS)
        for batch, times in BATCHES.items():
            work.turn(batch)  # so that every turn that counts settles as many as it claims
            yield _row("turn", batch, shards, take(server, partial(work.turn, batch), times))
        for batch, times in BATCHES.items():
            taken = take(server, partial(work.get_some, batch), times)
            yield _row("get", batch, shards, taken)
        if shards == USUAL:
            yield _row("ping", 1, shards, take(server, partial(raw.get, ""), 60))


def _crowd(server: MeasuredCouch, shards: int) -> Iterator[Row]:
    """Turns from many connections at once, which share commits."""
    with server.database(shards) as raw:
        work = Work(raw)
        work.push(CROWD * CROWD_TURNS)
        parts = work.share(CROWD)
        settle(server)
        cpu, shared, size = server.cpu(), server.stat(SHARED), _size(raw)
        wall = together([partial(_turns, part, 1, CROWD_TURNS) for part in parts])
        settle(server)
        turns = CROWD * CROWD_TURNS
        more = {
            "grown": (_size(raw) - size) / turns,
            "shared": (server.stat(SHARED) - shared) / turns,
        }
        taken = Taken((server.cpu() - cpu) / turns, wall / turns)
        yield _row("turn", 1, shards, taken, "crowd", **more)


def _turns(work: Work, batch: int, times: int) -> None:
    for _ in range(times):
        work.turn(batch)


def _indexes(server: MeasuredCouch, shards: int) -> Iterator[Row]:
    """Reading the views as they stand, and making changes that the next read must take up."""
    with server.database(shards, VIEWS) as raw:
        work = Work(raw)
        work.push(TOKENS)
        work.read(1, "true")
        for limit, times in BATCHES.items():
            yield _row("read", limit, shards, take(server, partial(work.read, limit), times))
        fresh = partial(work.read, 1, "true")
        for changes, times in CHANGES.items():
            turn = partial(work.turn, changes // 2)
            turn()
            fresh()
            yield _row("index", changes, shards, take(server, partial(_both, turn, fresh), times))


def _both(first: Callable[[], None], then: Callable[[], None]) -> None:
    first()
    then()


def _listeners(server: MeasuredCouch, shards: int, kind: str) -> Iterator[Row]:
    """A heartbeat while nobody listens and while many do; and what a new token does to them."""
    with server.database(shards) as raw:
        pilots, work = Pilots(raw, 10), Work(raw)
        beat = partial(_slowly, pilots.beat_locally if kind == "local" else pilots.beat)
        yield _row("listen", 0, shards, take(server, beat, 10), kind)
        with listening(raw, LISTENERS, "_doc_ids" if kind == "_doc_ids" else "_selector") as ears:
            settle(server)
            yield _row("listen", LISTENERS, shards, take(server, beat, 10), kind)
            if kind == "_selector":
                yield _row("wake", LISTENERS, shards, take(server, partial(work.push, 1), 1))
                ears.all_answered()


def _slowly(work: Callable[[], None]) -> None:
    """Do something so seldom that all that it sets off is done before the next time."""
    work()
    time.sleep(0.1)


def _logs(server: MeasuredCouch) -> Iterator[Row]:
    """Turns with logs, and each time without, for the difference."""
    with server.database(USUAL) as raw:
        works = {"bare": Work(raw), "log": Work(raw, log=LOG)}
        for work in works.values():
            work.push(TOKENS)
        for batch, times in [*BATCHES.items()] * 2:
            for kind, work in works.items():
                work.turn(batch)
                taken = take(server, partial(work.turn, batch), times)
                yield _row("turn", batch, USUAL, taken, kind)


def _pilots(server: MeasuredCouch) -> Iterator[Row]:
    """Heartbeats of pilots young and old, and what looking for lost pilots reads."""
    for beats in (1, 20, 1000):
        with server.database(USUAL) as raw:
            checked(raw.put("/_revs_limit", str(max(20, beats))))
            pilots = Pilots(raw, 200, beats)
            before = _size(raw)
            taken = take(server, pilots.beat, 100)
            grown = (_size(raw) - before) / 100
            yield _row("beat", beats, USUAL, taken, bytes=grown)
            if beats == 1000:
                taken = take(server, partial(Work(raw).get, pilots.ids), 5)
                yield _row("pilots", len(pilots.ids), USUAL, taken, "old")
                taken = take(server, partial(pilots.list_ids, docs=True), 5)
                yield _row("range", len(pilots.ids), USUAL, taken, "old")
    with server.database(USUAL) as raw:
        yield _row("beat", 1, USUAL, take(server, Pilots(raw, 1).beat_locally, 100), "local")
        pilots = Pilots(raw, 200)
        taken = take(server, partial(pilots.list_ids, docs=True), 5)
        yield _row("range", len(pilots.ids), USUAL, taken)
    with server.database(USUAL) as raw:
        for number in (100, 1_000, 10_000):
            pilots = Pilots(raw, number)
            yield _row("ids", number, USUAL, take(server, pilots.list_ids, 5))
        taken = take(server, partial(Work(raw).get, pilots.ids[:200]), 10)
        yield _row("pilots", 200, USUAL, taken)


def _large(server: MeasuredCouch, rounds: int) -> Iterator[Row]:
    """The same turns and reads where the trees of the files are higher."""
    with server.database(USUAL, VIEWS) as raw:
        work = Work(raw)
        work.push(MANY)
        work.read(1, "true")
        for batch, times in [*BATCHES.items()] * rounds:
            work.turn(batch)
            before = _size(raw)
            taken = take(server, partial(work.turn, batch), times)
            grown = (_size(raw) - before) / batch / times
            yield _row("turn", batch, USUAL, taken, "large", grown=grown)
        work.read(1, "true")
        for limit, times in [*BATCHES.items()] * rounds:
            taken = take(server, partial(work.read, limit), times)
            yield _row("read", limit, USUAL, taken, "large")


def _cluster(rounds: int) -> Iterator[Row]:
    """Turns and reads on three nodes, all of them on this machine; the time of all three."""
    with MeasuredCluster() as nodes:
        first = nodes.nodes[0]
        with first.raw(f"/{first.new_database('scale', shards=USUAL)}") as raw:
            work = Work(raw)
            work.push(rounds * 1_000)
            for batch, times in [*BATCHES.items()] * rounds:
                work.turn(batch)
                taken = take(nodes, partial(work.turn, batch), times)
                yield _row("turn", batch, USUAL, taken, "cluster")
                taken = take(nodes, partial(work.get_some, batch), times)
                yield _row("get", batch, USUAL, taken, "cluster")


def _storage(server: MeasuredCouch) -> Iterator[Row]:
    """Bytes that a token adds to the files, one or a hundred at a time, and compacting them."""
    for batch, log in ((1, 0), (1, LOG), (100, 0), (100, LOG)):
        number = 500 if batch == 1 else 3_000
        with server.database(USUAL) as raw:
            work = Work(raw, log=log)
            work.push(number + batch)
            begun = _size(raw)
            for _ in range(number // batch + 1):
                work.turn(batch)
            grown = _size(raw)
            taken = take(server, partial(_compact, raw), 1)
            left = _size(raw)
            yield _row(
                "compact",
                batch,
                USUAL,
                Taken(taken.cpu / number, taken.wall / number),
                "log" if log else "",
                grown=(grown - begun) / number,
                left=left / number,
            )


def _size(raw: Raw) -> int:
    """Bytes of a database's files."""
    return int(checked(raw.get(""))["sizes"]["file"])


def _compact(raw: Raw) -> None:
    checked(raw.post("/_compact", {}))
    while checked(raw.get(""))["compact_running"]:
        time.sleep(0.02)


def _memory(server: MeasuredCouch) -> Iterator[Row]:
    """Memory of connections that do nothing, and of those that listen."""
    number = 400
    with server.database(USUAL) as raw:
        work = Work(raw)
        work.push(1)
        settle(server)
        before = server.memory()
        with ExitStack() as stack:
            for _ in range(number):
                idle = stack.enter_context(work.another_connection())
                checked(idle.get(""))
            settle(server)
            each = (server.memory() - before) / number
            yield Row("connection", number, USUAL, "idle", 0.0, 0.0, {"bytes": each})
        settle(server)
        before = server.memory()
        with listening(raw, number, "_selector"):
            settle(server)
            each = (server.memory() - before) / number
            yield Row("connection", number, USUAL, "listening", 0.0, 0.0, {"bytes": each})


def _about(server: MeasuredCouch) -> dict[str, Any]:
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "couchdb": server.version,
        "processor": _processor(),
        "processors": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
