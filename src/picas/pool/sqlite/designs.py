"""Views of the embedded store: conditions in SQL, and indexes for those that have one."""

import sqlite3
from dataclasses import dataclass

from picas.errors import Unsupported, ViewMissing
from picas.pool.sqlite.file import FREE_TOKENS, WAITING_TOKENS, document
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


@dataclass(frozen=True, slots=True)
class _Known:
    """A design as it was read, and the indexes for its free and its waiting tokens."""

    rev: str
    design: Design
    free: str
    waiting: str


class Designs:
    """The designs of one file, read again where they were changed.

    Args:
        url: Where the file is, as a person would write it.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._known: dict[str, _Known] = {}

    def sql(self, db: sqlite3.Connection, view: str) -> str:
        """The condition of a view on a row.

        Raises:
            ViewMissing: There is none; names those that there are.
            Unsupported: It is JavaScript.
        """
        return self._look_up(db, view)[1]

    def free(self, db: sqlite3.Connection, view: str) -> Free:
        """The free tokens of a view.

        To be used in the same transaction, for the index goes with its design.

        Raises:
            ViewMissing: There is none; names those that there are.
            Unsupported: It is JavaScript.
        """
        known, condition = self._look_up(db, view)
        return Free(
            f"documents INDEXED BY {known.free} WHERE {FREE_TOKENS} AND {condition} "
            "AND not_before <= ? AND number > ? ORDER BY number",
            f"documents INDEXED BY {known.waiting} WHERE {WAITING_TOKENS} AND {condition} "
            "AND not_before > ? ORDER BY not_before",
        )

    def _look_up(self, db: sqlite3.Connection, view: str) -> tuple[_Known, str]:
        """The design of a view, and the view's condition."""
        name, part = split(view)
        known = self._design(db, name)
        if known is None or part not in known.design.views:
            there = map(Design.from_document, documents(db).values())
            names = [f"{d.name}/{v}" for d in there for v in d.views if v != FREE]
            raise ViewMissing(f"no view {view!r} in {self._url}; there are: {', '.join(names)}")
        if known.design.raw:
            raise Unsupported(
                f"{view} is a JavaScript view, which the embedded store cannot run; make it with "
                "'picas views add NAME --where CONDITION', or use a CouchDB pool"
            )
        return known, f"({known.design.sql(part)})"

    def _design(self, db: sqlite3.Connection, name: str) -> _Known | None:
        text = "SELECT id, rev, body FROM documents WHERE id = ?"
        row = db.execute(text, (f"{_PREFIX}{name}",)).fetchone()
        if row is None:
            return None
        known = self._known.get(name)
        if known is None or known.rev != row[1]:
            design = Design.from_document(document(row))
            free, waiting = (_usable(db, design, kind) for kind in ("free", "waiting"))
            known = self._known[name] = _Known(row[1], design, free, waiting)
        return known


def documents(db: sqlite3.Connection) -> dict[str, Document]:
    """All design documents, by name, in the order of the names."""
    rows = db.execute(
        "SELECT id, rev, body FROM documents WHERE id >= ? AND id < ? ORDER BY id",
        (_PREFIX, f"{_PREFIX}\U0010ffff"),
    )
    return {row[0].removeprefix(_PREFIX): document(row) for row in rows}


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


def _usable(db: sqlite3.Connection, design: Design, kind: str) -> str:
    """The index to be used for the free, or the waiting, tokens of a design's views.

    That of all tokens serves any: tokens of other conditions are read and passed over. So it is
    used, too, where the index in the file is not the one that would be made today.
    """
    name = _index(kind, design.name)
    text = "SELECT sql FROM sqlite_master WHERE type = 'index' AND name = ?"
    there = db.execute(text, (name,)).fetchone()
    own = there is not None and there[0] == _indexes(design).get(kind)
    return f'"{name}"' if own else f"documents_{kind}"


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
