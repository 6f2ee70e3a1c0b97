"""Beside the ``couchdb`` package: errors that scripts catch by its names, and errors of its own.

A script may say ``except couchdb.http.ResourceConflict`` around our client, and may hand us a
database object that raises these. The package is never imported here: a script that uses it has
imported it, and without it our own errors are all there are.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from picas.errors import (
    Conflict,
    Forbidden,
    NotFound,
    PoolError,
    Unauthorized,
)

_joined: dict[tuple[type[PoolError], type[BaseException]], type[PoolError]] = {}

_NAMES: tuple[tuple[type[PoolError], str], ...] = (
    (Conflict, "ResourceConflict"),
    (NotFound, "ResourceNotFound"),
    (Unauthorized, "Unauthorized"),
    (Forbidden, "Forbidden"),
    (PoolError, "ServerError"),
)
"""Our errors, and what the package raises in their place; the first that fits."""


def conflicts() -> tuple[type[BaseException], ...]:
    """What to catch for a document that was changed meanwhile: ours and the package's."""
    return _ours_and_theirs(Conflict, "ResourceConflict")


def missing() -> tuple[type[BaseException], ...]:
    """What to catch for something that is not there: ours and the package's."""
    return _ours_and_theirs(NotFound, "ResourceNotFound")


@contextmanager
def errors_of_both() -> Iterator[None]:
    """Raise our errors as the package's too, where it is loaded; decorates functions as well."""
    try:
        yield
    except PoolError as error:
        if isinstance(error, ValueError):  # `Missing` is made of both already
            raise
        both = of_both(type(error))
        if both is type(error):
            raise
        raise both(str(error)) from error.__cause__


def of_both(ours: type[PoolError]) -> type[PoolError]:
    """An error of ours that the package's ``except`` catches, too; itself without the package."""
    for kind, name in _NAMES:
        if issubclass(ours, kind) and (theirs := _class(name)) is not None:
            return _join(ours, theirs)
    return ours


def _join(ours: type[PoolError], theirs: type[BaseException]) -> type[PoolError]:
    if issubclass(ours, theirs):
        return ours
    if (ours, theirs) not in _joined:
        made = type(ours.__name__, (ours, theirs), {"__module__": ours.__module__})
        _joined[ours, theirs] = made
    return _joined[ours, theirs]


def _ours_and_theirs(ours: type[PoolError], name: str) -> tuple[type[BaseException], ...]:
    theirs = _class(name)
    return (ours,) if theirs is None else (ours, theirs)


def _class(name: str) -> type[BaseException] | None:
    """One of the package's error classes, if a script has loaded it."""
    found = getattr(sys.modules.get("couchdb.http"), name, None)
    return found if isinstance(found, type) and issubclass(found, BaseException) else None
