"""Each failure has its own class; its text says what was being done, and no secret."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from picas.errors import (
    Forbidden,
    PicasError,
    PoolMissing,
    PoolUnreachable,
    ServerError,
    TooLarge,
    Unauthorized,
)
from picas.pool import Pool, Settlement, Verdict, connect
from picas.pool.base import INLINE_LIMIT
from picas.pool.couchdb import http
from picas.views import MONITOR
from tests.contract.support import claim_one, fill, outcome
from tests.couchdb.double import DoubleCouch
from tests.couchdb.double.http import Fault, Reply, Request
from tests.couchdb.server import CouchServer

PASSWORD = "s3cret/pass-word"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads are tried twice instead of several times, to save time."""
    monkeypatch.setattr(http, "READ_TRIES", 2)


@pytest.fixture
def faulty(double: DoubleCouch) -> Iterator[DoubleCouch]:
    """The double, its fault hooks taken away afterwards."""
    yield double
    double.no_faults()


def with_login(url: str, user: str, password: str) -> str:
    """The same URL for another user."""
    parts = urlsplit(url)
    password = password.replace("/", "%2F")
    return f"{parts.scheme}://{user}:{password}@{parts.hostname}:{parts.port}{parts.path}"


def is_clear(error: BaseException, words: str, *secrets: str) -> None:
    """Its text, and that of its causes, names the operation and holds no secret."""
    assert words in str(error)
    assert "\n" not in str(error)
    cause: BaseException | None = error
    while cause is not None:
        assert not any(secret in f"{cause!s} {cause!r}" for secret in secrets)
        cause = cause.__cause__


def every_verb(pool: Pool) -> list[tuple[str, Callable[[], object]]]:
    """Verbs that ask the store, and a word that their errors must hold."""
    return [
        ("reading the view Monitor/todo", lambda: pool.count("Monitor/todo")),
        ("reading the view Monitor/overview_total", lambda: pool.counts()),
        ("reading documents", lambda: pool.get("a")),
        ("writing 1 documents", lambda: pool.store.write([{"_id": "a"}])),
        ("waiting for changes", lambda: pool.changes(None, timeout=0)),
        ("reading the designs", lambda: pool.designs()),
        ("looking up ids", lambda: pool.pilots()),
        ("reading the attachment 'x'", lambda: pool.attachment("a", "x")),
    ]


def test_missing_database(server: CouchServer, tmp_path: Path) -> None:
    """A pool that does not exist is told as such, with what makes it."""
    file = tmp_path / "file"
    file.write_bytes(b"x")
    with connect(server.database_url("none-such"), create=False) as pool:
        asked = [ask for _, ask in every_verb(pool)]
        asked.append(lambda: pool.store.attach("a", "1-a", "x", file))
        for ask in asked:
            with pytest.raises(PoolMissing, match=r"none-such.*init"):
                ask()


def test_missing_embedded_pool(tmp_path: Path) -> None:
    """An embedded pool that is not there is told, and not made by the question."""
    file = tmp_path / "none.db"
    with pytest.raises(PoolMissing, match=r"none\.db"):
        connect(f"sqlite:///{file}", create=False)
    assert not file.exists()


def test_wrong_password(couch_url: str) -> None:
    """A wrong password is told by every verb, and not repeated in the message."""
    with connect(with_login(couch_url, "admin", PASSWORD), create=False) as pool:
        for words, ask in every_verb(pool):
            with pytest.raises(Unauthorized, match="password") as caught:
                ask()
            is_clear(caught.value, words, PASSWORD)


def test_user_without_rights(server: CouchServer, couch_url: str) -> None:
    """A user who may not use the database, or not add views, is told so."""
    user = {"_id": "org.couchdb.user:eve", "type": "user", "name": "eve", "roles": []}
    with server.raw() as raw:
        raw.put("/_users/org.couchdb.user:eve", {**user, "password": PASSWORD})
    eve = with_login(couch_url, "eve", PASSWORD)
    with connect(eve, create=False) as pool, pytest.raises(Forbidden) as caught:
        pool.count("Monitor/todo")
    is_clear(caught.value, "reading the view Monitor/todo", PASSWORD)
    with server.raw() as raw:
        name = urlsplit(couch_url).path
        raw.put(f"{name}/_security", {"members": {"names": ["eve"]}})
    with connect(eve, create=False) as pool:
        assert pool.store.version()
        with pytest.raises((Forbidden, Unauthorized)):
            pool.add_design(MONITOR)
    with pytest.raises(Forbidden, match="only an administrator"):
        connect(eve + "-other", create=True)


@pytest.mark.usefixtures("impatient")
def test_nobody_listens() -> None:
    """A closed port is unreachable, whatever is asked."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        url = f"http://admin:secretpass@127.0.0.1:{port}/db"
        with connect(url, create=False) as pool:
            for words, ask in every_verb(pool)[::3]:
                with pytest.raises(PoolUnreachable) as caught:
                    ask()
                is_clear(caught.value, words, "secretpass")


@contextmanager
def broken_server(answer: bytes) -> Iterator[int]:
    """A server that sends these bytes to every connection, then hangs up; yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_an_upload_ends_in_time(tmp_path: Path) -> None:
    """A server that takes a file slowly, but never stops, is given up when the time is over."""
    size = 64 << 20
    (tmp_path / "file").write_bytes(bytes(size))
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def read_slowly() -> None:
            connection, _ = listener.accept()
            with connection:
                while not over.is_set() and connection.recv(65536):
                    over.wait(0.02)

        thread = threading.Thread(target=read_slowly)
        thread.start()
        session = http.Session(f"http://127.0.0.1:{listener.getsockname()[1]}", None, None)
        try:
            with (
                (tmp_path / "file").open("rb") as stream,
                session.within(1.0),
                pytest.raises(PoolUnreachable, match="too long to send"),
            ):
                session.upload("attaching", "/db/a/file", stream, size, "text/plain", {})
        finally:
            over.set()
            session.close()
            thread.join()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 O",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nabc",
    ],
    ids=["nothing", "status", "body", "chunk"],
)
def test_connection_dropped_mid_answer(answer: bytes) -> None:
    """An answer that breaks off is no answer, for reads and writes."""
    with broken_server(answer) as port:
        url = f"http://admin:secretpass@127.0.0.1:{port}/db"
        with connect(url, create=False) as pool:
            for ask in (
                lambda: pool.store.write([{"_id": "a"}]),
                lambda: pool.counts(),
            ):
                with pytest.raises(PoolUnreachable) as caught:
                    ask()
                is_clear(caught.value, "no answer", "secretpass")


