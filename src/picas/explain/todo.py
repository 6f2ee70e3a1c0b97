"""Why nobody runs a token that is free."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from picas import figures, needs, token, units, views
from picas.errors import InputError
from picas.explain.scene import (
    NAMED,
    Finding,
    Scene,
    command,
    last_run,
    many,
    named,
    reason,
    together,
)
from picas.figures import PilotState
from picas.needs import Offer
from picas.token import Document
from picas.views import Design

_AMOUNTS = ("cores", "memory", "gpus")


def todo(doc: Document, scene: Scene) -> list[Finding]:
    """Tell what a token in todo waits for."""
    waits = list(_waits(doc, scene))
    living = scene.living()
    if not living:
        lacking = [_unfit(doc, [], scene)] if needs.needs(doc) else []
        return [_nobody(scene), *lacking, *waits]
    watching = [pilot for pilot in living if _sees(pilot, doc, scene) is not False]
    if not watching:
        return [_no_view(doc, living, scene), *waits]
    fitting = [pilot for pilot in watching if not _offer(pilot, scene.now).lacks(doc)]
    if not fitting:
        return [_unfit(doc, watching, scene), *waits]
    hosts = needs.avoided(doc) if figures.number(doc, "avoid_until") > scene.now else []
    welcome = [pilot for pilot in fitting if pilot.get("hostname") not in hosts]
    if not welcome:
        return [*waits, Finding("hosts", "No pilot is at work on another host that could take it.")]
    if needs.not_before(doc) > scene.now:
        return waits
    return [*_queue(doc, welcome, scene), *waits]


def _nobody(scene: Scene) -> Finding:
    """No pilot lives."""
    past = scene.past()
    silent = len(scene.pilots) - len(past)
    text = "No pilot is at work on this pool: 'picas run' starts one."
    if silent:
        text += f" {many(silent, 'pilot')} fell silent: 'picas pilots' tells more."
    elif past:
        ended = f"{scene.state(past[0]).value} {scene.ago(figures.number(past[0], 'heartbeat'))}"
        why = f" ({told})" if (told := figures.pilot_why(past[0])) else ""
        text += f" The latest one, {named(past[0])}, {ended}{why}."
    return Finding("no-pilot", text, {"past": len(past), "silent": silent})


def _no_view(doc: Document, living: Sequence[Document], scene: Scene) -> Finding:
    """Pilots live, but ask for other tokens."""
    asked = Counter(str(pilot.get("view")) for pilot in living)
    theirs = together([f"{view} ({number:,})" for view, number in asked.most_common(NAMED)])
    having = [f"{name}/{views.TODO}" for name, d in scene.designs.items() if _holds(d, doc)]
    text = f"No pilot asks for it: those at work ask for {theirs}."
    if having:
        text += f" It is in {together(having)}: 'picas run --view {having[0]}' takes it."
    return Finding("no-view", text, {"pilots_views": dict(asked), "views": having})


def _unfit(doc: Document, watching: Sequence[Document], scene: Scene) -> Finding:
    """No pilot has what the token needs."""
    wanted = needs.needs(doc)
    offers = {pilot["_id"]: _offer(pilot, scene.now) for pilot in watching}
    lacks = [offer.lacks(doc) for offer in offers.values()]
    lacking = [name for name in wanted if all(name in lack for lack in lacks)]
    what, lacking = ("that", lacking) if lacking else ("all of that", list(wanted))
    text = f"It needs {together([_amount(name, wanted[name]) for name in lacking])}"
    best = {n: max(watching, key=lambda p: _has(offers[p["_id"]], n)) for n in lacking if watching}
    most = {name: _has(offers[pilot["_id"]], name) for name, pilot in best.items()}
    if watching:
        has = together([f"{_amount(n, most[n])} ({named(pilot)})" for n, pilot in best.items()])
        text += f": no pilot at work has {what}. The most is {has}"
    text += "."
    had = [p for p in scene.past() if _tells(p, wanted) and not _offer(p, _started(p)).lacks(doc)]
    if had:
        those = [f"{named(p)} ({scene.ago(figures.number(p, 'heartbeat'))})" for p in had[:NAMED]]
        text += f" Of past pilots it had {together(those)}."
    elif scene.past():
        text += " No past pilot had it."
    return Finding("needs", text, {"needs": wanted, "most": most, "past": [p["_id"] for p in had]})


def _waits(doc: Document, scene: Scene) -> Iterable[Finding]:
    """What the token itself waits for."""
    at, hosts = needs.not_before(doc), needs.avoided(doc)
    if at > scene.now:
        why = "its field not_before says so"
        last = last_run(doc)
        if last is not None and last.get("exit_code"):
            next_try, tries = token.failed_tries(doc) + 1, scene.policy(doc).tries
            of = f" of {tries:,}" if next_try <= tries else ""
            why = (
                f"attempt {last.get('n')} ended with {reason(last)}; then comes try {next_try}{of}"
            )
        text = f"It waits until {scene.when(at)}: {why}. {command('reset', doc)} ends the wait."
        yield Finding("waits", text, {"not_before": at, "seconds": round(at - scene.now, 3)})
    until = figures.number(doc, "avoid_until")
    if hosts and until > scene.now:
        text = f"Until {scene.when(until)} it is left to other hosts than {together(hosts)}"
        seconds = round(until - scene.now, 3)
        facts = {"hosts": hosts, "avoid_until": until, "seconds": seconds}
        yield Finding("avoid", f"{text}, where it failed.", facts)


def _queue(doc: Document, welcome: Sequence[Document], scene: Scene) -> Iterable[Finding]:
    """The pilots that could take it: are they free?"""
    fast = [pilot for pilot in welcome if scene.state(pilot) is not PilotState.SLOW]
    slots = sum(int(figures.number(pilot, "slots")) for pilot in fast)
    busy = sum(len(figures.running(pilot)) for pilot in fast)
    asked = {str(pilot.get("view")) for pilot in welcome}
    queue = {view: number for view, number in scene.waiting.items() if view in asked}
    facts = {"pilots": len(welcome), "slots": slots, "busy": busy, "waiting": queue}
    all_ = max(queue.values(), default=0)
    among = f" It is one of {all_:,} that wait, in no order." if all_ > 1 else ""
    is_free = any(len(figures.running(p)) < figures.number(p, "slots") for p in fast)
    if is_free:
        text = f"Nothing is in its way: a pilot may take it at any moment.{among}"
        yield Finding("free", text, facts)
    elif fast:
        could = f"{many(len(fast), 'pilot')} could take it, with {many(slots, 'slot')}"
        text = f"No slot is free: {could}, all busy at the last heartbeat.{among}"
        yield Finding("busy", text, facts)
    slow = [pilot for pilot in welcome if pilot not in fast]
    if slow and not is_free:
        others = f" and {many(len(slow) - 1, 'other')}" if len(slow) > 1 else ""
        text = f"Pilot {named(slow[0])}{others} slowed down: {figures.pilot_why(slow[0])}."
        yield Finding("slow", text, {"slow": [pilot["_id"] for pilot in slow]})
    if unknown := sorted({str(p.get("view")) for p in welcome if _sees(p, doc, scene) is None}):
        text = f"Whether it is in {together(unknown)} is up to their JavaScript: "
        yield Finding("unknown-view", f"{text}'picas list {unknown[0]}' tells.", {"views": unknown})


def _sees(pilot: Mapping[str, Any], doc: Document, scene: Scene) -> bool | None:
    """Tell whether a pilot's view has the token once it is todo; None: nobody but CouchDB can."""
    try:
        name, view = views.split(str(pilot.get("view")))
    except InputError:
        return None
    design = scene.designs.get(name)
    if design is not None and design.raw:
        return None
    return design is not None and view in (views.TODO, views.OVERVIEW) and _holds(design, doc)


