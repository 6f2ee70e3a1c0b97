"""The row about memory: that of many tokens beside that of a few, on the embedded store."""

import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks import processes
from benchmarks.bench import ROOT, Bench
from benchmarks.pools import check_done, opened
from benchmarks.report import Missing, Result, at_most

VERBS = ("push", "run", "export")


def memory(bench: Bench) -> Iterator[Result | Missing]:
    """Peak memory of push, run and export: a million tokens, against ten thousand.

    One repetition, since a million takes minutes, and memory hardly varies.
    """
    few, many = bench.size(10_000, 1_000), bench.size(1_000_000, 20_000)
    peaks = {}
    for number in (few, many):
        bench.say(f"push, run and export {number:,} tokens")
        peaks[number] = _peaks(bench, number)
    for verb in VERBS:
        yield Result(
            "memory",
            f"peak of {'a pilot' if verb == 'run' else f'picas {verb}'}, {many:,} tokens",
            "MB",
            [peaks[many][verb]],
            f"itself, {few:,} tokens",
            [peaks[few][verb]],
            at_most(1.1),
        )


def _peaks(bench: Bench, number: int) -> dict[str, float]:
    """Push, run and export tokens; the peak of each in MB."""
    with bench.new_folder() as folder, bench.pool("embedded") as url:
        lines = folder / "lines"
        with lines.open("w") as file:
            file.writelines(f"/bin/true {i}\n" for i in range(number))
        peaks = {"push": _picas(folder, url, "push", str(lines)), "run": _pilot(folder, url)}
        with opened(url) as pool:
            check_done(pool, number)
        peaks["export"] = _picas(folder, url, "export", "done", "-o", str(folder / "tokens.jsonl"))
        return peaks


def _picas(folder: Path, url: str, *arguments: str) -> float:
    with processes.started([processes.PICAS, *arguments], url, folder) as process:
        return processes.watch(process, folder)


def _pilot(folder: Path, url: str) -> float:
    """A pilot whose tokens do nothing: commands would take a quarter of an hour."""
    command = [sys.executable, "-m", "benchmarks.pilot", "--slots=2", "--quiet"]
    with processes.started(command, url, folder, cwd=ROOT) as process:
        return processes.watch(process, folder)
