"""What a row says: both sides, the ratio and the target, as text and as JSON."""

import enum
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never


class Skipped(Exception):
    """A row, or one peer of it, cannot be had on this machine."""


class WrongCount(Exception):
    """The tokens did not end as they had to: the figures mean nothing."""


class Bound(enum.Enum):
    """On which side of its target a ratio has to be."""

    LEAST = "at least"
    MOST = "at most"


@dataclass(frozen=True, slots=True)
class Target:
    """What is wanted of the ratio of ours to the other's."""

    bound: Bound
    ratio: float

    def met(self, ratio: float) -> bool:
        """Tell whether a ratio is good enough."""
        return ratio >= self.ratio if self.bound is Bound.LEAST else ratio <= self.ratio

    def __str__(self) -> str:
        return f"{self.bound.value} {self.ratio:g}"


def at_least(ratio: float) -> Target:
    """A target for rates."""
    return Target(Bound.LEAST, ratio)


def at_most(ratio: float) -> Target:
    """A target for times and sizes."""
    return Target(Bound.MOST, ratio)


@dataclass(frozen=True, slots=True)
class Result:
    """PiCaS against one peer or limit.

    Attributes:
        row: The row of the table of targets.
        work: What was done, in a few words.
        unit: Of both figures.
        ours: What PiCaS reached, one figure a repetition.
        against: The peer or the limit.
        other: What that reached.
        target: What is wanted.
        note: What else is to be known.
    """

    row: str
    work: str
    unit: str
    ours: Sequence[float]
    against: str
    other: Sequence[float]
    target: Target
    note: str = ""

    @property
    def ratio(self) -> float:
        """The ratio of the medians, ours to the other's."""
        return statistics.median(self.ours) / statistics.median(self.other)

    @property
    def about(self) -> str:
        """What was done, and what else is to be known."""
        return self.work + (f"; {self.note}" if self.note else "")

    @property
    def met(self) -> bool:
        """Whether the target is reached."""
        return self.target.met(self.ratio)


@dataclass(frozen=True, slots=True)
class Missing:
    """A row, or one peer of it, that was left out, with the reason."""

    row: str
    why: str


class Form(enum.Enum):
    """How results are printed."""

    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"

    def head(self) -> Sequence[str]:
        """The lines above all results."""
        return _HEADS[self]

    def lines(self, result: Result | Missing) -> Sequence[str]:
        """The lines of one result."""
        match self:
            case Form.TEXT:
                return _text(result)
            case Form.JSON:
                return [_json(result)]
            case Form.MARKDOWN:
                return [_markdown(result)]
            case _:
                assert_never(self)


_HEADS: Mapping[Form, Sequence[str]] = {
    Form.TEXT: [
        f"{'row':18}{'picas':>10}{'other':>10}  {'unit':10}{'ratio':>7}  {'target':23}against"
    ],
    Form.JSON: [],
    Form.MARKDOWN: ["| row | work | PiCaS | other | ratio | target |", "|" + " --- |" * 6],
}


def _text(result: Result | Missing) -> Sequence[str]:
    if isinstance(result, Missing):
        return [f"{result.row:18}SKIPPED BY NAME: {result.why}"]
    ours, other = (number(statistics.median(side)) for side in (result.ours, result.other))
    verdict = "met" if result.met else "NOT MET"
    return [
        f"{result.row:18}{ours:>10}{other:>10}  {result.unit:10}{number(result.ratio):>7}  "
        f"{result.target!s:14}{verdict:9}{result.against}",
        f"    {result.about}",
    ]


def _json(result: Result | Missing) -> str:
    """One line for programs; every repetition is in it."""
    if isinstance(result, Missing):
        return json.dumps({"row": result.row, "skipped": result.why})
    facts = {
        "row": result.row,
        "work": result.work,
        "unit": result.unit,
        "ours": statistics.median(result.ours),
        "against": result.against,
        "other": statistics.median(result.other),
        "ratio": result.ratio,
        "target": str(result.target),
        "met": result.met,
        "note": result.note,
        "all_ours": list(result.ours),
        "all_other": list(result.other),
    }
    return json.dumps(facts)


def _markdown(result: Result | Missing) -> str:
    """A line of the table in the documentation."""
    if isinstance(result, Missing):
        return f"| `{result.row}` | skipped: {result.why} | | | | |"
    ours, other = (number(statistics.median(side)) for side in (result.ours, result.other))
    cells = [
        f"`{result.row}`",
        result.about,
        f"{ours} {result.unit}",
        f"{other}: {result.against}",
        number(result.ratio),
        f"{result.target}" + ("" if result.met else ", **not met**"),
    ]
    return f"| {' | '.join(cells)} |"


def number(value: float) -> str:
    """A figure with the digits that mean something."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"
