"""Whether a document can be stored as a token, in any store."""

import math
import re
from collections.abc import Mapping
from typing import Any

from picas.errors import InputError

_SURROGATE = re.compile("[\ud800-\udfff]")


def check(doc: Mapping[str, Any]) -> None:
    """Raise `InputError` if a document cannot be stored as a token.

    Source: CouchDB keeps top-level fields that start with ``_`` for itself; JSON has no NaN.
    """
    token_id = doc.get("_id")
    if not isinstance(token_id, str) or not token_id:
        raise InputError("a token needs an _id: a text that is not empty")
    if token_id.startswith("_"):
        raise InputError(f"the _id {token_id!r} starts with '_': CouchDB keeps such ids for itself")
    if doc.get("type") != "token":
        raise InputError(f'token {token_id!r} has type {doc.get("type")!r}; it must be "token"')
    for name in doc:
        if name.startswith("_") and name not in ("_id", "_rev", "_attachments"):
            raise InputError(
                f"token {token_id!r}: the field {name!r} starts with '_'; "
                "such names belong to the pool, choose another"
            )
    bad = _not_json(doc)
    if bad is not None:
        raise InputError(f"token {token_id!r}: {bad}")


def check_fields(token_id: str, fields: Mapping[str, Any]) -> None:
    """Raise `InputError` if a task's fields cannot be written into its token."""
    for name in fields:
        if name.startswith("_"):
            raise InputError(f"token {token_id!r}: the field {name!r} belongs to the pool")
    bad = _not_json(fields)
    if bad is not None:
        raise InputError(f"token {token_id!r}: {bad}")


def _not_json(value: Any, path: str = "") -> str | None:
    """Say what in a value JSON cannot hold, and where; None if all of it can."""
    if value is None or isinstance(value, bool | int):
        return None
    if isinstance(value, str):
        if value.isascii() or not _SURROGATE.search(value):
            return None
        return f"the field {path} holds half a character (a lone surrogate), which is not UTF-8"
    if isinstance(value, float):
        if math.isfinite(value):
            return None
        return f"the field {path} is {value}, which JSON cannot hold; use null or a text"
    if isinstance(value, dict):
        for name, inner in value.items():
            if not isinstance(name, str):
                return f"the name {name!r} in {path or 'the document'} is not a text"
            if _SURROGATE.search(name):
                return f"the name {name!r} holds half a character (a lone surrogate)"
            if (bad := _not_json(inner, f"{path}.{name}" if path else name)) is not None:
                return bad
        return None
    if isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            if (bad := _not_json(inner, f"{path}[{index}]")) is not None:
                return bad
        return None
    return f"the field {path} is a {type(value).__name__}, which JSON cannot hold"
