"""Recording results: what is settled, and the write that does it."""

import base64
import enum
import mimetypes
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from picas import token
from picas.logs import Excerpt
from picas.pool.base import INLINE_LIMIT
from picas.pool.update import Change
from picas.token import Again, Document, Outcome

KEPT_LOGS = 5
"""Earlier attempts of a token whose logs stay attached."""


class Verdict(enum.Enum):
    """What became of one result."""

    RECORDED = "recorded"
    FENCED = "fenced"
    """The lease was gone (reaped, reset, deleted): nothing was recorded."""
    BARE = "bare"
    """Recorded without its logs, attachments and fields, which could not be stored."""
    REFUSED = "refused"
    """The pool does not take even that: the token stays as it was claimed."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """One result to record.

    Attributes:
        token: The document as `Pool.claim` gave it.
        outcome: How the attempt ended.
        again: Give the token back for another try (scrub) instead of closing it, and how.
        files: Attachments to add: name to bytes, to a file that is streamed if it is large, or to
            the head and tail of a log.
        is_bare: Made by `bare`: there is nothing left to leave out.
    """

    token: Document
    outcome: Outcome
    again: Again | None = None
    files: Mapping[str, bytes | Path | Excerpt] = field(default_factory=dict)
    is_bare: bool = False

    @property
    def lease(self) -> str:
        """The nonce of the claim this result belongs to."""
        return str(self.token["lease"])

    @property
    def size(self) -> int:
        """About how many bytes of files the settling write carries."""
        return sum(_carried(content) for content in self.files.values())

    def large_files(self) -> dict[str, Path]:
        """The files that are streamed ahead of the settling write."""
        files = self.files.items()
        return {name: f for name, f in files if isinstance(f, Path) and _is_large(f)}

    def earlier_logs(self) -> dict[str, str]:
        """Logs of the attempt before that this one replaces: present name to the name to keep."""
        doc = self.token
        there = doc.get("_attachments") or {}
        before = token.last_run(doc) if there else None
        if before is None:
            return {}
        names = {s: token.log_name(doc["_id"], s) for s in ("out", "err")}
        return {
            name: token.log_name(doc["_id"], stream, before)
            for stream, name in names.items()
            if name in there and name in self.files
        }

    def is_long(self, name: str) -> bool:
        """Tell whether an earlier log is too long to be kept by way of the settling write."""
        return bool(self.token["_attachments"][name].get("length", 0) > INLINE_LIMIT)

    def bare(self, why: str) -> "Settlement":
        """The same result without what could not be stored; says so in the token."""
        paths = (f.path if isinstance(f, Excerpt) else f for f in self.files.values())
        on_disk = sorted(str(path) for path in paths if isinstance(path, Path))
        message = f"logs and results were not stored: {why}"
        if on_disk:
            message += f"; see {', '.join(on_disk)} on the host"
        outcome = replace(self.outcome, error=message, fields={})
        # A word in the logs' place, so that those of the attempt before are not taken for these.
        logs = {token.log_name(self.token["_id"], stream) for stream in ("out", "err")}
        files = {name: f"{message}\n".encode() for name in sorted(logs & self.files.keys())}
        return Settlement(self.token, outcome, self.again, files, is_bare=True)


def change_for(settlement: Settlement, attachments: Mapping[str, Any], now: float) -> Change:
    """The change that records one result, if its lease still stands in the document."""

    def close(doc: Document) -> Document:
        if settlement.again is None:
            return token.settle(doc, now, settlement.outcome)
        return token.scrub(doc, now, settlement.outcome, settlement.again)

    def change(doc: Document) -> Document | None:
        if not token.holds(doc, settlement.token):
            return None
        settled = close(doc)
        merged = {**(settled.get("_attachments") or {}), **attachments}
        if merged:
            settled["_attachments"] = _without_old_logs(settled, merged)
        return settled

    return change


def inline(name: str, content: bytes | Path | Excerpt) -> dict[str, Any]:
    """An attachment as a document carries it: its type and its bytes in base64."""
    data = content if isinstance(content, bytes) else content.read_bytes()
    return {"content_type": content_type(name), "data": base64.b64encode(data).decode()}


def content_type(name: str) -> str:
    """The media type of an attachment, by its name."""
    if name.endswith((".out", ".err", ".log")):
        return "text/plain"
    return mimetypes.guess_type(name)[0] or "application/octet-stream"


def _without_old_logs(doc: Document, attachments: dict[str, Any]) -> dict[str, Any]:
    """Drop the logs of all but the latest few attempts."""
    # The latest attempt is in the history by now; KEPT_LOGS are kept besides it.
    oldest = token.next_attempt(doc) - 2 - KEPT_LOGS
    if oldest < 1:
        return attachments
    pattern = re.compile(rf"logs_{re.escape(doc['_id'])}\.([0-9]{{1,9}})\.(out|err)")

    def is_old(name: str) -> bool:
        match = pattern.fullmatch(name)
        return match is not None and int(match[1]) <= oldest

    return {name: entry for name, entry in attachments.items() if not is_old(name)}


def _is_large(file: Path) -> bool:
    return file.stat().st_size > INLINE_LIMIT


def _carried(content: bytes | Path | Excerpt) -> int:
    """Bytes of one file that the settling write carries."""
    if isinstance(content, bytes):
        return len(content)
    if isinstance(content, Excerpt):
        return content.size
    try:
        size = content.stat().st_size
    except OSError:
        return 0
    return size if size <= INLINE_LIMIT else 0
