"""``make bench``: each row of the table of targets, beside its peer or its limit.

The exit status is 0 if all rows that could be measured were, whether or not they met their target;
1 if one of them failed; 2 for a mistake in the arguments.
"""

import argparse
import os
import signal
import sys
import traceback
from collections.abc import Iterable, Sequence

from benchmarks import charts
from benchmarks.bench import REPETITIONS, Bench
from benchmarks.report import Form, Missing, Skipped, WrongCount
from benchmarks.rows import ROWS

BUSY = 1.0
"""A load average above which figures are not those of this machine alone."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the rows and print what came out."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if list(arguments[:1]) == ["charts"]:
        return charts.main(arguments[1:])
    parser = _parser()
    options = parser.parse_args(arguments)
    unknown = [name for name in options.rows if name not in ROWS]
    if unknown:
        print(f"there is no row {unknown[0]!r}; the rows are {', '.join(ROWS)}", file=sys.stderr)
        return 2
    if options.repetitions < 1:
        print("--repetitions must be 1 or more", file=sys.stderr)
        return 2
    if options.list:
        for row in ROWS.values():
            print(f"{row.name:18}{row.about}")
        return 0
    form: Form = options.form or Form.TEXT
    _show(form.head())
    with Bench(quick=options.quick, repetitions=options.repetitions) as bench:
        if (load := os.getloadavg()[0]) > BUSY:
            bench.say(f"this machine is busy (load {load:.0f}): read ratios at most")
        chosen = options.rows or list(ROWS)
        failed = [name for name in chosen if not _run(name, bench, form)]
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog="python -m benchmarks charts: measure and draw the charts of the documentation",
    )
    parser.add_argument("rows", nargs="*", metavar="ROW", help="which rows; all by default")
    parser.add_argument("--list", action="store_true", help="tell which rows there are")
    parser.add_argument("--quick", action="store_true", help="small, one repetition: for trying")
    for form, about in ((Form.JSON, "print JSON lines"), (Form.MARKDOWN, "print a table")):
        parser.add_argument(
            f"--{form.value}", dest="form", action="store_const", const=form, help=about
        )
    parser.add_argument("--repetitions", type=int, default=REPETITIONS, help="of each side")
    return parser


def _run(name: str, bench: Bench, form: Form) -> bool:
    """Run one row; False if it failed."""
    try:
        for result in ROWS[name].run(bench):
            _show(form.lines(result))
    except Skipped as missing:
        _show(form.lines(Missing(name, str(missing))))
    except WrongCount as error:
        print(f"{name}: FAILED: {error}", file=sys.stderr, flush=True)
        return False
    except Exception:  # noqa: BLE001 - the other rows are measured all the same
        traceback.print_exc()
        print(f"{name}: FAILED", file=sys.stderr, flush=True)
        return False
    return True


def _show(lines: Iterable[str]) -> None:
    for line in lines:
        print(line, flush=True)


def _terminated(number: int, _: object) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    # Pilots and servers are ended on the way out, which a plain TERM would not go.
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, _terminated)
    sys.exit(main())
