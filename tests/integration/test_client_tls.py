"""The classic client over TLS, with a certificate that nobody vouches for."""

import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.integration.certificates import self_signed

from picas.clients import CouchDB
from picas.errors import PoolError


class _Answers(BaseHTTPRequestHandler):
    """Says of every database that it is there."""

    def do_GET(self) -> None:
        body = b'{"db_name": "d", "doc_count": 7}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 - the name that http.server calls

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The URL of a server with such a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), _Answers) as http:
        http.socket = context.wrap_socket(http.socket, server_side=True)
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        yield f"https://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


def test_a_certificate_is_checked(server: str) -> None:
    """By default a certificate that nobody vouches for is refused."""
    with pytest.raises(PoolError, match="certificate"):
        CouchDB(server, "d")


def test_a_certificate_may_be_trusted(server: str) -> None:
    """``ssl_verification=False`` takes it; so does a copy, and nothing else."""
    db = CouchDB(server, "d", ssl_verification=False)
    assert db.doc_count() == db.copy().doc_count() == 7
    with pytest.raises(PoolError, match="certificate"):
        CouchDB(server, "d")
