"""What JavaScript makes of a JSON value where a classic view compares it as a number."""

import math
import re
from typing import Any


def number(value: Any) -> float:
    """What JavaScript makes of a value in ``value == 0`` and ``value > 0`` (NaN: neither)."""
    if isinstance(value, bool | int | float):
        return _double(value)
    if not isinstance(value, str):
        return math.nan
    text = value.strip(_SPACE)
    if re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", text):
        return float(text)
    if re.fullmatch(r"[+-]?Infinity", text):
        return -math.inf if text.startswith("-") else math.inf
    if re.fullmatch(r"0([xX][0-9a-fA-F]+|[oO][0-7]+|[bB][01]+)", text):
        return _double(int(text, 0))
    return math.nan if text else 0.0


def parse_int(value: Any) -> float:
    """JavaScript's ``parseInt``: the leading integer of the value's text, else NaN."""
    if isinstance(value, bool):
        return math.nan
    if isinstance(value, int | float):
        double = _double(value)
        if double == 0 or 1e-6 <= abs(double) < 1e21:
            return float(math.trunc(double))
        # JavaScript writes these with an exponent: 5e-7 is the text "5e-7", which begins with 5.
        value = repr(double)
    text = value.lstrip(_SPACE) if isinstance(value, str) else ""
    if match := re.match(r"([+-]?)0[xX]([0-9a-fA-F]*)", text):
        return _double(int(match[1] + match[2], 16)) if match[2] else math.nan
    digits = re.match(r"[+-]?[0-9]+", text)
    return float(digits[0]) if digits else math.nan


_SPACE = (
    "\t\n\v\f\r \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000\ufeff"
)
"""What JavaScript takes for white space around a number; Python's idea of it differs."""


def _double(value: float) -> float:
    """A JSON number as JavaScript holds it: integers too large become infinite."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
