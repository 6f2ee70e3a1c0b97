"""``picas reset`` and ``picas delete``: which tokens, after which question, and what is said."""

import contextlib
import json
import os
import pty
import signal
import subprocess
import time
from pathlib import Path

import pytest
from tests.acceptance.cli import (
    PICAS,
    answer_picas,
    clean_environment,
    fresh_pool,
    home_of,
    run_picas,
)

from picas import token
from picas.config import parse_pool
from picas.pool import Pool, Settlement, connect
from picas.token import Document, Holder, Outcome, State

IDS = ("aa-done", "ab-error", "ac-locked", "ad-todo")
HERE = "in sqlite:///picas.db"
EXIT_CODES = {"aa-done": 0, "ab-error": 3}


@pytest.fixture(params=["embedded", "couchdb"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A pool of each kind, with one token in each state."""
    url = fresh_pool(request, request.param, tmp_path)
    _fill(url)
    return url


@pytest.fixture
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder whose embedded pool has one token in each state."""
    _fill(fresh_pool(request, "embedded", tmp_path))
    return tmp_path


def _fill(url: str) -> None:
    with connect(url, create=False) as pool:
        _add(pool, *IDS[:3])
        holder = Holder("pilot_here", "here")
        locked = {doc["_id"]: doc for doc in pool.claim("Monitor/todo", 3, holder)}
        now = time.time()
        pool.settle(
            [
                Settlement(locked[i], Outcome(code, now, now, f"exit code {code}", 0.0))
                for i, code in EXIT_CODES.items()
            ]
        )
        _add(pool, IDS[3])


def _add(pool: Pool, *ids: str) -> None:
    list(pool.push(token.new({"input": "true"}, doc_id) for doc_id in ids))


def docs(url: str) -> dict[str, Document]:
    """The tokens of a pool, by id."""
    with connect(url, create=False) as pool:
        return {doc["_id"]: doc for doc in pool.store.read(IDS) if doc is not None}


def states(url: str) -> dict[str, State | None]:
    """The state of each token of a pool, by the beginning of its id."""
    return {name[:2]: token.state(doc) for name, doc in docs(url).items()}


def shown(url: str) -> str:
    """A pool as a person is shown it: without user name and password."""
    return parse_pool(url).url


def local(folder: Path) -> str:
    """The embedded pool that commands use in a folder."""
    return f"sqlite:///{folder}/picas.db"


def test_reset_a_view(url: str, tmp_path: Path) -> None:
    """A failed token is todo again, with its history and one more scrub; the others stay."""
    done = run_picas("reset", "Monitor/error", "--yes", "--pool", url, cwd=tmp_path, check=0)
    assert done.stdout == f"reset 1 token of Monitor/error in {shown(url)}\n"
    doc = docs(url)["ab-error"]
    assert token.state(doc) is State.TODO
    assert doc["scrub_count"] == 1
    assert [attempt["exit_code"] for attempt in doc["attempts"]] == [3]
    assert list(states(url).values()) == [State.DONE, State.TODO, State.LOCKED, State.TODO]


def test_delete_views_and_ids(url: str, tmp_path: Path) -> None:
    """Views (by their short name too) and parts of ids, several in one command."""
    args = ("delete", "done", "Monitor/error", "ad", "--yes", "--pool", url)
    done = run_picas(*args, cwd=tmp_path, check=0)
    names = "Monitor/done, Monitor/error, ad-todo"
    assert done.stdout == f"deleted 3 tokens of {names} in {shown(url)}\n"
    assert states(url) == {"ac": State.LOCKED}


def test_reset_what_was_locked_long_ago(url: str, tmp_path: Path) -> None:
    """--locked-for takes only tokens that were claimed that long ago; the others are told."""
    args = ("reset", "locked", "--yes", "--pool", url)
    soon = run_picas(*args, "--locked-for", "24h", cwd=tmp_path, check=0)
    assert soon.stdout == (
        f"reset 0 tokens of Monitor/locked in {shown(url)}\n"
        "left alone 1 token: claimed later than that\n"
    )
    with connect(url) as pool:
        (doc,) = pool.store.read(["ac-locked"])
        assert doc is not None
        pool.store.write([{**doc, "lock": doc["lock"] - 25 * 3600}])
    late = run_picas(*args, "--locked-for", "24h", cwd=tmp_path, check=0)
    assert late.stdout == f"reset 1 token of Monitor/locked in {shown(url)}\n"
    assert states(url)["ac"] is State.TODO


def test_a_token_that_is_todo_is_left_alone(folder: Path) -> None:
    """All of a view of all tokens is reset, but for the one that needs it not."""
    done = run_picas("reset", "Monitor/overview_total", "--yes", cwd=folder, check=0)
    assert done.stdout == (
        f"reset 3 tokens of Monitor/overview_total {HERE}\nleft alone 1 token: todo already\n"
    )
    assert set(states(local(folder)).values()) == {State.TODO}
    assert docs(local(folder))["ad-todo"]["scrub_count"] == 0


def test_an_empty_view_is_no_failure(folder: Path) -> None:
    """Nothing to do is done without a question."""
    run_picas("delete", "error", "--yes", cwd=folder, check=0)
    assert run_picas("delete", "error", cwd=folder, check=0).stdout == (
        f"deleted 0 tokens of Monitor/error {HERE}\n"
    )
    assert run_picas("reset", "error", cwd=folder, check=0).stdout == (
        f"reset 0 tokens of Monitor/error {HERE}\n"
    )


@pytest.mark.parametrize("command", ["reset", "delete"])
def test_nobody_to_ask(command: str, folder: Path) -> None:
    """Without a terminal and without --yes nothing is changed; the message names --yes."""
    before = docs(local(folder))
    done = run_picas(command, "error", cwd=folder, check=2)
    assert done.stderr.startswith("picas: ")
    assert done.stderr.endswith("There is no terminal to ask; add --yes\n")
    assert done.stderr.count("\n") == 1
    assert docs(local(folder)) == before


@pytest.mark.parametrize(
    ("command", "question"),
    [
        ("reset", f"Reset 1 token of Monitor/locked {HERE} to todo? One of them is locked"),
        (
            "delete",
            f"Delete 1 token of Monitor/locked {HERE}, logs included, for good? One of them",
        ),
    ],
)
def test_the_question(command: str, question: str, folder: Path) -> None:
    """It tells how many and warns of what pilots run; no leaves all as it is, yes does it."""
    before = docs(local(folder))
    refused = answer_picas(command, "locked", cwd=folder, answer="n\n")
    assert question in refused.stderr
    assert "result is" in refused.stderr
    assert refused.stderr.endswith("picas: nothing was done\n")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert docs(local(folder)) == before
    assert answer_picas(command, "locked", cwd=folder, answer="y\n").returncode == 0
    assert states(local(folder)).get("ac") is not State.LOCKED


def test_a_question_without_locked_tokens(folder: Path) -> None:
    """Where nothing is locked nothing is said of it."""
    done = answer_picas("reset", "error", "done", cwd=folder, answer="y\n")
    assert f"Reset 2 tokens of Monitor/error, Monitor/done {HERE} to todo? [y/N]" in done.stderr


def test_the_end_of_the_input_is_a_no(folder: Path) -> None:
    """Ctrl-D at the question: nothing is done, and the status is that of a no."""
    before = docs(local(folder))
    done = answer_picas("delete", "done", cwd=folder, answer="\x04")
    assert done.returncode == 1
    assert done.stderr.endswith("\npicas: nothing was done\n")
    assert docs(local(folder)) == before


def test_an_interrupt_is_no_answer(folder: Path) -> None:
    """Ctrl-C at the question has the status of an interrupt."""
    before = docs(local(folder))
    terminal, stdin = pty.openpty()
    with subprocess.Popen(
        [PICAS, "delete", "done"],
        cwd=folder,
        env=clean_environment(home_of(folder)),
        stdin=stdin,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stderr is not None
        asked = b""
        while not asked.endswith(b"[y/N]: "):
            more = os.read(process.stderr.fileno(), 1000)
            assert more, asked
            asked += more
        # A signal that comes right before the terminal is read goes unseen until the next one.
        while process.poll() is None:
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1)
        assert process.stderr.read().endswith(b"interrupted\n")
    os.close(stdin)
    os.close(terminal)
    assert process.returncode == 130
    assert docs(local(folder)) == before


def test_the_figures_for_programs(url: str, tmp_path: Path) -> None:
    """--json prints how many were changed, and why others were left alone."""
    args = ("--yes", "--json", "--pool", url)
    done = run_picas("reset", "Monitor/overview_total", *args, cwd=tmp_path, check=0)
    assert json.loads(done.stdout) == {
        "pool": shown(url),
        "reset": 3,
        "left_alone": {"todo already": 1},
    }
    done = run_picas("delete", "todo", *args, cwd=tmp_path, check=0)
    assert json.loads(done.stdout) == {"pool": shown(url), "deleted": 4, "left_alone": {}}


def test_a_question_does_not_spoil_the_json(folder: Path) -> None:
    """It is asked on standard error."""
    done = answer_picas("delete", "error", "--json", cwd=folder, answer="y\n")
    facts = json.loads(done.stdout)
    assert facts == {"pool": "sqlite:///picas.db", "deleted": 1, "left_alone": {}}


def test_a_lock_that_is_a_text_counts(folder: Path) -> None:
    """What the views take for locked long ago is reset, however a client wrote it."""
    with connect(local(folder)) as pool:
        (doc,) = pool.store.read(["ac-locked"])
        assert doc is not None
        pool.store.write([{**doc, "lock": str(doc["lock"] - 25 * 3600)}])
    args = ("reset", "locked", "--yes", "--locked-for", "24h")
    done = run_picas(*args, cwd=folder, check=0)
    assert done.stdout == f"reset 1 token of Monitor/locked {HERE}\n"
    assert states(local(folder))["ac"] is State.TODO


def test_the_name_of_a_token_goes_first(folder: Path) -> None:
    """A token may be called as a view is: then the token is meant."""
    with connect(local(folder)) as pool:
        _add(pool, "error", "Monitor/done")
    done = run_picas("delete", "error", "Monitor/done", "--yes", cwd=folder, check=0)
    assert done.stdout == f"deleted 2 tokens: error, Monitor/done {HERE}\n"
    assert len(docs(local(folder))) == 4


def test_ids_are_named_as_tokens(folder: Path) -> None:
    """A token is no view, so nothing is said to be *of* it; of several, how many were changed."""
    done = run_picas("delete", "ab", "--yes", cwd=folder, check=0)
    assert done.stdout == f"deleted token ab-error {HERE}\n"
    done = run_picas("reset", "aa", "ad", "--yes", cwd=folder, check=0)
    told = f"reset 1 of 2 tokens: aa-done, ad-todo {HERE}\nleft alone 1 token: todo already\n"
    assert done.stdout == told


def test_a_pool_that_the_configuration_hides_is_told(folder: Path) -> None:
    """The pool of the file is used, a note names both; the same pool is no other one."""
    config = home_of(folder) / "config.toml"
    env = {"PICAS_CONFIG": str(config)}
    run_picas("init", "sqlite:///other.db", cwd=folder, env=env, check=0)
    done = run_picas("reset", "error", "--yes", cwd=folder, env=env, check=0)
    other = f"sqlite:///{folder}/other.db"
    assert done.stdout == f"reset 0 tokens of Monitor/error in {other}\n"
    told = f"note: the pool is {other} (from {config}); the picas.db here is another"
    assert done.stderr == f"picas: {told}: --pool picas.db\n"
    run_picas("init", "picas.db", "--yes", cwd=folder, env=env, check=0)
    assert run_picas("status", cwd=folder, env=env, check=0).stderr == ""


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("nothing", "no token 'nothing'"),
        ("a", "'a' fits several tokens"),
        ("", "no token ''"),
        ("Monitor/doing", "no view 'Monitor/doing'"),
        ("Other/todo", "no view 'Other/todo'"),
        ("pilot_x", "'pilot_x' is in the pool, but it is no token"),
    ],
)
def test_names_that_fit_nothing(what: str, told: str, folder: Path) -> None:
    """A name that fits no token or view, or several, changes nothing, also beside a good one."""
    with connect(local(folder)) as pool:
        pool.save_pilot({"_id": "pilot_x", "type": "pilot"})
    before = docs(local(folder))
    done = run_picas("delete", "done", what, "--yes", cwd=folder, check=5)
    assert told in done.stderr
    assert docs(local(folder)) == before


