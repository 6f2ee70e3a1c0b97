"""Fields that a person names: ``a.b`` is the field b inside a."""

from collections.abc import Mapping
from typing import Any

from picas.errors import InputError


def names(text: str) -> list[str]:
    """What ``--fields`` names.

    Raises:
        InputError: A name is empty, or stands twice.
    """
    found = [name.strip() for name in text.split(",")]
    if not all(all(name.split(".")) for name in found):
        raise InputError(f"--fields {text!r}: a name is empty; write it like _id,input,params.q")
    if twice := next((name for name in found if found.count(name) > 1), None):
        raise InputError(f"--fields {text!r}: {twice!r} stands twice")
    return found


def field(doc: Mapping[str, Any], name: str, missing: Any = None) -> Any:
    """The value of a field, or `missing`; a field whose own name has the dots goes first."""
    if name in doc:
        return doc[name]
    value: Any = doc
    for step in name.split("."):
        if not isinstance(value, Mapping) or step not in value:
            return missing
        value = value[step]
    return value
