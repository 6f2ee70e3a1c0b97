"""What is asked of one document and of its attachments."""

import dataclasses
import secrets
from typing import TYPE_CHECKING
from urllib.parse import quote

from tests.couchdb.double.auth import need_database_admin, with_password
from tests.couchdb.double.database import Database, Revision, render
from tests.couchdb.double.edits import (
    Attachment,
    Edit,
    check_attachment_name,
    check_id,
    check_rev,
    check_size,
    read_edit,
    store_attachment,
)
from tests.couchdb.double.http import (
    Json,
    Refusal,
    Reply,
    Request,
    conflict,
    dump_json,
    not_found,
)
from tests.couchdb.double.views import check_design

if TYPE_CHECKING:
    from tests.couchdb.double.server import DoubleCouch


def answer(couch: "DoubleCouch", request: Request, database: Database, rest: list[str]) -> Reply:
    """Answer a request to a document or an attachment."""
    if rest[0] in ("_design", "_local") and len(rest) > 1:
        rest = [f"{rest[0]}/{rest[1]}", *rest[2:]]
    doc_id = rest[0]
    if doc_id.startswith("_local/"):
        return _local(request, database, doc_id)
    if len(rest) > 1:
        return _attachment(couch, request, database, doc_id, "/".join(rest[1:]))
    request.allow("DELETE", "GET", "HEAD", "POST", "PUT", "COPY")
    if request.method in ("GET", "HEAD"):
        return _read(request, database, doc_id)
    if request.method == "DELETE":
        with database.changed:
            database.read(doc_id)
            edit = Edit(doc_id, _given_rev(request), {}, deleted=True)
            return write_one(request, database, edit, status=200)
    check_id(doc_id)
    edit = read_edit(request.json(), doc_id=doc_id, rev=_given_rev(request))
    sent = request.json()
    check_size(edit, couch.setting("couchdb/max_document_size"), sent.get("_id", ""))
    return write_one(request, database, edit)


def write_many(database: Database, edits: list[Edit]) -> list[Revision | Refusal]:
    """Apply edits, each with its own outcome; documents under ``_local/`` have no history."""
    prepared = [_prepare(database, edit) for edit in edits]
    stored = iter(database.update([e for e in prepared if not e.id.startswith("_local/")]))
    return [
        _write_local(database, e) if e.id.startswith("_local/") else next(stored) for e in prepared
    ]


def write_one(
    request: Request, database: Database, edit: Edit, *, status: int = 201, etag: bool = True
) -> Reply:
    """Apply one edit and answer with its revision."""
    if edit.id.startswith("_design/"):
        need_database_admin(request, database)
    (done,) = write_many(database, [edit])
    if isinstance(done, Refusal):
        raise done
    headers = {"Location": f"/{database.name}/{quote(edit.id, safe='')}"} if status == 201 else {}
    if etag:
        headers["ETag"] = f'"{done.rev}"'
    body = {"ok": True, "id": edit.id, "rev": done.rev}
    return Reply(200 if edit.deleted else status, body, headers)


def _prepare(database: Database, edit: Edit) -> Edit:
    """What happens to a document on its way in: users' passwords, designs' functions."""
    if edit.id.startswith("_design/") and not edit.deleted:
        check_design(edit.body)
    if database.name == "_users":
        return dataclasses.replace(edit, body=with_password(edit.body))
    return edit


def _given_rev(request: Request) -> str | None:
    rev = request.query.get("rev") or request.headers.get("if-match", "").strip('"')
    return check_rev(rev) if rev else None


def _read(request: Request, database: Database, doc_id: str) -> Reply:
    rev = request.query.get("rev")
    with database.changed:
        revision = database.read(doc_id, check_rev(rev) if rev is not None else None)
        doc = render(doc_id, revision)
        if request.query.get("attachments") == "true" and revision.attachments:
            return _with_attachments(request, doc_id, revision)
        if request.query.get("revs") == "true":
            doc["_revisions"] = _revisions(database, doc_id)
    etag = f'"{revision.rev}"'
    if request.headers.get("if-none-match") == etag:
        return Reply(304, b"", {"ETag": etag})
    return Reply(200, doc, {"ETag": etag})


def _revisions(database: Database, doc_id: str) -> Json:
    pairs = [revision.rev.split("-", 1) for revision in reversed(database.history(doc_id))]
    return {"start": int(pairs[0][0]), "ids": [pair[1] for pair in pairs]}


