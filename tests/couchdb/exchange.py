"""A conversation with a database whose replies are checked word for word, but for what is random.

Revisions are compared as ``2-*``, sequence numbers as ``seq``; a stack hash is left out.
"""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from tests.couchdb.raw import Body, Raw, Reply
from tests.couchdb.server import CouchServer

CONFLICT = {"error": "conflict", "reason": "Document update conflict."}
MADE_UP = "1-00000000000000000000000000000000"
"""A revision that no document has."""

_REV = re.compile(r"(\d+)-[0-9a-f]{32}")
_SEQ = re.compile(r"\d+-[\w-]{10,}")
_RANDOM_ID = re.compile(r"[0-9a-f]{32}")


def error(name: str, reason: str) -> dict[str, str]:
    """The body of an error."""
    return {"error": name, "reason": reason}


MISSING = error("not_found", "missing")
DELETED = error("not_found", "deleted")
NO_DATABASE = error("not_found", "Database does not exist.")


def bad_request(reason: str) -> dict[str, str]:
    """The body of a 400."""
    return error("bad_request", reason)


def normal(value: Any) -> Any:
    """A reply without what differs from run to run."""
    if isinstance(value, dict):
        return {name: normal(inner) for name, inner in value.items() if name != "ref"}
    if isinstance(value, list):
        return [normal(inner) for inner in value]
    if isinstance(value, str):
        if match := _REV.fullmatch(value):
            return f"{match.group(1)}-*"
        if _RANDOM_ID.fullmatch(value):
            return "random"
        return "seq" if _SEQ.fullmatch(value) else value
    return value


class Exchange:
    """A database of one shard on a server, and connections to it.

    Attributes:
        server: The server.
        name: The database's name.
    """

    def __init__(self, server: CouchServer) -> None:
        self.server = server
        self.name = server.new_database("semantics", shards=1)
        self.raw = server.raw(f"/{self.name}")
        self._others: list[Raw] = []

    def close(self) -> None:
        """Remove the database."""
        for raw in [self.raw, *self._others]:
            raw.close()
        self.server.delete_database(self.name)

    def ask(
        self,
        method: str,
        path: str,
        body: Body = None,
        headers: Mapping[str, str] | None = None,
        *,
        by: Raw | None = None,
    ) -> tuple[int, Any]:
        """Send a request to the database; the status and the normal form of the JSON body."""
        reply = (by or self.raw).call(method, path, body, headers)
        return reply.status, normal(reply.json) if reply.body else None

    def write(self, path: str, body: Body = None, method: str = "PUT") -> str:
        """Write a document; its new revision."""
        reply = self.raw.call(method, path, body)
        assert reply.status in (200, 201), reply.body
        rev: str = reply.json["rev"]
        return rev

    def bulk(self, *docs: dict[str, Any]) -> list[Any]:
        """Write documents in one request; the normal form of their results."""
        status, results = self.ask("POST", "/_bulk_docs", {"docs": list(docs)})
        assert status == 201, results
        assert isinstance(results, list)
        return results

    def rows(self, path: str) -> list[Any]:
        """Ids and keys of a view's rows."""
        reply = self.raw.get(path)
        assert reply.status == 200, reply.body
        return [(row.get("id"), row["key"]) for row in reply.json["rows"]]

    def get(self, path: str, **headers: str) -> Reply:
        """GET something of the database as the administrator."""
        return self.raw.get(path, **headers)

    def user(self, name: str, password: str | None = None, *, database: bool = True) -> Raw:
        """A connection as somebody else; without a password as nobody."""
        host = urlsplit(self.server.url).netloc.rpartition("@")[2]
        who = "" if password is None else f"{name}:{password}@"
        raw = Raw(f"http://{who}{host}" + (f"/{self.name}" if database else ""))
        self._others.append(raw)
        return raw
