"""Fixtures that every tier of tests may use."""

import signal
from collections.abc import Iterator

import pytest

from tests.components import skipped_component, skipped_components
from tests.couchdb.double import DoubleCouch
from tests.couchdb.exchange import Exchange
from tests.couchdb.server import ENVIRONMENT, INSTALLED, CouchServer, real_server
from tests.slurm.cluster import Slurm, missing

NO_COUCHDB = f"not installed in {INSTALLED}, and ${ENVIRONMENT} is not set"
_used: list[CouchServer] = []


@pytest.fixture(scope="session")
def couchdb() -> Iterator[CouchServer]:
    """A CouchDB: real where there is one, else the double."""
    with real_server() or DoubleCouch() as server:
        if server.kind == "double":
            skipped_component("real CouchDB", f"{NO_COUCHDB}; the test double stood in")
        _used.append(server)
        yield server


@pytest.fixture(scope="session")
def double() -> Iterator[DoubleCouch]:
    """The test double of CouchDB, whatever is installed; its fault hooks are empty."""
    with DoubleCouch() as server:
        yield server


@pytest.fixture
def database(couchdb: CouchServer) -> Iterator[str]:
    """The URL, with an administrator's credentials, of a fresh database; removed afterwards."""
    name = couchdb.new_database()
    yield couchdb.database_url(name)
    couchdb.delete_database(name)


@pytest.fixture(scope="session")
def slurm() -> Iterator[Slurm]:
    """A real Slurm of three nodes; skipped by name where it is not installed."""
    if why := missing():
        skipped_component("Slurm", why)
        pytest.skip(f"Slurm: {why}")
    with Slurm() as cluster:
        yield cluster


@pytest.fixture(params=["double", pytest.param("real", marks=pytest.mark.couchdb)])
def exchange(request: pytest.FixtureRequest) -> Iterator[Exchange]:
    """A database to talk to, once on the double and once on a real CouchDB."""
    name = "couchdb" if request.param == "real" else "double"
    server: CouchServer = request.getfixturevalue(name)
    talk = Exchange(server)
    yield talk
    talk.close()


def pytest_configure() -> None:
    """Let the commands under test be interrupted, also where the tests run in the background."""
    # A shell starts background jobs with INT ignored, and what is ignored stays so in children.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip by name what needs a real CouchDB where there is none."""
    if item.get_closest_marker("couchdb") and real_server() is None:
        skipped_component("real CouchDB", f"{NO_COUCHDB}; the test double stood in")
        pytest.skip(f"real CouchDB: {NO_COUCHDB}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which CouchDB the tests ran against, and name every component that was missing."""
    for server in _used:
        name = "CouchDB" if server.kind == "real" else "a double of CouchDB"
        terminalreporter.write_line(
            f"CouchDB tests ran against: {name} {server.version} ({server.origin})"
        )
    for name, why in sorted(skipped_components().items()):
        terminalreporter.write_line(f"SKIPPED BY NAME: {name} ({why})")
