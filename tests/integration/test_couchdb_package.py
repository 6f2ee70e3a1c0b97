"""Scripts that use the ``couchdb`` package beside our client, on a real CouchDB."""

import subprocess
from pathlib import Path

import pytest
from tests.classic import address, classic_python
from tests.components import skipped_component

import picas

SCRIPT = """
import sys
import couchdb
from couchdb.design import ViewDefinition
from couchdb.http import ResourceConflict, ResourceNotFound
import picas
from picas.actors import RunActor
from picas.clients import CouchDB
from picas.documents import Document, Task

assert picas.__file__.startswith(sys.argv[5]), picas.__file__
url, name, username, password = sys.argv[1:5]
db = CouchDB(url, name, username, password)

code = "function(doc) { if (doc.type == 'token') { emit(doc.input, 1); } }"
ViewDefinition("Own", "by_input", code, "_sum").sync(db.db)
db.save(Task({"_id": "a", "type": "token", "input": "x"}))
assert [(r.key, r.value) for r in db.view("by_input", design_doc="Own", group=True)] == [("x", 1)]
ViewDefinition("Own", "other", code).sync(db.db)
assert set(db.db["_design/Own"]["views"]) == {"by_input", "other"}

try:
    db.save(Document({"_id": "a"}))
except ResourceConflict as error:
    print("conflict", isinstance(error, picas.errors.Conflict))
for action in (lambda: db["nothing"], lambda: db.view("nothing"), lambda: db.get("nothing")):
    try:
        action()
    except ResourceNotFound:
        print("missing")

server = couchdb.Server(url)
server.resource.credentials = (username, password)
theirs = server[name]


class Wrapped:
    \"\"\"Somebody's own database object, over the package.\"\"\"

    def copy(self):
        return self

    def get(self, doc_id):
        return Document(dict(theirs[doc_id]))

    def get_single_from_view(self, view, window_size=1, **params):
        rows = theirs.view("Monitor/" + view, limit=window_size).rows
        return self.get(rows[0].id)

    def save(self, doc):
        doc["_id"], doc["_rev"] = theirs.save(doc.value)
        return doc


class Actor(RunActor):
    def process_task(self, task):
        doc = theirs[task.id]
        doc["note"] = "edited meanwhile"
        theirs.save(doc)
        task["output"] = "ran"


actor = Actor(Wrapped())
actor.run()
doc = theirs["a"]
print(actor.tasks_processed, doc["note"], doc["output"], doc["exit_code"])
"""


@pytest.mark.couchdb
def test_errors_views_and_own_objects(database: str, tmp_path: Path) -> None:
    """Its views can be synced, its errors are caught, and raised ones count as conflicts."""
    python = classic_python()
    if python is None:
        skipped_component("couchdb package", "its packages could not be installed")
        pytest.skip("couchdb package: could not be installed")
    with picas.connect(database, create=True):
        pass
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    source = Path(picas.__file__).parents[1]
    done = subprocess.run(
        [python, str(script), *address(database), str(source)],
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "conflict True",
        *(["missing"] * 3),
        "1 edited meanwhile ran 0",
    ]
