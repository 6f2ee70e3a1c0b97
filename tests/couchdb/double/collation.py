"""The order of keys in views: an approximation of ICU's root collation that is good for tests.

Exact for null < false < true < numbers < strings < arrays < objects and for ASCII strings; letters
with accents sort with their base letter, and other characters behind the letters by code point.
"""

import unicodedata
from functools import lru_cache
from typing import Any

Key = tuple[Any, ...]

# Root collation's order of what is neither digit nor letter.
_PUNCTUATION = "\t\n\x0b\x0c\r _-,;:!?.'\"()[]{}@*/\\&#%`^+<=>|~$"
_ALPHABET = _PUNCTUATION + "0123456789abcdefghijklmnopqrstuvwxyz"
_PRIMARY = {char: rank for rank, char in enumerate(_ALPHABET, start=1)}


def sort_key(value: Any) -> Key:
    """A tuple that sorts as CouchDB sorts `value` among view keys."""
    if value is None:
        return (0,)
    if isinstance(value, bool):
        return (2,) if value else (1,)
    if isinstance(value, int | float):
        return (3, value)
    if isinstance(value, str):
        return (4, text_key(value))
    if isinstance(value, list):
        return (5, tuple(sort_key(item) for item in value))
    return (6, tuple((text_key(name), sort_key(inner)) for name, inner in value.items()))


@lru_cache(maxsize=100_000)
def text_key(text: str) -> Key:
    """Base letters first, then accents, then case (lower before upper)."""
    primary: list[int] = []
    accents: list[tuple[int, int]] = []
    case: list[int] = []
    for char in unicodedata.normalize("NFD", text):
        if unicodedata.combining(char):
            accents.append((len(primary), ord(char)))
        elif (char.isprintable() or char in _PRIMARY) and char != "\x7f":
            lower = char.lower()
            primary.append(_PRIMARY.get(lower, 1000 + ord(lower[0])))
            case.append(char != lower)
    return tuple(primary), tuple(accents), tuple(case)


def term_key(value: Any) -> Key:
    """A tuple that sorts as Erlang sorts the JSON `value`: texts last, and by their bytes."""
    if value is None or isinstance(value, bool):
        return (1, {None: "null", True: "true", False: "false"}[value])
    if isinstance(value, int | float):
        return (0, value)
    if isinstance(value, dict):
        return (2, tuple((name.encode(), term_key(inner)) for name, inner in value.items()))
    if isinstance(value, list):
        return (3, tuple(term_key(item) for item in value))
    return (4, value.encode())
