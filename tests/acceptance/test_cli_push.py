"""``picas push``: what goes in, what is refused, and what is said about it."""

import json
import os
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest
from picas import config
from picas.pool import connect
from picas.token import Document

from tests.acceptance.cli import PICAS, answer_picas, clean_environment, home_of, run_picas

QUICK = "echo 'this is token A'\necho 'this is token B'\necho 'this is token C'\n"
LOCAL = "sqlite:///picas.db"


@pytest.fixture(params=["embedded", "couchdb"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A pool of each kind."""
    if request.param == "couchdb":
        database: str = request.getfixturevalue("database")
        with connect(database) as pool:
            pool.store.write([config_free_design()])
        return database
    return f"sqlite:///{tmp_path}/picas.db"


def config_free_design() -> Document:
    """The standard views, as 'picas init' makes them."""
    from picas.views import MONITOR

    return MONITOR.document()


def tokens(cwd: Path, url: str | None = None) -> dict[str, Document]:
    """All tokens of a pool, by id."""
    with connect(url or f"sqlite:///{cwd}/picas.db", create=False) as pool:
        return {doc["_id"]: doc for doc in pool.find("Monitor/todo")}
