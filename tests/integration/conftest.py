"""Fixtures of the integration tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from picas.pool import Pool, connect


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    """An empty embedded pool."""
    with connect(f"sqlite:///{tmp_path}/pool.db") as opened:
        yield opened