def _holds(design: Design, doc: Document) -> bool:
    """Tell whether a design's views are about the token, as far as its condition says."""
    return not design.raw and (design.where is None or design.where.matches(doc))


def _offer(pilot: Mapping[str, Any], at: float) -> Offer:
    """What a pilot told that it has at a time; nothing is known of what it did not tell."""
    told = {name: units.number(pilot.get(name)) for name in _AMOUNTS}
    known = {name: int(number) for name, number in told.items() if number is not None}
    until = units.number(pilot.get("until"))
    left = None if until is None else max(0.0, until - at)
    return Offer(str(pilot.get("hostname")), **known, time=left)


def _started(pilot: Mapping[str, Any]) -> float:
    return figures.number(pilot, "started")


def _has(offer: Offer, name: str) -> int:
    return int(getattr(offer, name) or 0)


def _tells(pilot: Mapping[str, Any], names: Iterable[str]) -> bool:
    told = {"time": "until"}
    return all(units.number(pilot.get(told.get(name, name))) is not None for name in names)


def _amount(name: str, number: float) -> str:
    """``64 cores``, ``8.6 GB of memory``, ``1 GPU``, ``2 h``."""
    if name == "memory":
        return f"{figures.size(number)} of memory"
    if name == "time":
        return f"{figures.duration(number)} of time"
    return many(int(number), {"cores": "core", "gpus": "GPU"}[name])
