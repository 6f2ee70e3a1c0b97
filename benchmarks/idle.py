"""Rows about a pilot that waits for work, and one that starts."""

import random
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import processes
from benchmarks.bench import STORES, Bench
from benchmarks.pools import check_done, opened, tokens, warm
from benchmarks.report import Missing, Result, Skipped, WrongCount, at_most
from picas.pool import Pool

PATIENCE_SECONDS = 60.0
SETTLED_SECONDS = 2.0
"""How long a pilot is given to have nothing more to do after it ended something."""

LOOK_SECONDS = 0.002


def idle(bench: Bench) -> Iterator[Result | Missing]:
    """An endless pilot: how soon it wakes up, and what it costs while there is nothing."""
    for store in STORES:
        try:
            yield from _idle(bench, store)
        except Skipped as missing:
            yield Missing("idle", str(missing))


def start(bench: Bench) -> Iterator[Result | Missing]:
    """A pilot's start: time to the first token's command, and peak memory."""
    for store in STORES:
        try:
            yield from _start(bench, store)
        except Skipped as missing:
            yield Missing("start", str(missing))


def _idle(bench: Bench, store: str) -> Iterator[Result]:
    pushes = bench.size(30, 5)
    seconds = bench.size(60, 5)
    with bench.new_folder() as folder, bench.pool(store) as url, opened(url) as pool:
        warm(pool)
        command = [processes.PICAS, "run", "--endless", "--slots=2"]
        with processes.started(command, url, folder) as pilot:
            _wait_for(lambda: bool(pool.pilots()), "the pilot's first sign of life")
            time.sleep(SETTLED_SECONDS)
            bench.say(f"{store}: {pushes} pushes")
            delays = []
            for number in range(pushes):
                delays.append(_wake_up(pool, folder / f"stamp_{number}"))
                # Not in step with whatever the pilot does at intervals.
                time.sleep(random.uniform(0.5, 1.5))
            check_done(pool, pushes)
            bench.say(f"{store}: {seconds} s of nothing")
            time.sleep(SETTLED_SECONDS)
            before, begun = processes.cpu_seconds(pilot.pid), time.monotonic()
            time.sleep(seconds)
            used = processes.cpu_seconds(pilot.pid) - before
            share = 100 * used / (time.monotonic() - begun)
    tail = statistics.quantiles(delays, n=20, method="inclusive")[-1]
    work = f"{store}: from the push of a token to its command, {pushes} times"
    note = f"shortest {min(delays):.0f} ms, longest {max(delays):.0f} ms"
    limit = "the limit"
    yield Result("idle", f"{work}, median", "ms", delays, limit, [100.0], at_most(1), note)
    yield Result("idle", f"{work}, 95th percentile", "ms", [tail], limit, [100.0], at_most(1))
    work = f"{store}: CPU of an idle pilot in {seconds} s"
    yield Result("idle", work, "% of 1 core", [share], limit, [0.1], at_most(1))


def _start(bench: Bench, store: str) -> Iterator[Result]:
    delays, sizes = [], []
    with bench.new_folder() as folder, bench.pool(store) as url, opened(url) as pool:
        for number in range(bench.size(10, 3)):
            stamp = folder / f"stamp_{number}"
            _push_stamp(pool, stamp)
            warm(pool)
            begun = time.time()
            command = [processes.PICAS, "run", "--slots=1"]
            with processes.started(command, url, folder) as pilot:
                sizes.append(processes.watch(pilot, folder))
            delays.append(float(stamp.read_text()) - begun)
            check_done(pool, number + 1)
    work = f"{store}: `picas run`, {len(delays)} times"
    limit = "the limit"
    note = f"longest {max(delays):.2f} s"
    yield Result(
        "start", f"{work}: to the first command", "s", delays, limit, [0.5], at_most(1), note
    )
    yield Result("start", f"{work}: peak memory", "MB", sizes, limit, [40.0], at_most(1))


def _push_stamp(pool: Pool, stamp: Path) -> None:
    """Push a token whose command writes down when it runs; bash needs no other process for that."""
    list(pool.push(tokens(1, f"echo $EPOCHREALTIME > {stamp}.part && mv {stamp}.part {stamp}")))


def _wake_up(pool: Pool, stamp: Path) -> float:
    """Push a token to a pool with an idle pilot.

    Returns:
        Milliseconds from the moment when the push began until the token's command ran.
    """
    begun = time.time()
    _push_stamp(pool, stamp)
    _wait_for(stamp.exists, "the command")
    return 1_000 * (float(stamp.read_text()) - begun)


def _wait_for(happened: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not happened():
        if time.monotonic() > deadline:
            raise WrongCount(f"{what} did not come within {PATIENCE_SECONDS:g} s")
        time.sleep(LOOK_SECONDS)