@pytest.mark.parametrize("head", ["Content-Length: 9", "Transfer-Encoding: chunked"])
def test_attachment_that_breaks_off(head: str) -> None:
    """Half an attachment is not taken for the whole."""
    answer = f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n4\r\nabcd".encode()
    with broken_server(answer) as port:
        url = f"http://127.0.0.1:{port}/db"
        with connect(url, create=False) as pool, pytest.raises(PoolUnreachable) as caught:
            list(pool.attachment("a", "x"))
        is_clear(caught.value, "reading the attachment 'x'")


def test_something_else_answers() -> None:
    """A server that is no CouchDB is told as such."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>"
    with broken_server(answer) as port:
        url = f"http://127.0.0.1:{port}/db"
        with connect(url, create=False) as pool, pytest.raises(ServerError, match="CouchDB"):
            pool.store.write([{"_id": "a"}])


@pytest.mark.usefixtures("impatient")
def test_server_that_fails(faulty: DoubleCouch) -> None:
    """A 500 is the server's failure; a read that fails once is asked again."""
    with connect(faulty.database_url(faulty.new_database()), create=True) as pool:
        fill(pool, "a")
        failures = [Reply(503, {"error": "busy", "reason": "compacting"})]
        faulty.before = lambda request: failures.pop() if failures else None
        assert pool.get("a")["_id"] == "a"
        faulty.before = lambda request: Reply(500, {"error": "oops", "reason": "no disk"})
        for words, ask in every_verb(pool):
            with pytest.raises(ServerError, match="no disk") as caught:
                ask()
            is_clear(caught.value, words, faulty.password)


def test_write_is_never_sent_again_by_itself(faulty: DoubleCouch) -> None:
    """A write whose connection broke reaches the server once."""
    with connect(faulty.database_url(faulty.new_database()), create=True) as pool:
        writes: list[Request] = []

        def drop(request: Request, reply: Reply) -> Fault | None:
            if not request.path.endswith("/_bulk_docs"):
                return None
            writes.append(request)
            return Fault.DROP

        faulty.after = drop
        with pytest.raises(PoolUnreachable):
            pool.store.write([{"_id": "a"}])
        assert len(writes) == 1
        faulty.no_faults()
        assert pool.store.read(["a"]) != [None]


def test_result_over_a_lost_wire_is_recorded_once(faulty: DoubleCouch) -> None:
    """The whole way over HTTP: the reply to a result is lost, and it is recorded once."""
    with connect(faulty.database_url(faulty.new_database()), create=True) as pool:
        fill(pool, "a")
        result = Settlement(claim_one(pool), outcome(0))
        faulty.after = lambda request, reply: (
            Fault.DROP if request.path.endswith("/_bulk_docs") else None
        )
        with pytest.raises(PoolUnreachable):
            pool.settle([result])
        faulty.no_faults()
        assert pool.settle([result]) == [Verdict.RECORDED]
        assert len(pool.get("a")["attempts"]) == 1


def test_attachment_over_the_limit(server: CouchServer, tmp_path: Path) -> None:
    """A file over the server's limit for attachments: the result is recorded without it."""
    setting = "/_node/_local/_config/couchdb/max_attachment_size"
    file = tmp_path / "file"
    file.write_bytes(b"x" * (INLINE_LIMIT * 2))
    with server.raw() as raw:
        if raw.call("PUT", setting, f'"{INLINE_LIMIT}"').status != 200:
            pytest.skip("this server's limit cannot be set by a request")
        try:
            name = server.new_database()
            with connect(server.database_url(name), create=True) as pool:
                fill(pool, "a")
                claimed = claim_one(pool)
                with pytest.raises(TooLarge):
                    pool.store.attach("a", claimed["_rev"], "log", file)
                verdict = pool.settle([Settlement(claimed, outcome(1), files={"log": file})])
                assert verdict == [Verdict.BARE]
        finally:
            raw.call("DELETE", setting)
            server.delete_database(name)


@pytest.mark.couchdb
def test_newest_of_conflicting_revisions(couchdb: CouchServer, database: str) -> None:
    """After a replication conflict, reading tells the revision that the server tells."""
    name = urlsplit(database).path
    with couchdb.raw() as raw, connect(database, create=True) as pool:
        for digit in "2519":
            doc = {"_id": "a", "_rev": f"1-{digit * 32}", "type": "token", "n": digit}
            raw.post(f"{name}/_bulk_docs", {"new_edits": False, "docs": [doc]})
        assert pool.get("a")["n"] == raw.get(f"{name}/a").json["n"] == "9"


def test_every_error_is_ours() -> None:
    """Whoever catches `PicasError` catches them all."""
    assert all(issubclass(kind, PicasError) for kind in (PoolMissing, Forbidden, PoolUnreachable))
