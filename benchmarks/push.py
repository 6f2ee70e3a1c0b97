"""The row about adding tokens, beside bare `_bulk_docs` of the same documents."""

import json
import statistics
import time
from collections.abc import Iterator, Sequence
from functools import partial
from urllib.parse import urlsplit

from benchmarks.bench import Bench, Side
from benchmarks.pools import opened, tokens
from benchmarks.report import Missing, Result, WrongCount, at_least
from picas.pool import PushState
from picas.token import Document

CHUNKS = (200, 500, 1_000, 2_000)


def push(bench: Bench) -> Iterator[Result | Missing]:
    """`Pool.push`, against the best chunk size of `_bulk_docs` on one connection."""
    server = bench.server()
    docs = list(tokens(bench.size(100_000, 5_000)))
    sides: dict[str, Side] = {"ours": partial(_ours, bench, docs)}
    sides |= {str(chunk): partial(_raw, bench, docs, chunk) for chunk in CHUNKS}
    figures = bench.interleaved(sides)
    best = max(map(str, CHUNKS), key=lambda chunk: statistics.median(figures[chunk]))
    yield Result(
        "push",
        f"{len(docs):,} tokens, CouchDB {server.version}",
        "tokens/s",
        figures["ours"],
        f"_bulk_docs, {int(best):,} at a time",
        figures[best],
        at_least(0.8),
        ", ".join(
            f"{int(chunk):,} at a time {statistics.median(figures[chunk]):,.0f}"
            for chunk in map(str, CHUNKS)
        ),
    )


def _ours(bench: Bench, docs: Sequence[Document]) -> float:
    with bench.pool("couchdb") as url, opened(url) as pool:
        begun = time.monotonic()
        added = sum(pushed.state is PushState.ADDED for pushed in pool.push(docs))
        seconds = time.monotonic() - begun
        _check(added, docs)
    return len(docs) / seconds


def _raw(bench: Bench, docs: Sequence[Document], chunk: int) -> float:
    """Write documents to a database that has the same views: indexing them is part of both."""
    with bench.pool("couchdb") as url:
        opened(url).close()
        path = f"{urlsplit(url).path}/_bulk_docs"
        with bench.server().raw() as raw:
            begun = time.monotonic()
            added = 0
            for start in range(0, len(docs), chunk):
                body = json.dumps({"docs": docs[start : start + chunk]}, separators=(",", ":"))
                reply = raw.call("POST", path, body, {"Content-Type": "application/json"})
                added += sum("rev" in row for row in reply.json)
            seconds = time.monotonic() - begun
        _check(added, docs)
    return len(docs) / seconds


def _check(added: int, docs: Sequence[Document]) -> None:
    if added != len(docs):
        raise WrongCount(f"{added:,} of {len(docs):,} tokens were added")
