"""Two changes of one document brought together."""

from collections.abc import Mapping
from typing import Any

from picas.token import Document

_ABSENT = object()
_ATTACHMENTS = "_attachments"


def merge(base: Mapping[str, Any], mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> Document:
    """What I made of a document, brought into what others made of it meanwhile.

    Args:
        base: The document that both began with.
        mine: As I changed it. A field that I changed, made or removed is as I left it.
        theirs: As it is now. All other fields are as they are here; so are ``_id`` and ``_rev``.
            Attachments are taken one by one in the same way.
    """
    merged = _changes(base, mine, theirs)
    attachments = _changes(
        base.get(_ATTACHMENTS) or {}, mine.get(_ATTACHMENTS) or {}, theirs.get(_ATTACHMENTS) or {}
    )
    if attachments:
        merged[_ATTACHMENTS] = attachments
    else:
        merged.pop(_ATTACHMENTS, None)
    return merged | {name: theirs[name] for name in ("_id", "_rev") if name in theirs}


def _changes(
    base: Mapping[str, Any], mine: Mapping[str, Any], theirs: Mapping[str, Any]
) -> Document:
    merged = dict(theirs)
    for name in base.keys() | mine.keys():
        now = mine.get(name, _ABSENT)
        if name != _ATTACHMENTS and now != base.get(name, _ABSENT):
            if now is _ABSENT:
                merged.pop(name, None)
            else:
                merged[name] = now
    return merged
