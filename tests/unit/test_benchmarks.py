"""The benchmarks' own reckoning: medians, ratios, targets, what is printed, which rows are run."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from benchmarks import __main__ as command
from benchmarks import bench as bench_module
from benchmarks.bench import ROOT, Bench, interleaved
from benchmarks.fleet import added_up
from benchmarks.pools import scattered_tokens, tokens
from benchmarks.report import (
    Form,
    Missing,
    Result,
    Skipped,
    Target,
    WrongCount,
    at_least,
    at_most,
)
from benchmarks.rows import ROWS, Row


def result(
    ours: list[float], other: list[float], target: Target | None = None, note: str = ""
) -> Result:
    """A result of some repetitions."""
    return Result("row", "work", "tokens/s", ours, "peer 1.0", other, target or at_least(3), note)


def test_ratio_is_that_of_the_medians() -> None:
    """A single slow repetition of either side does not move the ratio."""
    assert result([900, 10, 1000], [100, 99, 1]).ratio == 900 / 99
    assert result([1.0, 3.0], [1.0]).ratio == 2.0


@pytest.mark.parametrize(
    ("target", "ratio", "met"),
    [
        (at_least(3), 3.0, True),
        (at_least(3), 2.99, False),
        (at_most(1), 1.0, True),
        (at_most(1), 1.01, False),
    ],
)
def test_targets(target: Target, ratio: float, met: bool) -> None:
    """Rates have to reach their target, times and sizes to stay below it."""
    assert target.met(ratio) is met
    assert result([ratio], [1.0], target).met is met


def test_result_as_text() -> None:
    """A person reads both sides, the ratio, the target and the verdict, then what was done."""
    first, second = Form.TEXT.lines(result([1234.5], [61.7], note="and more"))
    assert first.split() == "row 1,234 61.7 tokens/s 20.0 at least 3 met peer 1.0".split()
    assert second == "    work; and more"
    assert "NOT MET" in Form.TEXT.lines(result([1], [1]))[0]
    assert Form.TEXT.head()[0].index("against") == first.index("peer 1.0")


@pytest.mark.parametrize(
    ("value", "shown"), [(12345.6, "12,346"), (12.34, "12.3"), (1.234, "1.23"), (0.0471, "0.047")]
)
def test_figures_have_the_digits_that_mean_something(value: float, shown: str) -> None:
    """Large figures have no decimals, small ones have three."""
    assert Form.TEXT.lines(result([value], [1000.0]))[0].split()[1] == shown


def test_result_as_json() -> None:
    """A program reads the medians, the ratio and every repetition."""
    facts = json.loads(*Form.JSON.lines(result([3, 1, 2], [4])))
    assert facts["ours"] == 2
    assert facts["other"] == 4
    assert facts["ratio"] == 0.5
    assert facts["met"] is False
    assert facts["target"] == "at least 3"
    assert facts["all_ours"] == [3, 1, 2]


def test_missing_peer() -> None:
    """What could not be measured is named in one line, in all forms."""
    missing = Missing("row", "no peer")
    assert Form.TEXT.lines(missing) == ["row               SKIPPED BY NAME: no peer"]
    assert Form.JSON.lines(missing) == ['{"row": "row", "skipped": "no peer"}']
    assert Form.MARKDOWN.lines(missing) == ["| `row` | skipped: no peer | | | | |"]


def test_result_as_a_line_of_a_table() -> None:
    """The documentation's table is printed, not copied by hand."""
    (line,) = Form.MARKDOWN.lines(result([10.0], [5.0]))
    cells = "`row`|work|10.0 tokens/s|5.00: peer 1.0|2.00|at least 3, **not met**".split("|")
    assert [cell.strip() for cell in line.strip("|").split("|")] == cells
    assert {text.count("|") for text in (line, *Form.MARKDOWN.head())} == {7}


def test_sides_run_in_turn() -> None:
    """Both sides are run alternately, each as often as was asked for."""
    order: list[str] = []

    def side(name: str, value: float) -> Callable[[], float]:
        def run() -> float:
            order.append(name)
            return value

        return run

    figures = interleaved({"ours": side("ours", 2), "peer": side("peer", 1)}, 3)
    assert order == ["ours", "peer"] * 3
    assert figures == {"ours": [2, 2, 2], "peer": [1, 1, 1]}


def test_quick_runs_are_small_and_single() -> None:
    """A quick run takes the small sizes and one repetition, whatever else was asked for."""
    assert Bench(quick=True, repetitions=9).repetitions == 1
    assert Bench(quick=True).size(100, 2) == 2
    assert Bench(repetitions=9).repetitions == 9
    assert Bench().size(100, 2) == 100


