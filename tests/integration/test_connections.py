"""Connections as they are kept, ended, and led through proxies, seen from the other end."""

import base64
import os
import socket
import ssl
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from io import BytesIO
from pathlib import Path

import pytest
from tests.integration.certificates import self_signed

from picas.errors import ConfigError, PoolUnreachable, ServerError, TooLarge
from picas.pool.couchdb.connections import KEPT
from picas.pool.couchdb.http import Session

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n" + b'{"ok":true}'
CHUNKS = (
    b'HTTP/1.1 200 OK\r\nTRANSFER-ENCODING: Chunked\r\n\r\n4\r\n{"ok\r\n7\r\n":true}\r\n0\r\n\r\n'
)
KEEP = b"\r\nConnection: Keep-Alive\r\n"


class Peer:
    """A server of one's own on a loopback port.

    Args:
        serve: What it does with each connection, in a thread of its own.

    Attributes:
        port: Where.
        connections: How many came.
        heads: The heads of all requests that were read by `read_request`, in order.
    """

    def __init__(self, serve: Callable[["Peer", socket.socket], None]) -> None:
        self.connections = 0
        self.heads: list[str] = []
        self._serve = serve
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def read_request(self, connection: socket.socket) -> tuple[str, bytes]:
        """A request: its head, and its body as its length says; empty at the end."""
        data = b""
        while b"\r\n\r\n" not in data:
            more = connection.recv(65536)
            if not more:
                return "", b""
            data += more
        raw, _, body = data.partition(b"\r\n\r\n")
        head = raw.decode("latin-1")
        length = header(head, "Content-Length")
        while length and len(body) < int(length):
            more = connection.recv(65536)
            if not more:
                return "", body
            body += more
        self.heads.append(head)
        return head, body

    def until_ended(self) -> None:
        """Wait until all connections so far have ended."""
        for thread in self._threads[1:]:
            thread.join()

    def close(self) -> None:
        """Stop it."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.settimeout(60)
            self.connections += 1
            thread = threading.Thread(target=self._one, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _one(self, connection: socket.socket) -> None:
        with connection:
            self._serve(self, connection)


@contextmanager
def peer(serve: Callable[[Peer, socket.socket], None]) -> Iterator[Peer]:
    """A server that is stopped at the end."""
    server = Peer(serve)
    try:
        yield server
    finally:
        server.close()


@contextmanager
def session(url: str, ca_file: Path | None = None) -> Iterator[Session]:
    """A session that is closed at the end."""
    made = Session(url, "anna", "pässword", ca_file)
    try:
        yield made
    finally:
        made.close()


def header(head: str, name: str) -> str:
    """A header's value; empty if it is not there."""
    lines = [line.partition(":") for line in head.split("\r\n")[1:]]
    return next((value.strip() for key, _, value in lines if key.lower() == name.lower()), "")


def basic(login: str) -> str:
    """How a login looks in a header."""
    return "Basic " + base64.b64encode(login.encode()).decode()


def answers(server: Peer, connection: socket.socket) -> None:
    """Take request after request."""
    while server.read_request(connection)[0]:
        connection.sendall(OK)


def answers_once(server: Peer, connection: socket.socket) -> None:
    """Take one request, and end the connection without a word of it in the reply."""
    if server.read_request(connection)[0]:
        connection.sendall(OK)


def ask(asking: Session, path: str = "/db") -> object:
    """A write: it is never sent a second time."""
    return asking.json("writing", "POST", path, body={"a": 1})


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def test_one_connection_serves_many_requests() -> None:
    """Requests one after the other go by the same connection, each with the user's name."""
    with peer(answers) as server, session(f"http://127.0.0.1:{server.port}/couch") as asking:
        assert [ask(asking) for _ in range(3)] == [{"ok": True}] * 3
        assert server.connections == 1
        assert {head.split("\r\n")[0] for head in server.heads} == {"POST /couch/db HTTP/1.1"}
        assert {header(head, "Authorization") for head in server.heads} == {basic("anna:pässword")}
        assert header(server.heads[0], "Host") == f"127.0.0.1:{server.port}"


