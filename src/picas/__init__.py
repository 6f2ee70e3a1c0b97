"""PiCaS: the pilot-job framework with a token pool."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from picas.version import __version__

if TYPE_CHECKING:
    from picas.actors import RunActor
    from picas.clients import CouchDB
    from picas.documents import Document, Job, Task, User
    from picas.iterators import (
        EndlessViewIterator,
        PrioritizedViewIterator,
        TaskViewIterator,
        ViewIterator,
    )
    from picas.pool.connect import connect

__all__ = [
    "CouchDB",
    "Document",
    "EndlessViewIterator",
    "Job",
    "PrioritizedViewIterator",
    "RunActor",
    "Task",
    "TaskViewIterator",
    "User",
    "ViewIterator",
    "__version__",
    "connect",
]

_HOMES = {
    "CouchDB": "clients",
    "Document": "documents",
    "EndlessViewIterator": "iterators",
    "Job": "documents",
    "PrioritizedViewIterator": "iterators",
    "RunActor": "actors",
    "Task": "documents",
    "TaskViewIterator": "iterators",
    "User": "documents",
    "ViewIterator": "iterators",
    "connect": "pool",
}


def __getattr__(name: str) -> Any:
    """Import a name when it is asked for: other parts start without what it needs."""
    if name in _HOMES:
        return getattr(import_module(f"picas.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'picas' has no attribute {name!r}")
