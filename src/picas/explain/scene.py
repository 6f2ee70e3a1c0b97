"""What is known when a token is explained, and the words for it."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from picas import figures, token, views
from picas.figures import LIVING, PilotState, duration, pilot_name, pilot_state
from picas.pool import PoolSettings
from picas.retry import Policies, RetryPolicy
from picas.token import Document
from picas.views import DEFAULT_DESIGN, Design

NAMED = 3
"""Pilots that are named where there are many."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What is known of a pool when a token of it is explained.

    Attributes:
        now: The pool's clock.
        lease: Seconds without a heartbeat after which a pilot counts as gone.
        clock: Writes a moment (epoch seconds) for a person.
        pilots: The documents of all pilots, past ones too.
        designs: The groups of views, by name.
        settings: What is set for the pool.
        waiting: How many tokens are todo in the pilots' views, where that is known.
    """

    now: float
    lease: float
    clock: Callable[[float], str]
    pilots: Sequence[Document] = ()
    designs: Mapping[str, Design] = field(default_factory=dict)
    settings: PoolSettings = field(default_factory=PoolSettings)
    waiting: Mapping[str, int] = field(default_factory=dict)

    def state(self, pilot: Mapping[str, Any]) -> PilotState:
        """How a pilot is."""
        return pilot_state(pilot, self.now, self.lease)

    def living(self) -> list[Document]:
        """The pilots that are heard of."""
        return [pilot for pilot in self.pilots if self.state(pilot) in LIVING]

    def past(self) -> list[Document]:
        """The pilots that ended or were lost, the latest first."""
        gone = [p for p in self.pilots if self.state(p) in (PilotState.ENDED, PilotState.LOST)]
        return sorted(gone, key=lambda pilot: -figures.number(pilot, "heartbeat"))

    def pilot(self, pilot_id: object) -> Document | None:
        """The document of one pilot."""
        return next((pilot for pilot in self.pilots if pilot["_id"] == pilot_id), None)

    def policy(self, doc: Document) -> RetryPolicy:
        """The retry policy of a token, but for what its next pilot is told by ``--max-scrub``.

        That of the design whose view its last pilot ran, else of the standard one.
        """
        history = token.attempts(doc)
        pilot = self.pilot(history[-1].get("pilot")) if history else None
        view = f"{DEFAULT_DESIGN}/{views.TODO}" if pilot is None else str(pilot.get("view"))
        return Policies(*self.settings.retry_layers(view.partition("/")[0])).of(doc)

    def ago(self, moment: float) -> str:
        """How long ago a moment was: ``12 min ago``."""
        return f"{duration(self.now - moment)} ago"

    def when(self, moment: float) -> str:
        """A moment, and how far off it is: ``2026-05-01 14:03:22 (in 4 min)``."""
        ahead = moment - self.now
        off = f"in {duration(ahead)}" if ahead > 0 else self.ago(moment)
        return f"{self.clock(moment)} ({off})"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that explains a token.

    Attributes:
        kind: What kind of thing, for a program.
        text: A few sentences for a person.
        facts: The numbers and names in them; times in seconds, sizes in bytes.
    """

    kind: str
    text: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The finding for a program."""
        return {"kind": self.kind, "text": self.text, **self.facts}


def named(pilot: Mapping[str, Any]) -> str:
    """A pilot and its host: ``9f3ae2b1 on node3``."""
    name = pilot_name(str(pilot["_id"]))
    return f"{name} on {pilot['hostname']}" if pilot.get("hostname") else name


def command(what: str, doc: Document) -> str:
    """A command about the token, as a person would type it, in quotes."""
    verb, *options = what.split(" ", 1)
    return f"'{' '.join(['picas', verb, shlex.quote(str(doc['_id'])), *options])}'"


def many(number: int, noun: str) -> str:
    """A number with its noun: ``1 pilot``, ``3 pilots``."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def together(texts: Sequence[str]) -> str:
    """Several as one text: ``a, b and c``."""
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)


def reason(entry: Mapping[str, Any]) -> str:
    """How an attempt ended, in its own words."""
    return str(entry.get("reason") or f"exit code {entry.get('exit_code')}")


def last_run(doc: Document) -> dict[str, Any] | None:
    """The latest attempt that came to an end of its own."""
    runs = figures.finished_attempts(doc)
    return runs[-1] if runs else None
