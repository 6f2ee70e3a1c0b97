"""Actors that are told to stop, fail oddly, fork or run inside each other, on every store."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from picas import actors, token
from picas.actors import RunActor
from picas.clients import CouchDB
from picas.documents import Task
from picas.iterators import ViewIterator
from picas.pool import connect
from tests.contract.classic import client, fill, states


@pytest.fixture
def db(url: str) -> CouchDB:
    """A client of a fresh database with the standard views."""
    return client(url, create=True)


class Doing(RunActor):
    """Does what it is made with."""

    def __init__(self, db: Any, work: Callable[[Any], object], *args: Any, **kwargs: Any) -> None:
        super().__init__(db, *args, **kwargs)
        self.work = work

    def process_task(self, task: Any) -> None:
        """Do it."""
        self.work(task)


def stop(_: Any = None) -> None:
    """Have a signal tell this process to stop."""
    os.kill(os.getpid(), signal.SIGTERM)


def sleeping(ready: Any) -> None:
    """What a child process does."""
    ready.set()
    for _ in range(1200):  # a signal right before a sleep is seen only behind it
        time.sleep(0.05)


def test_a_child_process_leaves_its_parents_token_alone(db: CouchDB) -> None:
    """A forked child that is told to stop, or ends, gives nothing back: its parent goes on."""
    seen: list[Any] = []

    def work(task: Any) -> None:
        fork = multiprocessing.get_context("fork")
        ready = fork.Event()
        child = fork.Process(target=sleeping, args=(ready,))
        child.start()
        assert ready.wait(20)  # a signal that comes earlier is lost by Python
        child.terminate()
        child.join(20)
        seen.append(child.exitcode)
        pid = os.fork()
        if pid == 0:
            sys.exit(0)
        os.waitpid(pid, 0)
        seen.append(token.state(db[task.id]))
        task["output"] = "ran"

    fill(db, "a")
    before = os.getpid()
    try:
        Doing(db, work).run()
    finally:
        if os.getpid() != before:  # the child comes out here, and must not go on with the tests
            os._exit(0)
    assert seen == [-signal.SIGTERM, token.State.LOCKED]
    assert (db["a"]["output"], db["a"]["exit_code"]) == ("ran", 0)
    assert len(token.attempts(db["a"])) == 1


def test_an_actor_inside_an_actor(url: str, db: CouchDB) -> None:
    """When the inner one has ended, the outer one's token is still held, and its pilot alive."""
    seen: dict[str, Any] = {}

    def work(task: Any) -> None:
        Doing(db, lambda inner: inner.update(output="inner")).run(max_tasks=1)
        seen.update(db[task.id])
        with connect(url, create=False) as pool:
            seen["pilots"] = [pilot["state"] for pilot in pool.pilots()]
        task["output"] = "outer"

    fill(db, "a", "b")
    Doing(db, work).run(max_tasks=1)
    assert token.state(seen) is token.State.LOCKED
    assert seen["pilots"] == ["running"]
    assert sorted([db["a"]["output"], db["b"]["output"]]) == ["inner", "outer"]
    assert states(db) == {"done": 2}
    with connect(url, create=False) as pool:
        assert [pilot["state"] for pilot in pool.pilots()] == ["ended"]


def swallowing(_: Any) -> None:
    """Code that lets no exception out."""
    try:
        stop()
        time.sleep(5)
    except BaseException:  # noqa: BLE001 - as users write it
        pass


def stumbling(_: Any) -> None:
    """Code whose cleaning up fails."""
    try:
        stop()
        time.sleep(5)
    finally:
        raise RuntimeError("cleaning up failed")


@pytest.mark.parametrize("work", [swallowing, stumbling])
def test_a_stop_is_a_stop_whatever_the_code_makes_of_it(
    db: CouchDB, work: Callable[[Any], None]
) -> None:
    """The token is todo without a failure, and no other one is begun."""
    fill(db, "a", "b")
    actor = Doing(db, work)
    with pytest.raises(SystemExit) as ended:
        actor.run()
    assert ended.value.code == 0
    assert states(db) == {"todo": 2}
    assert actor.tasks_processed == 0
    assert [db[name]["error"] for name in "ab"] == [[], []]


