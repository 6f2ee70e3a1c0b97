"""Many idle pilots: connections that wait for a change."""

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tests.couchdb.raw import Raw

ANSWER_SECONDS = 60.0

_READY = [{"not_before": {"$exists": False}}, {"not_before": {"$lte": 2_000_000_000}}]

_BODIES = {
    # What a pilot with nothing to do waits for.
    "_selector": {"selector": {"type": "token", "lock": 0, "done": 0, "$or": _READY}},
    # Waiting for one document that whoever pushes would have to touch.
    "_doc_ids": {"doc_ids": ["picas_bell"]},
}


class Ears:
    """Connections that listen.

    Attributes:
        sockets: One each.
    """

    def __init__(self, sockets: list[socket.socket]) -> None:
        self.sockets = sockets

    def all_answered(self) -> None:
        """Wait until everybody was told of a change."""
        for ear in self.sockets:
            ear.settimeout(ANSWER_SECONDS)
            said = b""
            while b'"last_seq"' not in said:
                piece = ear.recv(65536)
                if not piece:
                    raise RuntimeError(f"a connection that listens was closed: {said[:200]!r}")
                said += piece


@contextmanager
def listening(raw: Raw, number: int, kind: str) -> Iterator[Ears]:
    """Have so many connections wait for changes from now on, each by a long poll.

    Args:
        raw: The database.
        number: How many.
        kind: The filter: ``_selector`` or ``_doc_ids``.
    """
    since = raw.get("/_changes?since=now&limit=0").json["last_seq"]
    body = json.dumps(_BODIES[kind]).encode()
    path = f"{raw.prefix}/_changes?feed=longpoll&timeout=60000&since={since}&filter={kind}"
    head = [
        f"POST {path} HTTP/1.1",
        f"Host: {raw.connection.host}",
        f"Authorization: {raw.headers['Authorization']}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    request = "\r\n".join(head).encode() + b"\r\n\r\n" + body
    with ExitStack() as stack:
        sockets = []
        for _ in range(number):
            address = (raw.connection.host, raw.connection.port)
            ear = stack.enter_context(socket.create_connection(address))
            ear.sendall(request)
            sockets.append(ear)
        yield Ears(sockets)
