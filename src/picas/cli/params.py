"""Kinds of values that several commands take: durations and sizes."""

from typing import TYPE_CHECKING, Any

import click

from picas import units
from picas.errors import InputError

if TYPE_CHECKING:
    # Only newer versions of click know these as generic classes when they run.
    _Seconds = click.ParamType[float]
    _Bytes = click.ParamType[int]
else:
    _Seconds = _Bytes = click.ParamType


class Duration(_Seconds):
    """A span of time, in seconds; see `picas.units.seconds`."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Read a duration; a number is taken for seconds."""
        try:
            return units.seconds(value)
        except InputError as error:
            self.fail(str(error), param, ctx)


class Size(_Bytes):
    """A number of bytes; see `picas.units.size`."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read a size; a number is taken for bytes."""
        try:
            return units.size(value)
        except InputError as error:
            self.fail(str(error), param, ctx)
