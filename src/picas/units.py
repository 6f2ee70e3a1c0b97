"""Durations and sizes as a person writes them, in options, tokens and settings."""

import math
import re

from picas.errors import InputError

_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_BYTES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_DURATION = re.compile(r"(?:(?:\d+(?:\.\d+)?)[smhd])+|\d+(?:\.\d+)?", re.ASCII)
_PART = re.compile(r"(\d+(?:\.\d+)?)([smhd]?)", re.ASCII)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)([KMGT]?)(?:I?B)?", re.ASCII)
_QUOTED = 60


def number(value: object) -> float | None:
    """A number of a JSON document that anyone may have edited, as a float.

    None stands for all else: truth values, texts, NaN, infinity, and integers that no float holds.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def seconds(value: object) -> float:
    """Read a span of time: ``90`` (seconds), ``90s``, ``30m``, ``24h``, ``1h30m``, ``2d``.

    Raises:
        InputError: It is none.
    """
    found = number(value)
    if isinstance(value, str) and _DURATION.fullmatch(text := value.strip().lower()):
        found = sum(float(amount) * _SECONDS[unit] for amount, unit in _PART.findall(text))
    if found is None or not 0 <= found < math.inf:
        raise InputError(f"{short(value)} is no duration; write it like 90s, 30m, 24h or 1h30m")
    return found


def size(value: object) -> int:
    """Read a number of bytes: ``4096``, ``512K``, ``1M``, ``2.5G``; a K is 1024.

    Raises:
        InputError: It is none.
    """
    found = number(value)
    if isinstance(value, str) and (match := _SIZE.fullmatch(value.strip().upper())):
        found = float(match[1]) * _BYTES[match[2]]
    if found is None or not 0 <= found < math.inf:
        raise InputError(f"{short(value)} is no size; write it like 4096, 512K or 1M")
    return int(found)


def short(value: object) -> str:
    """A value as it is quoted in a message: its beginning, if it is long."""
    try:
        text = repr(value)
    except ValueError:  # Python does not write integers of thousands of digits
        return "a number far too large"
    return text if len(text) <= _QUOTED else f"{text[:_QUOTED]}…"
