"""Which pilots are gone, and which tokens they took with them (promise 4).

A pilot is gone when its heartbeat is older than the lease time, *and* whoever looks has been in
touch with the pool without a break for a while: after an outage of the pool all pilots were silent
for long, and those that live must have the time to say so.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from picas import token, units
from picas.pool.base import Store
from picas.pool.update import Change, update
from picas.token import Document, State

LOCKED_VIEW = "Monitor/locked"
"""Where the tokens of pilots that are gone are looked for."""

PILOT_PREFIX = "pilot_"
"""How the ids of pilots' own documents begin."""

KEPT = 30 * 86400.0
"""Seconds for which the document of a pilot that ended is kept."""

LOOKS = 6
"""Looks within the grace time."""

LEAST_GAP = 2.0
"""Seconds between two looks that never break the touch, however short the lease time is."""


@dataclass(frozen=True, slots=True)
class Reaped:
    """What a reaping did.

    Attributes:
        pilots: Ids of the pilots that were found gone.
        tokens: Tokens given back.
        errors: Tokens closed as errors, lost too often running.
        suspects: Pilots silent for almost the lease time or longer, of which it cannot be told yet;
            after a thorough look only those that hold tokens. Look again in `pause` seconds.
        living: Pilots that are heard of.
    """

    pilots: tuple[str, ...] = ()
    tokens: int = 0
    errors: int = 0
    suspects: tuple[str, ...] = ()
    living: int = 0


def grace(lease: float) -> float:
    """Seconds in which every pilot that lives has said so: more than a heartbeat."""
    return lease / 4


def pause(lease: float) -> float:
    """Seconds between two looks that belong together."""
    return grace(lease) / LOOKS


class Touch:
    """Since when this process has been in touch with the pool without a break, as far as it saw."""

    def __init__(self) -> None:
        self._since = self._last = float("-inf")

    def seconds(self, begun: float, ended: float, lease: float) -> float:
        """How long when a look began, that has now ended; a gap of two pauses breaks the touch.

        It counts from the end of the first look to the beginning of this one: a look may be slow,
        and what it read as old as that.
        """
        if not 0 <= begun - self._last <= max(LEAST_GAP, 2 * pause(lease)):
            self._since = ended
        self._last = ended
        return max(0.0, begun - self._since)

    def broke(self) -> None:
        """The pool did not answer."""
        self._last = float("-inf")


@dataclass(frozen=True, slots=True)
class Census:
    """The pilots of a pool at one moment.

    Attributes:
        pilots: Documents, by id, of those that may hold tokens.
        now: The pool's time when they were read, or earlier, in epoch seconds.
        lease: Seconds without a heartbeat after which a pilot counts as gone.
        touch: Seconds for which this process has been in touch with the pool.
        dead: Pilots that are gone by another's word: their batch job has ended.
    """

    pilots: Mapping[str, Document]
    now: float
    lease: float
    touch: float
    dead: Collection[str] = ()

    @property
    def can_tell(self) -> bool:
        """Whether this process has watched for long enough to tell who is gone."""
        return self.touch >= grace(self.lease)

    def gone(self) -> set[str]:
        """The pilots that are gone."""
        silent = self._silent_for(self.lease) if self.can_tell else set()
        return silent | (self.pilots.keys() & set(self.dead))

    def suspects(self) -> set[str]:
        """The pilots that are silent, or almost, and not known to be gone."""
        return self._silent_for(self.lease - grace(self.lease)) - self.gone()

    def living(self) -> int:
        """How many pilots are heard of."""
        return len(self.pilots.keys() - self._silent_for(self.lease) - set(self.dead))

    def strangers(self, locked: Iterable[Mapping[str, Any]]) -> set[str]:
        """Pilots of old locks that have no document here."""
        old = (doc for doc in locked if token.locked_at(doc) + self.lease < self.now)
        return {str(doc.get("pilot")) for doc in old} - self.pilots.keys()

    def is_silent(self, pilot: Mapping[str, Any]) -> bool:
        """Tell whether a pilot was not heard of for the lease time."""
        return self._silence(pilot) >= self.lease

    def _silent_for(self, seconds: float) -> set[str]:
        return {name for name, pilot in self.pilots.items() if self._silence(pilot) >= seconds}

    def _silence(self, pilot: Mapping[str, Any]) -> float:
        """Seconds since a pilot was heard of; a heartbeat far in the future is none."""
        silence = self.now - _heartbeat(pilot)
        return silence if silence > -self.lease else math.inf


