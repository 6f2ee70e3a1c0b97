"""Adding tokens: the answers, and when two documents are the same work."""

import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from picas import token
from picas.errors import PoolError, TooLarge
from picas.jobid import JOB_ID_FIELDS

# What a run writes into a token: left out when two documents are asked to be the same work.
_RUN_FIELDS = {*token.CLASSIC_DEFAULTS, *JOB_ID_FIELDS, "pilot", "lease", "attempts"}
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
