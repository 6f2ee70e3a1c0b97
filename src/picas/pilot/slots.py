"""Slots: threads in which claimed tokens run."""

import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from picas.errors import TaskError
from picas.packing import ONE_SLOT
from picas.pilot.places import Place, Places
from picas.pilot.runner import Result, Runner, Running
from picas.token import Document, Outcome


@dataclass(frozen=True, slots=True)
class Ended:
    """A token that left its slot."""

    token: Document
    result: Result


class Slots:
    """Runs tokens, a few at a time, in the order they were given.

    Args:
        number: How many run at once.
        places: Where they run; one for which there is no place waits, and others behind it.
        runner: Makes the work of a token.
        time_limit: Seconds a token may run.
        ended: Called in the slot's thread with every token that ended.
    """

    def __init__(
        self,
        number: int,
        places: Places,
        runner: Runner,
        time_limit: float | None,
        ended: Callable[[Ended], None],
    ) -> None:
        self.number = number
        self._places = places
        self._runner = runner
        self._time_limit = time_limit
        self._ended = ended
        self._waiting: deque[tuple[float, Document]] = deque()
        self._running: dict[str, tuple[Document, Running | None]] = {}
        self._changed = threading.Condition()
        self._closed = False
        self._stopped = False
        self._threads: list[threading.Thread] = []

    def put(self, tokens: list[Document]) -> None:
        """Hand over claimed tokens."""
        with self._changed:
            now = time.monotonic()
            self._waiting.extend((now, token) for token in tokens)
            self._changed.notify(len(tokens))
            wanted = min(self.number, len(self._waiting) + len(self._running))
        while len(self._threads) < wanted:
            thread = threading.Thread(target=self._work, name="slot", daemon=True)
            thread.start()
            self._threads.append(thread)

    @property
    def waiting(self) -> int:
        """Tokens handed over and not started."""
        return len(self._waiting)

    def running_ids(self) -> list[str]:
        """Ids of the tokens that run now."""
        with self._changed:
            return [doc["_id"] for doc, _ in self._running.values()]

    def take_back(self, older_than: float = 0.0) -> list[Document]:
        """Take back tokens that were handed over `older_than` seconds ago and not started."""
        with self._changed:
            due = time.monotonic() - older_than
            taken = [token for given, token in self._waiting if given <= due]
            if taken:  # else no thread is to be woken
                self._waiting = deque(entry for entry in self._waiting if entry[0] > due)
                self._changed.notify_all()  # those behind may have a place, the first had none
            return taken

    def stop(self, *, now: bool = False) -> None:
        """End what runs, start nothing more; what ran comes back through `ended`.

        Callable from a signal handler: the lock is reentrant, and nothing here waits.
        """
        with self._changed:
            self._stopped = True
            running = [running for _, running in self._running.values()]
        for task in running:
            if task is not None:
                task.stop(now=now)

    def close(self) -> None:
        """Let the threads go; nothing may be waiting or running."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (entry := self._next()) is not None:
            token, place = entry
            result = self._run(token, place)
            with self._changed:
                del self._running[token["lease"]]
                self._places.give_back(place)
                if self._waiting and place.share is not ONE_SLOT:
                    self._changed.notify_all()  # there may be room for several now
            self._ended(Ended(token, result))

    def _next(self) -> tuple[Document, Place] | None:
        with self._changed:
            while not self._closed:
                if self._waiting and not self._stopped:
                    token = self._waiting[0][1]
                    if (place := self._places.take(token)) is not None:
                        self._waiting.popleft()
                        self._running[token["lease"]] = (token, None)
                        return token, place
                self._changed.wait()
            return None

    def _run(self, token: Document, place: Place) -> Result:
        start = time.time()
        try:
            task = self._runner.start(token, self._time_limit, place)
            with self._changed:
                self._running[token["lease"]] = (token, task)
                stopped = self._stopped
            if stopped:
                task.stop()
            return task.run()
        except TaskError as error:
            outcome = Outcome(None, start, time.time(), str(error), 0.0)
            return Result(outcome, trouble=str(error))
        except BaseException as error:  # noqa: BLE001 - a slot must never die with a token in it
            # Not this host's trouble, but this token's: every other pilot would meet it too.
            reason = f"{type(error).__name__}: {error}"
            now, told = time.time(), traceback.format_exc()
            return Result(Outcome(1, start, now, reason, now - start, error=told))