def test_a_connection_that_the_server_ended() -> None:
    """An idle connection that is gone is not used: the next write does not fail with it."""
    with peer(answers_once) as server, session(f"http://127.0.0.1:{server.port}") as asking:
        assert ask(asking) == {"ok": True}
        server.until_ended()
        assert ask(asking) == {"ok": True}
        assert server.connections == 2


def test_threads_have_connections_of_their_own() -> None:
    """Requests at the same time do not wait for each other; of the connections some are kept."""
    barrier = threading.Barrier(12)

    def together(server: Peer, connection: socket.socket) -> None:
        while server.read_request(connection)[0]:
            barrier.wait(30)
            connection.sendall(OK)

    with peer(together) as server, session(f"http://127.0.0.1:{server.port}") as asking:
        with ThreadPoolExecutor(12) as threads:
            assert list(threads.map(lambda _: ask(asking), range(12))) == [{"ok": True}] * 12
            assert server.connections == 12
            assert list(threads.map(lambda _: ask(asking), range(12))) == [{"ok": True}] * 12
        assert server.connections == 12 + 12 - KEPT


def test_half_a_download_spoils_no_other_reply() -> None:
    """A connection whose body was not read to its end is not used again."""

    def long_answers(server: Peer, connection: socket.socket) -> None:
        head, _ = server.read_request(connection)
        if "attachment" in head:
            with suppress(OSError):  # the client leaves
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n")
                connection.sendall(b"x" * (1 << 20))
                connection.recv(1)
        elif head:
            connection.sendall(OK)

    with peer(long_answers) as server, session(f"http://127.0.0.1:{server.port}") as asking:
        assert set(next(asking.download("reading", "/db/attachment"))) == {ord("x")}
        assert ask(asking) == {"ok": True}
        assert server.connections == 2


def test_an_upload_that_is_refused() -> None:
    """A server that refuses a large body ends the connection before it is sent, and is heard."""

    def refuses(server: Peer, connection: socket.socket) -> None:
        server.heads.append(connection.recv(1000).decode("latin-1"))
        connection.sendall(
            b"HTTP/1.1 413 Too Large\r\nContent-Length: 41\r\nConnection: close\r\n\r\n"
            b'{"error":"too_large","reason":"the file"}'
        )
        time.sleep(0.5)  # then it is closed with data unread, which resets it

    size = 64 << 20
    with (
        peer(refuses) as server,
        session(f"http://127.0.0.1:{server.port}") as asking,
        pytest.raises(TooLarge, match="the file"),
    ):
        asking.upload("attaching", "/db/a/f", BytesIO(bytes(size)), size, "text/plain", {})


