"""Tokens a second through a pilot, beside what the machine can do without one."""

import logging
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.couchdb.server import real_server

from benchmarks import limits
from picas import config, token
from picas.config import Settings
from picas.pilot import CommandRunner, FunctionRunner, Pilot, Runner
from picas.pool import Pool
from picas.pool.connect import open_pool
from picas.process import adopt_orphans
from picas.token import Document, Outcome

SLOTS = 2


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement.

    Attributes:
        store: ``SQLite …`` or ``CouchDB …``.
        work: What the tokens do.
        size: Done tokens that were in the pool already.
        tokens: How many were run.
        rate: Tokens a second.
        limit: The same without PiCaS, measured in this run.
    """

    store: str
    work: str
    size: int
    tokens: int
    rate: float
    limit: float

    @property
    def ratio(self) -> float:
        """How much of the limit was reached."""
        return self.rate / self.limit


def measure(sizes: list[int], tokens: int) -> Iterator[Row]:
    """Run no-op actors and `/bin/true` on both stores, with pools of growing size."""
    adopt_orphans()
    logging.getLogger("picas").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="picas-bench-") as name:
        folder = Path(name)
        embedded = config.load(f"sqlite:///{folder}/bench.db", environ={})
        yield from _store(embedded, sizes, tokens, folder)
        server = real_server()
        if server is None:
            print("SKIPPED BY NAME: CouchDB (not installed, and PICAS_TEST_COUCHDB is not set)")
            return
        with server:
            database = server.new_database("bench")
            try:
                settings = config.load(server.database_url(database), environ={})
                yield from _store(settings, sizes, tokens, folder)
            finally:
                server.delete_database(database)


def _store(settings: Settings, sizes: list[int], tokens: int, folder: Path) -> Iterator[Row]:
    with open_pool(settings, create=True) as pool:
        there = 0
        for size in sizes:
            _fill(pool, size - there)
            there = size
            for work in ("no-op", "/bin/true"):
                number = tokens if work == "no-op" else max(200, tokens // 4)
                limit = _limit(settings, work, number, folder)
                rate = _run(pool, work, number, folder)
                yield Row(pool.store.version(), work, size, number, rate, limit)


def _limit(settings: Settings, work: str, number: int, folder: Path) -> float:
    if work == "/bin/true":
        return limits.processes(number, SLOTS, folder)
    if settings.pool.kind == "couchdb":
        return limits.couchdb(number, settings)
    with tempfile.TemporaryDirectory(dir=folder) as own:
        return limits.sqlite(number, Path(own))


def _run(pool: Pool, work: str, number: int, folder: Path) -> float:
    """Push tokens, run one pilot on them, delete them; only the pilot is timed."""
    ids = list(_push(pool, number, "/bin/true"))
    with _runner(pool, work, folder) as runner:
        start = time.perf_counter()
        summary = Pilot(pool, runner, slots=SLOTS).run()
        elapsed = time.perf_counter() - start
    assert summary.counters.done == number, summary
    pool.delete(ids)
    return number / elapsed


@contextmanager
def _runner(pool: Pool, work: str, folder: Path) -> Iterator[Runner]:
    if work == "no-op":
        yield FunctionRunner(lambda _: 0)
    else:
        yield CommandRunner(pool.url, logs=folder / "logs")


def _push(pool: Pool, number: int, line: str) -> Iterator[str]:
    name = secrets.token_hex(4)
    docs = (token.new({"input": line}, f"{name}_{i}") for i in range(number))
    for pushed in pool.push(docs):
        assert pushed.error is None, pushed
        yield pushed.id


def _fill(pool: Pool, number: int) -> None:
    """Add tokens that are done already."""

    def done() -> Iterator[Document]:
        now = int(time.time())
        outcome = Outcome(0, now, now, "exit code 0", 0.0)
        for i in range(number):
            doc = token.new({"input": "/bin/true"}, f"old_{secrets.token_hex(6)}_{i}")
            yield token.settle({**doc, "lock": now}, now, outcome)

    for pushed in pool.push(done()):
        assert pushed.error is None, pushed
    pool.counts()
