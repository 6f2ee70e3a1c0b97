"""What is done to the pilots and to the pool, and when: all of it from a seed."""

import random
from collections.abc import Mapping
from dataclasses import dataclass

PILOTS = {"kill": 5, "kill_tree": 3, "storm": 1, "stop": 3, "term": 2, "kill_task": 3}
"""Faults of pilots and tasks, and how often each is chosen."""

PERSON = {"edit": 8, "reset": 3, "delete": 1}
"""What a person does to tokens by hand."""

NETWORK = {
    "cut": 2,
    "delay": 2,
    "half_close": 2,
    "reply_lost": 4,
    "late_request": 3,
    "error_500": 2,
    "error_503": 2,
    "black_hole": 2,
}
"""Faults between pilots and a CouchDB."""

KINDS: Mapping[str, Mapping[str, int]] = {
    "sqlite": PILOTS | {"disk_logs": 2, "lock_held": 3, "torn_write": 4, "disk_pool": 2},
    "couchdb": PILOTS | {"disk_logs": 2, "server_kill": 2} | NETWORK,
}
"""By store, what can be injected at a moment of the run. Clocks are off from a pilot's start on."""

SECONDS: Mapping[str, tuple[float, float]] = {
    "disk_logs": (0.5, 3.0),
    "disk_pool": (0.5, 4.0),
    "lock_held": (0.5, 7.0),
    "server_kill": (0.2, 2.0),
    "black_hole": (1.0, 7.0),
    **dict.fromkeys(set(NETWORK) - {"black_hole"}, (1.0, 3.0)),
}
"""How long a fault lasts, at least and at most."""

GAP_SECONDS = 0.6
"""Mean time between two faults."""

PERSON_SECONDS = 0.3
"""Mean time between two of a person's changes."""


@dataclass(frozen=True, slots=True)
class Step:
    """One fault of the plan.

    Attributes:
        at: Seconds after the faults begin.
        kind: What is done.
        seconds: How long it lasts; 0 for what is done at once.
        pick: From 0 to 1, which of the pilots or tokens that there are then.
        more: Another number from 0 to 1, for what a kind has to decide besides.
    """

    at: float
    kind: str
    seconds: float
    pick: float
    more: float

    def __str__(self) -> str:
        lasts = f" for {self.seconds:.1f} s" if self.seconds else ""
        return f"{self.at:6.2f} s  {self.kind}{lasts} (pick {self.pick:.3f})"


def make_plan(seed: int, store: str, seconds: float, lease: float) -> list[Step]:
    """The faults of one round; each kind at least once where there is the time.

    Args:
        seed: The same seed gives the same plan.
        store: ``sqlite`` or ``couchdb``.
        seconds: How long faults are injected.
        lease: The pool's lease time, in seconds: pilots are frozen for longer than that.
    """
    chance = random.Random(f"{seed} {store}")
    steps = [_step(chance, *choice, lease) for choice in _choices(chance, KINDS[store], seconds)]
    at = 0.0
    while (at := at + chance.expovariate(1 / PERSON_SECONDS)) < seconds:
        (kind,) = chance.choices(list(PERSON), weights=list(PERSON.values()))
        steps.append(_step(chance, at, kind, lease))
    return sorted(steps, key=lambda step: step.at)


def _choices(
    chance: random.Random, weights: Mapping[str, int], seconds: float
) -> list[tuple[float, str]]:
    """When which kind is injected."""
    moments = []
    at = 0.0
    while (at := at + chance.expovariate(1 / GAP_SECONDS)) < seconds:
        moments.append(at)
    kinds = chance.sample(list(weights), k=min(len(weights), len(moments)))
    rest = len(moments) - len(kinds)
    kinds += chance.choices(list(weights), weights=list(weights.values()), k=rest)
    chance.shuffle(kinds)
    return list(zip(moments, kinds, strict=True))


def _step(chance: random.Random, at: float, kind: str, lease: float) -> Step:
    if kind == "stop":
        lasts = lease + chance.uniform(0.5, 3.0)
    elif kind in SECONDS:
        lasts = chance.uniform(*SECONDS[kind])
    else:
        lasts = 0.0
    return Step(at, kind, lasts, chance.random(), chance.random())
