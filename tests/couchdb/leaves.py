"""Documents with several leaf revisions, as a cluster or a replication leaves them behind."""

from typing import Any

from picas.token import Document
from tests.couchdb.raw import Raw


def add_leaf(raw: Raw, doc: Document, *, digest: str, follows: str) -> str:
    """Write a revision beside whatever else follows the one that it follows.

    Args:
        raw: The database.
        doc: The document, without a revision.
        digest: One hexadecimal digit; repeated it is the revision's digest, which says which of
            two leaves with histories of one length CouchDB shows: the highest.
        follows: The revision that it follows, which must be there.
    """
    generation, _, before = follows.partition("-")
    start = int(generation) + 1
    rev = f"{start}-{digest * 32}"
    history = {"start": start, "ids": [digest * 32, before]}
    body = {name: value for name, value in doc.items() if name not in ("_rev", "_attachments")}
    sent: dict[str, Any] = {**body, "_rev": rev, "_revisions": history}
    reply = raw.post("/_bulk_docs", {"new_edits": False, "docs": [sent]})
    assert (reply.status, reply.json) == (201, []), reply.body
    return rev


def leaves(raw: Raw, doc_id: str, copies: int = 1) -> list[Document]:
    """The leaves of a document that are not deletions."""
    reply = raw.post(f"/_bulk_get?r={copies}", {"docs": [{"id": doc_id}]})
    assert reply.status == 200, reply.body
    found = [entry["ok"] for entry in reply.json["results"][0]["docs"] if "ok" in entry]
    return [doc for doc in found if not doc.get("_deleted")]