def test_no_time_limit_during_a_stop(db: CouchDB, monkeypatch: pytest.MonkeyPatch) -> None:
    """A time limit that passes while the token's processes get their time to end is no matter."""
    monkeypatch.setattr(actors, "STOP_GRACE_SECONDS", 1.0)

    def work(_: Any) -> None:
        # It ignores TERM, so that ending it takes longer than the limit.
        line = "trap '' TERM; echo ready; while :; do sleep 0.1; done"
        with subprocess.Popen(["sh", "-c", line], stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            child.stdout.readline()
            stop()

    fill(db, "a")
    with pytest.raises(SystemExit):
        Doing(db, work).run(max_token_time=0.6)
    assert states(db) == {"todo": 1}
    assert db["a"]["error"] == []


def test_a_stop_before_the_work(db: CouchDB) -> None:
    """Inside `prepare_run`, too, a token is afterwards what `token_reset_values` says."""

    class Early(Doing):
        def prepare_run(self, *args: Any, **kwargs: Any) -> None:
            stop()
            time.sleep(5)

    fill(db, "a")
    with pytest.raises(SystemExit):
        Early(db, stop, token_reset_values=(7, 9)).run()
    assert states(db) == {"error": 1}
    assert (db["a"]["lock"], db["a"]["done"]) == (7, 9)


class Own(ViewIterator):
    """An iterator of one's own, which locks tokens by itself."""

    def __init__(self, db: CouchDB) -> None:
        super().__init__()
        self.database = db

    def claim_task(self) -> Task:
        """Lock the token a."""
        task = Task(self.database.get("a"))
        if task["lock"]:
            raise IndexError("none left")
        self.database.save(task.lock())
        return task


def test_a_stop_with_an_iterator_of_ones_own(db: CouchDB) -> None:
    """A token that somebody's own iterator locked is given back as well."""
    fill(db, "a")
    with pytest.raises(SystemExit):
        Doing(db, stop, Own(db)).run()
    assert states(db) == {"todo": 1}


def test_a_result_that_was_recorded_as_the_stop_came(db: CouchDB) -> None:
    """A token that was saved as done just before stays done: also without a lease."""

    class Late(CouchDB):
        def save(self, doc: Any) -> Any:
            saved = super().save(doc)
            if doc["done"]:
                stop()
            return saved

    fill(db, "a")
    server = db._address
    own = Late(server.url, server.db, server.username, server.password.reveal())
    with pytest.raises(SystemExit):
        Doing(own, lambda task: task.update(output="ran")).run()
    assert states(db) == {"done": 1}
    assert db["a"]["output"] == "ran"


def leave(_: Any) -> None:
    """Code that ends the process with a failure."""
    sys.exit(3)


def interrupt(_: Any) -> None:
    """Ctrl-C where nobody handles it."""
    raise KeyboardInterrupt


def test_code_that_ends_the_process(db: CouchDB) -> None:
    """The token is an error with that exit code, or every pilot that takes it would end by it."""
    fill(db, "a")
    with pytest.raises(SystemExit, match="3"):
        Doing(db, leave).run()
    assert states(db) == {"error": 1}
    assert db["a"]["exit_code"] == 3
    assert "SystemExit" in db["a"]["error"][0]["exception"]
    assert [a["exit_code"] for a in token.attempts(db["a"])] == [3]


def test_an_interrupt_is_no_failure(db: CouchDB) -> None:
    """The token is todo again, and its history tells of the attempt."""
    fill(db, "a")
    with pytest.raises(KeyboardInterrupt):
        Doing(db, interrupt).run()
    assert states(db) == {"todo": 1}
    assert [a["reason"] for a in token.attempts(db["a"])] == ["released: KeyboardInterrupt"]


def test_a_time_limit_that_the_code_swallows(db: CouchDB, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes again, and the token is no success: exit code 124."""
    monkeypatch.setattr(actors, "STOP_GRACE_SECONDS", 1.5)
    times = []

    def work(task: Any) -> None:
        for _ in range(2):
            try:
                time.sleep(10)
            except Exception:  # noqa: BLE001 - as users write it
                times.append(task.id)

    fill(db, "a")
    begun = time.monotonic()
    Doing(db, work).run(max_token_time=0.2)
    assert time.monotonic() - begun < 8
    assert times == ["a", "a"]
    assert states(db) == {"error": 1}
    assert db["a"]["exit_code"] == 124
    assert "exceeded timeout limit" in db["a"]["error"][0]["message"]


@pytest.mark.parametrize("field", ["", None, "earlier", {"message": "earlier"}])
def test_a_failure_beside_an_odd_error_field(db: CouchDB, field: Any) -> None:
    """Whatever stands in ``error``, an exception makes the token an error, and the run goes on."""
    fill(db, "a", "b", error=field)
    actor = Doing(db, lambda task: task["nothing"])
    actor.run()
    assert states(db) == {"error": 2}
    assert "KeyError" in db["a"]["error"][-1]["message"]


def test_an_odd_count_of_tries(db: CouchDB) -> None:
    """A token without a count of its tries, or an odd one, is tried again as if it had none."""
    fill(db, "a", scrub_count=None)
    actor = Doing(db, lambda task: task.update(exit_code=3))
    actor.run(max_scrub=1)
    assert (actor.tasks_processed, db["a"]["scrub_count"]) == (2, 1)


class Array:
    """As arrays are: to compare them gives no truth."""

    def __ne__(self, other: object) -> Any:
        raise ValueError("the truth value of an array is ambiguous")

    def __eq__(self, other: object) -> Any:
        raise ValueError("the truth value of an array is ambiguous")

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize("result", [Array(), {1, 2}, b"bytes", float("nan"), {(1, 2): 3}])
def test_a_result_that_is_no_json(db: CouchDB, result: Any) -> None:
    """The token is an error that says so, and the next one runs."""
    fill(db, "a", "b")
    actor = Doing(db, lambda task: task.update(output=result))
    actor.run()
    assert actor.tasks_processed == 2
    assert states(db) == {"error": 2}
    assert "not stored" in db["a"]["error"][0]["message"]


@pytest.mark.parametrize(("code", "state"), [("1", "error"), (2.0, "error"), ("0", "done")])
def test_an_exit_code_in_another_type(db: CouchDB, code: Any, state: str) -> None:
    """A failure that is told as a text or a float is no success."""
    fill(db, "a")
    Doing(db, lambda task: task.update(exit_code=code)).run()
    assert states(db) == {state: 1}
    assert db["a"]["exit_code"] == int(code)


def test_tries_after_a_reset_by_a_person(url: str, db: CouchDB) -> None:
    """A token that was reset has all its tries again."""
    fill(db, "a")
    Doing(db, lambda task: task.update(exit_code=3)).run(max_scrub=1)
    with connect(url, create=False) as pool:
        pool.reset(["a"])
    again = Doing(db, lambda task: task.update(exit_code=3))
    again.run(max_scrub=1)
    assert again.tasks_processed == 2


def test_so_many_tokens_in_each_run(db: CouchDB) -> None:
    """`max_tasks` counts the tokens of one run; `tasks_processed` those of all."""
    fill(db, *"abcde")
    actor = Doing(db, lambda task: None)
    actor.run(max_tasks=2)
    actor.run(max_tasks=2)
    assert actor.tasks_processed == 4


def test_signals_are_as_before_when_cleaning_up_fails(db: CouchDB) -> None:
    """Whatever `cleanup_env` raises, the process has its own signal handlers again."""

    class Unclean(Doing):
        def cleanup_env(self, *args: Any, **kwargs: Any) -> None:
            raise OSError("cannot clean up")

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(OSError, match="clean up"):
        Unclean(db, stop).run()
    after = signal.signal(signal.SIGTERM, before)
    assert after is before
