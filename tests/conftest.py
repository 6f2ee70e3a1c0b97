"""Fixtures that every tier of tests may use."""

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.components import skipped_component, skipped_components
from tests.couchdb.double import DoubleCouch
from tests.couchdb.exchange import Exchange
from tests.couchdb.server import ENVIRONMENT, INSTALLED, CouchServer, real_server
from tests.slurm.cluster import Slurm, missing

NO_COUCHDB = f"not installed in {INSTALLED}, and ${ENVIRONMENT} is not set"
_used: set[str] = set()

# How long an example takes says how busy the machine is.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


@pytest.fixture(scope="session")
def couchdb() -> Iterator[CouchServer]:
    """A CouchDB: real where there is one, else the double."""
    with real_server() or DoubleCouch() as server:
        if server.kind == "double":
            skipped_component("real CouchDB", f"{NO_COUCHDB}; the test double stood in")
        name = "CouchDB" if server.kind == "real" else "a double of CouchDB"
        _used.add(f"{name} {server.version} ({server.origin})")
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


def pytest_xdist_auto_num_workers() -> int:
    """Two workers a core, for most tests wait: for processes, signals and servers."""
    return max(2, min(4, 2 * len(os.sched_getaffinity(0))))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Send what a worker ran against, and what it missed, to the process that prints it."""
    if (output := getattr(session.config, "workeroutput", None)) is not None:
        output["used"], output["skipped"] = sorted(_used), skipped_components()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Receive what a worker ran against, and what it missed."""
    output = getattr(node, "workeroutput", {})
    _used.update(output.get("used", ()))
    for name, why in output.get("skipped", {}).items():
        skipped_component(name, why)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which CouchDB the tests ran against, and name every component that was missing."""
    for server in sorted(_used):
        terminalreporter.write_line(f"CouchDB tests ran against: {server}")
    for name, why in sorted(skipped_components().items()):
        terminalreporter.write_line(f"SKIPPED BY NAME: {name} ({why})")
