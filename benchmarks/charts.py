"""``python -m benchmarks charts``: measure what the charts in the documentation show, draw them.

The numbers are kept beside the charts, so that those can be drawn again without measuring.
"""

import argparse
import datetime
import json
import platform
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from tests.classic import classic_python

from benchmarks import fleet
from benchmarks.bench import ROOT, STORES, Bench
from benchmarks.couchdb import CLASSIC, Team, run_classic, run_ours_anew
from benchmarks.pools import check_done, fill, opened, push
from benchmarks.report import Skipped, WrongCount

FOLDER = ROOT / "docs" / "explanation" / "charts"
NUMBERS = "numbers.json"
PILOTS = (1, 2, 4, 8, 16, 32, 64)
SIZES = (1_000, 10_000, 100_000, 1_000_000)
REPETITIONS = 3


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart.

    Attributes:
        name: What it shows.
        points: x, and the figure of each repetition there.
    """

    name: str
    points: Sequence[tuple[int, Sequence[float]]]

    def medians(self) -> tuple[list[int], list[float]]:
        """The points as they are drawn."""
        return [x for x, _ in self.points], [statistics.median(ys) for _, ys in self.points]


@dataclass(frozen=True, slots=True)
class Numbers:
    """All that the charts show.

    Attributes:
        measured: When, and on what.
        pilots: Tokens a second against the number of pilots.
        size: Milliseconds a token against the number of done tokens.
    """

    measured: str
    pilots: Sequence[Line]
    size: Sequence[Line]

    def save(self, path: Path) -> None:
        """Keep them."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read them again.

        Raises:
            OSError: The file cannot be read.
            ValueError: It holds something else.
        """
        try:
            facts = json.loads(path.read_text())
            return cls(facts["measured"], *(_lines(facts[chart]) for chart in ("pilots", "size")))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} holds no numbers of these charts") from error


def main(arguments: Sequence[str]) -> int:
    """Measure, unless there are numbers, and draw."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks charts", description=__doc__)
    parser.add_argument("--from", dest="numbers", type=Path, help="draw these numbers again")
    parser.add_argument("--to", type=Path, default=FOLDER, help="the folder of the charts")
    parser.add_argument("--quick", action="store_true", help="small, one repetition: for trying")
    parser.add_argument("--repetitions", type=int, default=REPETITIONS, help="of each point")
    options = parser.parse_args(arguments)
    try:
        from benchmarks import draw
    except ImportError:
        print("charts are drawn by matplotlib: uv sync --group bench", file=sys.stderr)
        return 1
    try:
        if options.numbers:
            numbers = Numbers.load(options.numbers)
        else:
            numbers = measure(Bench(quick=options.quick, repetitions=options.repetitions))
    except (OSError, ValueError, Skipped, WrongCount) as error:
        print(f"no charts: {error}", file=sys.stderr)
        return 1
    options.to.mkdir(parents=True, exist_ok=True)
    numbers.save(options.to / NUMBERS)
    for path in draw.charts(numbers, options.to):
        print(path)
    return 0


def measure(bench: Bench) -> Numbers:
    """Measure all lines of both charts."""
    with bench:
        about = f"{datetime.date.today()}, {platform.machine()}, Python {platform.python_version()}"
        about += f", CouchDB {bench.server().version}"
        return Numbers(about, _by_pilots(bench), [_by_size(bench, store) for store in STORES])


def _by_pilots(bench: Bench) -> list[Line]:
    """Tokens a second on CouchDB, by ours and by the classic client where that can be had."""
    number, seconds = bench.size(20_000, 1_000), bench.size(15, 4)
    python = classic_python()
    points: dict[str, list[tuple[int, list[float]]]] = {"PiCaS": []}
    if python is not None:
        points[CLASSIC] = []
    for pilots in bench.size(PILOTS, PILOTS[:2]):
        bench.say(f"{pilots} pilots")
        sides = {"PiCaS": lambda n=pilots: run_ours_anew(bench, Team(n), number).rate}
        if python is not None:
            sides[CLASSIC] = lambda n=pilots: run_classic(bench, python, n, number, seconds).rate
        for name, figures in bench.interleaved(sides).items():
            points[name].append((pilots, figures))
    return [Line(name, line) for name, line in points.items()]


def _by_size(bench: Bench, store: str) -> Line:
    """Milliseconds a token, by one pilot with one slot, beside more and more done tokens."""
    points: list[tuple[int, list[float]]] = []
    there = 0
    with bench.pool(store) as url, opened(url) as pool:
        for size in bench.size(SIZES, SIZES[:2]):
            bench.say(f"{store}: {size:,} done tokens")
            fill(pool, size - there)
            there = size
            number = bench.size(5_000, 500)
            figures = []
            for _ in range(bench.repetitions):
                ids = push(pool, number)
                run = fleet.ours(url, 1, bench.folder / "ours.log")
                check_done(pool, there + number)
                pool.delete(ids)
                figures.append(1_000 / run.rate)
            points.append((size, figures))
    return Line({"embedded": "embedded store", "couchdb": "CouchDB"}[store], points)


def _lines(facts: Sequence[Mapping[str, Any]]) -> list[Line]:
    return [Line(line["name"], [(x, ys) for x, ys in line["points"]]) for line in facts]
