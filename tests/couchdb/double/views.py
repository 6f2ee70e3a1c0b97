"""View indexes: built when asked for, brought up to date by what changed, read in key order."""

import bisect
import json
from collections.abc import Iterable, Iterator
from typing import Any

from tests.couchdb.double.collation import sort_key, term_key
from tests.couchdb.double.database import Attached, Database, Revision, render
from tests.couchdb.double.http import Json, Refusal, not_found
from tests.couchdb.double.javascript import Engine
from tests.couchdb.double.query import EXACT, UNSET, Query, parse_error
from tests.couchdb.double.reduce import BUILT_IN, reduce_rows

Entry = tuple[Any, bytes, int, Json, Json]
"""A row of an index: sort key, id in bytes, rank among that id's rows, key, value."""

_BATCH = 500
_LOWEST: tuple[Any, ...] = (-1,)
_HIGHEST: tuple[Any, ...] = (9,)
_AFTER_ANY_ID = b"\xff" * 4


class Index:
    """The index of one design document's views.

    Attributes:
        seq: The write up to which it knows the database.
        rows: The rows of each view, in order.
    """

    def __init__(self, design: dict[str, Json]) -> None:
        self.views: dict[str, Json] = design.get("views", {})
        self.options = design.get("options", {})
        self.engine = Engine(self.views)
        self.seq = 0
        self.rows: dict[str, list[Entry]] = {name: [] for name in self.views}
        self._emitted: dict[str, dict[str, list[Entry]]] = {}

    def refresh(self, database: Database) -> None:
        """Bring it up to date."""
        with database.changed:
            changed = list(database.changes(self.seq))
            first = self.seq == 0
            for start in range(0, len(changed), _BATCH):
                batch = changed[start : start + _BATCH]
                self._take({c.id: c.revision for c in batch}, sort=not first)
            if first:
                for rows in self.rows.values():
                    rows.sort(key=_order)
            self.seq = database.seq

    def _take(self, revisions: dict[str, Revision], *, sort: bool) -> None:
        for doc_id in revisions:
            for name, entries in self._emitted.pop(doc_id, {}).items():
                for entry in entries:
                    del self.rows[name][_place(self.rows[name], entry)]
        shown = {i: r for i, r in revisions.items() if not r.deleted and self._sees(i)}
        mapped = self.engine.map([render(i, r) for i, r in shown.items()])
        for doc_id, per_view in zip(shown, mapped, strict=True):
            emitted = self._emitted.setdefault(doc_id, {})
            for name, pairs in zip(self.engine.names, per_view, strict=True):
                emitted[name] = _entries(doc_id, pairs)
                for entry in emitted[name]:
                    rows = self.rows[name]
                    rows.insert(_place(rows, entry) if sort else len(rows), entry)

    def _sees(self, doc_id: str) -> bool:
        return not doc_id.startswith("_design/") or bool(self.options.get("include_design"))


def _entries(doc_id: str, pairs: list[tuple[Json, Json]]) -> list[Entry]:
    # Several rows with one key are in the order of their values, as Erlang orders them.
    encoded = doc_id.encode()
    ordered = sorted(pairs, key=lambda pair: term_key(pair[1]))
    return [(sort_key(k), encoded, rank, k, v) for rank, (k, v) in enumerate(ordered)]


def _order(entry: Entry) -> tuple[Any, bytes, int]:
    return entry[:3]


def _place(rows: list[Entry], entry: Entry) -> int:
    return bisect.bisect_left(rows, entry[:3], key=_order)


def check_design(doc: dict[str, Json]) -> None:
    """Refuse a design document that CouchDB would not store."""
    views = doc.get("views", {})
    if not isinstance(views, dict):
        raise Refusal(400, "invalid_design_doc", "`views` field must have object type")
    for name, view in views.items():
        if not isinstance(view, dict) or "map" not in view:
            reason = f"View `{name}` must contain map function"
            raise Refusal(400, "invalid_design_doc", reason)
        if doc.get("language", "javascript") != "javascript":
            return
        if not isinstance(view["map"], str):
            reason = f"`views.{name}.map` field must have string type"
            raise Refusal(400, "invalid_design_doc", reason)
        reduce = view.get("reduce", "")
        if reduce.startswith("_") and reduce not in BUILT_IN:
            reason = f"`{reduce}` is not a supported reduce function."
            raise Refusal(400, "invalid_design_doc", reason)
    Engine(views)


def open_index(database: Database, design: str, view: str) -> Index:
    """The index that holds a view; designs with the same views share one, as in CouchDB."""
    doc = database.read(f"_design/{design}").body
    if view not in doc.get("views", {}):
        raise not_found("missing_named_view")
    if (language := doc.get("language", "javascript")) != "javascript":
        raise Refusal(500, "unknown_query_language", language)
    signature = json.dumps([doc.get("views"), doc.get("options")], sort_keys=True)
    index = database.indexes.get(signature)
    if not isinstance(index, Index):
        index = database.indexes[signature] = Index(doc)
    return index


