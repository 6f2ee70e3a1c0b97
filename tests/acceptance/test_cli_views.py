"""``picas views``: list, add, create, remove, on both stores."""

import json
import sqlite3
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.acceptance.accounts import Picas, account, bare, login
from tests.couchdb.raw import Raw
from tests.couchdb.server import CouchServer


@pytest.fixture(params=["sqlite", "couchdb"])
def picas(tmp_path: Path, request: pytest.FixtureRequest) -> Picas:
    """The command, configured for a fresh pool of each kind."""
    folder = tmp_path / "work"
    folder.mkdir()
    if request.param == "sqlite":
        command = Picas(folder)
        command("init", "runs.db")
    else:
        database: str = request.getfixturevalue("database")
        command = Picas(folder, login(database)["PICAS_PASSWORD"])
        command("init", bare(database), env=login(database))
    return command


def listed(picas: Picas) -> dict[str, dict[str, object]]:
    """What ``views list --json`` has, by design."""
    facts = json.loads(picas("views", "list", "--json").stdout)
    return {entry["design"]: entry for entry in facts}


def test_a_view_with_a_condition_picks_its_tokens(picas: Picas, tmp_path: Path) -> None:
    """Tokens that match are counted in it; the rest is in the standard views only."""
    tokens = tmp_path / "tokens.jsonl"
    tokens.write_text(
        "".join(json.dumps({"_id": f"t{n}", "input": "true", "cores": n}) + "\n" for n in range(5))
    )
    picas("push", "--json", str(tokens))
    added = picas("views", "add", "big", "--where", "cores >= 3").stdout.splitlines()
    assert added == [
        "added the views big/{todo, locked, done, error, overview_total}: cores >= 3",
        "use them with: picas run --view big/todo",
    ]
    shown = picas("views", "list", "--counts").stdout.splitlines()
    assert shown == [
        "Monitor  all tokens  todo 5, locked 0, done 0, error 0, overview_total",
        "big      cores >= 3  todo 2, locked 0, done 0, error 0, overview_total",
    ]


def test_a_field_that_no_token_has_is_told(picas: Picas) -> None:
    """Misspelled, perhaps; the views are added. Of an empty pool nothing is known."""
    assert picas("views", "add", "big", "--where", "coers >= 3").stderr == ""
    picas("push", "--sweep", "cores=1:5", "--template", "echo {cores}")
    where = "coers >= 3 and cores > 1 and hostname != 'x'"
    added = picas("views", "add", "bigger", "--where", where)
    assert added.stderr == "picas: note: no token has a field 'coers'\n"
    assert added.stdout.startswith("added the views bigger/")


def test_the_list_for_programs_has_design_condition_and_views(picas: Picas) -> None:
    """JSON on request."""
    picas("views", "add", "big", "--where", "cores >= 3")
    names = ["todo", "locked", "done", "error", "overview_total", "free"]
    assert listed(picas) == {
        "Monitor": {"design": "Monitor", "where": None, "javascript": False, "views": names},
        "big": {"design": "big", "where": "cores >= 3", "javascript": False, "views": names},
    }


def test_changes_are_told_to_programs(picas: Picas) -> None:
    """--json prints what became of the views, and what they are now."""

    def told(*args: str) -> dict[str, object]:
        facts = json.loads(picas("views", *args, "--json").stdout)
        assert isinstance(facts, dict)
        return facts

    add = ("add", "big", "--where", "cores >= 3")
    first, again = told(*add), told(*add)
    assert first.pop("result") == "added"
    assert first == listed(picas)["big"]
    assert again.pop("result") == "unchanged"
    assert told("add", "big", "--where", "cores >= 9", "--yes")["result"] == "replaced"
    assert told("create") == {"result": "unchanged", **listed(picas)["Monitor"]}
    assert told("remove", "big") == {"result": "removed", "design": "big"}
    told("remove", "Monitor", "--yes")
    assert told("create")["result"] == "added"


def test_the_same_views_again_change_nothing(picas: Picas) -> None:
    """It says that they are there."""
    picas("views", "add", "big", "--where", "cores >= 3")
    assert "there already" in picas("views", "add", "big", "--where", "cores >= 3").stdout


def test_another_condition_is_asked_about(picas: Picas) -> None:
    """Without a terminal it refuses, and --yes replaces."""
    picas("views", "add", "big", "--where", "cores >= 3")
    other = ("views", "add", "big", "--where", "cores >= 9")
    assert "big already: cores >= 3. Replace them?" in picas(*other, status=2).stderr
    assert listed(picas)["big"]["where"] == "cores >= 3"
    assert picas(*other, "--yes").stdout.startswith("replaced the views big")
    assert listed(picas)["big"]["where"] == "cores >= 9"


