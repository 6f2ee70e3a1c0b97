"""What a row says: both sides, the ratio and the target, as text and as JSON."""

import enum
import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


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
    def met(self) -> bool:
        """Whether the target is reached."""
        return self.target.met(self.ratio)

    def as_json(self) -> str:
        """One line for programs; every repetition is in it."""
        facts = {
            "row": self.row,
            "work": self.work,
            "unit": self.unit,
            "ours": statistics.median(self.ours),
            "against": self.against,
            "other": statistics.median(self.other),
            "ratio": self.ratio,
            "target": str(self.target),
            "met": self.met,
            "note": self.note,
            "all_ours": list(self.ours),
            "all_other": list(self.other),
        }
        return json.dumps(facts)

    def as_text(self) -> Iterator[str]:
        """Lines for a person."""
        ours, other = (number(statistics.median(side)) for side in (self.ours, self.other))
        verdict = "met" if self.met else "NOT MET"
        yield (
            f"{self.row:18}{ours:>10}{other:>10}  {self.unit:10}{number(self.ratio):>7}  "
            f"{self.target!s:14}{verdict:9}{self.against}"
        )
        yield f"    {self.work}" + (f"; {self.note}" if self.note else "")


HEADER = f"{'row':18}{'picas':>10}{'other':>10}  {'unit':10}{'ratio':>7}  {'target':23}against"


@dataclass(frozen=True, slots=True)
class Missing:
    """A row, or one peer of it, that was left out, with the reason."""

    row: str
    why: str

    def as_json(self) -> str:
        """One line for programs."""
        return json.dumps({"row": self.row, "skipped": self.why})

    def as_text(self) -> Iterator[str]:
        """One line for a person."""
        yield f"{self.row:18}SKIPPED BY NAME: {self.why}"


def number(value: float) -> str:
    """A figure with the digits that mean something."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"