def reap(store: Store, census: Census, *, thorough: bool) -> Reaped:
    """Give back the tokens of pilots that are gone; see `Pool.reap`."""
    pilots, now = census.pilots, census.now
    gone, suspects = census.gone(), census.suspects()
    tokens = errors = 0
    if gone or thorough:
        hale = pilots.keys() - gone - suspects
        locked = [
            doc
            for doc in store.find(LOCKED_VIEW)
            if doc.get("lease") and str(doc.get("pilot")) not in hale
        ]
        strangers = census.strangers(locked)
        # Only ids of ours are made into documents: somebody may have written anything there.
        named = {name for name in strangers if name.startswith(PILOT_PREFIX)}
        suspects |= _note_strangers(store, sorted(named), census)
        suspects &= {str(doc.get("pilot")) for doc in locked}
        lost = gone | (strangers - named if census.can_tell else set())
        mine = [doc for doc in locked if str(doc.get("pilot")) in lost]
        tokens, errors = _give_back(store, mine, now)
    update(store, [(pilots[name], _bury(pilots[name])) for name in gone])
    return Reaped(tuple(sorted(gone)), tokens, errors, tuple(sorted(suspects)), census.living())


def _give_back(store: Store, lost: Sequence[Document], now: float) -> tuple[int, int]:
    """Give back tokens; tells how many, and how many are errors instead."""

    def change(claimed: Document) -> Change:
        return lambda doc: token.lost(doc, now) if token.holds(doc, claimed) else None

    updated = [u for u in update(store, [(doc, change(doc)) for doc in lost]) if u.changed]
    errors = sum(u.doc is not None and token.state(u.doc) is State.ERROR for u in updated)
    return len(updated) - errors, errors


def _note_strangers(store: Store, names: Sequence[str], census: Census) -> set[str]:
    """Note pilots that hold tokens though they have no document, or one that denies it.

    One without a document counts as heard of now: it may live, and write it again.

    Returns:
        Those that are silent, and can be gone after another look.
    """
    found = dict(zip(names, store.read(names) if names else (), strict=True))
    heard = {"type": "pilot", "state": "unknown", "heartbeat": round(census.now, 3)}
    notes = [{"_id": name, **heard} for name, doc in found.items() if doc is None]
    silent = [doc for doc in found.values() if doc is not None and census.is_silent(doc)]
    notes += [{**doc, "state": "unknown"} for doc in silent]
    if notes:
        store.write(notes)  # a conflict is a heartbeat
    return {doc["_id"] for doc in silent}


def forget(store: Store, pilots: Iterable[Document], now: float) -> None:
    """Delete the documents of pilots that ended long ago."""
    old = [doc for doc in pilots if not may_hold_tokens(doc) and _heartbeat(doc) + KEPT < now]
    if old:
        store.write([{"_id": d["_id"], "_rev": d["_rev"], "_deleted": True} for d in old])


def _bury(seen: Document) -> Change:
    same = seen.get("heartbeat")
    return lambda doc: {**doc, "state": "lost"} if doc.get("heartbeat") == same else None


def may_hold_tokens(pilot: Mapping[str, Any]) -> bool:
    """Tell whether a pilot may hold tokens: it did not end well, and was not found gone."""
    ended_well = pilot.get("state") == "ended" and not pilot.get("unsettled")
    return not ended_well and pilot.get("state") != "lost"


def _heartbeat(pilot: Mapping[str, Any]) -> float:
    """Epoch second at which the pilot was last heard of."""
    return units.number(pilot.get("heartbeat")) or 0.0
