"""Adding tokens: the answers, and when two documents are the same work."""

import enum
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from picas import token, wellformed
from picas.backoff import delays
from picas.errors import Conflict, PoolError, PoolUnreachable, TooLarge
from picas.jobid import JOB_ID_FIELDS
from picas.pool.base import Store, Written
from picas.token import Document

CHUNK = 2_000
"""Tokens a bulk write: what CouchDB takes fastest (docs/explanation/measurements.md)."""

CHUNK_BYTES = 4_000_000
"""Bytes of JSON after which a push sends what it has: keeps memory flat with large tokens."""

# What a run writes into a token: left out when two documents are asked to be the same work.
_RUN_FIELDS = {
    *(*token.CLASSIC_DEFAULTS, *JOB_ID_FIELDS, "pilot", "lease", "attempts"),
    *("not_before", "avoid", "avoid_until", "memory", "tries_from", "lost_from"),
}
_WORK_FIELDS = {"type", "input"}


class PushState(enum.Enum):
    """What became of one pushed token."""

    ADDED = "added"
    PRESENT = "present"
    """The pool has that id already, for the same work."""
    DIFFERENT = "different"
    """The pool has that id already, for other work; it was left alone."""
    REFUSED = "refused"
    """The store does not take it (too large, not allowed)."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """The answer to one pushed token."""

    id: str
    state: PushState
    error: PoolError | None = None


def push(store: Store, docs: Iterable[Document]) -> Iterator[Pushed]:
    """Add tokens; see `Pool.push`."""
    chunk: list[Document] = []
    refused: dict[int, PoolError] = {}
    total = 0
    for doc in docs:
        wellformed.check(doc)
        size = document_bytes(doc)
        if size > token.MAX_TOKEN_BYTES:
            refused[len(chunk)] = too_large(doc["_id"], size)
        chunk.append(doc)
        total += size
        if len(chunk) >= CHUNK or total >= CHUNK_BYTES:
            yield from _push_chunk(store, chunk, refused)
            chunk, refused, total = [], {}, 0
    if chunk:
        yield from _push_chunk(store, chunk, refused)


def _push_chunk(
    store: Store, chunk: list[Document], refused: Mapping[int, PoolError]
) -> Iterator[Pushed]:
    """Push tokens, but for those refused already, by their place in the chunk."""
    results, resent = _write_new(store, [d for i, d in enumerate(chunk) if i not in refused])
    for i, error in refused.items():
        results.insert(i, Written(chunk[i]["_id"], None, error))
    clashed = [
        doc["_id"] for doc, r in zip(chunk, results, strict=True) if isinstance(r.error, Conflict)
    ]
    stored = dict(zip(clashed, store.read(clashed) if clashed else [], strict=True))
    for doc, result in zip(chunk, results, strict=True):
        if result.rev is not None:
            yield Pushed(result.id, PushState.ADDED)
        elif not isinstance(result.error, Conflict):
            yield Pushed(result.id, PushState.REFUSED, result.error)
        else:
            there = stored[result.id]
            if there is None or not same_work(doc, there):
                yield Pushed(result.id, PushState.DIFFERENT, result.error)
            else:
                first_sending = resent and there["_rev"].startswith("1-")
                yield Pushed(result.id, PushState.ADDED if first_sending else PushState.PRESENT)


def _write_new(store: Store, chunk: list[Document]) -> tuple[list[Written], bool]:
    """Write new documents, again where no answer came; tells whether it had to."""
    for tries, wait in enumerate(islice(delays(0.5, 15), 8)):
        try:
            return store.write(chunk), tries > 0
        except PoolUnreachable:
            time.sleep(wait)
    return store.write(chunk), True


def document_bytes(doc: Mapping[str, Any]) -> int:
    """The bytes of a document as JSON, without its attachments, which have limits of their own."""
    body = {name: value for name, value in doc.items() if name != "_attachments"}
    return len(json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode())


def too_large(token_id: str, size: int) -> TooLarge:
    """The error for a token that has no room left for what runs write into it."""
    return TooLarge(
        f"{token_id!r} is {size:,} bytes; a token may have {token.MAX_TOKEN_BYTES:,}: "
        "keep large data in files or attachments"
    )


def same_work(doc: Mapping[str, Any], there: Mapping[str, Any]) -> bool:
    """Tell whether two documents describe the same work, whatever was run of it."""
    return all(doc.get(name) == there.get(name) for name in _described(doc) | _described(there))


def _described(doc: Mapping[str, Any]) -> set[str]:
    """The fields that say what is to be done: the user's own, and the input."""
    return {
        name
        for name in doc
        if not name.startswith("_") and (name in _WORK_FIELDS or name not in _RUN_FIELDS)
    }
