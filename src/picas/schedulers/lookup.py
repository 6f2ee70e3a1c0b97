"""Schedulers by name: ours, and those that others plug in."""

import importlib
from collections.abc import Callable
from typing import cast

from picas.errors import ConfigError
from picas.schedulers.base import Scheduler

GROUP = "picas.schedulers"
"""The group of entry points that name schedulers."""

OURS = {"slurm": "picas.schedulers.slurm:Slurm", "local": "picas.schedulers.local:Local"}
"""Also declared as entry points; here they are found without an installation."""

Maker = Callable[[str], Scheduler]


def named(name: str, via: str = "") -> Scheduler:
    """The scheduler of a name.

    Args:
        name: ``slurm``, ``local``, or that of an entry point.
        via: What stands in front of its commands: ``ssh login``.

    Raises:
        ConfigError: There is none, it cannot be loaded, or it does not work by way of that.
    """
    try:
        return _maker(name)(via)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _maker(name: str) -> Maker:
    from importlib import metadata  # a pilot looks up none, and should not pay for it

    if name in OURS:
        module, _, attribute = OURS[name].partition(":")
        return cast("Maker", getattr(importlib.import_module(module), attribute))
    points = metadata.entry_points(group=GROUP)
    for point in points:
        if point.name == name:
            try:
                return cast("Maker", point.load())
            except (ImportError, AttributeError) as error:
                raise ConfigError(f"the scheduler {name!r} cannot be loaded: {error}") from error
    known = ", ".join(sorted({*OURS, *points.names}))
    raise ConfigError(f"there is no scheduler {name!r}; there are {known}")
