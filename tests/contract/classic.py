"""The classic client on any store, for the tests of the classic API."""

from typing import Any

from picas.clients import CouchDB
from picas.documents import Task
from tests.classic import address


def client(url: str, kind: type[CouchDB] = CouchDB, **options: Any) -> CouchDB:
    """A client of the pool at a URL, as a script would make it."""
    server, database, username, password = address(url)
    return kind(server, database, username or None, password, **options)


def fill(db: CouchDB, *names: str, **fields: Any) -> None:
    """Push tokens."""
    docs = [Task({"_id": name, "type": "token", "input": name, **fields}) for name in names]
    assert db.save_documents(docs) == [True] * len(docs)


def states(db: CouchDB) -> dict[str, int]:
    """How many tokens are in which state."""
    return {row.key: row.value for row in db.view("overview_total", group=True)}
