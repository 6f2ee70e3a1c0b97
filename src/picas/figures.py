"""Every number that a person is shown: counts, rates, times left, distributions, and their texts.

Pure functions over what the pool answers; the command line, the web pages and the metrics ask
here, so that all of them show the same.

How fast a pool drains is never found by reading its tokens. It comes from one of two sources:

- `RateMeter`: two or more counts over time. Exact, but only for who keeps looking.
- `pilots_rate`: the counters in the documents of the pilots that live, which each of them writes
  every minute with the time of writing. One look is enough; it is the mean over each pilot's life.
"""

import enum
import math
import re
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from picas import token, units
from picas.token import Document, State
from picas.views import DEFAULT_DESIGN

ALIVE_SECONDS = 300.0
"""A pilot whose heartbeat is younger lives: the lease time, unless the environment sets another."""

RATE_SECONDS = 300.0
"""How far back a rate looks."""

_LONGEST_DAYS = 366_000
"""Longer spans come of odd moments in documents, and are not told in full."""

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True, slots=True)
class Counts:
    """How many tokens of a design are in each state.

    Attributes:
        design: The design's name.
        todo: Free.
        locked: With a pilot.
        done: Settled with exit code 0.
        error: Settled with another one.
    """

    design: str
    todo: int
    locked: int
    done: int
    error: int

    @staticmethod
    def of(design: str, states: Mapping[State, int]) -> "Counts":
        """Make it of `picas.pool.Pool.counts`."""
        todo, locked, done, error = (states.get(state, 0) for state in State)
        return Counts(design, todo, locked, done, error)

    @property
    def total(self) -> int:
        """All tokens."""
        return self.todo + self.locked + self.done + self.error

    @property
    def settled(self) -> int:
        """Tokens that need no more work: done or error."""
        return self.done + self.error

    @property
    def open(self) -> int:
        """Tokens that are not settled."""
        return self.todo + self.locked

    @property
    def share(self) -> float:
        """The part that is done, 0 to 1; 0 of an empty pool."""
        return self.done / self.total if self.total else 0.0

    def as_dict(self) -> dict[str, Any]:
        """The counts for a program."""
        names = ("design", "todo", "locked", "done", "error", "total")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, slots=True)
class Fleet:
    """The pilots that live.

    Attributes:
        pilots: How many.
        hosts: On how many hosts.
        slots: Tokens they can run at once.
        running: Tokens they ran when they last wrote.
        lost: Pilots that did not say that they ended, and whose heartbeat stopped; those whose
            tokens were given back are past.
    """

    pilots: int = 0
    hosts: int = 0
    slots: int = 0
    running: int = 0
    lost: int = 0

    @staticmethod
    def of(pilots: Iterable[Document], now: float, lease: float = ALIVE_SECONDS) -> "Fleet":
        """Make it of the pilots' documents.

        Args:
            pilots: As `picas.pool.Pool.pilots` gives them.
            now: The pool's clock.
            lease: Seconds without a heartbeat after which a pilot counts as gone.
        """
        docs = [(doc, pilot_state(doc, now, lease)) for doc in pilots]
        living = [doc for doc, state in docs if state in LIVING]
        return Fleet(
            pilots=len(living),
            hosts=len({str(doc.get("hostname")) for doc in living}),
            slots=sum(int(_number(doc.get("slots"))) for doc in living),
            running=sum(len(running(doc)) for doc in living),
            lost=sum(state in (PilotState.SILENT, PilotState.UNKNOWN) for _, state in docs),
        )

    def as_dict(self) -> dict[str, int]:
        """The figures for a program."""
        names = ("pilots", "hosts", "slots", "running", "lost")
        return {name: getattr(self, name) for name in names}


