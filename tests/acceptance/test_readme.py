"""The README's story is true, on both stores."""

import shutil
import subprocess
from pathlib import Path

import pytest
from tests.acceptance.pages import DATABASE, ROOT, SERVER, run_couchdb_page, run_page
from tests.couchdb.server import CouchServer

README = (ROOT / "README.md").read_text()
STORY = README[README.index("## Five minutes") : README.index("## The same on CouchDB")]
EMBEDDED = "sqlite:///picas.db"


def test_the_story_runs_as_written_on_the_embedded_store(tmp_path: Path) -> None:
    """Five minutes without a server, without a password, without a configuration."""
    run_page(STORY, tmp_path / "page")


def test_on_couchdb_only_the_pool_changes(tmp_path: Path, couchdb: CouchServer) -> None:
    """The same story with PICAS_POOL set to a database on a server."""
    pool = f"{SERVER}/{DATABASE}"
    begin = f"```console\n$ export PICAS_POOL={pool}\n$ picas init\n```\n"
    run_couchdb_page(begin + STORY.replace(EMBEDDED, pool), tmp_path / "page", couchdb)


def test_all_of_it_runs_in_a_row(tmp_path: Path, couchdb: CouchServer) -> None:
    """A reader who types every command, the last ones on CouchDB, gets what is shown."""
    run_couchdb_page(README, tmp_path / "page", couchdb)


def test_it_names_the_promise_and_the_way_to_install() -> None:
    """The promise stands in the agreed words, and nobody is told to install by bare name."""
    assert "At-least-once execution, exactly-once recording" in README
    assert "pip install picas" not in README


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_make_knows_what_it_says() -> None:
    """The targets of make that the README names exist."""
    for target in ("demo", "docs", "test"):
        assert f"make {target}" in README
        plan = ["make", "--dry-run", target]
        subprocess.run(plan, cwd=ROOT, check=True, capture_output=True, timeout=20)


def test_the_demo_runs(tmp_path: Path) -> None:
    """What ``make demo`` starts ends well, and shows the outputs of its three tokens."""
    folder = tmp_path / "page"
    folder.mkdir()
    run_page("```console\n$ picas demo --folder demo\n…this is token…\n```", folder)
    assert (folder / "demo" / "picas.db").exists()
