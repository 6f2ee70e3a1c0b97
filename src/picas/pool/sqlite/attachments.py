"""Attachments of the embedded store: pieces in a table, stubs in the document."""

import base64
import binascii
import hashlib
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
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

_PUT = "INSERT INTO attachments VALUES (?, ?, ?, ?)"


@dataclass(slots=True)
class Batch:
    """Changes of the attachments of many documents, to be written together.

    Attributes:
        dropped: Document and name of what goes.
        added: What comes, piece by piece.
    """

    dropped: list[tuple[str, str]] = field(default_factory=list)
    added: list[tuple[str, str, int, bytes]] = field(default_factory=list)

    def add(self, more: "Batch") -> None:
        """Take another document's changes along."""
        self.dropped += more.dropped
        self.added += more.added

    def write(self, db: sqlite3.Connection) -> None:
        """Write them."""
        db.executemany("DELETE FROM attachments WHERE doc = ? AND name = ?", self.dropped)
        db.executemany(_PUT, self.added)


def having(db: sqlite3.Connection, doc_ids: Sequence[str]) -> set[str]:
    """Which of some documents have attachments."""
    marks = ",".join("?" * len(doc_ids))
    query = f"SELECT DISTINCT doc FROM attachments WHERE doc IN ({marks})"
    return {doc_id for (doc_id,) in db.execute(query, doc_ids)}


@dataclass(slots=True)
class Plan:
    """What is to become of a document's attachments.

    Attributes:
        id: The document's id.
        kept: Names of those that stay as they are.
        added: What comes, piece by piece.
    """

    id: str
    kept: set[str] = field(default_factory=set)
    added: list[tuple[str, str, int, bytes]] = field(default_factory=list)

    def against(self, db: sqlite3.Connection | None) -> Batch:
        """The changes that bring what there is in line with the plan.

        Args:
            db: The database; None if the document has no attachments in it.

        Raises:
            TokenMissing: One that is to stay is not there.
        """
        query = "SELECT DISTINCT name FROM attachments WHERE doc = ?"
        there = {name for (name,) in db.execute(query, (self.id,))} if db is not None else set()
        for name in sorted(self.kept - there):
            raise TokenMissing(f"{self.id!r} has no attachment {name!r} to keep")
        return Batch([(self.id, name) for name in there - self.kept], self.added)


def plan(doc_id: str, body: Document, generation: int) -> Plan:
    """What is to become of a document's attachments, which become stubs in it.

    Args:
        doc_id: The document's id.
        body: The document.
        generation: Of its revision.

    Raises:
        Refused: An entry is neither a stub nor base64 text.
    """
    made = Plan(doc_id)
    stubs: dict[str, Any] = {}
    for name, entry in (body.pop("_attachments") or {}).items():
        if "data" not in entry:
            made.kept.add(name)
            stubs[name] = entry
            continue
        data = _decoded(doc_id, name, entry["data"])
        # An empty attachment is one empty piece: that it exists is told by its rows.
        for number, start in enumerate(range(0, len(data) or 1, PIECE)):
            made.added.append((doc_id, name, number, data[start : start + PIECE]))
        kind = entry.get("content_type") or content_type(name)
        digest = hashlib.md5(data, usedforsecurity=False).digest()
        stubs[name] = _stub(kind, generation, digest, len(data))
    if stubs:
        body["_attachments"] = stubs
    return made


def write(
    db: sqlite3.Connection, doc_id: str, name: str, stream: IO[bytes], generation: int
) -> dict[str, Any]:
    """Store a stream as an attachment, a piece at a time; returns its stub."""
    drop(db, doc_id, name)
    digest, length, number = hashlib.md5(usedforsecurity=False), 0, 0
    while (data := stream.read(PIECE)) or number == 0:
        db.execute(_PUT, (doc_id, name, number, data))
        digest.update(data)
        length += len(data)
        number += 1
    return _stub(content_type(name), generation, digest.digest(), length)


def _stub(kind: str, generation: int, digest: bytes, length: int) -> dict[str, Any]:
    """What stands for an attachment in its document, as CouchDB has it."""
    return {
        "content_type": kind,
        "revpos": generation,
        "digest": "md5-" + base64.b64encode(digest).decode(),
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
