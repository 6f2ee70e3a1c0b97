"""Durations and sizes as a person writes them, in options, tokens and settings."""

import math
import re

from picas.errors import InputError

_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_BYTES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_DURATION = re.compile(r"(?:(?:\d+(?:\.\d+)?)[smhd])+|\d+(?:\.\d+)?")
_PART = re.compile(r"(\d+(?:\.\d+)?)([smhd]?)")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)([KMGT]?)(?:I?B)?")


def seconds(value: object) -> float:
    """Read a span of time: ``90`` (seconds), ``90s``, ``30m``, ``24h``, ``1h30m``, ``2d``.

    Raises:
        InputError: It is none.
    """
    found = math.nan
    if isinstance(value, int | float) and not isinstance(value, bool):
        found = float(value)
    elif isinstance(value, str) and _DURATION.fullmatch(text := value.strip().lower()):
        found = sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))
    if not 0 <= found < math.inf:
        raise InputError(f"{value!r} is no duration; write it like 90s, 30m, 24h or 1h30m")
    return found


def size(value: object) -> int:
    """Read a number of bytes: ``4096``, ``512K``, ``1M``, ``2.5G``; a K is 1024.

    Raises:
        InputError: It is none.
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf:
        return int(value)
    match = _SIZE.fullmatch(value.strip().upper()) if isinstance(value, str) else None
    if match is None:
        raise InputError(f"{value!r} is no size; write it like 4096, 512K or 1M")
    return int(float(match[1]) * _BYTES[match[2]])
