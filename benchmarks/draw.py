"""Draws the charts: light SVG whose text stays text, with a title for who cannot see it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from benchmarks.charts import Line, Numbers
from benchmarks.report import number

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "picas",  # the same numbers make the same file
    "font.family": "sans-serif",
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
}
LOOKS = (("#0b5394", "o", "-"), ("#b45309", "s", "--"))
"""Colour, marker and stroke of each line: told apart without colours, too."""

LABEL: dict[str, Any] = {"ha": "center", "fontsize": 8}


@dataclass(frozen=True, slots=True)
class Chart:
    """One chart; both its axes are logarithmic.

    Attributes:
        file: Its name.
        title: What it says.
        x: The label of the x axis.
        y: The label of the y axis.
        lines: What it shows.
    """

    file: str
    title: str
    x: str
    y: str
    lines: Sequence[Line]


def charts(numbers: Numbers, folder: Path) -> Iterator[Path]:
    """Draw all charts into a folder; tells their files."""
    for chart in (
        Chart(
            "pilots.svg",
            "No-op tokens on CouchDB, against the number of pilots",
            "pilots (processes with one slot)",
            "tokens/s",
            numbers.pilots,
        ),
        Chart(
            "size.svg",
            "Cost of a no-op token, against the size of the pool",
            "done tokens in the pool",
            "ms a token (one pilot)",
            numbers.size,
        ),
    ):
        yield _draw(chart, folder / chart.file, numbers.measured)


def _draw(chart: Chart, path: Path, measured: str) -> Path:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 4.2), layout="constrained")
        axes = figure.add_subplot()
        for line, (colour, marker, stroke) in zip(chart.lines, LOOKS, strict=False):
            xs, ys = line.medians()
            axes.plot(xs, ys, color=colour, marker=marker, linestyle=stroke, label=line.name)
            for point in zip(xs, ys, strict=True):
                axes.annotate(number(point[1]), point, (0, 7), textcoords="offset points", **LABEL)
        axes.margins(y=0.12)
        axes.set(xscale="log", yscale="log", xlabel=chart.x, ylabel=chart.y)
        axes.set_title(chart.title, loc="left", fontweight="bold", pad=20)
        axes.annotate(measured, (0, 1), (0, 6), "axes fraction", "offset points", fontsize=8)
        axes.xaxis.set_major_formatter(FuncFormatter(_plain))
        axes.yaxis.set_major_formatter(FuncFormatter(_plain))
        axes.set_xticks(sorted({x for line in chart.lines for x, _ in line.points}))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.legend(frameon=False)
        figure.savefig(path, metadata={"Date": None, "Title": chart.title})
    return path


def _plain(value: float, _: int) -> str:
    return f"{value:,.12g}"
