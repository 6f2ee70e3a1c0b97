"""The rows: one for each line of the table of targets."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks import couchdb, embedded, idle, memory, push
from benchmarks.bench import Bench
from benchmarks.report import Missing, Result


@dataclass(frozen=True, slots=True)
class Row:
    """A row.

    Attributes:
        name: What one asks for it by.
        about: What it measures, in a line.
        run: Measures it.
    """

    name: str
    about: str
    run: Callable[[Bench], Iterator[Result | Missing]]


_ROWS = (
    Row("couchdb-fleet", "8 pilots on CouchDB, against the classic client", couchdb.whole_fleet),
    Row(
        "couchdb-single", "1 pilot, one token at a time, against the classic client", couchdb.single
    ),
    Row(
        "couchdb-full",
        "both beside 100,000 done tokens, against itself without, and bare writes",
        couchdb.full,
    ),
    Row("push", "100,000 tokens, against bare _bulk_docs at its best", push.push),
    Row("embedded-noop", "no-op actors, against huey's SQLite queue", embedded.noop),
    Row("embedded-command", "/bin/true, against a bare loop and task runners", embedded.command),
    Row("idle", "an endless pilot: wake-up after a push, CPU while idle", idle.idle),
    Row("start", "from `picas run` to the first command, and its memory", idle.start),
    Row("memory", "push, run and export of 1,000,000 tokens, against 10,000", memory.memory),
)

ROWS = {row.name: row for row in _ROWS}
