"""Attachments of the embedded store: pieces in a table, stubs in the document."""

import base64
import binascii
import hashlib
import io
import sqlite3
from collections.abc import Iterator
from typing import IO, Any

from picas.errors import Refused, TokenMissing
from picas.pool.settle import content_type
from picas.token import Document

PIECE = 1 << 20
"""Bytes a row: keeps memory flat whatever the attachment's size."""

LAYOUT = """
CREATE TABLE attachments (
    doc   TEXT NOT NULL,
    name  TEXT NOT NULL,
    piece INTEGER NOT NULL,
    data  BLOB NOT NULL,
    PRIMARY KEY (doc, name, piece)
)
"""


def store(db: sqlite3.Connection, doc_id: str, body: Document, generation: int) -> None:
    """Bring the stored attachments in line with a document's ``_attachments``, which become stubs.

    Raises:
        TokenMissing: A stub names an attachment that is not there.
        Refused: An entry is neither a stub nor base64 text.
    """
    wanted = body.pop("_attachments", None) or {}
    if not wanted and generation == 1:
        return
    rows = db.execute("SELECT DISTINCT name FROM attachments WHERE doc = ?", (doc_id,))
    there = {name for (name,) in rows}
    for name in there:
        if name not in wanted or "data" in wanted[name]:
            drop(db, doc_id, name)
    stubs: dict[str, Any] = {}
    for name, entry in wanted.items():
        if "data" in entry:
            data = io.BytesIO(_decoded(doc_id, name, entry["data"]))
            kind = entry.get("content_type")
            stubs[name] = _insert(db, doc_id, name, data, generation, kind)
        elif name in there:
            stubs[name] = entry
        else:
            raise TokenMissing(f"{doc_id!r} has no attachment {name!r} to keep")
    if stubs:
        body["_attachments"] = stubs


def write(
    db: sqlite3.Connection, doc_id: str, name: str, stream: IO[bytes], generation: int
) -> dict[str, Any]:
    """Store a stream as an attachment, a piece at a time; returns its stub, as CouchDB has it."""
    drop(db, doc_id, name)
    return _insert(db, doc_id, name, stream, generation)


def _insert(
    db: sqlite3.Connection,
    doc_id: str,
    name: str,
    stream: IO[bytes],
    generation: int,
    kind: str | None = None,
) -> dict[str, Any]:
    """Store an attachment that is not there."""
    digest, length, number = hashlib.md5(usedforsecurity=False), 0, 0
    # An empty attachment is one empty piece: that it exists is told by its rows.
    while (data := stream.read(PIECE)) or number == 0:
        db.execute("INSERT INTO attachments VALUES (?, ?, ?, ?)", (doc_id, name, number, data))
        digest.update(data)
        length += len(data)
        number += 1
    return {
        "content_type": kind or content_type(name),
        "revpos": generation,
        "digest": "md5-" + base64.b64encode(digest.digest()).decode(),
        "length": length,
        "stub": True,
    }


def exists(db: sqlite3.Connection, doc_id: str, name: str) -> bool:
    """Tell whether there is such an attachment."""
    query = "SELECT 1 FROM attachments WHERE doc = ? AND name = ? LIMIT 1"
    return db.execute(query, (doc_id, name)).fetchone() is not None


def pieces(db: sqlite3.Connection, doc_id: str, name: str) -> Iterator[bytes]:
    """The bytes of an attachment, a piece at a time."""
    query = "SELECT data FROM attachments WHERE doc = ? AND name = ? AND piece = ?"
    number = 0
    while (row := db.execute(query, (doc_id, name, number)).fetchone()) is not None:
        yield row[0]
        number += 1


def drop(db: sqlite3.Connection, doc_id: str, name: str | None = None) -> None:
    """Delete one attachment of a document, or all of them."""
    if name is None:
        db.execute("DELETE FROM attachments WHERE doc = ?", (doc_id,))
    else:
        db.execute("DELETE FROM attachments WHERE doc = ? AND name = ?", (doc_id, name))


def _decoded(doc_id: str, name: str, data: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError, TypeError) as error:
        raise Refused(f"attachment {name!r} of {doc_id!r} is not base64 text") from error
