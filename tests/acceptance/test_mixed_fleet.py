"""Classic pilots and ours at work on one database."""

import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from tests.acceptance.cli import clean_environment
from tests.acceptance.test_many_pilots import finish, start_pilots
from tests.classic import address, classic_python
from tests.components import skipped_component

from picas import token
from picas.pool import connect
from picas.token import State

TOKENS = 500

ACTOR = """
import sys
from picas.actors import RunActor
from picas.clients import CouchDB
from picas.modifiers import BasicTokenModifier

who, url, database, username, password = sys.argv[1:]


class Actor(RunActor):
    def process_task(self, token):
        with open("ledger", "a") as ledger:
            ledger.write(who + " " + token.id + "\\n")
        token["exit_code"] = 0
        BasicTokenModifier().close(token)


Actor(CouchDB(url=url, db=database, username=username, password=password)).run()
"""

CLASSIC_DIES = "Unable to claim task"
"""How a classic pilot ends where others were faster ten times running."""


def start_actors(
    number: int, who: str, python: str, url: str, folder: Path
) -> list[subprocess.Popen[bytes]]:
    """Start scripts of the classic API, by one client or the other."""
    (folder / "actor.py").write_text(ACTOR)
    return [
        subprocess.Popen(
            [python, "actor.py", who, *address(url)],
            cwd=folder,
            env=clean_environment(folder.with_name("home")),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        for _ in range(number)
    ]


@pytest.mark.couchdb
def test_four_classic_pilots_and_four_of_ours(database: str, tmp_path: Path) -> None:
    """500 tokens are done, none is left locked, and ours run none of them twice."""
    python = classic_python()
    if python is None:
        skipped_component("classic PiCaS client", "its packages could not be installed")
        pytest.skip("classic PiCaS client: its packages could not be installed")
    folder = tmp_path / "work"
    folder.mkdir()
    with connect(database, create=True) as pool:
        note = "echo ours $PICAS_TOKEN_ID >>ledger"
        docs = (token.new({"input": note}, f"t{i:03}") for i in range(TOKENS))
        assert all(pushed.error is None for pushed in pool.push(docs))
        classic = start_actors(4, "classic", python, database, folder)
        actors = start_actors(2, "ours", sys.executable, database, folder)
        finish([*actors, *start_pilots(2, database, folder)])
        for pilot in classic:
            _, err = pilot.communicate(timeout=240)
            assert pilot.returncode == 0 or CLASSIC_DIES in err.decode(), err.decode()
        counts = pool.counts()
    runs: dict[str, list[str]] = defaultdict(list)
    for line in (folder / "ledger").read_text().splitlines():
        who, name = line.split()
        runs[name].append(who)
    assert len(runs) == TOKENS
    assert counts == {State.TODO: 0, State.LOCKED: 0, State.DONE: TOKENS, State.ERROR: 0}
    ours = Counter(name for name, by in runs.items() for who in by if who == "ours")
    # A classic pilot may take what it saw free a moment ago, from ours, too; ours do no such thing.
    assert set(ours.values()) == {1}
    assert {"ours", "classic"} == {who for by in runs.values() for who in by}
