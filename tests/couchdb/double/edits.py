"""Reading what clients send: documents, revisions and attachments, with CouchDB's complaints."""

import base64
import binascii
import hashlib
import re
import secrets
import zlib
from dataclasses import dataclass, field
from typing import Any

from tests.couchdb.double.http import Json, Refusal, bad_request, dump_json

_MEMBERS = {"_id", "_rev", "_deleted", "_attachments", "_revisions", "_conflicts", "_revs_info"}
_MEMBERS |= {"_deleted_conflicts", "_local_seq"}
_REV = re.compile(r"(\d+)-(.+)")
_TEXT = re.compile(r"text/.*|application/(javascript|json|xml)")


@dataclass(frozen=True, slots=True)
class Attachment:
    """A stored attachment; `data` is what is stored: compressed where `encoding` says so."""

    content_type: str
    data: bytes
    length: int
    digest: str
    revpos: int
    encoding: str | None = None

    def content(self) -> bytes:
        """The bytes as they were sent."""
        return zlib.decompress(self.data, wbits=31) if self.encoding else self.data


@dataclass(frozen=True, slots=True)
class Edit:
    """One document of a write.

    Attributes:
        id: The document's id.
        rev: The revision it follows; None to create.
        body: Its fields, without those that CouchDB keeps for itself.
        deleted: Whether it deletes.
        attachments: As sent: stubs, ``data``, or an `Attachment` ready to be stored.
    """

    id: str
    rev: str | None
    body: dict[str, Json]
    deleted: bool = False
    attachments: dict[str, Any] = field(default_factory=dict)

    @property
    def position(self) -> int:
        """Number of the revision that it makes, as far as the client can tell."""
        return (int(self.rev.split("-")[0]) if self.rev else 0) + 1


def check_id(doc_id: Json) -> str:
    """The id, if it is one."""
    if not isinstance(doc_id, str):
        raise Refusal(400, "illegal_docid", "Document id must be a string")
    if not doc_id:
        raise Refusal(400, "illegal_docid", "Document id must not be empty")
    if doc_id in ("_design/", "_local/"):
        raise Refusal(400, "illegal_docid", f"Illegal document id `{doc_id}`")
    if doc_id.startswith("_") and not doc_id.startswith(("_design/", "_local/")):
        reason = "Only reserved document ids may start with underscore."
        raise Refusal(400, "illegal_docid", reason)
    return doc_id


def check_rev(rev: Json) -> str:
    """The revision, if it looks like one."""
    if not isinstance(rev, str) or not _REV.fullmatch(rev):
        raise bad_request("Invalid rev format")
    return rev


def read_edit(doc: Json, *, doc_id: str | None = None, rev: str | None = None) -> Edit:
    """Understand a document that was sent.

    Args:
        doc: The JSON.
        doc_id: Its id where the path says it.
        rev: Its revision where the query or ``If-Match`` says it.
    """
    if not isinstance(doc, dict):
        raise bad_request("Document must be a JSON object")
    own_id = check_id(doc["_id"]) if "_id" in doc else None
    for name in doc:
        if name.startswith("_") and name not in _MEMBERS:
            raise Refusal(400, "doc_validation", f"Bad special document member: {name}")
    own_rev = check_rev(doc["_rev"]) if "_rev" in doc else None
    if own_rev and rev and own_rev != rev:
        reason = "Document rev from request body and query string have different values"
        raise bad_request(reason)
    return Edit(
        id=doc_id or own_id or secrets.token_hex(16),
        rev=rev or own_rev,
        body={name: value for name, value in doc.items() if not name.startswith("_")},
        deleted=doc.get("_deleted") is True,
        attachments=_read_attachments(doc.get("_attachments", {})),
    )


def check_size(edit: Edit, limit: int, name: str) -> None:
    """Refuse a document over the server's limit, attachments not counted."""
    if len(dump_json(edit.body)) > limit:
        raise Refusal(413, "document_too_large", name)


def _read_attachments(sent: Json) -> dict[str, Any]:
    if not isinstance(sent, dict):
        raise Refusal(400, "doc_validation", "Bad special document member: _attachments")
    for name, value in sent.items():
        check_attachment_name(name)
        if isinstance(value, dict) and not value.get("stub") and _decode(value) is None:
            raise bad_request(f"Invalid attachment data for {name}")
    return {name: value for name, value in sent.items() if isinstance(value, dict)}


def check_attachment_name(name: str) -> None:
    """Refuse names that CouchDB keeps for itself."""
    if name.startswith("_"):
        raise bad_request(f"Attachment name '{name}' starts with prohibited character '_'")


def resolve_attachments(
    edit: Edit, parent: dict[str, Attachment], max_size: int
) -> dict[str, Attachment]:
    """The attachments that a write leaves: new ones stored, stubs taken from its parent."""
    kept: dict[str, Attachment] = {}
    for name, value in edit.attachments.items():
        if isinstance(value, Attachment):
            kept[name] = value
        elif value.get("stub"):
            old = parent.get(name)
            if old is None or value.get("revpos", old.revpos) != old.revpos:
                reason = f"Invalid attachment stub in {edit.id} for {name}"
                raise Refusal(412, "missing_stub", reason)
            kept[name] = old
        else:
            content_type = value.get("content_type", "application/octet-stream")
            data = _decode(value) or b""
            kept[name] = store_attachment(name, data, content_type, edit.position, max_size)
    return kept


def store_attachment(
    name: str, data: bytes, content_type: str, revpos: int, max_size: int
) -> Attachment:
    """Make an attachment of bytes; text is compressed, and its digest is that of what is stored."""
    if len(data) > max_size:
        raise Refusal(413, "attachment_too_large", name)
    stored, encoding = data, None
    if _TEXT.match(content_type):
        packer = zlib.compressobj(8, wbits=31)
        stored, encoding = packer.compress(data) + packer.flush(), "gzip"
    md5 = hashlib.md5(stored, usedforsecurity=False).digest()
    digest = "md5-" + base64.b64encode(md5).decode()
    return Attachment(content_type, stored, len(data), digest, revpos, encoding)


def _decode(value: dict[str, Json]) -> bytes | None:
    try:
        return base64.b64decode(value["data"], validate=True)
    except (KeyError, TypeError, binascii.Error, ValueError):
        return None
