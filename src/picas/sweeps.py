"""Parameter sweeps, and what else the options of ``picas push`` say about tokens.

``q=0.1:0.9:0.2 d=256,512`` is ten tokens: every combination, the last name varying fastest. Steps
are counted in decimals, so 0.3 is 0.3. Nothing is held in memory but the sweep's description.
"""

import json
import math
import re
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any

from picas.errors import InputError
from picas.inputs import EXACT_DIGITS, Entry
from picas.jobid import JOB_ID_FIELDS
from picas.token import CLASSIC_DEFAULTS

OWN_FIELDS = frozenset({*CLASSIC_DEFAULTS, "pilot", "lease", "attempts", *JOB_ID_FIELDS})
"""Fields of a token to which PiCaS itself gives a meaning."""

MAX_TOKENS = 100_000_000
"""The largest sweep; one of that size is a slip of the pen more often than a plan."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?")
_DASHED = re.compile(r"(-?[0-9][0-9.]*)-([0-9][0-9.]*)")
_FORMAT = re.compile(r"(0?[0-9]{1,2})?(\.[0-9]{1,2})?[dfeg]?")
_MAX_EXPONENT = 300


@dataclass(frozen=True, slots=True)
class Value:
    """One value of a sweep: as a template shows it, and as the token holds it."""

    text: str
    json: str | int | float


@dataclass(frozen=True, slots=True)
class Axis:
    """A name of a sweep and its values.

    Attributes:
        name: The token's field.
        values: The listed values; for a range the integers ``value * 10**decimals``.
        decimals: Decimals of a range's values.
    """

    name: str
    values: Sequence[Value] | range
    decimals: int = 0

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[Value]:
        for value in self.values:
            yield value if isinstance(value, Value) else self._decimal(value)

    def _decimal(self, scaled: int) -> Value:
        text = f"{Decimal(scaled).scaleb(-self.decimals):f}"
        return Value(text, float(text) if self.decimals else scaled)


@dataclass(frozen=True, slots=True)
class Sweep:
    """Every combination of the axes' values, the last axis varying fastest.

    Each value is a field of its own in the token, so that views can select on it. ``input`` is the
    filled template, or without one an object of the values.

    Attributes:
        axes: From `parse_sweep`.
        template: Text with ``{name}`` for a value; ``{n:03d}`` formats a number, ``{{`` and ``}}``
            are braces.

    Raises:
        InputError: No axes, a name that comes twice, a template that cannot be filled, or more
            than `MAX_TOKENS`.
    """

    axes: Sequence[Axis]
    template: str | None = None

    def __post_init__(self) -> None:
        names = [axis.name for axis in self.axes]
        if not names:
            raise InputError("a sweep needs at least one NAME=VALUES")
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise InputError(f"the sweep names {twice!r} twice; list all its values once")
        if self.count() > MAX_TOKENS:
            raise InputError(
                f"the sweep makes {self.count():,} tokens, and {MAX_TOKENS:,} is the most; "
                "let each token do more of the work"
            )
        _fill(self._parts(), {axis.name: next(iter(axis)) for axis in self.axes})

    def count(self) -> int:
        """How many tokens it makes."""
        return math.prod(len(axis) for axis in self.axes)

    def __iter__(self) -> Iterator[Entry]:
        parts = self._parts()
        for values in _combinations(self.axes):
            fields: dict[str, Any] = {name: value.json for name, value in values.items()}
            work = dict(fields) if self.template is None else _fill(parts, values)
            where = " ".join(f"{name}={value.text}" for name, value in values.items())
            yield Entry(f"sweep, {where}", {**fields, "input": work})

    def _parts(self) -> list[tuple[str, str | None, str]]:
        """The template in pieces: a text, then the name behind it (or None) and its format."""
        try:
            parts = list(string.Formatter().parse(self.template or ""))
        except ValueError as error:
            raise InputError(
                f"the template {self.template!r}: {error}; write {{{{ or }}}} for a brace itself"
            ) from error
        names = [axis.name for axis in self.axes]
        for _, name, form, conversion in parts:
            if name is not None and name not in names:
                raise InputError(
                    f"the template's {{{name}}} is not in the sweep; it has {', '.join(names)} "
                    "(write {{ or }} for a brace itself)"
                )
            if conversion or not _FORMAT.fullmatch(form or ""):
                raise InputError(
                    f"the template formats {name!r} in a way PiCaS does not know; "
                    "use {name}, {name:03d} or {name:.2f}"
                )
        return [(text, name, form or "") for text, name, form, _ in parts]


def parse_sweep(text: str) -> Axis:
    """Read ``NAME=START:STOP[:STEP]`` or ``NAME=VALUE,VALUE,…``.

    A range includes its stop where a step meets it, and shows as many decimals as its start or step
    has. A list is of numbers if all its values are numbers (without leading zeros), else of texts.

    Raises:
        InputError: It is neither, it is empty, or PiCaS keeps the field itself.
    """
    name, equals, values = text.partition("=")
    if not equals or not _NAME.fullmatch(name):
        raise InputError(
            f"sweep {text!r}: write NAME=START:STOP:STEP or NAME=VALUE,VALUE; "
            "a name has letters, digits, _ and -, and begins with a letter"
        )
    if name in OWN_FIELDS:
        raise InputError(f"sweep {text!r}: PiCaS keeps the field {name!r}; choose another name")
    if "," in values or ":" not in values:
        return Axis(name, _list(text, [value.strip() for value in values.split(",")]))
    return _range(text, name, values.split(":"))


def parse_set(text: str) -> tuple[str, Any]:
    """Read ``NAME=VALUE`` of ``--set``; the value is JSON where it can be, else a text.

    Args:
        text: As ``cores=4``, ``site=sara``, ``input.site="sara"``: a dotted name sets a field of an
            object in the token.

    Raises:
        InputError: No name, no ``=``, or a field that is not the user's.
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise InputError(f"--set {text!r}: write NAME=VALUE, as in --set cores=4")
    first, *inner = name.split(".")
    if not first or not all(inner):
        raise InputError(f"--set {text!r}: a part of the name before '=' is empty")
    if first.startswith("_") or (first in OWN_FIELDS and first != "input"):
        raise InputError(
            f"--set {text!r}: the field {first!r} is kept by PiCaS itself; choose another name"
        )
    try:
        return name, json.loads(value, parse_constant=_no_number, parse_float=_finite)
    except (ValueError, RecursionError):
        return name, value


