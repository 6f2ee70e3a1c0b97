"""The simulation beside reality: real pilots whose tokens sleep, on a real CouchDB."""

import logging
import os
import random
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.scale.costs import Costs
from benchmarks.scale.model import Load, Server
from benchmarks.scale.probe import MeasuredCouch, settle
from benchmarks.scale.simulate import Outcome, simulate
from benchmarks.scale.work import together
from picas import config, token
from picas.pilot import FunctionRunner, Pilot
from picas.pilot.stop import StopCriteria
from picas.pool.connect import open_pool
from picas.token import Document

SHARDS = 2
WARM_SECONDS = 4.0


@dataclass(frozen=True, slots=True)
class Point:
    """Some real pilots, and what the simulation says of as many.

    Attributes:
        pilots: How many.
        rate: Tokens a second.
        busy: Processors that the server kept busy.
        median: Seconds from the end of a token to the start of the next, in the median.
        simulated: The same by the simulation.
    """

    pilots: int
    rate: float
    busy: float
    median: float
    simulated: Outcome


def validate(
    costs: Costs, numbers: Sequence[int], token_seconds: float, seconds: float
) -> Iterator[Point]:
    """Run real pilots, a thread each, and simulate them.

    Args:
        costs: What was measured.
        numbers: How many pilots; one run each.
        token_seconds: How long a token sleeps, in the mean.
        seconds: How long a run is measured.
    """
    logging.getLogger("picas").setLevel(logging.ERROR)
    server = Server(cores=os.cpu_count() or 1, shards=SHARDS)
    with MeasuredCouch() as couch:
        for number in numbers:
            waits: list[float] = []
            busy = _run(couch, number, token_seconds, seconds, waits)
            load = Load(
                number, token_seconds, tokens=_tokens(number, token_seconds, seconds), log=False
            )
            simulated = simulate(costs, server, load)
            yield Point(number, len(waits) / seconds, busy, median(waits), simulated)


def _tokens(number: int, token_seconds: float, seconds: float) -> int:
    return int(2 * number * (seconds + WARM_SECONDS) / token_seconds)


def _run(
    couch: MeasuredCouch, number: int, token_seconds: float, seconds: float, waits: list[float]
) -> float:
    """Run pilots; returns the processors that the server kept busy."""
    name = couch.new_database("scale", shards=SHARDS)
    settings = config.load(couch.database_url(name), environ={})
    try:
        with open_pool(settings, create=True) as pool:
            prefix, wanted = secrets.token_hex(4), _tokens(number, token_seconds, seconds)
            list(pool.push(token.new({"input": "sleep"}, f"{prefix}_{i}") for i in range(wanted)))
        settle(couch)
        measured = [0.0, 0.0]
        begun = time.monotonic()

        def watch() -> None:
            for i, moment in enumerate((WARM_SECONDS, WARM_SECONDS + seconds)):
                time.sleep(begun + moment - time.monotonic())
                measured[i] = couch.cpu()

        def pilot() -> None:
            sleep = _sleeper(token_seconds, begun + WARM_SECONDS, seconds, waits)
            criteria = StopCriteria(max_total_time=WARM_SECONDS + seconds)
            with open_pool(settings) as own:
                Pilot(own, FunctionRunner(sleep), criteria=criteria).run()

        together([watch, *[pilot] * number])
        return (measured[1] - measured[0]) / seconds
    finally:
        couch.delete_database(name)


def _sleeper(
    mean: float, first: float, seconds: float, waits: list[float]
) -> Callable[[Document], int]:
    """A token's work, which notes how long its slot had nothing to do before."""
    idle = threading.local()

    def sleep(_: Document) -> int:
        begun = time.monotonic()
        if first <= begun < first + seconds and hasattr(idle, "since"):
            waits.append(begun - idle.since)
        time.sleep(mean * random.uniform(0.5, 1.5))
        idle.since = time.monotonic()
        return 0

    return sleep
