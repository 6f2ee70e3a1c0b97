"""Draws what the simulation showed: light SVG whose text stays text."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from benchmarks import draw
from benchmarks.scale.table import LENGTHS

STYLE: dict[Any, Any] = {**draw.STYLE, "axes.axisbelow": True}
LOOKS = (
    *draw.LOOKS,
    ("#38761d", "^", ":"),
    ("#741b47", "D", "-."),
)
"""Colour, marker and stroke of each line: told apart without colours, too."""

SHADES = ("#0b5394", "#6fa8dc", "#b45309", "#f6b26b", "#38761d", "#93c47d", "#741b47")
HATCHES = ("", "//", "", "\\\\", "", "..", "")
SIZE = (7.2, 4.2)
PARTS = {
    "candidates": "finding free tokens",
    "turns": "results and claims",
    "commit": "commits",
    "indexes": "views",
    "compaction": "compaction",
    "heartbeats": "heartbeats",
    "looks": "looks for lost pilots",
}

Result = dict[str, Any]


def charts(result: Result, folder: Path) -> Iterator[Path]:
    """Draw all charts into a folder; tells their files."""
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        for name, title, draw in (
            ("scale-load", "Load of the server against the number of pilots", _load),
            ("scale-claims", "How long a claim takes, against the number of pilots", _claims),
            ("scale-parts", "What the server does with its time", _parts),
            ("scale-settings", "Tokens a second at which the server is full", _settings),
            ("scale-start", "All pilots start in the same second", _starts),
            ("scale-idle", "Processors that idle pilots keep busy by waiting", _idle),
        ):
            figure = Figure(figsize=SIZE, layout="constrained")
            axes = figure.add_subplot()
            axes.set_title(title, loc="left", fontweight="bold", pad=20)
            axes.annotate(
                _about(result), (0, 1), (0, 6), "axes fraction", "offset points", fontsize=8
            )
            draw(result, axes)
            path = folder / f"{name}.svg"
            figure.savefig(path, metadata={"Date": None, "Title": title})
            yield path


def _about(result: Result) -> str:
    about, server = result["about"], result["server"]
    return (
        f"computed from costs measured on CouchDB {about['couchdb']}, {about['date']}; "
        f"{server['cores']} cores, q={server['shards']}, n={server['copies']}"
    )


def _load(result: Result, axes: Axes) -> None:
    for curve, (colour, marker, stroke) in zip(result["curves"], LOOKS, strict=False):
        points = curve["points"]
        axes.plot(
            [p["pilots"] for p in points],
            [100 * p["load"] for p in points],
            color=colour,
            marker=marker,
            linestyle=stroke,
            label=f"tokens of {LENGTHS[curve['seconds']]}",
        )
        if curve["bend"] <= max(p["pilots"] for p in points):
            axes.axvline(curve["bend"], color=colour, linestyle=stroke, linewidth=1)
            where = (curve["bend"], 50)
            axes.annotate(f" full from\n {curve['bend']:,.0f} pilots", where, color=colour)
    axes.set(ylabel="processors in use, %", ylim=(0, 105))
    _pilots_axis(result, axes)


def _claims(result: Result, axes: Axes) -> None:
    for curve, (colour, marker, stroke) in zip(result["curves"], LOOKS, strict=False):
        points = curve["points"]
        pilots = [p["pilots"] for p in points]
        label = f"tokens of {LENGTHS[curve['seconds']]}"
        middle, late = ([p[name] for p in points] for name in ("median", "late"))
        axes.plot(pilots, middle, color=colour, marker=marker, linestyle=stroke, label=label)
        axes.fill_between(pilots, middle, late, color=colour, alpha=0.2, linewidth=0)
    axes.set(yscale="log", ylabel="seconds from one token's end to the next")
    axes.yaxis.set_major_formatter(FuncFormatter(_plain))
    axes.text(
        0.02,
        0.62,
        "band: median to the slowest in a hundred",
        transform=axes.transAxes,
        fontsize=9,
    )
    _pilots_axis(result, axes)


def _parts(result: Result, axes: Axes) -> None:
    bars = [
        (f"{p['pilots']:,} pilots,\n{LENGTHS[curve['seconds']]}", p["parts"])
        for curve in result["curves"]
        for p in curve["points"]
        if p["pilots"] in (1_000, 10_000)
    ]
    left = [0.0] * len(bars)
    for (name, told), shade, hatch in zip(PARTS.items(), SHADES, HATCHES, strict=True):
        widths = [parts.get(name, 0.0) for _, parts in bars]
        axes.barh(
            [label for label, _ in bars], widths, left=left, color=shade, hatch=hatch, label=told
        )
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel("processors busy")
    axes.grid(visible=False, axis="y")
    axes.legend(frameon=False, fontsize=9)


def _settings(result: Result, axes: Axes) -> None:
    found = result["capacities"]
    base, *others = found.values()
    axes.barh(list(found), [base, *others], color=["#0b5394", *["#6fa8dc"] * len(others)])
    for name, value in found.items():
        axes.annotate(f" {value:,.0f}", (value, name), va="center", fontsize=9)
    axes.axvline(base, color="#666666", linestyle="--", linewidth=1)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel("tokens/s, tokens of 1 s")
    axes.grid(visible=False, axis="y")


def _starts(result: Result, axes: Axes) -> None:
    names = {"all": "looks read every pilot", "view": "looks ask a view"}
    for start, (colour, marker, stroke) in zip(result["starts"], LOOKS, strict=False):
        label = f"{start['pilots']:,} pilots, {names[start['looks']]}"
        percent = [100 * load for load in start["load"]]
        axes.plot(
            start["times"], percent, color=colour, marker=marker, linestyle=stroke, label=label
        )
    axes.set(xlabel="seconds since the start", ylabel="processors in use, %", ylim=(0, 105))
    axes.figure.legend(loc="outside lower center", ncols=2, frameon=False)


def _idle(result: Result, axes: Axes) -> None:
    idle = result["idle"]
    for (shards, cores), (colour, marker, stroke) in zip(
        idle["cores"].items(), LOOKS, strict=False
    ):
        axes.plot(
            idle["pilots"],
            cores,
            color=colour,
            marker=marker,
            linestyle=stroke,
            label=f"listening, q={shards}",
        )
    colour, marker, stroke = LOOKS[3]
    axes.plot(
        idle["pilots"],
        idle["asking"],
        color=colour,
        marker=marker,
        linestyle=stroke,
        label="asking every 10 s instead",
    )
    cores = result["server"]["cores"]
    axes.axhline(cores, color="#666666", linestyle="--", linewidth=1)
    axes.annotate(
        f"all {cores} cores",
        (idle["pilots"][-1], cores),
        (0, 4),
        "data",
        "offset points",
        ha="right",
        fontsize=9,
    )
    axes.set(yscale="log", ylabel="processors")
    axes.yaxis.set_major_formatter(FuncFormatter(_plain))
    _pilots_axis(result, axes)


def _pilots_axis(result: Result, axes: Axes) -> None:
    axes.set(xscale="log", xlabel="pilots")
    axes.set_xticks(result["idle"]["pilots"])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(_plain))
    axes.legend(frameon=False)


def _plain(value: float, _: int) -> str:
    return f"{value:,.12g}"
