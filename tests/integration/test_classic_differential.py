"""The classic client and ours, driven through the same calls on the same real CouchDB."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.classic import address, classic_python
from tests.components import skipped_component
from tests.couchdb.server import CouchServer

SCENARIOS = Path(__file__).with_name("scenarios.py")
ADDED = frozenset(("_rev", "revpos", "lease", "pilot", "attempts"))
"""Fields that differ by their nature, or that the classic client does not have."""

_HELPERS = ("told", "main")

EXCEPTION_CODE = "a token whose actor raised has the exit code 1"
TIME_CODE = "a token that reached its time limit has the exit code 124, and says so"
CLOSED = "a token that its actor left locked is closed, with the exit code 0"

INTENDED: Mapping[str, Mapping[str, str]] = {
    "documents": {"returned.2": "a missing document is a not-found error as well as a ValueError"},
    "deleting_what_was_changed": {
        "returned": "deleting documents that were changed meanwhile says False, and goes on"
    },
    "defaults_of_a_task": {
        "returned.0.type": "a new task is of the type `token`, which views show"
    },
    "actor": {"documents.t2.exit_code": EXCEPTION_CODE},
    "actor_with_tries": {"documents.t2.exit_code": EXCEPTION_CODE},
    "actor_that_marks_nothing": {
        f"documents.t{i}.{field}": CLOSED for i in range(5) for field in ("done", "exit_code")
    },
    "actor_out_of_time": {
        "documents.t0.exit_code": TIME_CODE,
        "documents.t0.error.0.message": TIME_CODE,
        "documents.t0.error.0.exception": TIME_CODE,
    },
}
"""Where a difference is intended, by scenario and place: what ours does, in the words of the page
``docs/reference/classic-api.md``."""

PAGE = Path(__file__).parents[2] / "docs/reference/classic-api.md"


def scenarios() -> list[str]:
    """The names of all scenarios."""
    tree = ast.parse(SCENARIOS.read_text())
    return [n.name for n in tree.body if isinstance(n, ast.FunctionDef) and n.name not in _HELPERS]


def ran(python: str, name: str, server: CouchServer) -> dict[str, Any]:
    """What a scenario says, run by one of the two, on a database of its own."""
    database = server.new_database()
    try:
        done = subprocess.run(
            [python, str(SCENARIOS), name, *address(server.database_url(database))],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    finally:
        server.delete_database(database)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    docs = found["documents"]
    found["documents"] = {k: d for k, d in docs.items() if d.get("type") not in ("pilot", "log")}
    return found


def different(classic: Any, ours: Any, path: str = "") -> Iterator[str]:
    """Where two results differ; moments are as good as each other, and so are stubs' digests."""
    if isinstance(classic, dict) and isinstance(ours, dict):
        for key in sorted((classic.keys() | ours.keys()) - ADDED):
            yield from different(classic.get(key), ours.get(key), f"{path}.{key}".strip("."))
    elif isinstance(classic, list) and isinstance(ours, list) and len(classic) == len(ours):
        for number, (one, other) in enumerate(zip(classic, ours, strict=True)):
            yield from different(one, other, f"{path}.{number}")
    elif path.endswith(".exception"):  # each has its own lines of code in it
        if str(classic).splitlines()[-1] != str(ours).splitlines()[-1]:
            yield path
    elif not (_is_moment(classic) and _is_moment(ours)) and classic != ours:
        yield path


def _is_moment(value: Any) -> bool:
    return isinstance(value, int | float) and value > 1_000_000_000


@pytest.mark.couchdb
@pytest.mark.parametrize("name", scenarios())
def test_both_do_the_same(name: str, couchdb: CouchServer) -> None:
    """Documents and returned values are equal, but where a difference is intended."""
    python = classic_python()
    if python is None:
        skipped_component("classic PiCaS client", "its packages could not be installed")
        pytest.skip("classic PiCaS client: its packages could not be installed")
    classic, ours = ran(python, name, couchdb), ran(sys.executable, name, couchdb)
    print(json.dumps([classic, ours], indent=1))
    assert sorted(different(classic, ours)) == sorted(INTENDED.get(name, {}))


def test_the_page_tells_the_differences() -> None:
    """What is intended to differ stands in the documentation, in the same words."""
    page = " ".join(PAGE.read_text().lower().split())
    for reasons in INTENDED.values():
        for reason in reasons.values():
            assert reason.lower() in page, reason


MEMBERS = """
import importlib, inspect, json, pkgutil
import picas
found = []
for module in sorted(m.name for m in pkgutil.iter_modules(picas.__path__)):
    if module in ("apps", "metadata"):
        continue
    loaded = importlib.import_module("picas." + module)
    for name, value in vars(loaded).items():
        own = getattr(value, "__module__", None) == loaded.__name__
        if name.startswith("_") or not own or not (inspect.isclass(value) or callable(value)):
            continue
        found.append(module + "." + name)
        if inspect.isclass(value):
            found += [
                module + "." + name + "." + member
                for member in vars(value)
                if not member.startswith("_")
            ]
print(json.dumps(found))
"""


def test_the_page_has_every_classic_name() -> None:
    """Each public class, function and method of the classic client has its place in the table."""
    python = classic_python()
    if python is None:
        skipped_component("classic PiCaS client", "its packages could not be installed")
        pytest.skip("classic PiCaS client: its packages could not be installed")
    told = subprocess.run(
        [python, "-W", "ignore", "-c", MEMBERS], capture_output=True, text=True, check=True
    )
    page = PAGE.read_text()
    missing = [
        name
        for name in json.loads(told.stdout.splitlines()[-1])
        if f"`{name.partition('.')[2]}`" not in page
    ]
    assert missing == []
