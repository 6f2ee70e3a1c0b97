"""Which of a token's conflicting revisions stands: pure functions, the same answer for everybody.

A cluster may take two writes of one revision, and replication brings together what was written
apart. The document then has several leaves: revisions that no other one follows. CouchDB shows the
one with the longest history, which may be a mere edit beside a recorded result.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from picas import token
from picas.pool.base import Leaf
from picas.token import Document, State

LOST_TO = "lost_to"
"""Field of a deletion that resolves a conflict: the revision that stands."""

_ADVANCE = {State.DONE: 3, State.ERROR: 2, State.LOCKED: 1}
_SETTLED = (State.DONE, State.ERROR)


@dataclass(frozen=True, slots=True)
class Resolution:
    """What is to be done about the leaves of one token.

    Attributes:
        standing: The revision that stands.
        losers: Revisions to delete.
        merged: What is to follow the standing revision first, so that the results of the losers
            stay in its history; None if they have none.
    """

    standing: Document
    losers: Sequence[Document]
    merged: Document | None = None

    def deletions(self) -> list[Document]:
        """The writes that delete the losers."""
        rev = self.standing["_rev"]
        return [
            {"_id": doc["_id"], "_rev": doc["_rev"], "_deleted": True, LOST_TO: rev}
            for doc in self.losers
        ]


def standing(leaves: Iterable[Document]) -> Document | None:
    """The revision that stands; None if all are deletions.

    Of a token it is the most advanced one: done, then error, locked, and all else; a claim last of
    all whose lease has ended in another revision. Where they are alike, and for other documents,
    it is CouchDB's own choice.
    """
    live = [doc for doc in leaves if not doc.get("_deleted")]
    if not _are_tokens(live):
        return max(live, key=_couchdb_order)
    past = {lease for doc in live for lease, _ in _attempts(doc)}
    return max(live, key=lambda doc: (_advance(doc, past), *_couchdb_order(doc)), default=None)


def resolution(leaves: Iterable[Document]) -> Resolution | None:
    """How to get from several leaves to one; None if there is nothing to do.

    Beside a locked revision another locked one is left alone: the pilots that wrote them find out
    which of them holds the token, and one gives its own back.
    """
    live = [doc for doc in leaves if not doc.get("_deleted")]
    best = standing(live)
    if best is None or len(live) == 1 or not _are_tokens(live):
        return None
    held = token.state(best) is State.LOCKED
    losers = [
        doc for doc in live if doc is not best and not (held and token.state(doc) is State.LOCKED)
    ]
    return Resolution(best, losers, _merged(best, losers)) if losers else None


def revival(resolved: Resolution, leaves: Sequence[Document], now: float) -> Document | None:
    """The standing revision, to be written anew, if resolutions have deleted every leaf.

    It takes two pilots that at the same moment see different leaves stand, which happens only
    while the token changes under their eyes. None if the token is there, or if a person deleted it.
    """
    if not leaves or any(not doc.get("_deleted") or LOST_TO not in doc for doc in leaves):
        return None
    doc = resolved.standing
    if token.state(doc) is State.LOCKED:
        doc = token.release(doc, now, "")
    return {name: value for name, value in doc.items() if name not in ("_rev", "_attachments")}


def leaf(doc: Document) -> Leaf:
    """A leaf that was read with its ``_revisions``."""
    body = {name: value for name, value in doc.items() if name != "_revisions"}
    return Leaf(body, doc.get("_revisions", {}).get("ids", ()))


def replica(leaf: Leaf) -> Document:
    """A leaf as a replication writes it: the revision itself, with what led to it."""
    return {**leaf.doc, "_revisions": {"start": leaf.generation, "ids": list(leaf.history)}}


def _are_tokens(leaves: Sequence[Document]) -> bool:
    return all(doc.get("type") == "token" for doc in leaves)


def _attempts(doc: Document) -> list[tuple[str, dict[str, Any]]]:
    """The history with its leases; an entry whose lease is no text is nobody's result."""
    entries = ((entry.get("lease"), entry) for entry in token.attempts(doc))
    return [(lease, entry) for lease, entry in entries if isinstance(lease, str)]


def _advance(doc: Document, past: Collection[str]) -> int:
    """How far a token is, where these leases have ended."""
    state = token.state(doc)
    lease = doc.get("lease")
    if state is State.LOCKED and isinstance(lease, str) and lease in past:
        return -1
    return 0 if state is None else _ADVANCE.get(state, 0)


def _couchdb_order(doc: Document) -> tuple[int, str]:
    """Sorts CouchDB's choice among revisions that are not deleted last."""
    generation, _, digest = doc["_rev"].partition("-")
    return int(generation), digest


def _merged(best: Document, losers: Iterable[Document]) -> Document | None:
    """The standing revision with the losers' results in its history, marked as dropped."""
    history = token.attempts(best)
    known = {lease for lease, _ in _attempts(best)}
    dropped: dict[str, dict[str, Any]] = {}
    for doc in losers:
        for lease, entry in _attempts(doc):
            if "exit_code" in entry and lease not in known:
                dropped[lease] = entry
    if not dropped:
        return None
    what = "result" if token.state(best) in _SETTLED else "revision"
    notes = [
        # Without its exit code it counts as broken off: it has no logs, and it was not recorded.
        {name: value for name, value in entry.items() if name != "exit_code"}
        | {"reason": f"{entry.get('reason', '')}; dropped: another {what} stands"}
        for _, entry in sorted(dropped.items())
    ]
    return {**best, "attempts": [*history, *notes][-token.MAX_ATTEMPTS :]}