def test_workers_until_the_end() -> None:
    """The time of our pilots runs from the word to begin to the last token that any recorded."""
    reports = [
        {"executed": ["a", "b"], "ended": ["a", "b"], "last": 14.0},
        {"executed": ["c"], "ended": ["c"], "last": 12.0},
    ]
    run = added_up(reports, begun=10.0)
    assert (run.ended, run.seconds, run.twice, run.rate) == (3, 4.0, 0, 0.75)


def test_workers_in_a_window() -> None:
    """A peer's time is its window; tokens that it ran twice count once, and are told."""
    reports = [
        {"executed": ["a", "b", "late"], "ended": ["a", "b"], "window": 2.0},
        {"executed": ["b"], "ended": ["b"], "window": 2.0},
    ]
    run = added_up(reports, begun=10.0)
    assert (run.ended, run.twice, run.rate) == (2, 1, 1.0)


def good(_: Bench) -> Iterator[Result | Missing]:
    """A row that can be measured."""
    yield result([3], [1])


def skipped(_: Bench) -> Iterator[Result | Missing]:
    """A row that this machine cannot have."""
    raise Skipped("no such thing here")
    yield


def wrong(_: Bench) -> Iterator[Result | Missing]:
    """A row whose tokens did not all end."""
    raise WrongCount("3 tokens had to be done")
    yield


def broken(_: Bench) -> Iterator[Result | Missing]:
    """A row with a mistake in it."""
    raise ZeroDivisionError
    yield


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that end at once, each in another way."""
    for row in (good, skipped, wrong, broken):
        monkeypatch.setitem(ROWS, row.__name__, Row(row.__name__, "about it", row))


@pytest.mark.usefixtures("rows")
def test_rows_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    """The rows that were named are run, in that order; one that cannot be had is no failure."""
    assert command.main(["skipped", "good"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[:1] == list(Form.TEXT.head())
    assert out[1].endswith("SKIPPED BY NAME: no such thing here")
    assert out[2].startswith("row ")


@pytest.mark.usefixtures("rows")
def test_rows_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    """With --json every line is JSON, what was skipped too."""
    assert command.main(["--json", "good", "skipped"]) == 0
    facts = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert facts[0]["ratio"] == 3
    assert facts[1] == {"row": "skipped", "skipped": "no such thing here"}


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize(("row", "told"), [("wrong", "3 tokens"), ("broken", "ZeroDivisionError")])
def test_failures(row: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong count or a crash is no figure, but exit status 1; the other rows are still run."""
    assert command.main([row, "good"]) == 1
    captured = capsys.readouterr()
    assert f"{row}: FAILED" in captured.err
    assert told in captured.err
    assert captured.out.splitlines()[1].startswith("row ")


def test_unknown_row(capsys: pytest.CaptureFixture[str]) -> None:
    """A row that does not exist is one line that names those that do, and exit status 2."""
    assert command.main(["push", "nonsense"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert "'nonsense'" in line
    assert all(name in line for name in ROWS)


def test_no_repetitions(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing can be measured in no repetition."""
    assert command.main(["--repetitions", "0"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    """--list tells each row in a line, and runs none."""
    assert command.main(["--list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(ROWS)


@pytest.mark.parametrize("row", ["couchdb-fleet", "couchdb-single", "couchdb-full", "push"])
def test_without_couchdb(
    row: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows that need CouchDB are skipped by name where there is none."""
    monkeypatch.setattr(bench_module, "real_server", lambda: None)
    assert command.main([row]) == 0
    (_, line) = capsys.readouterr().out.splitlines()
    assert line.startswith(row)
    assert "SKIPPED BY NAME: no CouchDB" in line


def test_tokens_are_new_ones_each_time() -> None:
    """None has an id that was there before."""
    series, others = (
        [doc["_id"] for _ in "ab" for doc in make(30)] for make in (tokens, scattered_tokens)
    )
    assert len({*series, *others}) == 120


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_ended(ending: signal.Signals) -> None:
    """Its status tells so, and there is no traceback; it may be before a pilot was started."""
    line = [sys.executable, "-m", "benchmarks", "--quick", "start"]
    pipe = subprocess.PIPE
    with subprocess.Popen(line, cwd=ROOT, stdout=pipe, stderr=pipe, text=True) as run:
        assert run.stdout is not None
        run.stdout.readline()
        run.send_signal(ending)
        _, told = run.communicate(timeout=60)
    assert (run.returncode, "Traceback" in told) == (128 + ending, False)