def test_a_bad_condition_is_pointed_at(picas: Picas) -> None:
    """One line with the place; nothing is added."""
    done = picas("views", "add", "big", "--where", "cores = 4", status=2)
    assert "column 7" in done.stderr
    assert "write ==" in done.stderr
    assert "big" not in listed(picas)


@pytest.mark.parametrize("name", ["a/b", "_a", "Monitor"])
def test_a_bad_name_is_refused(picas: Picas, name: str) -> None:
    """The standard views' name is one of them."""
    done = picas("views", "add", name, "--where", "cores == 4", status=2)
    assert name in done.stderr


def test_views_are_removed_by_name(picas: Picas) -> None:
    """And a name that is not there is told."""
    picas("views", "add", "big", "--where", "cores >= 3")
    assert picas("views", "remove", "big").stdout == "removed the views big\n"
    assert "no views big/…" in picas("views", "remove", "big", status=5).stderr


def test_the_standard_views_are_removed_only_on_demand_and_made_again(picas: Picas) -> None:
    """Create is a no-op where they are."""
    assert "there already" in picas("views", "create").stdout
    assert "--yes" in picas("views", "remove", "Monitor", status=2).stderr
    picas("views", "remove", "Monitor", "--yes")
    assert "no views" in picas("views", "list").stderr
    assert "Monitor views are missing" in picas("doctor", status=1).stdout
    assert picas("views", "create").stdout.startswith("made the views Monitor/{todo")
    assert list(listed(picas)) == ["Monitor"]


def test_a_normal_user_learns_whom_to_ask(
    tmp_path: Path, couchdb: CouchServer, database: str
) -> None:
    """Only administrators of a database may change its views; everyone in it may list them."""
    folder = tmp_path / "work"
    folder.mkdir()
    picas = Picas(folder, login(database)["PICAS_PASSWORD"])
    picas("init", bare(database), env=login(database))
    with account(couchdb, urlsplit(database).path.strip("/")) as user:
        picas.secrets.append(user.password)
        env = {"PICAS_POOL": bare(database)}
        env |= {"PICAS_USERNAME": user.name, "PICAS_PASSWORD": user.password}
        for command in (("add", "big", "--where", "cores >= 3"), ("remove", "Monitor", "--yes")):
            done = picas("views", *command, env=env, status=4)
            assert "only an administrator of the database may change its views" in done.stderr
        assert "Monitor" in picas("views", "list", env=env).stdout
        assert "only the database's administrators" in picas("doctor", env=env).stdout


def test_views_of_somebody_s_own_are_listed_and_kept(tmp_path: Path, database: str) -> None:
    """JavaScript views show as such; a Monitor without the standard names is not replaced."""
    with Raw(database) as raw:
        view = {"map": "function (doc) { emit(doc.site, 1); }", "reduce": "_sum"}
        raw.put("/_design/sites", {"language": "javascript", "views": {"by_site": view}})
        raw.put("/_design/Monitor", {"language": "javascript", "views": {"todo": view}})
    folder = tmp_path / "work"
    folder.mkdir()
    picas = Picas(folder, login(database)["PICAS_PASSWORD"])
    env = {"PICAS_POOL": bare(database), **login(database)}
    assert picas("views", "list", "--counts", env=env).stdout.splitlines() == [
        "Monitor  (JavaScript)  todo",
        "sites    (JavaScript)  by_site",
    ]
    refused = picas("views", "create", env=env, status=6)
    assert "locked, done, error, overview_total are missing" in refused.stderr
    assert "somebody's own, without locked" in picas("doctor", env=env, status=1).stdout
    asked = picas("views", "add", "sites", "--where", "cores >= 3", env=env, status=2)
    assert "sites already: (JavaScript). Replace" in asked.stderr


def test_standard_views_of_another_version_are_replaced_on_demand(tmp_path: Path) -> None:
    """Doctor warns, create asks."""
    folder = tmp_path / "work"
    folder.mkdir()
    picas = Picas(folder)
    picas("init", "runs.db")
    with sqlite3.connect(folder / "runs.db") as db:
        changed = 'replace(body, \'"where":null\', \'"where":"cores > 0"\')'
        db.execute(f"UPDATE documents SET body = {changed} WHERE id = '_design/Monitor'")
    db.close()
    assert "another PiCaS version" in picas("doctor").stdout
    assert "Replace them?" in picas("views", "create", status=2).stderr
    assert "of this version" in picas("views", "create", "--yes").stdout
    assert "Monitor is there, of this version" in picas("doctor").stdout
