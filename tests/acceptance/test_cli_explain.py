"""``picas explain``: why tokens do not run, or failed, on both stores."""

import json
import re
from typing import Any

import pytest
from tests.acceptance.test_cli_pilots import save_pilot
from tests.acceptance.work import Work, on_a_terminal, until

from picas import token
from picas.conditions import parse
from picas.pool import connect
from picas.token import Holder
from picas.views import Design


def kinds(work: Work, token_id: str = "t0") -> list[str]:
    """The kinds of what is found, in order."""
    return [finding["kind"] for finding in findings(work, token_id)]


def findings(work: Work, token_id: str = "t0") -> list[dict[str, Any]]:
    """What is found, as a program reads it."""
    facts = json.loads(work.picas("explain", token_id, "--json").stdout)
    assert facts["_id"] == token_id
    found: list[dict[str, Any]] = facts["findings"]
    return found


def test_a_token_that_nobody_takes(work: Work) -> None:
    """From no pilot at all to one that could take it."""
    work.push("true", cores=4)
    said = work.picas("explain", "t0").stdout.splitlines()
    assert said[0] == "t0  todo"
    assert said[1] == "- No pilot is at work on this pool: 'picas run' starts one."
    assert said[2] == "- It needs 4 cores."
    with connect(work.url) as pool:
        pool.add_design(Design("Big", parse("cores > 8")))
    save_pilot(work, "n1", view="Big/todo", cores=2)
    assert kinds(work) == ["no-view"]
    save_pilot(work, "n1", cores=2)
    assert kinds(work) == ["needs"]
    save_pilot(work, "n1", cores=8, health="6 tokens failed")
    assert kinds(work) == ["slow"]
    save_pilot(work, "n1", cores=8, running=list("abcdefgh"))
    assert kinds(work) == ["busy"]
    save_pilot(work, "n1", cores=8)
    (found,) = findings(work)
    assert (found["kind"], found["waiting"]) == ("free", {"Monitor/todo": 1})
    save_pilot(work, "n1", cores=8, view="Gone/todo")
    assert kinds(work) == ["no-view"]


def test_a_token_that_failed(work: Work) -> None:
    """How it ended, why it is not tried again, where its log is."""
    work.push("echo why >&2; exit 3")
    work.picas("run")
    said = work.picas("explain", "t0").stdout.splitlines()
    assert said[0] == "t0  error (exit code 3)"
    assert re.fullmatch(r"- Attempt 1 failed on \S+ \S+ s ago, after \S+ s: exit code 3\.", said[1])
    assert "'picas settings tries=3' gives all tokens more" in said[2]
    assert said[3] == (
        "- 'picas logs t0 --err' tells more. When the cause is gone, 'picas reset t0' has it run "
        "again."
    )
    assert work.picas("logs", "t0", "--err").stdout == "why\n"


def test_a_token_that_waits_for_its_next_try(work: Work) -> None:
    """Since which failure, and until when."""
    work.picas("settings", "tries=3", "delay=1h", "longest_delay=2h", "elsewhere=7")
    work.push("exit 7")
    work.picas("run")
    assert kinds(work) == ["no-pilot", "waits", "avoid", "history"]
    waits = findings(work)[1]
    assert "attempt 1 ended with exit code 7; then comes try 2 of 3" in waits["text"]
    assert 1000 < waits["seconds"] <= 5400
    work.picas("reset", "t0", "--yes")
    assert kinds(work) == ["no-pilot", "history"]


def test_a_token_that_runs_and_is_done(work: Work) -> None:
    """Where it runs; then that it is done."""
    work.push("until test -e go; do sleep 0.05; done")
    with work.started("run") as process:
        until(lambda: kinds(work) == ["running"])
        (found,) = findings(work)
        assert found["pilot_state"] == "running"
        (work.folder / "go").touch()
        assert process.wait(timeout=20) == 0
    said = work.picas("explain", "t0").stdout
    assert said.startswith("t0  done\n- It was done 20")
    assert said.endswith(": there is nothing to explain.\n")


def test_a_token_whose_pilot_is_silent(work: Work) -> None:
    """The way back is told, and works."""
    work.push("true")
    pilot = f"pilot_n1_4711_{b'n1'.hex()}"
    with connect(work.url) as pool:
        pool.claim("Monitor/todo", 1, Holder(pilot, "n1"))
    save_pilot(work, "n1", 1000)
    (found,) = findings(work)
    assert found["kind"] == "pilot-silent"
    assert "'picas reap' does." in found["text"]
    work.picas("reap", "--lease", "10s")
    assert kinds(work) == ["no-pilot", "history"]


def test_a_token_of_a_classic_client(work: Work) -> None:
    """It has no lease, so nobody gives it back."""
    work.push("true")
    with connect(work.url) as pool:
        pool.store.write([{**pool.get("t0"), "lock": int(pool.now()) - 900, "hostname": "grid7"}])
    assert "A classic client on grid7 has had it since" in work.picas("explain", "t0").stdout


def test_fields_that_no_view_shows(work: Work) -> None:
    """The odd field is named."""
    work.push("true")
    with connect(work.url) as pool:
        pool.store.write([{**pool.get("t0"), "lock": "\x1b[2J"}])
    said = work.picas("explain", "t0").stdout
    assert said.splitlines()[0] == "t0  –"
    assert 'lock is "\\u001b[2J", where a number should stand' in said


def test_documents_that_are_no_tokens(work: Work) -> None:
    """They are told for what they are; one that is not there is status 5."""
    save_pilot(work, "n1")
    assert "This is a pilot" in work.picas("explain", "pilot_n1").stdout
    work.picas("settings", "tries=2")
    assert 'its type is "settings"' in work.picas("explain", "picas_settings").stdout
    assert "no token 'x'" in work.picas("explain", "x", check=5).stderr


@pytest.mark.parametrize("columns", [40, 80])
def test_an_explanation_fits_the_terminal(local: Work, columns: int) -> None:
    """Sentences go on in the next line, below where they began."""
    docs = [token.new({"input": "true", "cores": 64, "gpus": 8, "not_before": 9e9}, "long")]
    with connect(local.url) as pool:
        list(pool.push(docs))
    save_pilot(local, "n1", cores=4, gpus=0)
    said = on_a_terminal(local, "explain", "long", columns=columns)
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in said.splitlines()]
    assert max(map(len, lines)) <= columns
    assert all(line[:2] in ("- ", "  ") for line in lines[1:])
    assert sum(line.startswith("- ") for line in lines) == 2
