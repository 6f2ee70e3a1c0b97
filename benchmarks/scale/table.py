"""The tables of the documentation: what was measured, and what was computed from it."""

from collections.abc import Iterator
from typing import Any

from benchmarks.scale.costs import Costs

ROWS = (
    ("one write settles 1 token and claims 1", "turn", 1, ""),
    ("… 10 and 10", "turn", 10, ""),
    ("… 100 and 100", "turn", 100, ""),
    ("… 1 and 1, with 2 kB of logs", "turn", 1, "log"),
    ("… 100 and 100, with 2 kB of logs each", "turn", 100, "log"),
    ("… 1 and 1, in a database of 100,000 tokens", "turn", 1, "large"),
    ("… 1 and 1, by 32 pilots at the same time", "turn", 1, "crowd"),
    ("… 1 and 1, on three nodes with three copies", "turn", 1, "cluster"),
    ("1 row of the view of free tokens, as it stands", "read", 1, ""),
    ("… 100", "read", 100, ""),
    ("`_bulk_get` of 1 token", "get", 1, ""),
    ("… of 100", "get", 100, ""),
    ("a heartbeat", "beat", 1, ""),
    ("… of a pilot that had 1,000 before", "beat", 1000, ""),
    ("… into a local document", "beat", 1, "local"),
    ("ids of 10,000 pilots", "ids", 10_000, ""),
    ("`_bulk_get` of the documents of 200 pilots", "pilots", 200, ""),
    ("… that had 1,000 heartbeats each", "pilots", 200, "old"),
    ("`_all_docs` with the documents of 200 pilots", "range", 200, ""),
    ("… that had 1,000 heartbeats each", "range", 200, "old"),
)


LENGTHS = {1.0: "1 s", 60.0: "1 min", 3600.0: "1 h"}
SHOWN = (100, 1_000, 10_000)
"""Pilots in the table; the charts have more."""


def measured(costs: Costs) -> Iterator[str]:
    """What each request takes with two shards, as a table in Markdown."""
    yield "| request | processor time, ms | answer after, ms |"
    yield "| --- | --- | --- |"
    for name, op, n, kind in ROWS:
        cpu, wall = costs.cpu(op, n, 2, kind), costs.wall(op, n, 2, kind)
        yield f"| {name} | {_two(1000 * cpu)} | {_two(1000 * wall)} |"


def computed(result: dict[str, Any]) -> Iterator[str]:
    """Load, claims and the time that all tokens take, as a table in Markdown."""
    yield "| tokens of | pilots | tokens/s | load | a claim takes | at most (99 %) | all done in |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for curve in result["curves"]:
        for point in curve["points"]:
            if point["pilots"] in SHOWN:
                tokens = LENGTHS[curve["seconds"]]
                yield (
                    f"| {tokens} | {point['pilots']:,} | {_two(point['lasting'])}"
                    f" | {100 * point['load']:.0f} % | {_time(point['median'])}"
                    f" | {_time(point['late'])} | {_time(point['drain'])} |"
                )


def _time(seconds: float) -> str:
    for unit, length in (("years", 31_557_600), ("days", 86_400), ("h", 3_600), ("s", 1)):
        if seconds >= length:
            return f"{_two(seconds / length)} {unit}"
    return f"{_two(1000 * seconds)} ms"


def _two(value: float) -> str:
    """A number with two digits that count."""
    return f"{float(f'{value:.2g}'):,.6g}"