@pytest.mark.parametrize(("there", "sent"), [(9, 5), (3, None)], ids=["longer", "shorter"])
def test_a_file_that_changes_while_it_is_sent(there: int, sent: int | None) -> None:
    """As much is sent as was said, else nothing is known of it: the next reply is its own."""
    bodies: list[bytes] = []

    def keeps(server: Peer, connection: socket.socket) -> None:
        while True:
            head, body = server.read_request(connection)
            if not head:
                return
            bodies.append(body)
            connection.sendall(OK)

    with peer(keeps) as server, session(f"http://127.0.0.1:{server.port}") as asking:
        upload = partial(asking.upload, "attaching", "/db/a/f", BytesIO(b"x" * there), 5)
        if sent is None:
            with pytest.raises(PoolUnreachable, match="became shorter"):
                upload("text/plain", {})
        else:
            assert upload("text/plain", {}) == {"ok": True}
            assert bodies == [b"x" * sent]
        assert ask(asking) == {"ok": True}
        assert server.connections == (2 if sent is None else 1)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK, "it says 103 first"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 30 + b"\r\n\r\nx", ""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\nx", "more expected"),
        (b"\x1b[31mSSH-2.0-OpenSSH_9.2\0" + b"y" * 60_000 + b"\r\n", r"\?\[31mSSH-2.0-OpenSSH"),
        (b"HTTP/2.0 200 OK\r\n\r\n", "HTTP/2.0 200 OK"),
        (b"HTTP/1.1 +20 OK\r\n\r\n", r"HTTP/1.1 \+20 OK"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1", "ended the connection"),
        (b"HTTP/1.1 200 OK\r\nContent-Length\r\n\r\n", "no field"),
        (b"\r\n\r\n", "an empty line"),
        (OK.replace(b"\r\n", b"\r\nContent-Length: 12\r\n", 1), "no length that is clear"),
        (OK.replace(b"\r\n", b"\r\nTransfer-Encoding: gzip, chunked\r\n", 1), "nobody asked for"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: +11\r\n\r\n" + OK[-11:], "no length that is clear"),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 101 + b"\r\n", "more than 100 lines"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"y" * 66_000 + b"\r\n\r\n", "more than 65536 bytes"),
    ],
    ids=[
        *("interim", "endless", "half", "garbage", "version", "status", "half a head", "no field"),
        *("empty", "two lengths", "encoded", "odd length", "many fields", "long field"),
    ],
)
def test_what_is_no_reply(reply: bytes, said: str) -> None:
    """It is told in one short line that a terminal can show, and is nobody else's reply."""

    def says(server: Peer, connection: socket.socket) -> None:
        while server.read_request(connection)[0]:
            connection.sendall(reply if server.connections == 1 else OK)
            if server.connections == 1:
                return

    with peer(says) as server, session(f"http://127.0.0.1:{server.port}") as asking:
        with pytest.raises(PoolUnreachable, match=f"no answer from .*{said}") as caught:
            ask(asking)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 400
        assert ask(asking) == {"ok": True}
        assert server.connections == 2


@pytest.mark.parametrize(
    ("reply", "kept"),
    [
        (b"HTTP/1.1 100 Continue\r\nA: b\r\n\r\n" + OK, True),
        (OK.replace(b" OK", b"").replace(b"Content-Length: 11", b"content-length :\t11 "), True),
        (OK.replace(b"\r\n", b"\n"), True),
        (OK.replace(b"\r\n", b"\r\nContent-Length: 11\r\n", 1), True),
        (OK.replace(b"\r\n", b"\r\nPolicy: a;\r\n  Content-Length: 3\r\n\tb\r\n", 1), True),
        (CHUNKS, True),
        (OK.replace(b"HTTP/1.1", b"HTTP/1.0").replace(b"\r\n", KEEP, 1), True),
        (OK.replace(b"HTTP/1.1", b"HTTP/1.0"), False),
        (OK.replace(b"\r\n", b"\r\nConnection: Upgrade, Close\r\n", 1), False),
        (OK.replace(b"\r\n", KEEP + b"Connection: close\r\n", 1), False),
        (CHUNKS.replace(b"\r\n", b"\r\nConnection: close\r\n", 1), False),
    ],
    ids=[
        *("continue", "letters", "line ends", "twice", "folded", "chunks", "kept HTTP/1.0"),
        *("HTTP/1.0", "closed", "closed after all", "closed chunks"),
    ],
)
def test_forms_of_a_reply(reply: bytes, kept: bool) -> None:
    """What HTTP/1 allows is understood; where it is to be the last, nothing more is asked there.

    The server leaves all connections open.
    """

    def says(server: Peer, connection: socket.socket) -> None:
        while server.read_request(connection)[0]:
            connection.sendall(reply)

    with peer(says) as server, session(f"http://127.0.0.1:{server.port}") as asking:
        assert [ask(asking) for _ in range(3)] == [{"ok": True}] * 3
        assert server.connections == (1 if kept else 3)