def read_view(database: Database, index: Index, view: str, query: Query) -> Json:
    """Answer a query from an index as it stands."""
    reduce = index.views[view].get("reduce")
    if reduce is None or query.reduce is False:
        if query.reduce or query.group_level is not None:
            raise _no_reduce(query, exists=reduce is not None)
        return _map_answer(database, index, view, query)
    if query.include_docs:
        raise parse_error("`include_docs` is invalid for reduce")
    return {"rows": list(_reduced(index, view, reduce, query))}


def _no_reduce(query: Query, *, exists: bool) -> Refusal:
    if query.reduce and not exists:
        return parse_error("Reduce is invalid for map-only views.")
    return parse_error("Invalid use of grouping on a map view.")


def _map_answer(database: Database, index: Index, view: str, query: Query) -> Json:
    rows = index.rows[view]
    ranges = list(_ranges(rows, query))
    chosen = [row for start, stop in ranges for row in _walk(rows, start, stop, query.descending)]
    first = ranges[0] if ranges else (0, 0)
    before = len(rows) - first[1] if query.descending else first[0]
    stop = None if query.limit is None else query.skip + query.limit
    answer: dict[str, Json] = {
        "total_rows": len(rows),
        "offset": min(before + query.skip, len(rows)) if ranges else 0,
    }
    if query.update_seq:
        answer["update_seq"] = database.seq_text(index.seq)
    answer["rows"] = [_row(database, row, query) for row in chosen[query.skip : stop]]
    return answer


def _ranges(rows: list[Entry], query: Query) -> Iterator[tuple[int, int]]:
    """The slices of an index that a query wants, in the order wanted."""
    if query.keys is not None:
        for key in reversed(query.keys) if query.descending else query.keys:
            wanted = sort_key(key)
            yield _position(rows, (wanted, b"", 0)), _position(rows, (wanted, _AFTER_ANY_ID, 0))
        return
    low, low_id, high, high_id = query.startkey, query.startkey_docid, query.endkey, None
    high_id = query.endkey_docid
    if query.key is not UNSET:
        low = high = query.key
    if query.descending:
        low, low_id, high, high_id = high, high_id, low, low_id
    bottom = _LOWEST if low is UNSET else sort_key(low)
    top = _HIGHEST if high is UNSET else sort_key(high)
    if bottom > top:
        reason = "No rows can match your key range, reverse your start_key and end_key or set "
        raise parse_error(f"{reason}descending={'false' if query.descending else 'true'}")
    exclusive = not query.inclusive_end and query.key is UNSET
    yield _edges(rows, (bottom, low_id), (top, high_id), query.descending, exclusive)


def _edges(
    rows: list[Entry],
    low: tuple[Any, str | None],
    high: tuple[Any, str | None],
    descending: bool,
    exclusive: bool,
) -> tuple[int, int]:
    """Positions of a range's two ends; the end that is left out is the last one walked to."""
    below = (low[1] or "").encode()
    above = _AFTER_ANY_ID if high[1] is None else high[1].encode() + b"\x00"
    if exclusive and descending:
        below = _AFTER_ANY_ID
    elif exclusive:
        above = b""
    start = _position(rows, (low[0], below, 0))
    return start, max(start, _position(rows, (high[0], above, 0)))


def _position(rows: list[Entry], order: tuple[Any, bytes, int]) -> int:
    return bisect.bisect_left(rows, order, key=_order)


def _walk(rows: list[Entry], start: int, stop: int, descending: bool) -> Iterable[Entry]:
    piece = rows[start:stop]
    if not descending:
        return piece
    # Backwards by key and id; rows of one key and id keep their order among themselves.
    piece.sort(key=lambda row: row[2], reverse=True)
    piece.sort(key=lambda row: row[:2])
    return reversed(piece)


def _row(database: Database, entry: Entry, query: Query) -> Json:
    doc_id = entry[1].decode()
    row: dict[str, Json] = {"id": doc_id, "key": entry[3], "value": entry[4]}
    if query.include_docs:
        linked = entry[4].get("_id") if isinstance(entry[4], dict) else None
        found = database.newest(linked or doc_id)
        there = found is not None and not found.deleted
        attached: Attached = "data" if query.attachments else "stubs"
        row["doc"] = render(linked or doc_id, found, attached) if found and there else None
    return row


def _reduced(index: Index, view: str, reduce: str, query: Query) -> Iterator[Json]:
    rows = index.rows[view]
    level = query.group_level or 0
    if query.keys and len(query.keys) > 1 and level < EXACT:
        raise parse_error("Multi-key fetches for reduce views must use `group=true`")
    chosen = [
        row
        for start, stop in _ranges(rows, query)
        for row in _walk(rows, start, stop, query.descending)
    ]
    groups: list[tuple[Json, list[Entry]]] = []
    for row in chosen:
        key = _group(row[3], level)
        if not groups or sort_key(groups[-1][0]) != sort_key(key):
            groups.append((key, []))
        groups[-1][1].append(row)
    stop = None if query.limit is None else query.skip + query.limit
    for key, members in groups[query.skip : stop]:
        pairs = [([row[3], row[1].decode()], row[4]) for row in members]
        yield {"key": key, "value": reduce_rows(index.engine, view, reduce, pairs)}


def _group(key: Json, level: int) -> Json:
    if not level:
        return None
    return key[:level] if isinstance(key, list) else key
