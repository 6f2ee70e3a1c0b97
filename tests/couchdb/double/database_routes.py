"""What is asked of a database as a whole, and of its views."""

import bisect
import itertools
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.couchdb.double import document_routes
from tests.couchdb.double.auth import is_database_admin
from tests.couchdb.double.changes import answer_changes
from tests.couchdb.double.database import Attached, Database, Revision, render
from tests.couchdb.double.edits import check_size, read_edit
from tests.couchdb.double.http import Json, Refusal, Reply, Request, bad_request
from tests.couchdb.double.query import UNSET, Query, read_query
from tests.couchdb.double.views import open_index, read_view

if TYPE_CHECKING:
    from tests.couchdb.double.server import DoubleCouch

Route = Callable[["DoubleCouch", Request, Database], Reply]


def answer(couch: "DoubleCouch", request: Request, database: Database) -> Reply:
    """Answer a request to a database."""
    rest = [part for part in request.parts[1:] if part]
    if not rest:
        return _database(couch, request, database)
    if len(rest) == 1 and rest[0] in _ROUTES:
        return _ROUTES[rest[0]](couch, request, database)
    if len(rest) == 4 and rest[0] == "_design" and rest[2] == "_view":
        return _view(request, database, rest[1], rest[3])
    if request.method == "POST" and rest[0].startswith("_"):
        raise Refusal(501, "not_implemented", f"the test double has no {rest[0]}")
    return document_routes.answer(couch, request, database, rest)


def _database(couch: "DoubleCouch", request: Request, database: Database) -> Reply:
    request.allow("DELETE", "GET", "HEAD", "POST")
    if request.method == "POST":
        return _create(couch, request, database)
    count, deleted = database.counts()
    info = {
        "instance_start_time": "0",
        "db_name": database.name,
        "purge_seq": "0-",
        "update_seq": database.seq_text(),
        "sizes": {"file": 0, "external": 0, "active": 0},
        "props": {},
        "doc_del_count": deleted,
        "doc_count": count,
        "disk_format_version": 8,
        "compact_running": False,
        "cluster": {"q": 1, "n": 1, "w": 1, "r": 1},
    }
    return Reply(200, info)


def _create(couch: "DoubleCouch", request: Request, database: Database) -> Reply:
    """POST of one document to the database; CouchDB makes up the id where there is none."""
    sent = request.json_object()
    edit = read_edit({"_id": secrets.token_hex(16), **sent})
    check_size(edit, couch.setting("couchdb/max_document_size"), sent.get("_id", ""))
    return document_routes.write_one(request, database, edit, etag=False)


def _bulk_docs(couch: "DoubleCouch", request: Request, database: Database) -> Reply:
    request.allow("POST")
    body = request.json_object()
    if "docs" not in body:
        raise bad_request("POST body must include `docs` parameter.")
    if not isinstance(body["docs"], list):
        raise bad_request("`docs` parameter must be an array.")
    if body.get("all_or_nothing") or body.get("new_edits") is False:
        raise Refusal(417, "not_implemented", "the double takes plain edits only")
    limit = couch.setting("couchdb/max_document_size")
    edits = [read_edit(doc) for doc in body["docs"]]
    for edit in edits:
        check_size(edit, limit, edit.id)
    admin = is_database_admin(request, database)
    allowed = [admin or not edit.id.startswith("_design/") for edit in edits]
    written = iter(document_routes.write_many(database, list(itertools.compress(edits, allowed))))
    refused = Refusal(403, "forbidden", "You are not a db or server admin.")
    results = [next(written) if ok else refused for ok in allowed]
    return Reply(201, [_result(e.id, done) for e, done in zip(edits, results, strict=True)])


def _result(doc_id: str, done: Revision | Refusal) -> Json:
    if isinstance(done, Refusal):
        return {"id": doc_id, "error": done.error, "reason": done.reason}
    return {"ok": True, "id": doc_id, "rev": done.rev}


def _bulk_get(couch: "DoubleCouch", request: Request, database: Database) -> Reply:
    request.allow("POST")
    docs = request.json_object().get("docs")
    if not isinstance(docs, list):
        raise bad_request("Missing JSON list of 'docs'.")
    attached: Attached = "data" if request.query.get("attachments") == "true" else "stubs"
    found = [_got(database, wanted, attached) for wanted in docs]
    return Reply(200, {"results": found})


