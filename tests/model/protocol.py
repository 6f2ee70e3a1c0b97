"""The protocol as a model, and its exhaustive exploration.

``python -m tests.model.protocol`` explores what the tests do; with ``--deep`` ten times more.
"""

import argparse
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from itertools import combinations, combinations_with_replacement

from picas.token import State
from tests.model import documents, pilot, reaper
from tests.model.documents import GONE
from tests.model.explorer import Report, explore
from tests.model.world import (
    Breach,
    Faults,
    Pilot,
    Rules,
    Step,
    World,
    begin,
    is_good,
    name,
    put,
    spend,
    with_pilot,
)


@dataclass(frozen=True, slots=True)
class Scenario:
    """What may happen.

    Attributes:
        faults: What may go wrong, how often.
        tokens: How many tokens there are.
        rules: What the actors do.
    """

    faults: Faults
    tokens: int = 1
    rules: Rules = field(default_factory=Rules)

    def __str__(self) -> str:
        left = self.faults._asdict().items()
        names = [f"{often} {fault}" if often > 1 else fault for fault, often in left if often]
        tokens = "1 token" if self.tokens == 1 else f"{self.tokens} tokens"
        return f"{tokens}: {', '.join(names) or 'nothing'}"

    def explore(self, watch_for: Collection[Breach] | None = None) -> Report:
        """Visit every state; see `tests.model.explorer.explore`."""
        return explore(
            begin(self.tokens, self.faults), lambda w: steps(w, self.rules), is_good, watch_for
        )


_UNTOUCHED = (Pilot(), Pilot())


def of(*faults: str, tokens: int = 1) -> Scenario:
    """The scenario in which these things go wrong, each as often as it is named."""
    return Scenario(Faults(**{fault: faults.count(fault) for fault in faults}), tokens)


def shallow() -> list[Scenario]:
    """Any two things go wrong with one token, any one with two tokens."""
    one = [of(*pair) for pair in combinations_with_replacement(Faults._fields, 2)]
    return [*one, *(of(kind, tokens=2) for kind in Faults._fields)]


def deep() -> list[Scenario]:
    """Any three things go wrong with one token, any two with two tokens."""
    one = [of(*three) for three in combinations(Faults._fields, 3)]
    return [*one, *(of(*pair, tokens=2) for pair in combinations(Faults._fields, 2))]


def steps(world: World, rules: Rules) -> Iterator[Step]:
    """All that may happen next."""
    # As long as the two have done nothing, it is the same whichever of them begins.
    for i in range(1 if world.pilots == _UNTOUCHED else len(world.pilots)):
        yield from pilot.steps(world, i, rules)
    yield from pilot.land(world)
    yield from reaper.steps(world, rules)
    yield from _person(world)
    yield from _clock(world, rules)


def _person(world: World) -> Iterator[Step]:
    """A person's changes. One that meets a conflict has no effect, and is made again: one step."""
    for token, doc in enumerate(world.tokens):
        if doc == GONE:
            again = documents.new(name(token))
            yield Step(f"person: pushes {name(token)} again", put(world, token, again), fair=False)
            continue
        changes = {
            "edit": documents.edit(doc),
            "reset": doc if documents.state(doc) is State.TODO else documents.reset(doc),
            "delete": GONE,
        }
        for verb, changed in changes.items():
            if getattr(world.faults, verb) and changed != doc:
                after = put(spend(world, verb), token, changed)
                yield Step(f"person: {verb}s {name(token)}", after, fair=False)
    for i, one in enumerate(world.pilots if world.faults.forget else ()):
        if one.says != "missing":
            after = with_pilot(
                spend(world, "forget"), i, one._replace(says="missing", silent=False)
            )
            yield Step(f"person: deletes the document of pilot {i + 1}", after, fair=False)


def _clock(world: World, rules: Rules) -> Iterator[Step]:
    """Time passes: for longer than the lease, and than all that live need to say so."""
    if all(p.says == "running" and not p.silent for p in world.pilots if p.life == "up"):
        # Who is in the middle of one look for so long has made no others.
        after = _later(world, outage=False, in_touch=world.reaper.at == "rest")
        yield Step("the lease time passes; who is up beats", after)
    if world.faults.outage:
        in_touch = rules.touch_outlasts and any(p.silent for p in world.pilots)
        after = _later(spend(world, "outage"), outage=True, in_touch=in_touch)
        yield Step("for the lease time nobody reaches the pool", after, fair=False)


def _later(world: World, *, outage: bool, in_touch: bool) -> World:
    pilots = tuple(
        p._replace(silent=p.says != "missing" and (outage or p.silent or p.life != "up"))
        for p in world.pilots
    )
    reaper = world.reaper._replace(stale=world.reaper.at == "find", in_touch=in_touch)
    locked = (t for t, doc in enumerate(world.tokens) if documents.state(doc) is State.LOCKED)
    return world._replace(pilots=pilots, reaper=reaper, old=frozenset(locked))


def main() -> int:
    """Explore, tell what was found, and return 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.model.protocol", description=__doc__)
    parser.add_argument("--deep", action="store_true", help="combine more; takes minutes")
    scenarios = deep() if parser.parse_args().deep else shallow()
    states, seconds, broken = 0, 0.0, 0
    for scenario in scenarios:
        report = scenario.explore()
        states, seconds = states + report.states, seconds + report.seconds
        broken += report.violation is not None
        print(f"{scenario}: {report.states:,} states, {report.violation or 'all promises hold'}")
    print(f"{len(scenarios)} scenarios, {states:,} states, {seconds:.0f} s, {broken} broken")
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