def _list(text: str, values: list[str]) -> tuple[Value, ...]:
    for value in values:
        if not value:
            raise InputError(f"sweep {text!r}: a value is empty")
        if ":" in value and all(_NUMBER.fullmatch(part) for part in value.split(":")):
            raise InputError(
                f"sweep {text!r}: {value!r} is a range; write one range, or a list of values"
            )
    odd = [value for value in values if _number(value) is None]
    # Several such texts may be meant (chunks=1-10,11-20); one of them is a range gone wrong.
    dashed = _DASHED.fullmatch(odd[0]) if len(odd) == 1 else None
    if dashed and all(map(_NUMBER.fullmatch, dashed.groups())):
        meant = ":".join([*dashed.groups(), "STEP"])
        raise InputError(f"sweep {text!r}: {odd[0]!r} is a text; did you mean {meant}?")
    if odd:
        return tuple(Value(value, value) for value in values)
    # One type for all: else a template's {n:03d} and a view's comparison hold for some only.
    kind = int if all(value.lstrip("-").isdigit() for value in values) else float
    return tuple(Value(value, kind(value)) for value in values)


def _range(text: str, name: str, parts: list[str]) -> Axis:
    numbers = [n for part in parts if (n := _number(part.strip())) is not None]
    if len(numbers) < len(parts) or len(parts) > 3:
        raise InputError(
            f"sweep {text!r}: a range is START:STOP or START:STOP:STEP, three plain numbers "
            f"of up to {EXACT_DIGITS} digits and without leading zeros"
        )
    start, stop, step = numbers if len(numbers) == 3 else [*numbers, Decimal(1)]
    if not step:
        raise InputError(f"sweep {text!r}: the step is 0; give another one")
    decimals = max(0, _decimals(start), _decimals(step))
    last = stop.scaleb(decimals).to_integral_value(ROUND_FLOOR if step > 0 else ROUND_CEILING)
    first, by = int(start.scaleb(decimals)), int(step.scaleb(decimals))
    if max(abs(first), abs(int(last)), abs(by)) >= 10**EXACT_DIGITS:
        raise InputError(f"sweep {text!r}: a value would have over {EXACT_DIGITS} digits")
    values = range(first, int(last) + (1 if by > 0 else -1), by)
    if not values:
        sign = "negative" if by > 0 else "positive"
        raise InputError(
            f"sweep {text!r}: no values, the step leads away from {stop}; give a {sign} step"
        )
    return Axis(name, values, decimals)


def _number(text: str) -> Decimal | None:
    """The number that a text is, or None."""
    if not _NUMBER.fullmatch(text):
        return None
    number = Decimal(text)
    exact = len(number.as_tuple().digits) <= EXACT_DIGITS
    return number if exact and abs(number.adjusted()) <= _MAX_EXPONENT else None


def _decimals(number: Decimal) -> int:
    return -int(number.as_tuple().exponent)


def _combinations(axes: Sequence[Axis]) -> Iterator[dict[str, Value]]:
    """Every combination, in flat memory (itertools.product would hold each axis)."""
    if not axes:
        yield {}
        return
    *outer, last = axes
    for values in _combinations(outer):
        for value in last:
            yield {**values, last.name: value}


def _fill(parts: list[tuple[str, str | None, str]], values: Mapping[str, Value]) -> str:
    filled = ""
    for text, name, form in parts:
        filled += text
        if name is None:
            continue
        value = values[name]
        try:
            filled += format(value.json, form) if form else value.text
        except ValueError as error:
            raise InputError(
                f"the template's {{{name}:{form}}} for {value.text}: {error}"
            ) from error
    return filled


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _no_number(text)
