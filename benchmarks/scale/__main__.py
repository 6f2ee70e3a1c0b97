"""``python -m benchmarks.scale``: measure a CouchDB, simulate many pilots on it, draw charts."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from tests.couchdb.server import INSTALLED, installed

from benchmarks.scale.costs import Costs
from benchmarks.scale.sweep import load, save, sweep
from benchmarks.scale.table import computed, measured
from picas.errors import InputError, PicasError

COSTS = Path(__file__).parent / "costs.json"
RESULT = Path(__file__).parent / "result.json"
CHARTS = Path(__file__).parents[2] / "docs/explanation/charts"


def main(arguments: list[str] | None = None) -> int:
    """Do one step; returns the exit status."""
    options = _parser().parse_args(arguments)
    step: Callable[[argparse.Namespace], None] = options.step
    try:
        step(options)
    except PicasError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _measure(options: argparse.Namespace) -> None:
    from benchmarks.scale.measure import measure

    _need_couchdb()
    earlier = Costs.load(options.output).rows if options.more else ()
    measure(options.rounds, _tell, earlier).save(options.output)


def _need_couchdb() -> None:
    if not installed():
        raise InputError(f"no CouchDB in {INSTALLED}: only of one of its own it sees the processes")


def _simulate(options: argparse.Namespace) -> None:
    save(sweep(Costs.load(options.costs), _tell), options.output)


def _validate(options: argparse.Namespace) -> None:
    from benchmarks.scale.validate import validate

    _need_couchdb()
    print(f"{'pilots':>7}{'':>11}{'tokens/s':>10}{'processors':>12}{'median claim':>14}")
    points = validate(Costs.load(options.costs), options.pilots, options.token, options.seconds)
    for point in points:
        for name, seen in (("measured", point), ("simulated", point.simulated)):
            print(
                f"{point.pilots:>7}{name:>11}{seen.rate:>10.1f}{seen.busy:>12.3f}"
                f"{1000 * seen.median:>11.1f} ms",
                flush=True,
            )


def _charts(options: argparse.Namespace) -> None:
    result = load(options.result)
    try:
        from benchmarks.scale.charts import charts
    except ModuleNotFoundError as error:
        raise InputError(f"{error}; 'uv sync --group bench' installs what draws") from error
    for path in charts(result, options.output):
        print(path)


def _tables(options: argparse.Namespace) -> None:
    print("\n".join(measured(Costs.load(options.costs))), end="\n\n")
    print("\n".join(computed(load(options.result))))


def _tell(what: str) -> None:
    print(f"… {what}", file=sys.stderr, flush=True)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    steps = parser.add_subparsers(required=True)
    step = steps.add_parser("measure", help="what each operation costs a real CouchDB")
    step.add_argument("-o", "--output", type=Path, default=COSTS)
    step.add_argument("--rounds", type=_positive, default=4, help="of each figure the least counts")
    step.add_argument("--more", action="store_true", help="more rounds for what is in the file")
    step.set_defaults(step=_measure)
    step = steps.add_parser("tables", help="both as the tables of the documentation")
    step.add_argument("costs", type=Path, nargs="?", default=COSTS)
    step.add_argument("result", type=Path, nargs="?", default=RESULT)
    step.set_defaults(step=_tables)
    step = steps.add_parser("simulate", help="many pilots, with these costs")
    step.add_argument("costs", type=Path, nargs="?", default=COSTS)
    step.add_argument("-o", "--output", type=Path, default=RESULT)
    step.set_defaults(step=_simulate)
    step = steps.add_parser("validate", help="real pilots beside simulated ones")
    step.add_argument("costs", type=Path, nargs="?", default=COSTS)
    step.add_argument("--pilots", type=_positive, nargs="+", default=[16, 64, 100])
    step.add_argument("--token", type=float, default=1.0, help="seconds that a token sleeps")
    step.add_argument("--seconds", type=float, default=20.0, help="how long each is measured")
    step.set_defaults(step=_validate)
    step = steps.add_parser("charts", help="draw what was simulated (needs the group 'bench')")
    step.add_argument("result", type=Path, nargs="?", default=RESULT)
    step.add_argument("-o", "--output", type=Path, default=CHARTS)
    step.set_defaults(step=_charts)
    return parser


if __name__ == "__main__":
    sys.exit(main())
