"""Changing documents: against what is there, again where that changed meanwhile (promise 7)."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from picas.backoff import delays
from picas.errors import Conflict, PoolError
from picas.pool.base import Store, Written
from picas.token import Document

CHUNK = 500
"""Documents that are read, changed and written at once."""

Change = Callable[[Document], Document | None]
"""Makes the new document from the one in the pool; None leaves that one as it is."""


@dataclass(frozen=True, slots=True)
class Updated:
    """What became of one change: the document as it is now (None: gone), written or not."""

    doc: Document | None
    changed: bool = False
    error: PoolError | None = None


class Updating:
    """Changes on their way into the store, for a writer with other documents to send beside them.

    Write `documents`, tell `written` the answers, then `finish`.

    Args:
        store: Where the documents are.
        changes: Each with the document that it was last seen to be applied to.
    """

    def __init__(self, store: Store, changes: Sequence[tuple[Document, Change]]) -> None:
        self._store = store
        self._changes = changes
        self._results: dict[int, Updated] = {}
        self._clashed: list[int] = []
        self._wanted: list[tuple[int, Document]] = []
        self._apply(enumerate(doc for doc, _ in changes))

    @property
    def documents(self) -> list[Document]:
        """What is to be written now."""
        return [doc for _, doc in self._wanted]

    def written(self, answers: Sequence[Written]) -> None:
        """Note what became of each of the documents."""
        for (i, doc), answer in zip(self._wanted, answers, strict=True):
            if answer.rev is not None:
                self._results[i] = Updated({**doc, "_rev": answer.rev}, changed=True)
            elif isinstance(answer.error, Conflict):
                self._clashed.append(i)
            else:
                self._results[i] = Updated(doc, error=answer.error)
        self._wanted = []

    def finish(self) -> list[Updated]:
        """Write what is left; where a document was edited meanwhile, the change of the newest.

        Raises:
            PoolUnreachable: No answer: some may have been written.
        """
        waits = delays(0.01, 1.0)
        while self._wanted or self._clashed:
            if self._clashed:
                time.sleep(next(waits))
                clashed, self._clashed = self._clashed, []
                ids = [self._changes[i][0]["_id"] for i in clashed]
                self._apply(zip(clashed, self._store.read(ids), strict=True))
            self.written(self._store.write(self.documents) if self._wanted else ())
        return [self._results[i] for i in range(len(self._changes))]

    def _apply(self, bases: Iterable[tuple[int, Document | None]]) -> None:
        for i, base in bases:
            changed = None if base is None else self._changes[i][1](base)
            if changed is None:
                self._results[i] = Updated(base)
            else:
                self._wanted.append((i, changed))


def update(store: Store, changes: Sequence[tuple[Document, Change]]) -> list[Updated]:
    """Apply each change to its document; where that was edited meanwhile, to the newest.

    Raises:
        PoolUnreachable: No answer: some may have been written.
    """
    return Updating(store, changes).finish()


def change_all(store: Store, ids: Iterable[str], change: Change) -> int:
    """Change many documents by id, a chunk at a time; returns how many were changed."""
    source = iter(ids)
    total = 0
    while chunk := list(islice(source, CHUNK)):
        docs = [doc for doc in store.read(chunk) if doc is not None]
        for updated in update(store, [(doc, change) for doc in docs]):
            if updated.error is not None:
                raise updated.error
            total += updated.changed
    return total


def write_one(store: Store, doc: Document) -> None:
    """Write a single document, or raise why it was not written."""
    (result,) = store.write([doc])
    if result.error is not None:
        raise result.error
