"""Tokens by way of somebody's own database object, which has only the verbs of the classic client.

Such an object may be a stand-in in a user's unit tests, or a subclass of the client that reads or
writes in its own way. There is no lease then: a token is told by the time and host of its claim.
"""

import logging
import time
from typing import Any

from picas import token
from picas.backoff import delays
from picas.documents import Task
from picas.errors import TaskError
from picas.interop import conflicts, missing
from picas.merge import merge
from picas.token import Document

WINDOW = 100
"""Rows of a view among which a token is chosen."""

MOST_TRIES = 20
"""So often running a view may show what cannot be had: then it is not merely behind."""

log = logging.getLogger("picas.actors")


def claim(database: Any, view: str, params: dict[str, Any]) -> Task:
    """Lock a token.

    The view may be behind: a token that is locked, or gone, by now is left alone. Who is late tries
    again, for however long others are faster.

    Args:
        database: Has ``get_single_from_view`` and ``save``.
        view: The view's name.
        params: Parameters of the view.

    Raises:
        IndexError: The view is empty, or shows nothing but what somebody has.
    """
    waits = delays(0.01, 0.3)
    problem: BaseException = IndexError(f"the view {view} shows only tokens that are locked")
    tries = 0
    while tries < MOST_TRIES:
        tries += 1
        try:
            task = Task(database.get_single_from_view(view, window_size=WINDOW, **params))
            if not token.is_locked(task):
                saved = database.save(task.lock())
                return saved if isinstance(saved, Task) else task
        except conflicts():
            tries = 0
        except _gone() as error:
            problem = error
        time.sleep(next(waits))
    raise problem


def save(database: Any, task: Any, claimed: Document) -> None:
    """Save a token; where it was changed meanwhile, both changes, if it is still the one claimed.

    Args:
        database: Has ``get`` and ``save``.
        task: The token as it is to be.
        claimed: As it was claimed.

    Raises:
        TaskError: It is changed again and again.
    """
    try:
        database.save(task)
    except conflicts():
        _save_merged(database, task, claimed)


def _save_merged(database: Any, task: Any, claimed: Document) -> None:
    name = task["_id"]
    for _ in range(MOST_TRIES):
        try:
            now = Task(database.get(name))
        except _gone():
            log.warning("%s is gone; its result was not recorded", name)
            return
        if any(now.value.get(key) != claimed.get(key) for key in ("lock", "hostname")):
            log.warning("%s was given to somebody else; its result was not recorded", name)
            return
        merged = merge(claimed, task.value, now.value)
        try:
            database.save(Task(merged))
        except conflicts():
            continue
        task.value.update(merged)
        return
    raise TaskError(f"{name}: others change it all the time; its result is not recorded")


def _gone() -> tuple[type[BaseException], ...]:
    """What tells that a document is gone; the classic client says so by a `ValueError`."""
    return (*missing(), ValueError)