def test_a_server_that_ends_every_connection() -> None:
    """``Connection: close`` is kept to: each request has a connection of its own."""

    def closes(server: Peer, connection: socket.socket) -> None:
        if server.read_request(connection)[0]:
            connection.sendall(OK.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))

    with peer(closes) as server, session(f"http://127.0.0.1:{server.port}") as asking:
        assert [ask(asking) for _ in range(3)] == [{"ok": True}] * 3
        assert server.connections == 3


@pytest.mark.parametrize("head", ["HTTP/1.1 200 OK", "HTTP/1.1 200 OK\r\nConnection: keep-alive"])
def test_a_reply_without_a_length(head: str) -> None:
    """It goes on until the connection ends."""

    def says(server: Peer, connection: socket.socket) -> None:
        if server.read_request(connection)[0]:
            connection.sendall(f'{head}\r\n\r\n{{"ok":'.encode())
            time.sleep(0.05)
            connection.sendall(b"true}")

    with peer(says) as server, session(f"http://127.0.0.1:{server.port}") as asking:
        assert [ask(asking) for _ in range(2)] == [{"ok": True}] * 2


@pytest.mark.parametrize("date", ["1 Jan 99999999999999999999 00:00:00 GMT", "yesterday"])
def test_a_clock_that_tells_nonsense(date: str) -> None:
    """The date of a reply that is none is passed over."""

    def says(server: Peer, connection: socket.socket) -> None:
        while server.read_request(connection)[0]:
            connection.sendall(OK.replace(b"\r\n", f"\r\nDate: {date}\r\n".encode(), 1))

    with peer(says) as server, session(f"http://127.0.0.1:{server.port}") as asking:
        assert ask(asking) == {"ok": True}
        assert asking.clock.offset == 0.0


def test_an_endless_reason() -> None:
    """An error whose words no parser takes is told without them."""
    words = b"[" * 200_000

    def says(server: Peer, connection: socket.socket) -> None:
        while server.read_request(connection)[0]:
            head = f"HTTP/1.1 500 Oh\r\nContent-Length: {len(words)}\r\n\r\n"
            connection.sendall(head.encode() + words)

    with (
        peer(says) as server,
        session(f"http://127.0.0.1:{server.port}") as asking,
        pytest.raises(ServerError, match="no reason given"),
    ):
        ask(asking)


@pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".example"])
def test_a_name_that_no_server_can_have(host: str) -> None:
    """It is an error of ours, in one line."""
    with session(f"http://{host}") as asking, pytest.raises(PoolUnreachable, match=r"no answer"):
        ask(asking)


def test_a_path_of_any_letters() -> None:
    """A path before the databases is sent as the URL standard has it."""
    with peer(answers) as server, session(f"http://127.0.0.1:{server.port}/dätä%20x") as asking:
        assert ask(asking) == {"ok": True}
        assert server.heads[0].startswith("POST /d%C3%A4t%C3%A4%20x/db HTTP/1.1\r\n")


def test_a_fork_has_connections_of_its_own() -> None:
    """A child process does not talk into the connection that its parent kept."""
    with peer(answers) as server, session(f"http://127.0.0.1:{server.port}") as asking:
        assert ask(asking) == {"ok": True}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # newer Pythons warn of forks beside threads
            child = os.fork()
        if child == 0:  # nothing of the test run may go on in it
            status = 1
            try:
                status = 0 if ask(asking) == {"ok": True} else 1
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        assert ask(asking) == {"ok": True}
        assert server.connections == 2


def test_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests go to the proxy that the environment names, with its login and the server's."""
    with peer(answers) as proxy:
        monkeypatch.setenv("http_proxy", f"http://bob:se%40cret@127.0.0.1:{proxy.port}")
        with session("http://couch.example:5984/base") as asking:
            assert ask(asking) == {"ok": True}
        (head,) = proxy.heads
        assert head.split("\r\n")[0] == "POST http://couch.example:5984/base/db HTTP/1.1"
        assert header(head, "Host") == "couch.example:5984"
        assert header(head, "Proxy-Authorization") == basic("bob:se@cret")
        assert header(head, "Authorization") == basic("anna:pässword")


