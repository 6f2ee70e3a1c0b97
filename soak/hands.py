"""What a person does meanwhile: pushes tokens, edits them, resets and deletes them by hand."""

import itertools
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from picas.errors import Conflict, PoolError
from picas.pool import Pool, PushState, connect
from picas.token import Document
from soak.history import Applied, Fault
from soak.plan import Step

WAVES = 10
EDIT_TRIES = 50
LOOK = 40
"""How many of the locked tokens a person looks at to choose one."""


class Hands:
    """A person at work: a thread with its own connection to the pool.

    Args:
        url: The pool, without anything in between.
        pushed: Ids of the tokens that there are; others may be added to it meanwhile.
        note: Takes note of what was done.
    """

    def __init__(self, url: str, pushed: Sequence[str], note: Callable[[Fault], None]) -> None:
        self._url = url
        self._pushed = pushed
        self._note = note
        self._steps: queue.SimpleQueue[Step | None] = queue.SimpleQueue()
        self._numbers = itertools.count(1)
        self._thread = threading.Thread(target=self._work, name="hands", daemon=True)
        self._thread.start()

    def do(self, step: Step) -> None:
        """Have something done soon."""
        self._steps.put(step)

    def close(self) -> None:
        """Finish what is to be done."""
        self._steps.put(None)
        self._thread.join()

    def _work(self) -> None:
        with connect(self._url) as pool:
            while (step := self._steps.get()) is not None:
                acts = {"edit": self._edit, "reset": self._reset, "delete": self._delete}
                try:
                    token_id = self._choose(pool, step)
                except PoolError:
                    continue  # nothing was done, so nothing is noted
                acts[step.kind](pool, token_id, step)

    def _choose(self, pool: Pool, step: Step) -> str:
        """Mostly a token that runs now, else any."""
        if step.more < 0.75:
            running = [doc["_id"] for doc in pool.find("Monitor/locked", limit=LOOK)]
            if running:
                return str(running[int(step.pick * len(running))])
        return self._pushed[int(step.pick * len(self._pushed))]

    def _edit(self, pool: Pool, token_id: str, step: Step) -> None:
        """Change a field of the user's or the priority, over whatever is there."""
        number = next(self._numbers)
        field, value = ("priority", number) if step.more < 0.3 else (f"note_{number}", number)
        applied = self._write(pool, token_id, field, value)
        if applied is not None:
            detail = {"field": field, "value": value, "applied": applied}
            now = time.time()
            self._note(Fault("edit", now, now, token_id, detail))

    def _write(self, pool: Pool, token_id: str, field: str, value: object) -> Applied | None:
        """Write one field; None: nothing was written."""
        for _ in range(EDIT_TRIES):
            try:
                (doc,) = pool.store.read([token_id])
            except PoolError:
                return None
            if doc is None:
                return None
            try:
                (written,) = pool.store.write([doc | {field: value}])
            except PoolError:
                return Applied.MAYBE
            if written.error is None:
                return Applied.YES
            if not isinstance(written.error, Conflict):
                return None
        return None

    def _reset(self, pool: Pool, token_id: str, step: Step) -> None:  # noqa: ARG002
        self._change("reset", token_id, lambda: pool.reset([token_id]))

    def _delete(self, pool: Pool, token_id: str, step: Step) -> None:  # noqa: ARG002
        self._change("delete", token_id, lambda: pool.delete([token_id]))

    def _change(self, kind: str, token_id: str, change: Callable[[], int]) -> None:
        begun = time.time()
        try:
            applied = Applied.YES if change() else None
        except PoolError:
            applied = Applied.MAYBE
        if applied is not None:
            self._note(Fault(kind, begun, time.time(), token_id, {"applied": applied}))


class Pusher:
    """Pushes tokens in waves, through whatever is between it and the pool.

    Args:
        url: The pool.
        docs: The tokens.
        seconds: Over what time they are pushed.
    """

    def __init__(self, url: str, docs: Sequence[Document], seconds: float) -> None:
        self.pushed: list[str] = []
        """Ids that the pool confirmed."""
        self._url = url
        self._pause = seconds / WAVES
        self._closing = threading.Event()
        first = len(docs) * 2 // 5
        size = max(1, -(-(len(docs) - first) // WAVES))
        self._waves = [docs[i : i + size] for i in range(first, len(docs), size)]
        with connect(url, create=True) as pool:
            self._push(pool, docs[:first])
        self._thread = threading.Thread(target=self._work, name="pusher", daemon=True)

    def start(self) -> None:
        """Go on in a thread."""
        self._thread.start()

    def finish(self) -> None:
        """Push what is left without a pause."""
        self._closing.set()
        self._thread.join()

    def _work(self) -> None:
        for wave in self._waves:
            self._closing.wait(self._pause)
            # A connection of its own for each: after a lost one it is as if a person began again.
            while not self._try(wave):
                time.sleep(0.2)

    def _try(self, wave: Sequence[Document]) -> bool:
        try:
            with connect(self._url) as pool:
                self._push(pool, wave)
        except PoolError:
            return False  # pushing again adds nothing twice
        return True

    def _push(self, pool: Pool, docs: Sequence[Document]) -> None:
        there = set(self.pushed)
        answers: Iterator[str] = (
            answer.id for answer in pool.push(docs) if answer.state is not PushState.REFUSED
        )
        self.pushed += [token_id for token_id in answers if token_id not in there]
