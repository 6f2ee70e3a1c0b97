"""Token documents of the model, changed by the functions of `picas.token` that the product uses.

A document is known by its number, so that states of the model are small and quick to compare. This
is the only place of the model that calls `picas.token`.
"""

import json
from functools import cache

from picas import token
from picas.token import Again, Document, Holder, Outcome, State

Number = int

NOW = 1.0
"""All tokens change at one moment: time matters to heartbeats alone, which the model has apart."""

GONE: Number = 0
"""A document that was deleted."""

MAX_SCRUB = 1
"""Tries that a failing token has besides the first."""

_known: list[Document] = [{}]
_numbers: dict[str, Number] = {}


def _number(doc: Document) -> Number:
    text = json.dumps(doc, sort_keys=True)
    if text not in _numbers:
        _numbers[text] = len(_known)
        _known.append(doc)
    return _numbers[text]


def _outcome(exit_code: int) -> Outcome:
    return Outcome(exit_code, NOW, NOW, f"exit code {exit_code}", 0.0)


@cache
def new(name: str) -> Number:
    """A token as it is pushed."""
    return _number(token.new({"note": ""}, name))


@cache
def edit(doc: Number) -> Number:
    """A person writes a note into a token."""
    return _number({**_known[doc], "note": "edited"})


@cache
def claim(doc: Number, pilot: int, lease: str) -> Number:
    """A pilot's claim."""
    return _number(token.claim(_known[doc], NOW, Holder(f"pilot_{pilot}", "host"), lease))


@cache
def settle(doc: Number, claimed: Number, exit_code: int) -> Number:
    """The result of a claim, recorded; a failure is scrubbed while tries are left."""
    if exit_code and token.scrub_count(_known[claimed]) < MAX_SCRUB:
        return _number(token.scrub(_known[doc], NOW, _outcome(exit_code), Again()))
    return _number(token.settle(_known[doc], NOW, _outcome(exit_code)))


@cache
def release(doc: Number, reason: str) -> Number:
    """A claimed token, given back."""
    return _number(token.release(_known[doc], NOW, reason))


@cache
def lost(doc: Number) -> Number:
    """A token whose pilot is gone, given back."""
    return _number(token.lost(_known[doc], NOW))


@cache
def reset(doc: Number) -> Number:
    """A token that a person resets."""
    return _number(token.reset(_known[doc], NOW))


@cache
def state(doc: Number) -> State | None:
    """Where a token stands; None if it was deleted."""
    return token.state(_known[doc])


@cache
def holds(doc: Number, claimed: Number) -> bool:
    """Tell whether a token is locked by that claim."""
    return token.holds(_known[doc] or None, _known[claimed])


@cache
def ended(doc: Number, claimed: Number) -> bool:
    """Tell whether a token's history has the result of that claim."""
    return token.ended(_known[doc] or None, _known[claimed]["lease"])


@cache
def pilot(doc: Number) -> int:
    """Who holds a locked token."""
    return int(_known[doc]["pilot"].removeprefix("pilot_"))


@cache
def note(doc: Number) -> str:
    """The person's field."""
    return str(_known[doc]["note"])


@cache
def results(doc: Number) -> tuple[str, ...]:
    """The leases whose results the history has, oldest first."""
    return tuple(str(e.get("lease")) for e in token.attempts(_known[doc]) if "exit_code" in e)
