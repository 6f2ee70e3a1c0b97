"""The measured costs as the table of the documentation."""

from collections.abc import Iterator

from benchmarks.scale.costs import Costs

ROWS = (
    ("one write settles 1 token and claims 1", "turn", 1, ""),
    ("… 10 and 10", "turn", 10, ""),
    ("… 100 and 100", "turn", 100, ""),
    ("… 1 and 1, with 2 kB of logs", "turn", 1, "log"),
    ("… 100 and 100, with 2 kB of logs each", "turn", 100, "log"),
    ("… 1 and 1, in a database of 100,000 tokens", "turn", 1, "large"),
    ("… 1 and 1, by 8 pilots at the same time", "busy", 1, ""),
    ("… 1 and 1, on three nodes with three copies", "turn", 1, "cluster"),
    ("rows of the claim index: 1", "read", 1, ""),
    ("… 100", "read", 100, ""),
    ("`_bulk_get` of 1 token", "get", 1, ""),
    ("… of 100", "get", 100, ""),
    ("a heartbeat", "beat", 1, ""),
    ("… of a pilot that had 1,000 before", "beat", 1000, ""),
    ("… into a local document", "beat", 1, "local"),
    ("ids of 10,000 pilots", "ids", 10_000, ""),
    ("`_bulk_get` of the documents of 200 pilots", "pilots", 200, ""),
    ("… that had 1,000 heartbeats each", "pilots", 200, "old"),
)


def table(costs: Costs) -> Iterator[str]:
    """The lines of a Markdown table: what each request takes with two shards."""
    yield "| request | processor time, ms | answer after, ms |"
    yield "| --- | --- | --- |"
    for name, op, n, kind in ROWS:
        cpu, wall = costs.cpu(op, n, 2, kind), costs.wall(op, n, 2, kind)
        yield f"| {name} | {1000 * cpu:.2g} | {1000 * wall:.2g} |"
