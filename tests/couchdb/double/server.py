"""The double as a server that tests start, stop, and make fail."""

import contextlib
import secrets
import socket
import threading
from collections.abc import Callable
from http.server import ThreadingHTTPServer
from typing import Any

from tests.couchdb.double.auth import Guard
from tests.couchdb.double.database import Database
from tests.couchdb.double.http import Fault, Handler, Refusal, Reply, Request
from tests.couchdb.double.routes import route
from tests.couchdb.server import CouchServer

Before = Callable[[Request], Reply | Fault | None]
After = Callable[[Request, Reply], Reply | Fault | None]

DEFAULTS = {
    "couchdb/max_document_size": "8000000",
    "couchdb/max_attachment_size": "1073741824",
    "chttpd/max_http_request_size": "4294967296",
}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke is no news: clients do that, and so do faults."""


class DoubleCouch(CouchServer):
    """A double of CouchDB 3.5 in this process; its data live as long as this object.

    Args:
        lockout: Lock names out after five wrong passwords, as CouchDB does by default.

    Attributes:
        before: Called with each `Request` before it is applied. What it returns is answered
            instead: a `Reply`, or `Fault.DROP`, which closes the connection. To delay, sleep in it.
        after: Called with each `Request` and its `Reply` once it was applied, before the reply is
            sent. A `Reply` returned replaces it; `Fault.DROP` loses it.
        requests: How many requests were answered.
    """

    kind = "double"
    version = "3.5.0"
    origin = "tests/couchdb/double"

    def __init__(self, *, lockout: bool = False) -> None:
        self.password = secrets.token_hex(12)
        self.uuid = secrets.token_hex(16)
        self.port = 0
        self.before: Before | None = None
        self.after: After | None = None
        self.requests = 0
        self.config: dict[str, str] = {}
        self.connections: set[socket.socket] = set()
        self.lock = threading.Lock()
        self.databases: dict[str, Database] = {}
        for name in ("_users", "_replicator"):
            self.add_database(name)
        self.guard = Guard(("admin", self.password), self.databases["_users"], lockout=lockout)
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Listen: on a free port, or after a stop on the one it had."""
        if self._server is not None:
            return
        handler = type("BoundHandler", (Handler,), {"couch": self})
        self._server = _Server(("127.0.0.1", self.port), handler)
        self.port = self._server.server_address[1]
        self.url = f"http://admin:{self.password}@127.0.0.1:{self.port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop listening and cut every connection."""
        if self._server is None or self._thread is None:
            return
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._server = self._thread = None
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def no_faults(self) -> None:
        """Take both fault hooks away."""
        self.before = self.after = None

    def setting(self, name: str) -> int:
        """A number of the configuration, such as ``couchdb/max_document_size``."""
        return int(self.config.get(name, DEFAULTS[name]))

    def add_database(self, name: str) -> Database:
        """Make a database."""
        limit = "couchdb/max_attachment_size"
        self.databases[name] = Database(name, lambda: self.setting(limit))
        return self.databases[name]

    def answer(self, request: Request, address: str) -> Reply | Fault:
        """Apply a request and make its reply; the fault hooks have their say."""
        self.requests += 1
        if self.before is not None and (instead := self.before(request)) is not None:
            return instead
        try:
            self.guard.identify(request, address)
            reply = route(self, request)
        except Refusal as refusal:
            reply = refusal.reply
        reply.headers.setdefault("X-Couch-Request-ID", secrets.token_hex(5))
        if self.after is not None and (instead := self.after(request, reply)) is not None:
            return instead
        return reply
