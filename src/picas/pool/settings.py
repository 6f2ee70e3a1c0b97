"""The settings that all pilots of a pool share; kept in a document of the pool.

Other versions may have settings that this one does not know, and a person may write a note there:
what is not known is passed over, and no change of another setting loses it.
"""

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from picas import retry, units
from picas.errors import ConfigError, InputError
from picas.token import Document

SETTINGS_ID = "picas_settings"
"""Id of the document."""

TIMES = ("lease", "heartbeat")

LEAST_LEASE = 10.0
"""Seconds; pilots' clocks may be two seconds apart, so with less a pilot that lives looks gone."""

_KNOWN = {*TIMES, "type", "retry", "designs"}


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in the document that cannot be.

    Attributes:
        design: The design that it is set for; None: for all tokens.
        name: The setting; where a whole policy is none, one that it could have.
        text: What is wrong.
    """

    design: str | None
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """What is set for a pool; what is not set has its default.

    Attributes:
        lease: Seconds without a heartbeat after which a pilot counts as gone.
        heartbeat: Seconds between a pilot's heartbeats.
        retry: Retry policy of all tokens, as JSON (see `picas.retry`).
        designs: Retry policies of the tokens that pilots claim from a design's views, by its name.
        unknown: Names in the document that are no settings here.
        problems: What of it cannot be read.
    """

    lease: float | None = None
    heartbeat: float | None = None
    retry: Mapping[str, Any] = field(default_factory=dict)
    designs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    unknown: Sequence[str] = ()
    problems: Sequence[Problem] = ()

    def retry_layers(self, design: str) -> tuple[Mapping[str, Any], ...]:
        """The retry policies for tokens claimed from a design's views, the closest first."""
        return self.designs.get(design, {}), self.retry

    @staticmethod
    def readable(doc: Mapping[str, Any] | None) -> "PoolSettings":
        """What can be read of the document; None stands for a pool that has none."""
        return _Reader().read(doc or {})

    @staticmethod
    def from_document(doc: Mapping[str, Any] | None) -> "PoolSettings":
        """Read the document; None stands for a pool that has none.

        Raises:
            ConfigError: Somebody wrote something into it that cannot be.
        """
        settings = PoolSettings.readable(doc)
        _raise(settings.problems)
        return settings


class _Reader:
    """Reads the document, and gathers what is odd in it."""

    def __init__(self) -> None:
        self._unknown: list[str] = []
        self._problems: list[Problem] = []

    def read(self, doc: Mapping[str, Any]) -> PoolSettings:
        self._unknown += [n for n in doc if n not in _KNOWN and not n.startswith("_")]
        times = {}
        for name in TIMES:
            if name in doc:
                times[name] = self._try(None, name, _time, name, doc[name])
        policy = self._policy(doc, "", None)
        entries = self._object(doc, "designs", "", "Monitor")
        designs = {
            name: self._policy(
                self._object(entries, name, "designs.", name), f"designs.{name}.", name
            )
            for name in entries
        }
        return PoolSettings(
            **times,
            retry=policy,
            designs=designs,
            unknown=tuple(self._unknown),
            problems=tuple(self._problems),
        )

    def _policy(
        self, parent: Mapping[str, Any], where: str, design: str | None
    ) -> Mapping[str, Any]:
        """What of a retry policy can be read."""
        policy = {}
        for name, value in self._object(parent, "retry", where, design).items():
            if name not in retry.SETTINGS:
                self._unknown.append(f"{where}retry.{name}")
            elif self._try(design, name, retry.read, {name: value}) is not None:
                policy[name] = value
        return policy

    def _object(
        self, parent: Mapping[str, Any], name: str, where: str, design: str | None
    ) -> Mapping[str, Any]:
        value = parent.get(name)
        if isinstance(value, dict):
            return value
        if value is not None:
            text = f"{where}{name}: {units.short(value)} is no JSON object"
            self._problems.append(Problem(design, retry.SETTINGS[0], text))
        return {}

    def _try(self, design: str | None, name: str, read: Callable[..., Any], *args: object) -> Any:
        """What is read; None, with the problem noted, if it cannot be."""
        try:
            return read(*args)
        except InputError as error:
            self._problems.append(Problem(design, name, str(error)))
            return None


def change(
    doc: Document, changes: Iterable[tuple[str, str]], design: str | None = None
) -> Document:
    """The document with settings from what a person typed; all else in it stays.

    Args:
        doc: The document as it is stored.
        changes: Name and text of each setting; an empty text takes it out.
        design: The design whose retry policy is meant; None: that of all tokens.

    Raises:
        InputError: There is no such setting, or it cannot be that.
        ConfigError: Something in the document cannot be read, and none of these changes mends it.
    """
    changed = doc
    for name, text in changes:
        changed = _changed(changed, name, text, design)
    before, after = (PoolSettings.readable(there).problems for there in (doc, changed))
    if len(after) >= len(before):
        _raise(after)
    return changed


def told(problems: Sequence[Problem]) -> str:
    """What is wrong, and the commands that take it out."""
    commands = []
    for design in dict.fromkeys(problem.design for problem in problems):
        names = dict.fromkeys(problem.name for problem in problems if problem.design == design)
        view = "" if design is None else f"--view {shlex.quote(design)} "
        commands.append(f"'picas settings {view}{' '.join(f'{name}=' for name in names)}'")
    whats = "; ".join(problem.text for problem in problems)
    what = "takes it out" if len(problems) == 1 else "take them out"
    return f"{whats}; {' and '.join(commands)} {what}"


def _raise(problems: Sequence[Problem]) -> None:
    if problems:
        raise ConfigError(
            f"the pool's settings (document {SETTINGS_ID!r}) cannot be used: {told(problems)}"
        )


def _changed(doc: Document, name: str, text: str, design: str | None) -> Document:
    if name in TIMES:
        if design is not None:
            raise InputError(f"{name} is the same for all views: leave --view out")
        return _with(doc, (name,), _time(name, text) if text else None)
    if name not in retry.SETTINGS:
        known = ", ".join((*TIMES, *retry.SETTINGS))
        raise InputError(f"there is no setting {name!r}; there are: {known}")
    value = retry.from_text(name, text) if text else None
    place = ("retry", name) if design is None else ("designs", design, "retry", name)
    return _with(doc, place, value)


def _with(tree: object, place: Sequence[str], value: Any) -> Document:
    """An object with one value in it set, or taken out if that is None.

    What stands in its way and is no object is replaced; an object that it leaves empty goes.
    """
    there = dict(tree) if isinstance(tree, dict) else {}
    first, *rest = place
    if rest:
        value = _with(there.get(first), rest, value) or None
    if value is None:
        there.pop(first, None)
        return there
    return {**there, first: value}


def _time(name: str, value: object) -> float:
    """A time of the leases.

    Raises:
        InputError: It cannot be that.
    """
    try:
        seconds = units.seconds(value)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    if seconds == 0:
        raise InputError(f"{name} cannot be 0; write it like 5m")
    if name == "lease" and seconds < LEAST_LEASE:
        raise InputError(
            f"lease: {seconds:g} s is less than {LEAST_LEASE:g} s, and pilots' clocks may differ "
            "by two: those that live could be taken for gone"
        )
    return seconds
