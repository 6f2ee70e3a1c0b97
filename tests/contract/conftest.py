"""A pool on every kind of store, and further pools on the same database."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from picas.pool import Pool, connect
from tests.couchdb.server import CouchServer

STORES = ["sqlite", pytest.param("couchdb", marks=pytest.mark.couchdb), "double"]
COUCHES = STORES[1:]


@pytest.fixture(autouse=True)
def _own_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the person who runs the tests has configured is left out."""
    for name in ("PICAS_CONFIG", "PICAS_POOL", "PICAS_USERNAME", "PICAS_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture(params=STORES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where a pool that does not exist yet may be made; removed afterwards."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'pool.db'}"
        return
    server: CouchServer = request.getfixturevalue(request.param)
    name = server.new_database()
    server.delete_database(name)
    yield server.database_url(name)
    server.delete_database(name)


@pytest.fixture
def pool(url: str) -> Iterator[Pool]:
    """A fresh pool with the standard views."""
    with connect(url, create=True) as made:
        yield made


@pytest.fixture
def join(url: str, pool: Pool) -> Iterator[Callable[[], Pool]]:
    """Opens another pool on the same database, as another pilot would."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(connect(url, create=False))


@pytest.fixture(params=COUCHES)
def server(request: pytest.FixtureRequest) -> CouchServer:
    """A CouchDB server: the real one, then the double."""
    couch: CouchServer = request.getfixturevalue(request.param)
    return couch


@pytest.fixture
def couch_url(server: CouchServer) -> Iterator[str]:
    """The URL of a fresh database on `server`, with an administrator's credentials."""
    name = server.new_database()
    yield server.database_url(name)
    server.delete_database(name)
