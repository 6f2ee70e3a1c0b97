"""Fixtures of the acceptance tests."""

from pathlib import Path

import pytest
from tests.acceptance.accounts import Picas, bare, login
from tests.acceptance.work import Work
from tests.slurm.cluster import Slurm

from picas.pool import connect


@pytest.fixture(params=["embedded", "couchdb"])
def pool_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty pool, of either kind; an embedded one is made when it is used."""
    if request.param == "embedded":
        return f"sqlite:///{tmp_path / 'work' / 'picas.db'}"
    url: str = request.getfixturevalue("database")
    return url


@pytest.fixture
def work(pool_url: str, tmp_path: Path) -> Work:
    """An empty pool, of either kind, and a folder."""
    return Work(tmp_path / "work", pool_url)


@pytest.fixture
def local(tmp_path: Path) -> Work:
    """An empty embedded pool, and a folder."""
    return Work(tmp_path / "work", f"sqlite:///{tmp_path / 'work' / 'picas.db'}")


@pytest.fixture
def picas(tmp_path: Path) -> Picas:
    """The command, in an empty folder with an empty HOME."""
    folder = tmp_path / "work"
    folder.mkdir()
    return Picas(folder)


@pytest.fixture
def site(slurm: Slurm, database: str) -> dict[str, str]:
    """The environment of a user of the cluster, whose pool is a fresh database."""
    with connect(database, create=True):
        pass
    return {**slurm.environment, **login(database), "PICAS_POOL": bare(database)}
