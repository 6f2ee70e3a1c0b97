"""Changing documents: against what is there, again where that changed meanwhile (promise 7)."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from picas.backoff import delays
from picas.errors import Conflict, PoolError
from picas.pool.base import Store
from picas.token import Document

CHUNK = 500
"""Documents a bulk write: what CouchDB takes fastest (docs/explanation/measurements.md)."""

Change = Callable[[Document], Document | None]
"""Makes the new document from the one in the pool; None leaves that one as it is."""


@dataclass(frozen=True, slots=True)
class Updated:
    """What became of one change: the document as it is now (None: gone), written or not."""

    doc: Document | None
    changed: bool = False
    error: PoolError | None = None


def update(store: Store, changes: Sequence[tuple[Document, Change]]) -> list[Updated]:
    """Apply each change to its document; where that was edited meanwhile, to the newest.

    Raises:
        PoolUnreachable: No answer: some may have been written.
    """
    results: dict[int, Updated] = {}
    open_: list[tuple[int, Document | None]] = [(i, doc) for i, (doc, _) in enumerate(changes)]
    waits = delays(0.01, 1.0)
    while open_:
        wanted: list[tuple[int, Document]] = []
        for i, base in open_:
            changed = None if base is None else changes[i][1](base)
            if changed is None:
                results[i] = Updated(base)
            else:
                wanted.append((i, changed))
        clashed = _write(store, wanted, results)
        fresh = store.read([changes[i][0]["_id"] for i in clashed]) if clashed else []
        open_ = list(zip(clashed, fresh, strict=True))
        if open_:
            time.sleep(next(waits))
    return [results[i] for i in range(len(changes))]


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


def _write(
    store: Store, wanted: list[tuple[int, Document]], results: dict[int, Updated]
) -> list[int]:
    """Write, note what became of each in `results`, and return those that met a conflict."""
    clashed = []
    written = store.write([doc for _, doc in wanted]) if wanted else []
    for (i, doc), answer in zip(wanted, written, strict=True):
        if answer.rev is not None:
            results[i] = Updated({**doc, "_rev": answer.rev}, changed=True)
        elif isinstance(answer.error, Conflict):
            clashed.append(i)
        else:
            results[i] = Updated(doc, error=answer.error)
    return clashed
