"""Scripts of the classic API as real processes: told to stop, out of time, killed, cut off."""

import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.acceptance.cli import clean_environment
from tests.acceptance.work import Work, until
from tests.classic import address
from tests.couchdb.server import InstalledCouch, installed

from picas import token
from picas.pool import connect
from picas.proctree import look
from picas.token import State

SCRIPT = """\
import os, sys, time
from picas.actors import RunActor
from picas.clients import CouchDB
from picas.executers import execute

url, database, username, password, *options = sys.argv[1:]
db = CouchDB(url, database, username or None, password)

TREE = "trap '' TERM; (trap '' TERM; sleep 61 & echo $! > grandchild; wait) & echo $$ > child; wait"

class Actor(RunActor):
    def process_task(self, task):
        with open("ledger", "a") as ledger:
            ledger.write(task.id + "\\n")
        if task["input"] == "tree":
            task["seen"] = True
            execute(["bash", "-c", TREE])
        elif task["input"] == "nap":
            open("begun", "w").close()
            time.sleep(2)
        elif task["input"] == "hold":
            open("begun", "w").close()
            time.sleep(61)
        task["output"] = "ran"

    def cleanup_env(self):
        print("cleaned up", flush=True)

Actor(db, **eval(options[0] if options else "{}")).run(**eval(options[1] if options else "{}"))
"""


@contextmanager
def script(
    work: Work, made: str = "{}", run: str = "{}", **env: str
) -> Iterator["subprocess.Popen[str]"]:
    """A script of the classic API at work on a pool; killed at the end if it is still there."""
    file = work.folder / "script.py"
    file.write_text(SCRIPT)
    with subprocess.Popen(
        [sys.executable, str(file), *address(work.url), made, run],
        cwd=work.folder,
        env=clean_environment(work.folder.with_name("home"), env),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def number(file: Path) -> int:
    """The process number that a task wrote."""
    until(lambda: file.exists() and file.read_text().strip())
    return int(file.read_text())


def is_gone(pid: int) -> bool:
    """Tell whether a process ended, be it not reaped yet."""
    there = look(pid)
    return there is None or not there.alive


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1", "SIGUSR2", "SIGXCPU"])
def test_told_to_stop_inside_execute(work: Work, name: str) -> None:
    """The child tree ends first, then the token is todo, costs no try, and the status is 0."""
    work.push("tree")
    # The tree ignores TERM: the second signal leaves it no more time.
    with script(work) as actor:
        child, grandchild = (number(work.folder / n) for n in ("child", "grandchild"))
        actor.send_signal(signal.Signals[name])
        time.sleep(0.3)
        assert work.get()["lock"] > 0, "the token is not free while its processes run"
        actor.send_signal(signal.Signals[name])
        out, err = actor.communicate(timeout=30)
    assert actor.returncode == 0, err
    assert out == "cleaned up\n"
    assert is_gone(child)
    assert is_gone(grandchild)
    doc = work.get()
    assert token.state(doc) is State.TODO
    assert doc["scrub_count"] == 0
    assert token.attempts(doc)[0]["reason"] == f"released: {name}"
    assert doc["seen"] is True


@pytest.mark.parametrize(
    ("values", "state"), [("None", State.LOCKED), ("[7, 9]", State.ERROR), ("(0, 0)", State.TODO)]
)
def test_what_the_token_is_then(local: Work, values: str, state: State) -> None:
    """`token_reset_values` says what a token is when its actor is told to stop."""
    local.push("hold")
    with script(local, f"dict(token_reset_values={values})") as actor:
        until((local.folder / "begun").exists)
        actor.terminate()
        _, err = actor.communicate(timeout=30)
    assert actor.returncode == 0, err
    assert token.state(local.get()) is state


def test_the_time_limit_ends_a_tree_that_will_not(work: Work) -> None:
    """A token's processes are gone when it ends by its time limit, and the next one runs."""
    work.push("tree", "word")
    with script(work, run="dict(max_token_time=1)") as actor:
        child, grandchild = (number(work.folder / n) for n in ("child", "grandchild"))
        _, err = actor.communicate(timeout=60)
    assert actor.returncode == 0, err
    assert is_gone(child)
    assert is_gone(grandchild)
    docs = [work.get("t0"), work.get("t1")]
    assert [doc["exit_code"] for doc in docs] == [124, 0]


def test_out_of_time_and_tried_again(local: Work) -> None:
    """A token that reached its time limit is scrubbed while it has tries."""
    local.push("hold")
    with script(local, run="dict(max_token_time=0.3, max_scrub=1)") as actor:
        _, err = actor.communicate(timeout=60)
    assert actor.returncode == 0, err
    doc = local.get()
    assert (doc["exit_code"], doc["scrub_count"]) == (124, 1)
    assert [a["exit_code"] for a in token.attempts(doc)] == [124, 124]


def test_stopped_while_it_waits_for_work(work: Work) -> None:
    """An idle endless actor ends at once, with status 0."""
    endless = (
        "dict(iterator=__import__('picas.iterators').iterators.EndlessViewIterator("
        "__import__('picas.iterators').iterators.TaskViewIterator(db, 'todo')))"
    )
    with script(work, endless) as actor:
        with connect(work.url) as pool:
            until(pool.pilots)
        time.sleep(0.5)
        actor.terminate()
        out, err = actor.communicate(timeout=20)
        with connect(work.url) as pool:
            (pilot,) = pool.pilots()
    assert actor.returncode == 0, err
    assert out == "cleaned up\n"
    assert pilot["state"] == "ended"


def test_killed_without_a_word(work: Work) -> None:
    """The token of an actor that was killed is back within the lease time, by another actor."""
    work.push("hold")
    times = {"PICAS_LEASE": "2", "PICAS_HEARTBEAT": "0.2"}
    with script(work, **times) as actor:
        until((work.folder / "begun").exists)
        actor.kill()
        actor.wait()
    assert token.state(work.get()) is State.LOCKED
    time.sleep(2.5)  # from now on it counts as silent
    with script(work, run="dict(max_token_time=0.5)", **times) as actor:
        _, err = actor.communicate(timeout=60)
    assert actor.returncode == 0, err
    doc = work.get()
    assert [a["reason"] for a in token.attempts(doc)] == [token.LOST, "time limit of 0.5 s"]


def test_eight_actors_on_few_tokens(work: Work) -> None:
    """Each token runs once, and no actor fails for want of one."""
    work.push(*(["word"] * 40))
    actors = []
    for _ in range(8):
        context = script(work)
        actors.append((context, context.__enter__()))
    for context, actor in actors:
        _, err = actor.communicate(timeout=120)
        assert actor.returncode == 0, err
        context.__exit__(None, None, None)
    ran = Counter((work.folder / "ledger").read_text().split())
    assert ran == Counter(f"t{i}" for i in range(40))
    with connect(work.url) as pool:
        assert pool.counts()[State.DONE] == 40


@pytest.mark.couchdb
def test_the_server_is_away_for_a_while(tmp_path: Path) -> None:
    """A result waits for the server to come back, and is recorded then."""
    if not installed():
        pytest.skip("real CouchDB: only one that the test started itself can be stopped")
    with InstalledCouch() as server:
        work = Work(tmp_path / "work", server.database_url(server.new_database()))
        work.push("nap")
        with script(work) as actor:
            until((work.folder / "begun").exists)
            server.stop()
            time.sleep(4)
            server.start()
            _, err = actor.communicate(timeout=90)
        assert actor.returncode == 0, err
        assert "waiting for the pool" in err
        assert work.get()["exit_code"] == 0
        assert (work.folder / "ledger").read_text() == "t0\n"
