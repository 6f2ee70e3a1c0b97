"""Rows about one host: the embedded store, two slots, beside task queues and a bare loop."""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import fleet, peers
from benchmarks.bench import Bench, Side
from benchmarks.pools import check_done, opened, push
from benchmarks.report import Missing, Result, Skipped, WrongCount, at_least
from picas import token

SLOTS = 2
OURS = {"1 pilot with 2 slots": (1, 2), "2 pilots with 1 slot": (2, 1)}
"""Ways to have two slots: how many pilots, and how many slots each."""

HUEY_KINDS = ("process", "thread")
LIMIT = "a bare loop of 2 threads, output into files"


def noop(bench: Bench) -> Iterator[Result | Missing]:
    """No-op actors, against huey's SQLite queue with no-op tasks, in its better way."""
    version = peers.install(peers.HUEY)
    number, tasks = bench.size(20_000, 2_000), bench.size(4_000, 500)
    sides: dict[str, Side] = {way: partial(_ours, bench, number, way) for way in OURS}
    sides |= {kind: partial(_huey, bench, tasks, kind) for kind in HUEY_KINDS}
    figures = bench.interleaved(sides)
    way, better = _better(figures, OURS), _better(figures, HUEY_KINDS)
    yield Result(
        "embedded-noop",
        f"{number:,} no-op tokens, {way}; {tasks:,} tasks in huey",
        "tokens/s",
        figures[way],
        f"huey {version}, SQLite, {SLOTS} workers ({better})",
        figures[better],
        at_least(3),
    )


def command(bench: Bench) -> Iterator[Result | Missing]:
    """`/bin/true` with logs and resource use, against a bare loop and three task runners."""
    number = bench.size(2_000, 200)
    sides: dict[str, Side] = {way: partial(_ours, bench, number, way, "--command") for way in OURS}
    sides[LIMIT] = partial(_bare, bench, number)
    targets = {LIMIT: at_least(0.7)}
    for peer in PEERS:
        try:
            name = f"{peer.name} {peer.install()}"
        except Skipped as missing:
            yield Missing("embedded-command", str(missing))
        else:
            sides[name] = partial(peer.run, bench, number)
            targets[name] = at_least(peer.target)
    figures = bench.interleaved(sides)
    way = _better(figures, OURS)
    for against, target in targets.items():
        yield Result(
            "embedded-command",
            f"{number:,} /bin/true tokens, {way}, logs and resource use recorded",
            "tokens/s",
            figures[way],
            against,
            figures[against],
            target,
        )


def _better(figures: Mapping[str, Sequence[float]], ways: Iterable[str]) -> str:
    """The way that did more in a second."""
    return max(ways, key=lambda way: statistics.median(figures[way]))


def _ours(bench: Bench, number: int, way: str, *options: str) -> float:
    pilots, slots = OURS[way]
    with bench.pool("embedded") as url, opened(url) as pool:
        push(pool, number)
        run = fleet.ours(url, pilots, bench.folder / "ours.log", *options, slots=slots)
        check_done(pool, number)
        if options:
            _check_recorded(next(pool.find("Monitor/done")))
        return run.rate


def _check_recorded(doc: token.Document) -> None:
    """See that a run left what a user asks for afterwards: its logs, and what it used.

    Memory is not asked for: a command may end before anybody can look how much it has.
    """
    attempt = token.attempts(doc)[-1]
    used = all(attempt.get(name) is not None for name in ("wall", "cpu"))
    logs = {token.log_name(doc["_id"], stream) for stream in ("out", "err")}
    if not used or not logs <= set(doc.get("_attachments", {})):
        raise WrongCount(f"{doc['_id']}: its logs or its resource use are not recorded")


def _huey(bench: Bench, tasks: int, kind: str) -> float:
    with bench.new_folder() as folder:
        return peers.run_script("huey_noop.py", tasks, SLOTS, kind, folder, cwd=folder)


def _bare(bench: Bench, number: int) -> float:
    with bench.new_folder() as folder:
        python = Path(sys.executable)
        return peers.run_script("bare_loop.py", number, SLOTS, folder, cwd=folder, python=python)


def _parallel(bench: Bench, number: int) -> float:
    with bench.new_folder() as folder:
        log = folder / "joblog"
        command = ["parallel", f"-j{SLOTS}", "--will-cite", "--joblog", str(log), "/bin/true"]
        lines = "\n".join(map(str, range(number)))
        begun = time.monotonic()
        subprocess.run(command, input=lines, text=True, check=True, cwd=folder)
        seconds = time.monotonic() - begun
        if len(log.read_text().splitlines()) != number + 1:
            raise WrongCount("GNU parallel's job log has not all jobs")
        return number / seconds


def _hyperqueue(bench: Bench, number: int) -> float:
    with bench.new_folder() as folder:
        return peers.run_script("hyperqueue_true.py", number, SLOTS, cwd=folder)


def _parsl(bench: Bench, number: int) -> float:
    with bench.new_folder() as folder:
        return peers.run_script("parsl_true.py", number, SLOTS, folder, cwd=folder)


@dataclass(frozen=True, slots=True)
class _Peer:
    """A task runner.

    Attributes:
        name: Its name.
        install: Installs it, and tells its version.
        run: Runs so many commands; returns commands a second.
        target: How many times as fast PiCaS is to be.
    """

    name: str
    install: Callable[[], str]
    run: Callable[[Bench, int], float]
    target: float


PEERS = (
    _Peer("GNU parallel", peers.install_parallel, _parallel, 3),
    _Peer("HyperQueue", partial(peers.install, peers.HYPERQUEUE), _hyperqueue, 2.5),
    _Peer("Parsl HTEX, bash apps,", partial(peers.install, peers.PARSL), _parsl, 3),
)