def _got(database: Database, wanted: dict[str, Json], attached: Attached) -> Json:
    doc_id, rev = wanted.get("id"), wanted.get("rev")
    error = {"rev": rev, "reason": "missing", "id": doc_id, "error": "not_found"}
    if not isinstance(doc_id, str):
        error |= {"reason": "document must be a JSON object", "error": "bad_request"}
        return {"id": doc_id, "docs": [{"error": error}]}
    try:
        revision = database.read(doc_id, rev) if rev else database.newest(doc_id)
    except Refusal:
        revision = None
    if revision is None:
        return {"id": doc_id, "docs": [{"error": error | {"rev": rev or "undefined"}}]}
    return {"id": doc_id, "docs": [{"ok": render(doc_id, revision, attached)}]}


def _all_docs(couch: "DoubleCouch", request: Request, database: Database) -> Reply:
    request.allow("GET", "HEAD", "POST")
    query = read_query(request, all_docs=True)
    stop = None if query.limit is None else query.skip + query.limit
    with database.changed:
        total, offset = len(database.ids), None
        if query.keys is not None:
            chosen = list(reversed(query.keys)) if query.descending else query.keys
        else:
            start, end = _range(database.ids, query)
            chosen = [key.decode() for key in database.ids[start:end]]
            if query.descending:
                chosen.reverse()
            offset = min((total - end if query.descending else start) + query.skip, total)
        rows = [_doc_row(database, doc_id, query) for doc_id in chosen[query.skip : stop]]
    answer: dict[str, Json] = {"total_rows": total, "offset": offset, "rows": rows}
    if query.update_seq:
        answer["update_seq"] = database.seq_text()
    return Reply(200, answer)


def _range(ids: list[bytes], query: Query) -> tuple[int, int]:
    """The slice of all ids that is asked for."""
    low, high = query.startkey, query.endkey
    if query.key is not UNSET:
        low = high = query.key
    if any(key is not UNSET and not isinstance(key, str) for key in (low, high)):
        return (len(ids), len(ids)) if query.descending else (0, 0)
    exclusive = not query.inclusive_end and query.key is UNSET
    if query.descending:
        start = 0 if high is UNSET else _place(ids, high, behind=exclusive)
        end = len(ids) if low is UNSET else _place(ids, low, behind=True)
        return min(start, end), end
    start = 0 if low is UNSET else _place(ids, low, behind=False)
    end = len(ids) if high is UNSET else _place(ids, high, behind=not exclusive)
    return start, max(start, end)


def _place(ids: list[bytes], key: str, *, behind: bool) -> int:
    return (bisect.bisect_right if behind else bisect.bisect_left)(ids, key.encode())


def _doc_row(database: Database, doc_id: Json, query: Query) -> Json:
    revision = database.newest(doc_id) if isinstance(doc_id, str) else None
    if revision is None:
        return {"key": doc_id, "error": "not_found"}
    value: dict[str, Json] = {"rev": revision.rev}
    if revision.deleted:
        value["deleted"] = True
    row: dict[str, Json] = {"id": doc_id, "key": doc_id, "value": value}
    if query.include_docs:
        attached: Attached = "data" if query.attachments else "stubs"
        row["doc"] = None if revision.deleted else render(doc_id, revision, attached)
    return row


def _view(request: Request, database: Database, design: str, view: str) -> Reply:
    request.allow("GET", "POST", "HEAD")
    query = read_query(request)
    with database.changed:
        index = open_index(database, design, view)
        if query.update == "true":
            index.refresh(database)
        answer = read_view(database, index, view, query)
        if query.update == "lazy":
            index.refresh(database)
    return Reply(200, answer)


def _changes(couch: "DoubleCouch", request: Request, database: Database) -> Reply:
    request.allow("GET", "HEAD", "POST")
    return answer_changes(request, database)


def _security(couch: "DoubleCouch", request: Request, database: Database) -> Reply:
    request.allow("PUT", "GET")
    if request.method == "GET":
        return Reply(200, database.security)
    if database.name == "_users":
        reason = "You can't edit the security object of the user database."
        raise Refusal(403, "forbidden", reason)
    sent = request.json()
    groups = sent.values() if isinstance(sent, dict) else [None]
    if not is_database_admin(request, database) or not all(isinstance(g, dict) for g in groups):
        raise Refusal(500, "error", "no_majority")
    database.security = sent
    return Reply(200, {"ok": True})


def _maintenance(couch: "DoubleCouch", request: Request, database: Database) -> Reply:
    """Compaction and its kin: nothing to do in memory."""
    request.allow("POST")
    if not is_database_admin(request, database):
        raise Refusal(401, "unauthorized", "You are not a server or db admin.")
    request.json_object()
    return Reply(202, {"ok": True})


_ROUTES: dict[str, Route] = {
    "_bulk_docs": _bulk_docs,
    "_bulk_get": _bulk_get,
    "_all_docs": _all_docs,
    "_changes": _changes,
    "_security": _security,
    "_compact": _maintenance,
    "_view_cleanup": _maintenance,
}
