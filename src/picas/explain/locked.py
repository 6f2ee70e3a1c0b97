"""Who has a token that is locked, and when it comes back if that pilot is gone."""

from collections.abc import Mapping
from typing import Any

from picas import figures, token
from picas.explain.scene import Finding, Scene, command, named
from picas.figures import LIVING, PilotState, duration
from picas.pool.reap import grace, may_hold_tokens
from picas.token import Document


def locked(doc: Document, scene: Scene) -> Finding:
    """Tell who holds a token, whether that pilot lives, and what can be done if it does not."""
    at = token.locked_at(doc)
    facts: dict[str, Any] = {"locked": at, "hostname": doc.get("hostname")}
    if not doc.get("lease") or not isinstance(doc.get("pilot"), str):
        return Finding("classic", _classic(doc, at, scene), facts)
    pilot = scene.pilot(doc.get("pilot"))
    facts["pilot"] = doc["pilot"]
    if pilot is None:
        text = (
            f"Pilot {doc['pilot']} has had it since {scene.when(at)}, and has no document in the "
            f"pool. Other pilots and 'picas reap' take note of that, and give it back "
            f"{duration(scene.lease)} later. {command('reset', doc)} does it now."
        )
        return Finding("unknown-pilot", text, facts)
    facts["back_at"] = round(_back_at(doc, pilot, scene), 3)
    state = scene.state(pilot)
    facts |= {"pilot_state": state.value, "heartbeat": figures.number(pilot, "heartbeat")}
    if state in LIVING:
        return Finding("running", _held(doc, pilot, at, scene), facts)
    text = f"Pilot {named(pilot)} has had it since {scene.when(at)}, but {_gone(pilot, scene)}."
    if pilot.get("unsettled") and pilot.get("logs"):
        text += f" Its result may be on that host, in {pilot['logs']}: 'picas recover' with that "
        text += "folder records it."
    text += f" {_returns(facts['back_at'], scene)}"
    return Finding(f"pilot-{state.value}", text, facts)


def _classic(doc: Document, at: float, scene: Scene) -> str:
    """A client without leases has it."""
    where = f" on {doc['hostname']}" if doc.get("hostname") else ""
    return (
        f"A classic client{where} has had it since {scene.when(at)}. Such clients have no "
        f"heartbeat, so it stays locked if that one is gone: then {command('reset', doc)} gives it "
        "back, or 'picas reset locked --locked-for 24h' all that were locked that long ago."
    )


def _held(doc: Document, pilot: Mapping[str, Any], at: float, scene: Scene) -> str:
    """A pilot that lives has it: does it run?"""
    heard = figures.number(pilot, "heartbeat")
    attempt = f"attempt {token.next_attempt(doc)}"
    if doc["_id"] in figures.running(pilot):
        text = f"It has been running on {pilot.get('hostname')} for {duration(scene.now - at)}, as "
        text += f"{attempt}."
    elif heard > at:
        text = f"Pilot {named(pilot)} has had it since {scene.when(at)}, and had not begun it, or "
        text += "had ended it, at its last heartbeat."
    else:
        text = f"Pilot {named(pilot)} took it {scene.ago(at)}, to run it as {attempt}."
    text += f" The pilot lives: its last heartbeat was {scene.ago(heard)}."
    if scene.state(pilot) is PilotState.SLOW:
        text += f" It slowed down: {figures.pilot_why(pilot)}."
    return text


def _gone(pilot: Mapping[str, Any], scene: Scene) -> str:
    """What became of a pilot that is not heard of."""
    state = scene.state(pilot)
    heard = scene.ago(figures.number(pilot, "heartbeat"))
    if state is PilotState.ENDED:
        return f"ended {heard} ({figures.pilot_why(pilot) or 'it did not say why'})"
    if state is PilotState.LOST:
        return f"was given up: its last heartbeat was {heard}"
    if state is PilotState.UNKNOWN:
        return "did not say so itself: it may be gone, with its document"
    return f"it is silent: its last heartbeat was {heard}, and the lease is {duration(scene.lease)}"


def _returns(back_at: float, scene: Scene) -> str:
    """When it comes back, and by whom."""
    soon = back_at <= scene.now + grace(scene.lease) + 1
    after = "" if soon else f" after {scene.when(back_at)}"
    if not scene.living():
        return f"No pilot is at work that could give it back: 'picas reap' does{after}."
    if soon:
        return "Another pilot gives it back when it looks next; 'picas reap' does it now."
    return f"Another pilot, or 'picas reap', gives it back{after}."


def _back_at(doc: Document, pilot: Mapping[str, Any], scene: Scene) -> float:
    """From when on a token may be given back if its pilot is not heard of until then.

    Source: `picas.pool.reap`: silent for the lease; one whose document says that it holds no
    tokens is noted first, once the lock is as old, too.
    """
    silent_at = max(figures.number(pilot, "heartbeat") + scene.lease, scene.now)
    if may_hold_tokens(pilot):
        return silent_at
    return max(silent_at, token.locked_at(doc) + scene.lease) + grace(scene.lease)
