"""Iterators of the classic API: each gives tokens that are locked for whoever asks.

``for task in TaskViewIterator(db, "todo"): …`` ends when the view has no more.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any, Self

from picas import by_hand
from picas.clients import CouchDB
from picas.documents import Task
from picas.interop import errors_of_both
from picas.picaslogger import picaslogger
from picas.views import DEFAULT_DESIGN


class ViewIterator(Iterator[Task]):
    """What an iterator has to offer; make your own by overriding `claim_task`.

    Attributes:
        last: False where somebody looks again after this iterator found nothing.
    """

    database: Any = None

    def __init__(self) -> None:
        self._stop = False
        self.last = True

    def __iter__(self) -> Self:
        return self

    def reset(self) -> None:
        """Look again, after the view was empty."""
        self._stop = False

    def stop(self) -> None:
        """Give no more tokens."""
        self._stop = True

    def is_stopped(self) -> bool:
        """Tell whether it gives no more tokens."""
        return self._stop

    def __next__(self) -> Task:
        """The next token, locked; `StopIteration` if the view has none."""
        if self.is_stopped():
            raise StopIteration
        try:
            return self.claim_task()
        except IndexError as error:
            self.stop()
            raise StopIteration from error

    def claim_task(self) -> Task:
        """Lock a token; raises `IndexError` if the view has none."""
        raise NotImplementedError(f"{type(self).__name__} has no claim_task()")

    def reconnect(self, database: Any) -> None:
        """Go on with another client of the same database."""
        self.database = database


class TaskViewIterator(ViewIterator):
    """Gives the tokens of a view.

    Args:
        database: The client, or any object with ``get_single_from_view`` and ``save``.
        view: The view's name.
        view_params: ``design_doc`` (by default ``Monitor``), and parameters as CouchDB has them.
    """

    def __init__(self, database: Any, view: str, **view_params: Any) -> None:
        super().__init__()
        self.database = database
        self.view = view
        self.view_params = view_params

    def claim_task(self) -> Task:
        """Lock a token of the view; raises `IndexError` if it has none."""
        return _claim(self.database, self.view, self.view_params, last=self.last)


class PrioritizedViewIterator(ViewIterator):
    """Gives the tokens of one view, and those of another while the first has none.

    Args:
        database: As for `TaskViewIterator`.
        high_priority_view: The view that goes first.
        low_priority_view: The other one.
        view_params: For both.
    """

    def __init__(
        self, database: Any, high_priority_view: str, low_priority_view: str, **view_params: Any
    ) -> None:
        super().__init__()
        self.database = database
        self.high_priority_view = high_priority_view
        self.low_priority_view = low_priority_view
        self.view_params = view_params

    def claim_task(self) -> Task:
        """Lock a token; raises `IndexError` if both views have none."""
        try:
            return _claim(self.database, self.high_priority_view, self.view_params, last=False)
        except IndexError:
            return _claim(self.database, self.low_priority_view, self.view_params, last=self.last)


class EndlessViewIterator(ViewIterator):
    """Gives the tokens of another iterator, and waits for more while that has none.

    Args:
        view_iterator: Where the tokens come from.
        sleep_sec: Seconds between two looks. A token that becomes todo meanwhile ends the wait at
            once, where the database is a `picas.clients.CouchDB`.
        stop_callback: Asked before each look; True ends the iterator.
        stop_callback_args: Arguments of `stop_callback`.
    """

    def __init__(
        self,
        view_iterator: ViewIterator,
        sleep_sec: float = 10,
        stop_callback: Callable[..., bool] | None = None,
        **stop_callback_args: Any,
    ) -> None:
        super().__init__()
        self.iterator = view_iterator
        self.sleep_sec = sleep_sec
        self.stop_callback = stop_callback
        self.stop_callback_args = stop_callback_args
        view_iterator.last = False
        self._since: str | None = None

    @property
    def database(self) -> Any:
        """The database of the inner iterator."""
        return getattr(self.iterator, "database", None)

    def reconnect(self, database: Any) -> None:
        """Go on with another client of the same database."""
        self.iterator.reconnect(database)

    def is_cancelled(self) -> bool:
        """Tell whether it was stopped, or is by its callback."""
        database, stop = self.database, self.stop_callback
        if self.is_stopped() or (serves(database) and database.holding.drained):
            return True
        return stop is not None and bool(stop(**self.stop_callback_args))

    def __next__(self) -> Task:
        """The next token, locked, however long that takes; `StopIteration` if it was stopped."""
        told = False
        while not self.is_cancelled():
            database = self.database
            if serves(database) and self._since is None:
                self._since = database.holding.changed(None, 0.0)
            try:
                return next(self.iterator)
            except StopIteration:
                self.iterator.reset()
            if not told:
                picaslogger.info("Iterator is waiting for work...")
                told = True
            if serves(database):
                self._since = database.holding.changed(self._since, self.sleep_sec)
            else:
                time.sleep(self.sleep_sec)
        self.iterator.stop()
        self.stop()
        picaslogger.info("Iterator is finishing.")
        raise StopIteration


def serves(database: Any) -> bool:
    """Tell whether a database is our client, and no subclass that reads or writes its own way."""
    return isinstance(database, CouchDB) and all(
        getattr(type(database), name) is getattr(CouchDB, name)
        for name in ("get_single_from_view", "get", "save", "view")
    )


def _claim(database: Any, view: str, params: dict[str, Any], *, last: bool) -> Task:
    """Lock a token of a view; raises `IndexError` if it has none."""
    if not serves(database):
        return by_hand.claim(database, view, params)
    query = {name: value for name, value in params.items() if name != "design_doc"}
    design = params.get("design_doc", DEFAULT_DESIGN)
    with errors_of_both():
        claimed = database.holding.claim(f"{design}/{view}", query, last=last)
    if claimed is None:
        raise IndexError(f"the view {design}/{view} is empty")
    return Task(claimed)
