"""Whether a failed token gets another try: when, where, and with how much memory.

A policy is a JSON object. It stands in a token's own field ``retry``, in the pool's settings (for
all tokens, or for those of a design), or comes from the pilot's ``--max-scrub``; each setting is
taken from the first of these that has it::

    {"tries": 5, "delay": 30, "longest_delay": 3600, "final": [2, "64-78"],
     "elsewhere": [127], "elsewhere_time": 300, "memory_factor": 2}
"""

import math
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from picas import needs, token, units
from picas.dice import dice
from picas.errors import InputError
from picas.token import Again, Document, Outcome

_CODE = re.compile(r"[0-9]{1,3}")
_CODES = re.compile(r"[0-9]{1,3}(-[0-9]{1,3})?")

Codes = tuple[range, ...]
"""Exit codes, as ranges."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How failed tokens are tried again.

    Attributes:
        tries: How often a token runs at most, until a person resets it.
        delay: Seconds before the second try; doubled for each later one.
        longest_delay: Seconds it never waits longer than.
        final: Exit codes after which there is no other try.
        elsewhere: Exit codes for which this host is to blame: the next try is another host's.
        elsewhere_time: Seconds for which this host leaves such a token to others.
        memory_factor: By how much the memory it asks for grows after it ran out of it; 1: not.
    """

    tries: int = 1
    delay: float = 0.0
    longest_delay: float = 3600.0
    final: Codes = ()
    elsewhere: Codes = ()
    elsewhere_time: float = 300.0
    memory_factor: float = 1.0

    def decide(
        self, doc: Document, outcome: Outcome, jitter: Callable[[], float] = dice.random
    ) -> Again | None:
        """Tell how a token that ended so is given back for another try; None: it is not.

        Args:
            doc: The token as it was claimed.
            outcome: How it ended.
            jitter: Random number from 0 to 1: tokens that failed together do not return together.
        """
        code = outcome.exit_code
        if code == 0:
            return None
        failed = token.failed_tries(doc)
        if failed + 1 >= self.tries or _among(code, self.final):
            return None
        delay = min(self.longest_delay, self.delay * 2.0 ** min(failed, 60)) * (0.5 + jitter())
        avoid = self.elsewhere_time if _among(code, self.elsewhere) else 0.0
        return Again(min(delay, self.longest_delay), avoid, self._memory(doc, outcome))

    def is_final(self, outcome: Outcome) -> bool:
        """Tell whether the policy says that a failure is the token's own, for good."""
        return _among(outcome.exit_code, self.final)

    def _memory(self, doc: Document, outcome: Outcome) -> int | None:
        """What the next try asks for, if this one ran out of memory."""
        had = max(needs.needs(doc).get("memory", 0), outcome.memory or 0)
        if not outcome.out_of_memory or self.memory_factor <= 1 or not had:
            return None
        grown = had * self.memory_factor
        return int(grown) if grown < math.inf else None


def policy(*layers: Mapping[str, Any]) -> RetryPolicy:
    """The policy that several objects make, the first that has a setting giving it.

    Raises:
        InputError: One is none.
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        merged = {**read(layer), **merged}
    return RetryPolicy(**merged)


class Policies:
    """The policies of tokens: what the token says, before what holds for all.

    Args:
        layers: Policies for all tokens, the closest first.

    Raises:
        InputError: One of them is none.
    """

    def __init__(self, *layers: Mapping[str, Any]) -> None:
        self._layers = layers
        self._common = policy(*layers)

    def of(self, doc: Document) -> RetryPolicy:
        """The policy of one token.

        A ``retry`` that is no policy is a field of the user's: older databases may have one.
        """
        own = doc.get("retry")
        if isinstance(own, dict):
            with suppress(InputError):
                return policy(own, *self._layers)
        return self._common


def read(layer: Mapping[str, Any]) -> dict[str, Any]:
    """Read a policy's object into the fields of `RetryPolicy`.

    Raises:
        InputError: It has a setting that there is not, or a value that cannot be; names it.
    """
    unknown = sorted(str(name) for name in layer.keys() - _READERS.keys())
    if unknown:
        raise InputError(
            f"a retry policy has no setting {unknown[0]!r}; it has: {', '.join(_READERS)}"
        )
    fields = {}
    for name, value in layer.items():
        try:
            fields[name] = _READERS[name](value)
        except InputError as error:
            raise InputError(f"the retry setting {name}: {error}") from error
    return fields


def from_text(name: str, text: str) -> Any:
    """One setting from what a person typed, as JSON holds it: ``final`` from ``2,64-78``.

    Raises:
        InputError: There is no such setting, or it cannot be that.
    """
    values: Any = text
    if name in ("final", "elsewhere"):
        parts = [part.strip() for part in text.split(",") if part]
        values = [int(part) if _CODE.fullmatch(part) else part for part in parts]
    elif name in ("tries", "memory_factor"):
        values = _number(text)
    elif name in _READERS:
        values = units.seconds(text)
    read({name: values})
    return values


def _number(text: str) -> float:
    try:
        return int(text) if text.isascii() and text.isdigit() else float(text)
    except ValueError as error:
        raise InputError(f"{units.short(text)} is no number") from error


def _tries(value: Any) -> int:
    number = units.number(value)
    if isinstance(value, int) and number is not None and number >= 1:
        return value
    raise InputError(f"{units.short(value)} is no number of tries; write 1 or more")


def _factor(value: Any) -> float:
    number = units.number(value)
    if number is not None and 1 <= number <= 1000:
        return number
    raise InputError(f"{units.short(value)} is no factor; write a number from 1 on, like 2")


def _codes(value: Any) -> Codes:
    parts = value if isinstance(value, list) else [value]
    return tuple(map(_code_range, parts))


def _code_range(value: Any) -> range:
    """``2`` or ``"64-78"``."""
    ends: list[int] = []
    if isinstance(value, str) and _CODES.fullmatch(value):
        ends = [int(end) for end in value.split("-")]
    elif isinstance(value, int) and not isinstance(value, bool):
        ends = [value]
    if ends and 0 <= ends[0] <= ends[-1] <= 255:
        return range(ends[0], ends[-1] + 1)
    shown = units.short(value)
    raise InputError(f'{shown} is no exit code; write a list of them like [2, "64-78"]')


def _among(code: int | None, codes: Codes) -> bool:
    return code is not None and any(code in some for some in codes)


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "tries": _tries,
    "delay": units.seconds,
    "longest_delay": units.seconds,
    "final": _codes,
    "elsewhere": _codes,
    "elsewhere_time": units.seconds,
    "memory_factor": _factor,
}

SETTINGS = tuple(_READERS)
"""The names of a policy's settings."""
