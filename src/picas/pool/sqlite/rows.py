"""The rows of a view, with the parameters that CouchDB's views have.

Keys are ids here (the names of states in ``overview_total``), and are ordered by code point.
"""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from picas.errors import Refused, Unsupported
from picas.pool.base import Query, Rows
from picas.pool.sqlite.file import document
from picas.views import FREE, OVERVIEW, split

ALL = "_all_docs"

_SAME = {"start_key": "startkey", "end_key": "endkey"}
_KNOWN = frozenset(
    (
        *("key", "keys", "startkey", "endkey", "startkey_docid", "endkey_docid", "inclusive_end"),
        *("limit", "skip", "descending", "include_docs", "reduce", "group", "group_level"),
    )
)
_IGNORED = frozenset(("stale", "update", "stable", "sorted", "update_seq", "conflicts"))
"""What makes no difference here: a view is always up to date, and there is one copy of it."""

_Row = dict[str, Any]


def select(db: sqlite3.Connection, view: str, where: str, query: Query) -> Rows:
    """Rows of a view.

    Args:
        db: The database.
        view: Its name.
        where: Its condition, in SQL.
        query: See `picas.pool.base.Store.rows`.

    Raises:
        Refused: A parameter cannot be.
        Unsupported: The view is one for pilots.
    """
    wanted = _read(query)
    part = view if view == ALL else split(view)[1]
    if part == FREE:
        raise Unsupported(f"{view} is for pilots, who look for work in it; read todo instead")
    if part == OVERVIEW:
        return _overview(db, where, wanted)
    if wanted.get("reduce") or wanted.get("group") or wanted.get("group_level"):
        raise Refused(f"{view} has no reduce function; leave 'reduce' and 'group' out")
    return _by_id(db, where, wanted, of_all=part == ALL)


def _read(query: Query) -> dict[str, Any]:
    """The parameters that matter, by their usual names."""
    wanted: dict[str, Any] = {}
    for given, value in query.items():
        name = _SAME.get(given, given)
        if name in _IGNORED or value is None:
            continue
        if name not in _KNOWN:
            raise Refused(f"a view has no parameter {given!r}; it has: {', '.join(sorted(_KNOWN))}")
        wanted[name] = value
    for name in ("limit", "skip"):
        if name in wanted and not (str(wanted[name]).isdigit()):
            raise Refused(f"{name}={wanted[name]!r} is no number of rows")
    return wanted


def _by_id(db: sqlite3.Connection, where: str, wanted: Mapping[str, Any], *, of_all: bool) -> Rows:
    body = "body" if wanted.get("include_docs") else "NULL"
    limit, skip = int(wanted.get("limit", -1)), int(wanted.get("skip", 0))
    (total,) = db.execute(f"SELECT count(*) FROM documents WHERE {where}").fetchone()
    if "keys" in wanted:
        keys = list(wanted["keys"])
        text = f"SELECT id, rev, {body} FROM documents WHERE ({where}) AND id = ?"
        found = [row for key in keys for row in db.execute(text, (key,))]
        if wanted.get("descending"):
            found.reverse()
        return Rows([_row(r, of_all=of_all) for r in _cut(found, skip, limit)], total, 0)
    bounds, values = _bounds(wanted)
    order = "DESC" if wanted.get("descending") else "ASC"
    before = 0
    if (start := wanted.get("key", wanted.get("startkey"))) is not None:
        sign = ">" if wanted.get("descending") else "<"
        earlier = f"SELECT count(*) FROM documents WHERE ({where}) AND id {sign} ?"
        (before,) = db.execute(earlier, (_key(start),)).fetchone()
    selected = db.execute(
        f"SELECT id, rev, {body} FROM documents WHERE ({where}){bounds} "
        f"ORDER BY id {order} LIMIT ? OFFSET ?",
        (*values, limit, skip),
    )
    return Rows([_row(row, of_all=of_all) for row in selected], total, min(before + skip, total))


def _bounds(wanted: Mapping[str, Any]) -> tuple[str, list[str]]:
    """The part of the view that is asked for, in SQL."""
    low, high = ("<=", ">=") if wanted.get("descending") else (">=", "<=")
    if not wanted.get("inclusive_end", True):
        high = high.rstrip("=")
    signs = {"key": "=", "startkey": low, "endkey": high}
    if "key" in wanted:
        signs = {"key": "="}
    given = [(sign, _key(wanted[name])) for name, sign in signs.items() if name in wanted]
    return "".join(f" AND id {sign} ?" for sign, _ in given), [key for _, key in given]


def _key(value: Any) -> str:
    """A key to compare ids with: other kinds of keys stand before all texts, or behind them."""
    if isinstance(value, str):
        return value
    return "" if value is None or isinstance(value, bool | int | float) else "\U0010ffff"


def _row(row: Sequence[Any], *, of_all: bool = False) -> _Row:
    doc_id, rev, body = row
    made: _Row = {"id": doc_id, "key": doc_id, "value": {"rev": rev} if of_all else doc_id}
    if body is not None:
        made["doc"] = document(row)
    return made


def _overview(db: sqlite3.Connection, where: str, wanted: Mapping[str, Any]) -> Rows:
    """``overview_total``: a row a token, or their number, in all or for each state."""
    inside = _inside(wanted)
    limit, skip = int(wanted.get("limit", -1)), int(wanted.get("skip", 0))
    order = "DESC" if wanted.get("descending") else "ASC"
    if wanted.get("reduce", True):
        text = f"SELECT state, count(*) FROM documents WHERE {where} GROUP BY state"
        counted = [(s, n) for s, n in db.execute(f"{text} ORDER BY state {order}") if inside(s)]
        if not (wanted.get("group") or wanted.get("group_level")):
            total = sum(number for _, number in counted)
            counted = [(None, total)] if counted else []
        rows = [{"key": key, "value": number} for key, number in counted]
        return Rows(_cut(rows, skip, limit))
    body = "body" if wanted.get("include_docs") else "NULL"
    text = f"SELECT id, rev, {body}, state FROM documents WHERE {where}"
    every = db.execute(f"{text} ORDER BY state {order}, id {order}").fetchall()
    rows = [{**_row(row[:3]), "key": row[3], "value": 1} for row in every if inside(row[3])]
    return Rows(_cut(rows, skip, limit), len(every), skip)


def _inside(wanted: Mapping[str, Any]) -> Callable[[str], bool]:
    """Tells whether a state is among the keys that are asked for."""
    down = bool(wanted.get("descending"))
    low, high = wanted.get("startkey"), wanted.get("endkey")
    low, high = (high, low) if down else (low, high)
    keys = wanted.get("keys", [wanted["key"]] if "key" in wanted else None)

    def inside(state: str) -> bool:
        if keys is not None:
            return state in keys
        return (low is None or _key(low) <= state) and (high is None or state <= _key(high))

    return inside


def _cut(rows: Sequence[Any], skip: int, limit: int) -> Sequence[Any]:
    return rows[skip:] if limit < 0 else rows[skip : skip + limit]
