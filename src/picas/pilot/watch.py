"""Waiting for work without asking for it again and again."""

import logging
import threading
from collections.abc import Callable

from picas.backoff import delays
from picas.errors import PoolError
from picas.pool import Pool

POLL_SECONDS = 50.0
"""Longest single wait on the change feed; below the time-outs of common proxies.

After each, the pilot looks for itself: a classic client may write tokens that the feed's filter
does not take for todo.
"""

log = logging.getLogger("picas.pilot")


class WorkWatcher:
    """Wakes the pilot when a token becomes todo, by the pool's change feed.

    Args:
        pool: The pool.
        wake: Called from the watcher's thread when there may be work.
    """

    def __init__(self, pool: Pool, wake: Callable[[], None]) -> None:
        self._pool = pool
        self._wake = wake
        self._since: str | None = None
        self._wanted = threading.Event()
        self._closed = False
        self._thread: threading.Thread | None = None

    @property
    def ready(self) -> bool:
        """False until `mark` was called: look for work once more after it, then `watch`."""
        return self._since is not None

    def mark(self) -> None:
        """Remember the present point: what changes from here on wakes the pilot."""
        self._since = self._pool.changes(None, timeout=0).seq

    def watch(self) -> None:
        """Begin to wait, if not waiting already; the pilot is woken once."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="watcher", daemon=True)
            self._thread.start()
        self._wanted.set()

    def close(self) -> None:
        """Let go; a wait that is under way is left to end with the process."""
        self._closed = True
        self._wanted.set()

    def _work(self) -> None:
        waits = delays(1.0, 30.0)
        pause = threading.Event()
        while self._wanted.wait() and not self._closed:
            try:
                changes = self._pool.changes(self._since, timeout=POLL_SECONDS, todo=True)
            except PoolError as error:
                if not self._closed:
                    log.debug("waiting for changes: %s", error)
                pause.wait(next(waits))
                continue
            waits = delays(1.0, 30.0)
            self._since = changes.seq
            if not self._closed:
                self._wanted.clear()
                self._wake()