def test_wrong_options(folder: Path) -> None:
    """No argument, and a time that is none, are usage errors."""
    run_picas("reset", cwd=folder, check=2)
    run_picas("delete", "--yes", cwd=folder, check=2)
    done = run_picas("reset", "locked", "--locked-for", "soon", cwd=folder, check=2)
    assert "no duration" in done.stderr


def test_a_missing_pool(tmp_path: Path) -> None:
    """Nothing is made: the message names the pool."""
    done = run_picas("delete", "done", "--yes", cwd=tmp_path, check=5)
    assert "there is no pool at sqlite:///picas.db" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_more_than_a_chunk(tmp_path: Path) -> None:
    """A view that shrinks while it is read is reset, then deleted, to its end."""
    run_picas("push", cwd=tmp_path, input="".join(f"{i}\n" for i in range(1_200)), check=0)
    with connect(local(tmp_path)) as pool:
        assert len(pool.claim("Monitor/todo", 1_200, Holder("pilot_here", "here"))) == 1_200
    done = run_picas("reset", "locked", "--yes", cwd=tmp_path, check=0)
    assert done.stdout == f"reset 1,200 tokens of Monitor/locked {HERE}\n"
    done = run_picas("delete", "todo", "--yes", cwd=tmp_path, check=0)
    assert done.stdout == f"deleted 1,200 tokens of Monitor/todo {HERE}\n"
