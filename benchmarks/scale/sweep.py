"""The runs that the charts show."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks.scale.costs import Costs
from benchmarks.scale.model import Demands, Load, Server, bend, listening
from benchmarks.scale.simulate import Site, simulate
from picas.errors import InputError

LENGTHS = (1.0, 60.0, 3600.0)
PILOTS = (10, 30, 100, 300, 1_000, 3_000, 10_000)
SERVER = Server()
"""The server that the charts are about: eight processors, otherwise CouchDB's defaults."""

SHORT = Load(1_000, 1.0)
CROWDED = 1.5
"""Pilots of a run that shows what a server can do, in relation to those that could fill it."""

SETTINGS: dict[str, tuple[Server, Load]] = {
    "8 cores, q=2": (SERVER, SHORT),
    "q=1": (replace(SERVER, shards=1), SHORT),
    "q=4": (replace(SERVER, shards=4), SHORT),
    "q=8": (replace(SERVER, shards=8), SHORT),
    "2 cores": (replace(SERVER, cores=2), SHORT),
    "32 cores": (replace(SERVER, cores=32), SHORT),
    "32 cores, q=8": (replace(SERVER, cores=32, shards=8), SHORT),
    "3 nodes, n=1, q=4": (replace(SERVER, nodes=3, shards=4), SHORT),
    "3 nodes, n=3, q=4": (replace(SERVER, nodes=3, shards=4, copies=3), SHORT),
    "revs_limit 20": (replace(SERVER, revs_limit=20), SHORT),
    "compaction from 5 times": (replace(SERVER, ratio=5.0), SHORT),
    "disk needs 10 ms": (replace(SERVER, flush=0.01), SHORT),
    "no logs": (SERVER, replace(SHORT, log=False)),
    "pilots of 8 slots": (SERVER, replace(SHORT, slots=8)),
    "pilots of 64 slots": (SERVER, replace(SHORT, slots=64)),
}
"""What moves the bend, one thing at a time."""

ASKING_SECONDS = 10.0
"""How often an idle pilot would ask, if it did not listen."""

START_SECONDS, START_STEP = 300.0, 10.0


def sweep(costs: Costs, tell: Callable[[str], None]) -> dict[str, Any]:
    """Simulate all that the charts show.

    Args:
        costs: What was measured.
        tell: Is told what is simulated now.
    """
    curves = []
    for seconds in LENGTHS:
        points = []
        for pilots in PILOTS:
            tell(f"{pilots:,} pilots with tokens of {seconds:,.0f} s")
            points.append(asdict(simulate(costs, SERVER, Load(pilots, seconds))))
        full = bend(costs, SERVER, Load(1, seconds))
        curves.append({"seconds": seconds, "bend": full, "points": points})
    capacities = {}
    for name, (server, load) in SETTINGS.items():
        tell(name)
        capacities[name] = capacity(costs, server, load)
    starts = []
    for looks in ("all", "view"):
        for pilots in (1_000, 10_000):
            tell(f"{pilots:,} pilots start together, and look for lost ones by {looks!r}")
            load = Load(pilots, 60.0, looks=looks, beats=1)
            starts.append({"looks": looks, "pilots": pilots, **start(costs, SERVER, load)})
    idle = {
        str(shards): [listening(costs, n, n / SHORT.heartbeat, shards) for n in PILOTS]
        for shards in (1, 2, 8)
    }
    asking = [n / ASKING_SECONDS * costs.cpu("read", 1) for n in PILOTS]
    return {
        "about": dict(costs.about),
        "server": asdict(SERVER),
        "curves": curves,
        "capacities": capacities,
        "starts": starts,
        "idle": {"pilots": PILOTS, "cores": idle, "asking": asking},
        "last_looks": {n: last_looks(costs, SERVER, Load(n, 60.0)) for n in PILOTS},
    }


def capacity(costs: Costs, server: Server, load: Load) -> float:
    """Tokens a second when there are more pilots than the server has time for."""
    enough = max(1, round(CROWDED * bend(costs, server, load)))
    return simulate(costs, server, replace(load, pilots=enough)).lasting


def start(costs: Costs, server: Server, load: Load) -> dict[str, list[float]]:
    """All pilots start in the same second: the share of the processors in use, and claims."""
    site = Site(costs, server, load, together=True)
    times, busy, late = [], [], []
    while site.engine.now < START_SECONDS:
        site.cores.busy.clear()
        site.waits.clear()
        site.engine.run(site.engine.now + START_STEP)
        times.append(site.engine.now)
        busy.append(sum(site.cores.busy.values()) / START_STEP / server.processors)
        late.append(max(site.waits, default=0.0))
    return {"times": times, "load": busy, "slowest": late}


def last_looks(costs: Costs, server: Server, load: Load) -> float:
    """Processor seconds of what pilots read before they end when the pool has run dry.

    Each looks once more for lost pilots: at all that live. By then no token is locked.
    """
    return load.pilots * sum(Demands(costs, server, load).look())


def save(result: dict[str, Any], file: Path) -> None:
    """Write a result as JSON, numbers rounded to what can be read from a chart."""
    file.write_text(json.dumps(_rounded(result), indent=1) + "\n")


def load(file: Path) -> dict[str, Any]:
    """Read what `save` wrote.

    Raises:
        InputError: The file is not there, or is something else.
    """
    try:
        result: dict[str, Any] = json.loads(file.read_text())
        result["curves"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file} has no result that 'simulate' wrote: {error}") from error
    return result


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _rounded(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(one) for one in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value
