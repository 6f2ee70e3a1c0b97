"""Views of the embedded store: conditions in SQL, and indexes for those that have one."""

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass

from picas.errors import Unsupported, ViewMissing
from picas.pool.sqlite.file import FREE_TOKENS, WAITING_TOKENS
from picas.token import Document
from picas.views import FREE, Design, split

_PREFIX = "_design/"


@dataclass(frozen=True, slots=True)
class Free:
    """The free tokens of a view, as what stands behind ``SELECT … FROM``.

    Attributes:
        ready: Those that need not wait at a moment (epoch seconds) and have a higher number than
            another one, in the order of their numbers; takes both as values.
        waiting: Those that wait for a later moment than one, the earliest first; takes it as value.
    """

    ready: str
    waiting: str


class Designs:
    """The designs of one file, read again where they were changed.

    Args:
        url: Where the file is, as a person would write it.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._known: dict[str, tuple[str, Design, tuple[str, str]]] = {}

    def sql(self, db: sqlite3.Connection, view: str) -> str:
        """The condition of a view on a row.

        Raises:
            ViewMissing: There is none; names those that there are.
            Unsupported: It is JavaScript.
        """
        return self._look_up(db, view)[0]

    def free(self, db: sqlite3.Connection, view: str) -> Free:
        """The free tokens of a view.

        To be used in the same transaction, for the index goes with its design.

        Raises:
            ViewMissing: There is none; names those that there are.
            Unsupported: It is JavaScript.
        """
        condition, (free, waiting) = self._look_up(db, view)
        return Free(
            f"documents INDEXED BY {free} WHERE {FREE_TOKENS} AND {condition} "
            "AND not_before <= ? AND number > ? ORDER BY number",
            f"documents INDEXED BY {waiting} WHERE {WAITING_TOKENS} AND {condition} "
            "AND not_before > ? ORDER BY not_before",
        )

    def _look_up(self, db: sqlite3.Connection, view: str) -> tuple[str, tuple[str, str]]:
        """The condition of a view, and the indexes that hold its free and its waiting tokens."""
        name, part = split(view)
        design, indexes = self._design(db, name)
        if design is None or part not in design.views:
            known = [f"{d.name}/{v}" for d in _all(db) for v in d.views if v != FREE]
            raise ViewMissing(f"no view {view!r} in {self._url}; there are: {', '.join(known)}")
        if design.raw:
            raise Unsupported(
                f"{view} is a JavaScript view, which the embedded store cannot run; make it with "
                "'picas views add NAME --where CONDITION', or use a CouchDB pool"
            )
        return f"({design.sql(part)})", indexes

    def _design(self, db: sqlite3.Connection, name: str) -> tuple[Design | None, tuple[str, str]]:
        doc_id = f"{_PREFIX}{name}"
        text = "SELECT rev, body FROM documents WHERE id = ?"
        row = db.execute(text, (doc_id,)).fetchone()
        if row is None:
            return None, _FOR_ALL
        rev, body = row
        known = self._known.get(name)
        if known is None or known[0] != rev:
            design = _read(doc_id, body)
            known = self._known[name] = (rev, design, _indexes_for(db, design))
        return known[1:]


def make_indexes(db: sqlite3.Connection, doc_id: str, body: Document) -> None:
    """Give a design with a condition indexes of its own, as CouchDB gives every view one.

    Raises:
        Unsupported: The views are JavaScript.
    """
    design = Design.from_document({"_id": doc_id, **body})
    if design.raw:
        raise Unsupported(
            f"the views of {design.name} are JavaScript, which the embedded store cannot run; "
            "use 'picas views add NAME --where CONDITION', or a CouchDB pool"
        )
    drop_indexes(db, doc_id)
    for statement in _indexes(design).values():
        db.execute(statement)


def drop_indexes(db: sqlite3.Connection, doc_id: str) -> None:
    """Drop the indexes of a design, if it has any."""
    for kind in _KINDS:
        db.execute(f'DROP INDEX IF EXISTS "{_index(kind, doc_id.removeprefix(_PREFIX))}"')


def _indexes_for(db: sqlite3.Connection, design: Design) -> tuple[str, str]:
    """The indexes to be used for the free and the waiting tokens of a design's views.

    Those of all tokens serve any: tokens of other conditions are read and passed over. So they are
    used, too, where an index in the file is not the one that would be made today.
    """
    wanted = {} if design.raw else _indexes(design)
    text = "SELECT sql FROM sqlite_master WHERE type = 'index' AND name = ?"

    def own(kind: str) -> bool:
        there = db.execute(text, (_index(kind, design.name),)).fetchone()
        return kind in wanted and there == (wanted[kind],)

    free, waiting = (
        f'"{_index(kind, design.name)}"' if own(kind) else for_all
        for kind, for_all in zip(("free", "waiting"), _FOR_ALL, strict=True)
    )
    return free, waiting


_FOR_ALL = ("documents_free", "documents_waiting")

_KINDS = {
    "view": ("state, id", ""),
    "free": ("number, not_before", f"{FREE_TOKENS} AND "),
    "waiting": ("not_before", f"{WAITING_TOKENS} AND "),
}
"""Indexes of a design: columns, and which of its tokens beside its own condition."""


def _indexes(design: Design) -> dict[str, str]:
    """The statements that make a design's indexes; without any, all rows are looked through.

    An index cannot hold the subquery that odd field names need.
    """
    condition = "" if design.where is None else design.where.sql()
    if not condition or "SELECT" in condition:
        return {}
    return {
        kind: f'CREATE INDEX "{_index(kind, design.name)}" ON documents ({columns}) '
        f"WHERE {which}({condition})"
        for kind, (columns, which) in _KINDS.items()
    }


def _index(kind: str, name: str) -> str:
    return f"{kind} {name.encode().hex()}"


def _all(db: sqlite3.Connection) -> Iterator[Design]:
    """Every design that there is, by name."""
    rows = db.execute(
        "SELECT id, body FROM documents WHERE id >= ? AND id < ? ORDER BY id",
        (_PREFIX, f"{_PREFIX}\U0010ffff"),
    )
    return (_read(doc_id, body) for doc_id, body in rows)


def _read(doc_id: str, body: str) -> Design:
    return Design.from_document({"_id": doc_id, **json.loads(body)})