class PilotState(enum.Enum):
    """How a pilot is; the values are what a person reads, those that ask for attention first."""

    SILENT = "silent"
    """No heartbeat for the lease time: its tokens go to others as soon as one looks."""
    UNKNOWN = "unknown"
    """Tokens name it as their holder, but it has no document of its own, or one that denies it."""
    SLOW = "slow"
    """It lives, and slowed down, since one token after another fails on its host."""
    RUNNING = "running"
    LOST = "lost"
    """It fell silent, and its tokens were given back."""
    ENDED = "ended"


LIVING = frozenset((PilotState.RUNNING, PilotState.SLOW))
"""The states of pilots that are heard of."""

_DRAINED = "drained: "
"""How the reason begins with which a pilot ended because its host fails everything."""

_PILOT_ID = re.compile(r"pilot_.+_\d+_([0-9a-f]+)")


def pilot_state(pilot: Mapping[str, Any], now: float, lease: float = ALIVE_SECONDS) -> PilotState:
    """How a pilot is, by its document.

    Args:
        pilot: The document.
        now: The pool's clock.
        lease: Seconds without a heartbeat after which a pilot counts as gone.
    """
    if pilot.get("state") in ("ended", "lost"):
        return PilotState(pilot["state"])
    if pilot.get("state") == "unknown":
        return PilotState.UNKNOWN
    if now - _number(pilot.get("heartbeat")) >= lease:
        return PilotState.SILENT
    return PilotState.SLOW if pilot.get("health") else PilotState.RUNNING


def is_alive(pilot: Mapping[str, Any], now: float, lease: float = ALIVE_SECONDS) -> bool:
    """Tell whether a pilot lives, by its document: not ended, and its heartbeat is fresh."""
    return pilot_state(pilot, now, lease) in LIVING


def pilot_why(pilot: Mapping[str, Any]) -> str:
    """Why a pilot is slow, or why it ended, in its own words; empty while all is well."""
    if pilot.get("state") == "unknown":
        return "tokens name it as their holder, and it did not say so itself"
    text = pilot.get("reason") if pilot.get("state") == "ended" else pilot.get("health")
    parts = [text] if isinstance(text, str) and text else []
    if pilot.get("state") == "ended" and (left := int(_number(pilot.get("unsettled")))):
        parts.append(f"results not recorded: {left:,}")
    return "; ".join(parts)


def is_drained(reason: object) -> bool:
    """Tell whether that is why a pilot ended: one token after another failed on its host."""
    return isinstance(reason, str) and reason.startswith(_DRAINED)


def pilot_name(pilot_id: str) -> str:
    """A pilot's short name, the random part at the end of its id: ``9f3ae2b1``."""
    match = _PILOT_ID.fullmatch(pilot_id)
    return match[1] if match else pilot_id


def number(doc: Mapping[str, Any], name: str) -> float:
    """A number in a document that anyone may have edited; 0 where there is none."""
    return _number(doc.get(name))


def running(pilot: Mapping[str, Any]) -> list[Any]:
    """Ids of the tokens that a pilot ran at its last heartbeat, by its document."""
    there = pilot.get("running")
    return there if isinstance(there, list) else []


def pilots_rate(
    pilots: Iterable[Document], now: float, design: str, lease: float = ALIVE_SECONDS
) -> float | None:
    """Tokens that the living pilots settle in a minute; None if none of them has a history.

    Source: their counters ``done`` and ``error`` between ``started`` and ``heartbeat``, summed over
    the pilots. Tokens given back for another try are not counted: they are still to be done.

    Args:
        pilots: The pilots' documents.
        now: The pool's clock.
        design: Only pilots that work on this design's views; ``Monitor``, which has all tokens,
            counts all of them.
        lease: Seconds without a heartbeat after which a pilot counts as gone.
    """
    rates = []
    for doc in pilots:
        of_design = design == DEFAULT_DESIGN or str(doc.get("view")).startswith(f"{design}/")
        lived = _number(doc.get("heartbeat")) - _number(doc.get("started"))
        if of_design and is_alive(doc, now, lease) and lived > 0:
            rates.append(60 * (_number(doc.get("done")) + _number(doc.get("error"))) / lived)
    return units.number(sum(rates)) if rates else None


