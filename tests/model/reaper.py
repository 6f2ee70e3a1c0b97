"""What a reaper does, one store operation a step: `picas.pool.reap.reap`."""

from collections.abc import Callable, Iterator

from picas.token import State
from tests.model import documents
from tests.model.world import (
    TAKEN,
    Breach,
    Late,
    Pilot,
    Reaper,
    Rules,
    Stage,
    Step,
    World,
    buries,
    delay,
    name,
    put,
    spend,
)


def steps(world: World, rules: Rules) -> Iterator[Step]:
    """All that the reaper may do next."""
    yield from _PROGRAM[world.reaper.at](world, world.reaper, rules)


def _read_pilots(world: World, reaper: Reaper, rules: Rules) -> Iterator[Step]:
    seen = frozenset(i for i, p in enumerate(world.pilots) if p.says in ("running", "unknown"))
    silent = frozenset(i for i in seen if world.pilots[i].silent)
    gone = silent if reaper.in_touch or rules.by_age else frozenset()
    if not (gone or _strangers(world, seen, rules)):
        return
    found = ", ".join(f"pilot {i + 1} gone" for i in sorted(gone)) or "nobody gone"
    after = reaper._replace(at="find", seen=seen, gone=gone)
    yield Step(f"reaper: finds {found}", world._replace(reaper=after))


def _find(world: World, reaper: Reaper, rules: Rules) -> Iterator[Step]:
    """Find the tokens of the pilots that are gone, and note pilots that should hold none."""
    strangers = _strangers(world, reaper.seen, rules)
    missing_is_silent = reaper.stale or rules.missing_is_silent
    after = _changed(world, strangers, lambda p: _noted(p, missing_is_silent))
    held = _locked(world)
    queue = tuple((token, world.tokens[token], True) for token, p in held if p in reaper.gone)
    found = reaper._replace(at="give", seen=frozenset(), stale=False, queue=queue)
    behind = found if queue else buries(found)
    yield Step("reaper: looks for tokens", after._replace(reaper=behind))


def _noted(pilot: Pilot, missing_is_silent: bool) -> Pilot:
    """A pilot's document after a thorough look found it to hold a token that it should not."""
    if pilot.says == "missing":
        return pilot._replace(says="unknown", silent=missing_is_silent)
    return pilot._replace(says="unknown") if pilot.silent else pilot


def _give_back(world: World, reaper: Reaper, rules: Rules) -> Iterator[Step]:
    (token, claimed, fresh), *others = reaper.queue
    label = f"reaper: gives {name(token)} back: "
    behind = reaper._replace(queue=tuple(others)) if others else buries(reaper)
    doc = world.tokens[token]
    if not fresh:
        holds = documents.holds(doc, claimed)
        again = reaper._replace(queue=((token, claimed, True), *others)) if holds else behind
        yield Step(f"{label}conflict, reads it again", world._replace(reaper=again))
        return
    holder = world.pilots[documents.pilot(doc)]
    breaches: tuple[Breach, ...] = ()
    if holder.life == "up" and not holder.excused:
        breaches = (TAKEN,)
    given_back = documents.lost(doc)
    yield Step(
        f"{label}written",
        put(world._replace(reaper=behind), token, given_back),
        breaches=breaches,
    )
    # Without an answer the look is over, and the touch is broken.
    over = world._replace(reaper=Reaper(in_touch=False))
    if world.faults.lost:
        over_less = spend(over, "lost")
        written = put(over_less, token, given_back)
        yield Step(f"{label}written, but the reply is lost", written, False, breaches)
        yield Step(f"{label}the request is lost", over_less, fair=False)
    if world.faults.late:
        late = delay(over, Late("the reaper", token, claimed, given_back, is_claim=False))
        yield Step(f"{label}no answer, the request is on its way", late, False, breaches)


def _bury(world: World, reaper: Reaper, rules: Rules) -> Iterator[Step]:
    there = frozenset(i for i in reaper.gone if world.pilots[i].says != "missing")
    after = _changed(world, there, lambda p: p._replace(says="lost"))
    rest = Reaper(in_touch=reaper.in_touch)
    yield Step("reaper: notes the gone as lost", after._replace(reaper=rest))


_PROGRAM: dict[Stage, Callable[[World, Reaper, Rules], Iterator[Step]]] = {
    "rest": _read_pilots,
    "find": _find,
    "give": _give_back,
    "bury": _bury,
}


def _locked(world: World) -> list[tuple[int, int]]:
    """The locked tokens, each with its pilot."""
    return [
        (token, documents.pilot(doc))
        for token, doc in enumerate(world.tokens)
        if documents.state(doc) is State.LOCKED
    ]


def _strangers(world: World, seen: frozenset[int], rules: Rules) -> frozenset[int]:
    """Pilots that a thorough look finds to hold tokens, though they should hold none."""
    if rules.trust_documents:
        return frozenset()
    return frozenset(p for token, p in _locked(world) if token in world.old) - seen


def _changed(world: World, which: frozenset[int], change: Callable[[Pilot], Pilot]) -> World:
    pilots = (change(p) if i in which else p for i, p in enumerate(world.pilots))
    return world._replace(pilots=tuple(pilots))
