"""What a pilot does, one store operation a step, as `picas.pool.pool.Pool` and the pilot's loop do.

A write that meets a conflict has no effect: the reading that follows it belongs to the same step.
"""

from collections.abc import Callable, Iterator
from functools import cache
from typing import NamedTuple

from picas.token import State
from tests.model import documents
from tests.model.documents import GONE, Number
from tests.model.world import (
    DROPPED,
    EDIT_LOST,
    HANDED_TWICE,
    OVERWRITTEN,
    RUN_AGAIN,
    UNFENCED,
    At,
    Breach,
    Late,
    Pilot,
    Rules,
    Step,
    World,
    buries,
    delay,
    name,
    put,
    spend,
    with_pilot,
)


class _Sent(NamedTuple):
    """What became of a write: its answer (None: no answer), what happened, and the state after."""

    granted: bool | None
    label: str
    world: World
    fair: bool
    breaches: tuple[Breach, ...] = ()


def steps(world: World, i: int, rules: Rules) -> Iterator[Step]:
    """All that pilot `i` may do next, and all that may happen to it."""
    pilot = world.pilots[i]
    me = f"pilot {i + 1}"
    if pilot.life == "up":
        yield from _PROGRAM[pilot.at](world, i, pilot, rules)
        if pilot.silent or pilot.excused or pilot.says != "running":
            excused = pilot.excused and i in world.reaper.gone and world.reaper.at != "bury"
            alive = pilot._replace(silent=False, says="running", excused=excused)
            yield Step(f"{me}: beats", _heard(world, i, alive))
        if world.faults.suspend:
            paused = pilot._replace(life="suspended", excused=False)
            after = with_pilot(spend(world, "suspend"), i, paused)
            yield Step(f"{me}: is suspended", after, fair=False)
        if world.faults.stop and not pilot.told:
            after = with_pilot(spend(world, "stop"), i, pilot._replace(told=True))
            yield Step(f"{me}: is told to end", after, fair=False)
    elif pilot.life == "suspended":
        excused = pilot.silent or i in world.reaper.gone
        after = with_pilot(world, i, pilot._replace(life="up", excused=excused))
        yield Step(f"{me}: is resumed", after, fair=False)
    if world.faults.crash and pilot.life in ("up", "suspended"):
        dead = _idle(pilot)._replace(life="dead", told=False, excused=False, leases=0)
        yield Step(f"{me}: is killed", with_pilot(spend(world, "crash"), i, dead), fair=False)


def land(world: World) -> Iterator[Step]:
    """A write that was on its way arrives."""
    for late in world.late:
        breaches = _breaches(world.tokens[late.token], late.doc, late.claimed, late.is_claim)
        label = f"the late write of {late.sender} to {name(late.token)} is applied"
        yield Step(label, put(world, late.token, late.doc), False, breaches)


# --- the program -------------------------------------------------------------------------------


def _look(world: World, i: int, pilot: Pilot, rules: Rules) -> Iterator[Step]:
    if pilot.told:
        ended = Pilot(life="ended", says="ended")
        yield Step(f"pilot {i + 1}: ends", _heard(world, i, ended))
        return
    # A stale view may show tokens that are not free; their documents, read next, sort them out.
    for token, doc in enumerate(world.tokens):
        if documents.state(doc) is State.TODO:
            at: At = "row" if rules.claim_newest else "seen"
            claimed = GONE if rules.claim_newest else _claim(doc, i, pilot)
            found = pilot._replace(at=at, token=token, claimed=claimed, fresh=True)
            label = f"pilot {i + 1}: sees {name(token)} free"
            yield Step(label, with_pilot(world, i, found))


def _read_newest(world: World, i: int, pilot: Pilot, rules: Rules) -> Iterator[Step]:
    doc = world.tokens[pilot.token]
    if doc == GONE:
        yield Step(f"pilot {i + 1}: finds no token", with_pilot(world, i, _idle(pilot)))
        return
    read = pilot._replace(at="seen", claimed=_claim(doc, i, pilot), fresh=True)
    label = f"pilot {i + 1}: reads the newest revision of {name(pilot.token)}"
    yield Step(label, with_pilot(world, i, read))