class RateMeter:
    """The rate of a number that grows, by looking at it again and again.

    Args:
        span: Seconds to look back.
        least: Seconds that must lie between two looks to tell a rate.
    """

    def __init__(self, span: float = RATE_SECONDS, least: float = 10.0) -> None:
        self._span = span
        self._least = least
        self._looks: deque[tuple[float, int]] = deque()

    def saw(self, now: float, number: int) -> None:
        """Note a look; a number that fell (tokens were reset) begins a new count."""
        if self._looks and number < self._looks[-1][1]:
            self._looks.clear()
        self._looks.append((now, number))
        while len(self._looks) > 2 and self._looks[1][0] <= now - self._span:
            self._looks.popleft()

    @property
    def per_minute(self) -> float | None:
        """The rate; None before there is one."""
        if not self._looks:
            return None
        (first, before), (last, after) = self._looks[0], self._looks[-1]
        return 60 * (after - before) / (last - first) if last - first >= self._least else None


def time_left(open_tokens: int, per_minute: float | None) -> float | None:
    """Seconds until tokens that are not settled yet will be; None if nobody can tell."""
    if open_tokens == 0:
        return 0.0
    return 60 * open_tokens / per_minute if per_minute else None


@dataclass(frozen=True, slots=True)
class Distribution:
    """How numbers spread.

    Attributes:
        count: How many there are.
        least: The smallest.
        most: The largest.
        mean: Their mean.
        quantiles: The values at `QUANTILES`.
    """

    count: int
    least: float
    most: float
    mean: float
    quantiles: Mapping[float, float]


def distribution(values: Iterable[float]) -> Distribution | None:
    """How numbers spread; None of none. A quantile between two values is interpolated."""
    ordered = sorted(values)
    if not ordered:
        return None
    quantiles = {q: _quantile(ordered, q) for q in QUANTILES}
    mean = math.fsum(value / len(ordered) for value in ordered)
    return Distribution(len(ordered), ordered[0], ordered[-1], mean, quantiles)


def wall_times(docs: Iterable[Mapping[str, Any]]) -> list[float]:
    """Wall-clock seconds of the last finished attempt of each token that has one."""
    found = (finished_attempts(doc) for doc in docs)
    walls = (units.number(runs[-1].get("wall")) for runs in found if runs)
    return [wall for wall in walls if wall is not None and wall >= 0]


def finished_attempts(doc: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A token's attempts that came to an end of their own: not the released ones."""
    return [entry for entry in token.attempts(doc) if entry.get("exit_code") is not None]


def duration(seconds: float) -> str:
    """A span of time as a person reads it: ``0.3 s``, ``42 s``, ``5 min``, ``3 h 20 min``."""
    seconds = min(max(0.0, seconds), 86400.0 * _LONGEST_DAYS)
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {rest:02} min"
    days, hours = divmod(hours, 24)
    if days >= _LONGEST_DAYS:
        return "over 1,000 years"
    return f"{days:,} d {hours} h"


def size(number: float) -> str:
    """A number of bytes as a person reads it: ``512 B``, ``1.5 kB``, ``20 MB``; a kB is 1000."""
    value = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:
            return f"{value:.1f} {unit}" if value < 9.95 and unit != "B" else f"{value:.0f} {unit}"
        value /= 1000
    return f"{value:,.1f} TB"


def rate(per_minute: float) -> str:
    """A rate as a person reads it: ``0.5/min``, ``42/min``, ``25/s``."""
    if per_minute >= 600:
        return f"{per_minute / 60:,.0f}/s"
    return f"{per_minute:.1f}/min" if per_minute < 9.95 else f"{per_minute:.0f}/min"


def _quantile(ordered: Sequence[float], q: float) -> float:
    place = q * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def _number(value: Any) -> float:
    """A number in a document that anyone may have edited."""
    return units.number(value) or 0.0
