"""One database of the double: documents under revision control, in memory."""

import base64
import bisect
import hashlib
import secrets
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from tests.couchdb.double.edits import Attachment, Edit, resolve_attachments
from tests.couchdb.double.http import Json, Refusal, bad_request, conflict, dump_json, not_found

Attached = Literal["stubs", "data", "follows"]


@dataclass(frozen=True, slots=True)
class Revision:
    """One revision of a document."""

    rev: str
    body: dict[str, Json]
    deleted: bool
    attachments: dict[str, Attachment]


@dataclass(frozen=True, slots=True)
class Change:
    """The latest change of a document."""

    seq: int
    id: str
    revision: Revision


class Database:
    """Documents, their revisions and the order in which they changed.

    `changed` guards everything here, and is notified after every write. `ids` are those of the
    documents that are not deleted, in the order of their bytes.

    Args:
        name: Its name.
        max_attachment_size: Tells the bytes of the largest attachment allowed.
    """

    def __init__(self, name: str, max_attachment_size: Callable[[], int]) -> None:
        self.name = name
        self.max_attachment_size = max_attachment_size
        self.security: dict[str, Json] = {
            "members": {"roles": ["_admin"]},
            "admins": {"roles": ["_admin"]},
        }
        self.changed = threading.Condition(threading.RLock())
        self.gone = False
        self.local: dict[str, dict[str, Json]] = {}
        self.indexes: dict[str, object] = {}
        self.ids: list[bytes] = []
        self._documents: dict[str, list[Revision]] = {}
        self._log: list[str] = []
        self._seqs: dict[str, int] = {}
        self._mark = secrets.token_urlsafe(12)
        self._validated = False

    @property
    def seq(self) -> int:
        """How many writes there were."""
        return len(self._log)

    def seq_text(self, seq: int | None = None) -> str:
        """A sequence number as clients see it: opaque behind the dash."""
        return f"{self.seq if seq is None else seq}-{self._mark}"

    def parse_seq(self, text: str) -> int:
        """The number in a ``since``."""
        if text == "now":
            return self.seq
        number, _, mark = text.partition("-")
        if not number.isdigit() or mark not in ("", self._mark):
            raise bad_request("Malformed sequence supplied in 'since' parameter.")
        return int(number)

    def counts(self) -> tuple[int, int]:
        """How many documents there are, and how many were deleted."""
        return len(self.ids), len(self._documents) - len(self.ids)

    def newest(self, doc_id: str) -> Revision | None:
        """The newest revision, a deletion too; None where there never was one."""
        revisions = self._documents.get(doc_id)
        return revisions[-1] if revisions else None

    def read(self, doc_id: str, rev: str | None = None) -> Revision:
        """A revision: the newest that is not deleted, or the one named."""
        for revision in reversed(self._documents.get(doc_id, [])):
            if rev is None and revision.deleted:
                raise not_found("deleted")
            if rev in (None, revision.rev):
                return revision
        raise not_found("missing")

    def history(self, doc_id: str) -> list[Revision]:
        """All revisions, oldest first."""
        return self._documents[doc_id]

    def changes(self, since: int) -> Iterator[Change]:
        """The latest change of every document that changed after `since`, in order."""
        for seq in range(since + 1, self.seq + 1):
            doc_id = self._log[seq - 1]
            if self._seqs[doc_id] == seq:
                yield Change(seq, doc_id, self._documents[doc_id][-1])

    def update(self, edits: list[Edit]) -> list[Revision | Refusal]:
        """Apply edits one by one; each answers with its new revision or with why not."""
        with self.changed:
            # CouchDB looks up what a revision refers to only until it has validated a write, or
            # for attachments and designs: otherwise a made-up revision of a document that never
            # existed is believed.
            trusting = self._validated and not any(
                edit.attachments or edit.id.startswith("_design/") for edit in edits
            )
            planned = [self._parent(edit, trusting) for edit in edits]
            for edit, parent in zip(edits, planned, strict=True):
                if not isinstance(parent, Refusal):
                    self._attachments(edit, parent)
            results = [self._apply(edit, trusting) for edit in edits]
            self.changed.notify_all()
        return results

    def wake(self) -> None:
        """Wake everybody who waits for a change."""
        with self.changed:
            self.changed.notify_all()

    def _parent(self, edit: Edit, trusting: bool) -> Revision | Refusal | None:
        """The revision that an edit follows, or a conflict."""
        newest = self.newest(edit.id)
        if newest is None:
            return None if edit.rev is None or trusting else conflict()
        if newest.deleted:
            return newest if edit.rev is None and not edit.deleted else conflict()
        return newest if edit.rev == newest.rev else conflict()

    def _attachments(self, edit: Edit, parent: Revision | None) -> dict[str, Attachment]:
        old = parent.attachments if parent and not parent.deleted else {}
        return resolve_attachments(edit, old, self.max_attachment_size())

    def _apply(self, edit: Edit, trusting: bool) -> Revision | Refusal:
        parent = self._parent(edit, trusting)
        if isinstance(parent, Refusal):
            return parent
        attachments = self._attachments(edit, parent)
        before = parent.rev if parent else edit.rev
        revision = Revision(
            _next_rev(before, edit, attachments), edit.body, edit.deleted, attachments
        )
        self._list(edit.id, shown=not edit.deleted)
        self._documents.setdefault(edit.id, []).append(revision)
        self._log.append(edit.id)
        self._seqs[edit.id] = len(self._log)
        self._validated = True
        return revision

    def _list(self, doc_id: str, *, shown: bool) -> None:
        """Keep `ids` right."""
        key = doc_id.encode()
        place = bisect.bisect_left(self.ids, key)
        listed = place < len(self.ids) and self.ids[place] == key
        if shown and not listed:
            self.ids.insert(place, key)
        elif listed and not shown:
            del self.ids[place]


def render(doc_id: str, revision: Revision, attached: Attached = "stubs") -> dict[str, Json]:
    """A revision as a document."""
    doc: dict[str, Json] = {"_id": doc_id, "_rev": revision.rev}
    if revision.deleted:
        doc["_deleted"] = True
    doc |= revision.body
    if revision.attachments:
        doc["_attachments"] = {
            name: _render_attachment(attachment, attached)
            for name, attachment in revision.attachments.items()
        }
    return doc


def _render_attachment(attachment: Attachment, attached: Attached) -> dict[str, Json]:
    entry: dict[str, Json] = {
        "content_type": attachment.content_type,
        "revpos": attachment.revpos,
        "digest": attachment.digest,
    }
    if attached == "data":
        return entry | {"data": base64.b64encode(attachment.content()).decode()}
    entry["length"] = attachment.length
    if attached == "stubs":
        return entry | {"stub": True}
    if attachment.encoding:
        entry |= {"encoding": attachment.encoding, "encoded_length": len(attachment.data)}
    return entry | {"follows": True}


def _next_rev(before: str | None, edit: Edit, attachments: dict[str, Attachment]) -> str:
    position = int(before.split("-")[0]) + 1 if before else 1
    digests = [(name, attachment.digest) for name, attachment in attachments.items()]
    content = dump_json([edit.deleted, before, edit.body, digests])
    return f"{position}-{hashlib.md5(content, usedforsecurity=False).hexdigest()}"