def _send_claim(world: World, i: int, pilot: Pilot, rules: Rules) -> Iterator[Step]:
    for sent in _write(world, i, pilot.claimed, is_claim=True):
        mine = sent.world.pilots[i]
        if sent.granted is None:
            mine = mine._replace(at="seen" if rules.resend_claims else "doubt")
        elif sent.granted:
            mine = mine._replace(at="held", fresh=True)
        elif pilot.at == "again":  # the first sending may have been granted
            mine = mine._replace(at="doubt")
        else:
            mine = _idle(mine)
        label = f"pilot {i + 1}: claims {name(pilot.token)}: {sent.label}"
        yield Step(label, with_pilot(sent.world, i, mine), sent.fair, sent.breaches)


def _read_back(world: World, i: int, pilot: Pilot, rules: Rules) -> Iterator[Step]:
    label = f"pilot {i + 1}: reads {name(pilot.token)} back: "
    if documents.holds(world.tokens[pilot.token], pilot.claimed):
        held = pilot._replace(at="held", fresh=True)
        yield Step(label + "the claim was granted", with_pilot(world, i, held))
    elif pilot.fresh and not rules.read_back_once:
        # The claim may still be on its way: of two against one revision one fails.
        again = pilot._replace(at="again")
        yield Step(label + "as it was seen", with_pilot(world, i, again))
    else:
        yield Step(label + "not its own", with_pilot(world, i, _idle(pilot)))


def _run(world: World, i: int, pilot: Pilot, rules: Rules) -> Iterator[Step]:
    token = pilot.token
    left = world.runs[token] - 1
    breaches = () if left >= 0 else (RUN_AGAIN,)
    runs = (*world.runs[:token], left, *world.runs[token + 1 :])
    if not pilot.told:
        done = with_pilot(world, i, pilot._replace(at="done"))._replace(runs=runs)
        yield Step(f"pilot {i + 1}: runs {name(token)}", done, breaches=breaches)
        if world.faults.fail:
            failed = with_pilot(spend(done, "fail"), i, pilot._replace(at="failed"))
            label = f"pilot {i + 1}: runs {name(token)}, which fails"
            yield Step(label, failed, False, breaches)
    if pilot.told or world.faults.spare:
        spent = world if pilot.told else spend(world, "spare")
        spare = with_pilot(spent, i, pilot._replace(at="unstarted"))
        yield Step(f"pilot {i + 1}: does not start {name(token)}", spare, fair=pilot.told)


def _settle(world: World, i: int, pilot: Pilot, rules: Rules) -> Iterator[Step]:
    if pilot.told and pilot.at == "done":
        broken = pilot._replace(at="broken")
        yield Step(f"pilot {i + 1}: breaks {name(pilot.token)} off", with_pilot(world, i, broken))
    base = pilot.claimed if rules.settle_own_copy else world.tokens[pilot.token]

    def result() -> Number:
        return documents.settle(base, pilot.claimed, int(pilot.at == "failed"))

    yield from _close(world, i, "settles", result, unchecked=rules.settle_unchecked)


def _give_back_unstarted(world: World, i: int, pilot: Pilot, rules: Rules) -> Iterator[Step]:
    doc = world.tokens[pilot.token]
    # Without an answer it goes back to the slots.
    yield from _close(world, i, "releases", lambda: documents.release(doc, ""), unanswered="held")


def _give_back_broken(world: World, i: int, pilot: Pilot, rules: Rules) -> Iterator[Step]:
    doc = world.tokens[pilot.token]
    yield from _close(world, i, "releases", lambda: documents.release(doc, "told to end"))


