"""The servers that tests run against: they restart in place, and the double fails on demand."""

import http.client
from collections.abc import Iterator

import pytest
from tests.couchdb.double import DoubleCouch, Fault, Reply, Request
from tests.couchdb.raw import Raw
from tests.couchdb.server import CouchServer, InstalledCouch, installed

LOST = (http.client.RemoteDisconnected, ConnectionResetError)


@pytest.fixture
def faulty(double: DoubleCouch) -> Iterator[Raw]:
    """A database on the double whose fault hooks are taken away afterwards."""
    name = double.new_database()
    with double.raw(f"/{name}") as raw:
        yield raw
    double.no_faults()
    double.delete_database(name)


@pytest.mark.parametrize(
    "make", [DoubleCouch, pytest.param(InstalledCouch, marks=pytest.mark.couchdb)]
)
def test_restart_keeps_port_and_data(make: type[CouchServer]) -> None:
    """Down means no connection; up again means the same address and the same documents."""
    if make is InstalledCouch and not installed():
        pytest.skip("real CouchDB: only a private server can be restarted")
    with make() as server:
        url, name = server.url, server.new_database()
        with server.raw(f"/{name}") as raw:
            assert raw.put("/a", {}).status == 201
            server.stop()
            with pytest.raises((OSError, http.client.HTTPException)):
                raw.get("/a")
        with server.raw() as raw, pytest.raises(ConnectionRefusedError):
            raw.get("/")
        server.start()
        assert server.url == url
        with server.raw(f"/{name}") as raw:
            assert raw.get("/a").status == 200


def test_connection_lost_before_a_write(double: DoubleCouch, faulty: Raw) -> None:
    """Nothing was written, and the client cannot know."""
    double.before = lambda request: Fault.DROP if request.method == "PUT" else None
    with pytest.raises(LOST):
        faulty.put("/a", {})
    faulty.close()
    assert faulty.get("/a").status == 404


def test_reply_lost_after_a_write(double: DoubleCouch, faulty: Raw) -> None:
    """It was written, and the client cannot know; sent again it conflicts."""
    double.after = lambda request, reply: Fault.DROP if request.method == "PUT" else None
    with pytest.raises(LOST):
        faulty.put("/a", {})
    faulty.close()
    assert faulty.get("/a").status == 200
    double.no_faults()
    assert faulty.put("/a", {}).status == 409


def test_failing_server(double: DoubleCouch, faulty: Raw) -> None:
    """A hook answers in the server's place, before or after the request was applied."""

    def fail(request: Request) -> Reply | None:
        failing = request.parts[1:] == ["a"] and request.method == "PUT"
        return Reply(503, {"error": "unavailable", "reason": "a fault"}) if failing else None

    double.before = fail
    assert faulty.put("/a", {}).status == 503
    assert faulty.put("/b", {}).status == 201
    double.no_faults()
    assert faulty.get("/a").status == 404


def test_requests_are_counted(double: DoubleCouch, faulty: Raw) -> None:
    """Tests can say how many requests something may cost."""
    before = double.requests
    faulty.put("/a", {})
    faulty.get("/a")
    assert double.requests - before == 2
