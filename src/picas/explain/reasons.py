"""Explaining a token, whatever its state."""

import json
import math
from collections.abc import Iterator
from typing import assert_never

from picas import javascript, token
from picas.explain import ended
from picas.explain.locked import locked
from picas.explain.scene import Finding, Scene, command
from picas.explain.todo import todo
from picas.token import Document, State


def explain(doc: Document, scene: Scene) -> list[Finding]:
    """Tell why a token is where it is, and what can be done; the most important first.

    Args:
        doc: The document.
        scene: What else is known of its pool.
    """
    state = token.state(doc)
    match state:
        case None:
            return [_odd(doc)]
        case State.TODO:
            findings = todo(doc, scene)
        case State.LOCKED:
            findings = [locked(doc, scene)]
        case State.DONE:
            findings = [ended.done(doc, scene)]
        case State.ERROR:
            findings = ended.error(doc, scene)
        case _:
            assert_never(state)
    return [*findings, *ended.history(doc)]


def _odd(doc: Document) -> Finding:
    """Why no view shows a document."""
    kind = doc.get("type")
    if kind == "pilot":
        return Finding("pilot", "This is a pilot, no token: 'picas pilots --all' shows it.")
    if kind != "token":
        text = (
            f'This is no token: its type is {json.dumps(kind)}, not "token", so no view shows it.'
        )
        return Finding("no-token", text, {"type": kind})
    name, why = next(_odd_fields(doc))
    shown = f"{name} is {json.dumps(doc[name])}" if name in doc else f"it has no field {name}"
    text = (
        f"No view shows it, so no pilot takes it: {shown}, {why}. With lock and done 0 it would be "
        f"todo; {command('delete', doc)} removes it."
    )
    return Finding("odd-field", text, {"field": name, "value": doc.get(name)})


def _odd_fields(doc: Document) -> Iterator[tuple[str, str]]:
    """The fields that keep a token out of all states, and what is odd about them."""
    for name in ("lock", "done"):
        number = javascript.number(doc.get(name))
        if math.isnan(number):
            yield name, "where a number should stand"
        elif number < 0:
            yield name, "which is below 0"
    yield "done", "though lock is 0"