_PROGRAM: dict[At, Callable[[World, int, Pilot, Rules], Iterator[Step]]] = {
    "idle": _look,
    "row": _read_newest,
    "seen": _send_claim,
    "again": _send_claim,
    "doubt": _read_back,
    "held": _run,
    "done": _settle,
    "failed": _settle,
    "unstarted": _give_back_unstarted,
    "broken": _give_back_broken,
}


# --- writing -----------------------------------------------------------------------------------


def _close(
    world: World,
    i: int,
    verb: str,
    change: Callable[[], Number],
    *,
    unanswered: At | None = None,
    unchecked: bool = False,
) -> Iterator[Step]:
    """End a claim: write while the lease stands; after a conflict, against what is there now."""
    pilot = world.pilots[i]
    label = f"pilot {i + 1}: {verb} {name(pilot.token)}: "
    if not pilot.fresh:
        doc = world.tokens[pilot.token]
        if documents.holds(doc, pilot.claimed) or (unchecked and doc != GONE):
            after = with_pilot(world, i, pilot._replace(fresh=True))
            yield Step(f"{label}conflict, reads the newest revision", after)
        else:
            verdict = "recorded before" if documents.ended(doc, pilot.claimed) else "fenced"
            yield Step(label + verdict, with_pilot(world, i, _idle(pilot)))
        return
    for sent in _write(world, i, change(), is_claim=False):
        mine = sent.world.pilots[i]
        mine = mine._replace(at=unanswered or mine.at) if sent.granted is None else _idle(mine)
        yield Step(label + sent.label, with_pilot(sent.world, i, mine), sent.fair, sent.breaches)


def _write(world: World, i: int, doc: Number, *, is_claim: bool) -> Iterator[_Sent]:
    """Send a pilot's write, with all that may become of it."""
    pilot = world.pilots[i]
    token, claimed = pilot.token, pilot.claimed
    counted = world
    if is_claim:  # the next claim has a lease of its own
        counted = with_pilot(world, i, pilot._replace(leases=pilot.leases + 1))
    if pilot.fresh:
        breaches = _breaches(world.tokens[token], doc, claimed, is_claim)
        after = put(counted, token, doc)
        yield _Sent(True, "written", after, True, breaches)
        if world.faults.lost:
            after = spend(after, "lost")
            yield _Sent(None, "written, but the reply is lost", after, False, breaches)
        if world.faults.late:
            after = delay(counted, Late(f"pilot {i + 1}", token, claimed, doc, is_claim))
            yield _Sent(None, "no answer, the request is on its way", after, False)
    else:
        yield _Sent(False, "conflict", world, True)
    if world.faults.lost:
        yield _Sent(None, "the request is lost", spend(world, "lost"), False)


@cache
def _breaches(old: Number, new: Number, claimed: Number, is_claim: bool) -> tuple[Breach, ...]:
    """The promises that a pilot breaks by writing over a document."""
    state = documents.state(old)
    before, after = documents.results(old), documents.results(new)
    broken = {
        HANDED_TWICE: is_claim and state is not State.TODO,
        OVERWRITTEN: state in (State.DONE, State.ERROR),
        UNFENCED: len(after) > len(before) and not documents.holds(old, claimed),
        DROPPED: after[: len(before)] != before,
        EDIT_LOST: documents.note(new) != documents.note(old),
    }
    return tuple(breach for breach, is_broken in broken.items() if is_broken)


def _claim(doc: Number, i: int, pilot: Pilot) -> Number:
    return documents.claim(doc, i, f"lease {i + 1}.{pilot.leases}")


def _idle(pilot: Pilot) -> Pilot:
    return pilot._replace(at="idle", token=-1, claimed=GONE, fresh=False)


def _heard(world: World, i: int, pilot: Pilot) -> World:
    """The state after a pilot wrote its own document: over whatever was there."""
    after = with_pilot(world, i, pilot)
    if i not in world.reaper.gone:
        return after
    reaper = world.reaper._replace(beaten=world.reaper.beaten | {i})
    return after._replace(reaper=buries(reaper) if reaper.at == "bury" else reaper)
