"""Fixtures of the integration tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.components import skipped_component
from tests.couchdb.cluster import InstalledCluster
from tests.couchdb.server import INSTALLED, installed

from picas.pool import Pool, connect


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    """An empty embedded pool."""
    with connect(f"sqlite:///{tmp_path}/pool.db") as opened:
        yield opened


@pytest.fixture(scope="module")
def cluster() -> Iterator[InstalledCluster]:
    """Three nodes of a CouchDB cluster; they end with the module, for they share its cores."""
    if not installed():
        why = f"not installed in {INSTALLED}"
        skipped_component("CouchDB cluster", why)
        pytest.skip(f"CouchDB cluster: {why}")
    with InstalledCluster() as nodes:
        yield nodes