def _with_attachments(request: Request, doc_id: str, revision: Revision) -> Reply:
    """The document with its attachments: as JSON only for who asks for JSON by name."""
    accepted = [part.strip() for part in request.headers.get("accept", "").split(",")]
    if "application/json" in accepted:
        return Reply(200, render(doc_id, revision, "data"), {"ETag": f'"{revision.rev}"'})
    boundary = secrets.token_hex(16)
    document = dump_json(render(doc_id, revision, "follows"))
    parts = [b"Content-Type: application/json\r\n\r\n" + document]
    for name, attachment in revision.attachments.items():
        lines = [
            f'Content-Disposition: attachment; filename="{name}"',
            f"Content-Type: {attachment.content_type}",
            f"Content-Length: {len(attachment.data)}",
        ]
        if attachment.encoding:
            lines.append(f"Content-Encoding: {attachment.encoding}")
        parts.append("\r\n".join([*lines, "\r\n"]).encode() + attachment.data)
    mark = f"--{boundary}".encode()
    body = b"".join(mark + b"\r\n" + part + b"\r\n" for part in parts) + mark + b"--"
    kind = f'multipart/related; boundary="{boundary}"'
    return Reply(200, body, {"Content-Type": kind, "ETag": f'"{revision.rev}"'})


def _local(request: Request, database: Database, doc_id: str) -> Reply:
    if request.method == "PUT":
        edit = read_edit(request.json(), doc_id=doc_id, rev=_given_rev(request))
        return write_one(request, database, edit)
    with database.changed:
        doc = database.local.get(doc_id)
        if doc is None:
            raise not_found("missing")
        if request.method == "DELETE":
            del database.local[doc_id]
            return Reply(200, {"ok": True, "id": doc_id, "rev": "0-0"})
    return Reply(200, doc)


def _write_local(database: Database, edit: Edit) -> Revision:
    rev = f"0-{int(edit.rev.split('-')[1]) + 1 if edit.rev else 1}"
    with database.changed:
        database.local[edit.id] = {"_id": edit.id, "_rev": rev, **edit.body}
    return Revision(rev, edit.body, False, {})


def _attachment(
    couch: "DoubleCouch", request: Request, database: Database, doc_id: str, name: str
) -> Reply:
    request.allow("DELETE", "GET", "HEAD", "PUT")
    if request.method in ("GET", "HEAD"):
        return _read_attachment(request, database, doc_id, name)
    if doc_id.startswith("_design/"):
        need_database_admin(request, database)
    check_attachment_name(name)
    rev = _given_rev(request)
    with database.changed:
        newest = database.newest(doc_id)
        there = newest if newest is not None and not newest.deleted else None
        if rev is None and (there is not None or request.method == "DELETE"):
            raise conflict()
        if rev is not None and (there is None or not _knows(database, doc_id, rev)):
            raise Refusal(409, "not_found", "missing_rev")
        edit = Edit(doc_id, rev, there.body if there else {})
        kept: dict[str, Attachment] = dict(there.attachments) if there else {}
        if request.method == "DELETE":
            if name not in kept:
                raise not_found("Document is missing attachment")
            del kept[name]
        else:
            kept = {name: _sent(couch, request, name, edit.position)} | {
                other: attachment for other, attachment in kept.items() if other != name
            }
        status = 200 if request.method == "DELETE" else 201
        edit = dataclasses.replace(edit, attachments=dict(kept))
        return write_one(request, database, edit, status=status, etag=False)


def _knows(database: Database, doc_id: str, rev: str) -> bool:
    return any(revision.rev == rev for revision in database.history(doc_id))


def _sent(couch: "DoubleCouch", request: Request, name: str, revpos: int) -> Attachment:
    content_type = request.headers.get("content-type", "application/octet-stream")
    limit = couch.setting("couchdb/max_attachment_size")
    return store_attachment(name, request.body, content_type, revpos, limit)


def _read_attachment(request: Request, database: Database, doc_id: str, name: str) -> Reply:
    rev = request.query.get("rev")
    with database.changed:
        attachment = database.read(doc_id, rev).attachments.get(name)
    if attachment is None:
        raise not_found("Document is missing attachment")
    headers = {
        "Content-Type": attachment.content_type,
        "ETag": f'"{attachment.digest.removeprefix("md5-")}"',
        "Accept-Ranges": "none" if attachment.encoding else "bytes",
    }
    if attachment.encoding and "gzip" in request.headers.get("accept-encoding", ""):
        return Reply(200, attachment.data, headers | {"Content-Encoding": attachment.encoding})
    return Reply(200, attachment.content(), headers)
