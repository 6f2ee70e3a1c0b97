"""The settings that all pilots of a pool share; kept in a document of the pool."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from typing import Any

from picas import retry, units
from picas.errors import ConfigError, InputError
from picas.token import Document

SETTINGS_ID = "picas_settings"
"""Id of the document."""

TIMES = ("lease", "heartbeat")


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """What is set for a pool; what is not set has its default.

    Attributes:
        lease: Seconds without a heartbeat after which a pilot counts as gone.
        heartbeat: Seconds between a pilot's heartbeats.
        retry: Retry policy of all tokens, as JSON (see `picas.retry`).
        designs: Retry policies of the tokens that pilots claim from a design's views, by its name.
    """

    lease: float | None = None
    heartbeat: float | None = None
    retry: Mapping[str, Any] = field(default_factory=dict)
    designs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def retry_layers(self, design: str) -> tuple[Mapping[str, Any], ...]:
        """The retry policies for tokens claimed from a design's views, the closest first."""
        return self.designs.get(design, {}), self.retry

    @staticmethod
    def readable(doc: Mapping[str, Any] | None) -> "PoolSettings":
        """What can be read of the document: to set anew what somebody spoiled."""
        made = PoolSettings()
        for name, value in (doc or {}).items():
            with suppress(ConfigError):
                part = PoolSettings.from_document({name: value})
                made = replace(made, **{n: v for n in _FIELDS if (v := getattr(part, n))})
        return made

    @staticmethod
    def from_document(doc: Mapping[str, Any] | None) -> "PoolSettings":
        """Read the document; None stands for a pool that has none.

        Raises:
            ConfigError: Somebody wrote something into it that cannot be.
        """
        doc = doc or {}
        try:
            times = {name: units.seconds(doc[name]) for name in TIMES if name in doc}
            designs = {name: _policy(entry) for name, entry in _object(doc.get("designs")).items()}
            return PoolSettings(**times, retry=_policy(doc), designs=designs)
        except InputError as error:
            raise ConfigError(
                f"the pool's settings (document {SETTINGS_ID!r}) cannot be used: {error}; "
                "'picas settings NAME=VALUE' sets one anew"
            ) from error

    def document(self) -> Document:
        """The document, without a revision."""
        doc: Document = {"_id": SETTINGS_ID, "type": "settings"}
        doc |= {name: value for name in TIMES if (value := getattr(self, name)) is not None}
        if self.retry:
            doc["retry"] = dict(self.retry)
        if designs := {name: {"retry": dict(p)} for name, p in self.designs.items() if p}:
            doc["designs"] = designs
        return doc

    def changed(self, name: str, text: str, design: str | None = None) -> "PoolSettings":
        """The same with one setting from what a person typed; an empty text takes it out.

        Raises:
            InputError: There is no such setting, or it cannot be that.
        """
        if name in TIMES:
            if design is not None:
                raise InputError(f"{name} is the same for all views: leave --view out")
            value = units.seconds(text) if text else None
            if value == 0:
                raise InputError(f"{name} cannot be 0; write it like 5m")
            return replace(self, lease=value) if name == "lease" else replace(self, heartbeat=value)
        if name not in retry.SETTINGS:
            known = ", ".join((*TIMES, *retry.SETTINGS))
            raise InputError(f"there is no setting {name!r}; there are: {known}")
        before = self.retry if design is None else self.designs.get(design, {})
        policy = {key: value for key, value in before.items() if key != name}
        if text:
            policy[name] = retry.from_text(name, text)
        if design is None:
            return replace(self, retry=policy)
        return replace(self, designs={**self.designs, design: policy})


_FIELDS = tuple(entry.name for entry in fields(PoolSettings))


def _policy(entry: object) -> Mapping[str, Any]:
    """The retry policy inside an object, checked."""
    policy = _object(_object(entry).get("retry"))
    retry.read(policy)
    return policy


def _object(value: object) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InputError(f"{value!r} is no JSON object")
    return value
