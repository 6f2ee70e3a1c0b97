"""The documentation tells the truth: its commands run, its links lead somewhere, nothing is left out."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import click
import pytest

from picas import errors
from picas.cli import exits
from picas.cli.main import picas
from picas.config import KEYS
from picas.pilot.command import CommandRunner, CommandTask
from picas.token import CLASSIC_DEFAULTS
from tests.acceptance.pages import DATABASE, ROOT, SERVER, needs_couchdb, pages, run_page
from tests.couchdb.server import CouchServer

DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"
ALL_PAGES = sorted(
    p
    for p in [*DOCS.rglob("*.md"), *ROOT.glob("*.md"), *(ROOT / "examples").rglob("*.md")]
    if "_build" not in p.parts
)


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", pages(), ids=_name)
def test_commands_of_a_page_run_as_it_says(
    page: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Each command has the exit status, and prints the lines, that the page shows."""
    text = page.read_text()
    folder = tmp_path / "page"
    if not needs_couchdb(text):
        run_page(_for_examples(page, text), folder)
        return
    server: CouchServer = request.getfixturevalue("couchdb")
    database = f"{DATABASE}-{tmp_path.name[-20:].lower().replace('_', '-')}"
    try:
        run_page(text.replace(DATABASE, database), folder, *couchdb_of(server))
    finally:
        server.delete_database(database)


def couchdb_of(server: CouchServer) -> tuple[dict[str, str], str]:
    """Who to be, and the address without credentials."""
    parts = urlsplit(server.url)
    user = {"PICAS_USERNAME": parts.username or "", "PICAS_PASSWORD": unquote(parts.password or "")}
    return user, f"{parts.scheme}://{parts.hostname}:{parts.port}"


def _for_examples(page: Path, text: str) -> str:
    """The pages beside the examples say "in this folder"."""
    if ROOT / "examples" not in page.parents:
        return text
    return f"```console\n$ cd examples/{page.parent.name}\n```\n{text}"
