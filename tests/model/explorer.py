"""Visits every state that can be reached, the nearest first."""

import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from tests.model.world import STUCK, Breach, Step, World

Successors = Callable[[World], Iterable[Step]]


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was broken, and the shortest way to it.

    Attributes:
        breach: Which promise.
        trace: What happens, one line a step.
    """

    breach: Breach
    trace: tuple[str, ...]

    def __str__(self) -> str:
        lines = (f"{n:3}. {line}" for n, line in enumerate(self.trace, 1))
        return "\n".join((f"{self.breach}:", *lines))


@dataclass(frozen=True, slots=True)
class Report:
    """What an exploration found.

    Attributes:
        states: How many states were visited.
        seconds: How long that took.
        violation: The first one found, if any.
        ends: States in which all has ended well.
        happened: The labels of all steps.
    """

    states: int
    seconds: float
    violation: Violation | None
    ends: tuple[World, ...]
    happened: frozenset[str]


class _Visited:
    """The states seen so far, each with the way to it."""

    def __init__(self, begin: World) -> None:
        self.worlds = [begin]
        self._numbers = {begin: 0}
        self._ways: list[tuple[int, str]] = [(-1, "")]

    def number(self, world: World, way: tuple[int, str]) -> int:
        """The number of a state; a new one is put behind the others."""
        number = self._numbers.setdefault(world, len(self.worlds))
        if number == len(self.worlds):
            self.worlds.append(world)
            self._ways.append(way)
        return number

    def trace(self, number: int) -> tuple[str, ...]:
        """What happened on the way to a state."""
        labels = []
        while number:
            number, label = self._ways[number]
            labels.append(label)
        return tuple(reversed(labels))


def explore(
    begin: World,
    successors: Successors,
    is_good: Callable[[World], bool],
    watch_for: Collection[Breach] | None = None,
) -> Report:
    """Visit all states that can be reached from one, the nearest first, and check each.

    Args:
        begin: Where to begin.
        successors: All that may happen in a state.
        is_good: Tells whether all has ended well. From each state such a one must be in reach by
            fair steps alone.
        watch_for: Only these breaches count; by default all do.
    """
    started = time.perf_counter()
    visited = _Visited(begin)
    happened: set[str] = set()
    before: list[list[int]] = [[]]  # by state: those from which a fair step leads to it
    ends: list[int] = []

    def report(breach: Breach | None, trace: tuple[str, ...] = ()) -> Report:
        violation = None if breach is None else Violation(breach, trace)
        seconds = time.perf_counter() - started
        good = tuple(visited.worlds[number] for number in ends)
        return Report(len(visited.worlds), seconds, violation, good, frozenset(happened))

    for here, world in enumerate(visited.worlds):  # grows as we go
        if is_good(world):
            ends.append(here)
        for label, after, fair, breaches in successors(world):
            for breach in breaches:
                if watch_for is None or breach in watch_for:
                    return report(breach, (*visited.trace(here), label))
            happened.add(label)
            there = visited.number(after, (here, label))
            if there == len(before):
                before.append([])
            if fair:
                before[there].append(here)
    if watch_for is None or STUCK in watch_for:
        stuck = _first_stuck(before, ends)
        if stuck is not None:
            return report(STUCK, visited.trace(stuck))
    return report(None)


def _first_stuck(before: list[list[int]], ends: list[int]) -> int | None:
    """The first state from which fair steps lead to no good one."""
    ends_well = [False] * len(before)
    waiting = list(ends)
    while waiting:
        number = waiting.pop()
        if not ends_well[number]:
            ends_well[number] = True
            waiting.extend(before[number])
    return next((number for number, good in enumerate(ends_well) if not good), None)
