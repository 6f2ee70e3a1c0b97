"""Classic PiCaS pilots and ours on the same CouchDB database."""

import subprocess
from pathlib import Path

import pytest
from tests.classic import address, classic_python
from tests.components import skipped_component

from picas import token
from picas.pilot import FunctionRunner, Pilot
from picas.pool import connect
from picas.token import State

ACTOR = """
import sys
from picas.actors import RunActor
from picas.clients import CouchDB
from picas.documents import Task
from picas.modifiers import BasicTokenModifier

url, database, username, password, action = sys.argv[1:]
db = CouchDB(url=url, db=database, username=username, password=password)


class Actor(RunActor):
    def process_task(self, task):
        task["exit_code"] = 0 if task["input"] == "good" else 1
        task.put_attachment("logs_%s.out" % task.id, b"classic")
        BasicTokenModifier().close(task)


if action == "run":
    Actor(db).run()
elif action == "push":
    tokens = [Task({"_id": "c%d" % i, "type": "token", "input": "good"}) for i in range(3)]
    assert all(db.save_documents(tokens))
elif action == "views":
    for state, condition in {
        "todo": "doc.lock == 0 && doc.done == 0",
        "locked": "doc.lock > 0 && doc.done == 0",
        "done": "doc.lock > 0 && doc.done > 0 && parseInt(doc.exit_code) == 0",
        "error": "doc.lock > 0 && doc.done > 0 && parseInt(doc.exit_code) != 0",
    }.items():
        body = "if(doc.type == 'token' && %s) { emit(doc._id, doc._id); }" % condition
        db.add_view(state, "function(doc) { %s }" % body)
"""


def classic(url: str, action: str, folder: Path) -> None:
    """Let the classic client do something with a database."""
    python = classic_python()
    if python is None:
        skipped_component("classic PiCaS client", "its packages could not be installed")
        pytest.skip("classic PiCaS client: its packages could not be installed")
    script = folder / "classic_actor.py"
    script.write_text(ACTOR)
    done = subprocess.run(
        [python, str(script), *address(url), action],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.couchdb
def test_classic_pilot_on_our_database(database: str, tmp_path: Path) -> None:
    """A classic pilot finds our tokens in our views, and we read its results."""
    with connect(database, create=True) as pool:
        docs = [token.new({"input": w}, f"t{i}") for i, w in enumerate(["good", "good", "bad"])]
        assert all(pushed.error is None for pushed in pool.push(docs))
        classic(database, "run", tmp_path)
        assert pool.counts() == {State.TODO: 0, State.LOCKED: 0, State.DONE: 2, State.ERROR: 1}
        assert b"".join(pool.attachment("t0", "logs_t0.out")) == b"classic"
        # What it failed can be given back to ours.
        assert pool.reset(doc["_id"] for doc in pool.find("Monitor/error")) == 1
        Pilot(pool, FunctionRunner(lambda _: 0)).run()
        assert pool.counts()[State.DONE] == 3


@pytest.mark.couchdb
def test_our_pilot_on_a_classic_database(database: str, tmp_path: Path) -> None:
    """We run tokens that a classic client pushed, by the views that it made, and touch neither."""
    classic(database, "views", tmp_path)
    classic(database, "push", tmp_path)
    with connect(database) as pool:
        before = pool.store.designs()
        pilot = Pilot(pool, FunctionRunner(lambda _: 0))
        assert pilot.run().counters.done == 3
        assert pool.count("Monitor/done") == 3
        assert pool.store.designs() == before
