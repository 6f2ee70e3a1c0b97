"""Kinds of values that several commands take: durations and sizes."""

import math
import re
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    # Only newer versions of click know these as generic classes when they run.
    _Seconds = click.ParamType[float]
    _Bytes = click.ParamType[int]
else:
    _Seconds = _Bytes = click.ParamType

_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_BYTES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_DURATION = re.compile(r"(?:(?:\d+(?:\.\d+)?)[smhd])+|\d+(?:\.\d+)?")
_PART = re.compile(r"(\d+(?:\.\d+)?)([smhd]?)")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)([KMGT]?)(?:I?B)?")


class Duration(_Seconds):
    """A span of time, in seconds: ``90``, ``90s``, ``30m``, ``24h``, ``1h30m``, ``2d``."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Read a duration; a number is taken for seconds."""
        if isinstance(value, int | float):
            return float(value)
        text = str(value).strip().lower()
        seconds = math.inf
        if _DURATION.fullmatch(text):
            seconds = sum(float(n) * _SECONDS[unit] for n, unit in _PART.findall(text))
        if not math.isfinite(seconds):
            self.fail(f"{value!r} is no duration; write it like 90s, 30m, 24h or 1h30m", param, ctx)
        return seconds


class Size(_Bytes):
    """A number of bytes: ``4096``, ``512K``, ``1M``, ``2.5G``; a K is 1024."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read a size; a number is taken for bytes."""
        if isinstance(value, int):
            return value
        match = _SIZE.fullmatch(str(value).strip().upper())
        if match is None:
            self.fail(f"{value!r} is no size; write it like 4096, 512K or 1M", param, ctx)
        return int(float(match[1]) * _BYTES[match[2]])