def test_a_server_that_needs_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ``no_proxy`` names is asked directly."""
    with peer(answers) as proxy, peer(answers) as server:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        with session(f"http://127.0.0.1:{server.port}") as asking:
            assert ask(asking) == {"ok": True}
        assert (proxy.connections, server.connections) == (0, 1)


@pytest.mark.parametrize(
    "url",
    ["socks5://127.0.0.1:1", "https://127.0.0.1:1", "http://", "a:b", "http://b:secret[x@y:1"],
)
def test_a_proxy_of_another_kind(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """It is named by its variable, before anything is asked."""
    monkeypatch.setenv("http_proxy", url)
    with pytest.raises(ConfigError, match=r"\$http_proxy: only proxies of the form http://"):
        Session("http://couch.example:5984", None, None)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for ``localhost`` that only those trust who are given it."""
    return self_signed(tmp_path)


@pytest.fixture
def secure(certificate: Path) -> Iterator[Peer]:
    """A server over TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def serve(server: Peer, connection: socket.socket) -> None:
        with (
            suppress(OSError),  # the client does not trust it
            context.wrap_socket(connection, server_side=True) as wrapped,
        ):
            answers(server, wrapped)

    with peer(serve) as server:
        yield server


def test_tls_is_verified(secure: Peer, certificate: Path) -> None:
    """A certificate is trusted with its ``ca_file``, and told of without; nothing is sent then."""
    url = f"https://localhost:{secure.port}"
    with session(url) as asking, pytest.raises(PoolUnreachable, match=r"no safe .*ca_file"):
        ask(asking)
    assert secure.heads == []
    with session(url, certificate) as asking:
        assert [ask(asking) for _ in range(2)] == [{"ok": True}] * 2
    assert secure.connections == 2


def test_tls_through_a_proxy(
    secure: Peer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proxy hears where to, and its own login; the server's password passes it enciphered."""
    said: list[bytes] = []

    def relay(proxy: Peer, connection: socket.socket) -> None:
        proxy.read_request(connection)
        with socket.create_connection(("127.0.0.1", secure.port)) as further:
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")

            def back() -> None:
                while data := further.recv(65536):
                    connection.sendall(data)

            thread = threading.Thread(target=back)
            thread.start()
            while data := connection.recv(65536):
                said.append(data)
                further.sendall(data)
            further.shutdown(socket.SHUT_WR)
            thread.join()

    with peer(relay) as proxy:
        monkeypatch.setenv("https_proxy", f"http://bob:secret@127.0.0.1:{proxy.port}")
        with session(f"https://localhost:{secure.port}", certificate) as asking:
            assert [ask(asking) for _ in range(2)] == [{"ok": True}] * 2
        (head,) = proxy.heads
        assert head.split("\r\n")[0].startswith(f"CONNECT localhost:{secure.port} HTTP/1.")
        assert header(head, "Proxy-Authorization") == basic("bob:secret")
        assert basic("anna:pässword").encode() not in b"".join(said)
    assert {header(head, "Authorization") for head in secure.heads} == {basic("anna:pässword")}
    assert {header(head, "Proxy-Authorization") for head in secure.heads} == {""}


def test_a_proxy_that_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it says is in the error, and no password; the connection is ended."""
    ended = threading.Event()

    def refuse(proxy: Peer, connection: socket.socket) -> None:
        proxy.read_request(connection)
        connection.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
        if connection.recv(1) == b"":
            ended.set()

    with peer(refuse) as proxy:
        monkeypatch.setenv("https_proxy", f"http://bob:secret@127.0.0.1:{proxy.port}")
        with (
            session("https://couch.example") as asking,
            pytest.raises(PoolUnreachable, match="407 Proxy Authentication") as caught,
        ):
            ask(asking)
        assert "secret" not in str(caught.value)
        assert ended.wait(10)
