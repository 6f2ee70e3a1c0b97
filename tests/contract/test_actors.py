"""Actors and iterators of the classic API, on every store."""

import random
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from picas import token
from picas.actors import AbstractRunActor, RunActor
from picas.clients import CouchDB
from picas.documents import Task
from picas.errors import InputError, ViewMissing
from picas.iterators import (
    EndlessViewIterator,
    PrioritizedViewIterator,
    TaskViewIterator,
    ViewIterator,
)
from picas.pool import connect
from tests.contract.classic import client, fill, states


@pytest.fixture
def db(url: str) -> CouchDB:
    """A client of a fresh database with the standard views."""
    return client(url, create=True)


class Actor(RunActor):
    """Does what the token's input says."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.calls: list[str] = []

    def prepare_env(self, *args: Any, **kwargs: Any) -> None:
        """Note the call."""
        self.calls.append("prepare_env")

    def prepare_run(self, *args: Any, **kwargs: Any) -> None:
        """Note the call."""
        self.calls.append("prepare_run")

    def cleanup_run(self, *args: Any, **kwargs: Any) -> None:
        """Note the call."""
        self.calls.append("cleanup_run")

    def cleanup_env(self, *args: Any, **kwargs: Any) -> None:
        """Note the call."""
        self.calls.append("cleanup_env")

    def process_task(self, task: Any) -> None:
        """End as the token's input says."""
        self.calls.append(task["_id"])
        match task["input"]:
            case "fail":
                task["exit_code"] = 3
            case "raise":
                raise RuntimeError("no luck")
            case "sleep":
                time.sleep(60)
            case "error":
                task.error("said so")
            case "back":
                task.scrub()
            case "closed":
                task.done()
            case _:
                task["output"] = {"length": len(task["input"])}
                task.put_attachment("notes.txt", f"of {task.id}")


def test_what_an_actor_does(db: CouchDB) -> None:
    """Each token is run once, its results are in it, and the hooks are called in order."""
    fill(db, "a", "b")
    actor = Actor(db)
    actor.run()
    ran = sorted(actor.calls[2::3][:2])
    assert ran == ["a", "b"]
    assert [c for c in actor.calls if c not in "ab"] == [
        "prepare_env",
        *(["prepare_run", "cleanup_run"] * 2),
        "cleanup_env",
    ]
    assert actor.tasks_processed == 2
    assert actor.current_task is None
    doc = db["a"]
    assert (doc["exit_code"], doc["output"]) == (0, {"length": 1})
    assert doc["lock"] > 0
    assert doc["done"] > 0
    assert {"lease", "pilot"}.isdisjoint(doc)
    (attempt,) = token.attempts(doc)
    assert attempt["exit_code"] == 0
    assert attempt["reason"] == "exit code 0"
    assert attempt["wall"] >= 0
    assert attempt["cpu"] >= 0
    assert Task(doc).get_attachment("notes.txt", db)["data"] == b"of a"
    assert states(db) == {"done": 2}


@pytest.mark.parametrize(
    ("work", "state", "exit_code"),
    [("fail", "error", 3), ("raise", "error", 1), ("error", "error", 1), ("closed", "done", 0)],
)
def test_how_a_token_ends(db: CouchDB, work: str, state: str, exit_code: int) -> None:
    """An exit code, an exception and `error()` make an error; a return makes it done."""
    fill(db, "t")
    doc = db.get("t")
    doc["input"] = work
    db.save(doc)
    Actor(db).run()
    assert states(db) == {state: 1}
    assert db["t"]["exit_code"] == exit_code


def test_the_traceback_is_kept(db: CouchDB) -> None:
    """An exception's traceback is in the token's list of errors."""
    fill(db, "t", input="raise")
    Actor(db).run()
    (error,) = db["t"]["error"]
    assert "no luck" in error["message"]
    assert "RuntimeError" in error["exception"]
    assert (db["t"]["lock"], db["t"]["done"]) == (99, 99)


def test_a_token_given_back_by_its_actor(db: CouchDB) -> None:
    """What `process_task` makes todo again is todo again."""
    fill(db, "t", input="back")
    Actor(db).run(max_tasks=1)
    assert states(db) == {"todo": 1}
    assert db["t"]["scrub_count"] == 1
    assert {"lease", "pilot"}.isdisjoint(db["t"])


def test_failed_tokens_are_tried_again(db: CouchDB) -> None:
    """`max_scrub` more times, each counted; then it is an error."""
    fill(db, "t", input="fail")
    actor = Actor(db)
    actor.run(max_scrub=2)
    assert actor.tasks_processed == 3
    assert states(db) == {"error": 1}
    assert db["t"]["scrub_count"] == 2
    assert [a["exit_code"] for a in token.attempts(db["t"])] == [3, 3, 3]


def test_the_time_limit_reaches_the_work(db: CouchDB) -> None:
    """The exception comes in `process_task`, however it waits; the token is an error, 124."""
    fill(db, "t", input="sleep")
    begun = time.monotonic()
    Actor(db).run(max_token_time=0.2)
    assert time.monotonic() - begun < 30
    doc = db["t"]
    assert doc["exit_code"] == 124
    assert "exceeded timeout limit" in doc["error"][0]["message"]
    assert token.attempts(doc)[0]["reason"] == "time limit of 0.2 s"


def test_when_to_stop(db: CouchDB) -> None:
    """After so many tokens, after so long, or when a function says so."""
    fill(db, *(f"t{i}" for i in range(6)))
    actor = Actor(db)
    actor.run(max_tasks=2)
    assert actor.tasks_processed == 2
    Actor(db).run(max_total_time=0)
    assert states(db) == {"done": 3, "todo": 3}
    asked = []

    def enough(word: str) -> bool:
        asked.append(word)
        return True

    Actor(db).run(stop_function=enough, word="enough")
    assert asked == ["enough"]
    assert states(db) == {"done": 4, "todo": 2}


@pytest.mark.parametrize(
    "limits",
    [{"max_token_time": -1}, {"max_token_time": "60"}, {"max_tasks": -1}, {"max_total_time": True}],
)
def test_limits_that_cannot_be(db: CouchDB, limits: dict[str, Any]) -> None:
    """They are refused by name before any token is claimed."""
    fill(db, "a")
    with pytest.raises(InputError, match=next(iter(limits))):
        Actor(db).run(**limits)
    assert states(db) == {"todo": 1}


def test_a_failure_before_the_work_gives_the_token_back(db: CouchDB) -> None:
    """`prepare_run` fails: the token is todo, no try is counted, the caller hears of it."""

    class Unready(Actor):
        def prepare_run(self, *args: Any, **kwargs: Any) -> None:
            raise OSError("no input")

    fill(db, "a")
    actor = Unready(db)
    with pytest.raises(OSError, match="no input"):
        actor.run()
    assert states(db) == {"todo": 1}
    assert db["a"]["scrub_count"] == 0
    assert "cleanup_env" in actor.calls


def test_what_others_edit_meanwhile_is_kept(db: CouchDB) -> None:
    """A person's note stays, and the result is recorded beside it."""

    class Edited(Actor):
        def process_task(self, task: Any) -> None:
            there = db.get(task.id)
            there["note"] = "by hand"
            db.copy().db.save(there.value)
            super().process_task(task)

    fill(db, "a")
    Edited(db).run()
    assert (db["a"]["note"], db["a"]["output"], db["a"]["exit_code"]) == (
        "by hand",
        {"length": 1},
        0,
    )


def test_a_late_result_is_fenced(url: str, db: CouchDB) -> None:
    """A token that was reset and taken by somebody else keeps that one's claim."""

    class Late(Actor):
        def process_task(self, task: Any) -> None:
            with connect(url, create=False) as pool:
                pool.reset([task.id])
            super().process_task(task)

    fill(db, "a")
    actor = Late(db)
    actor.run(max_tasks=1)
    assert states(db) == {"todo": 1}
    assert db["a"]["output"] == {}


def test_claims_carry_a_lease(url: str, db: CouchDB) -> None:
    """While a token runs, it names its pilot, whose document tells that it lives."""
    seen: dict[str, Any] = {}

    class Looking(Actor):
        def process_task(self, task: Any) -> None:
            seen.update(db[task.id])
            with connect(url, create=False) as pool:
                seen["pilots"] = pool.pilots()

    fill(db, "a")
    Looking(db).run()
    (pilot,) = seen["pilots"]
    assert seen["pilot"] == pilot["_id"]
    assert seen["lease"]
    assert pilot["state"] == "running"
    with connect(url, create=False) as pool:
        (after,) = pool.pilots()
    assert (after["state"], after["done"]) == ("ended", 1)


def test_a_part_of_a_view(db: CouchDB) -> None:
    """Parameters of the view choose among its tokens."""
    fill(db, *"abcd")
    actor = Actor(db, startkey="b", endkey="c")
    actor.run()
    assert states(db) == {"done": 2, "todo": 2}
    assert {c for c in actor.calls if len(c) == 1} == {"b", "c"}


def test_another_view(db: CouchDB) -> None:
    """Tokens that failed can be claimed from the view of errors, and are locked while they run."""
    fill(db, "t", input="word", lock=5, done=6, exit_code=1)
    seen = []

    class Looking(Actor):
        def process_task(self, task: Any) -> None:
            seen.append(states(db))
            super().process_task(task)

    Looking(db, view="error").run()
    assert seen == [{"locked": 1}]
    assert states(db) == {"done": 1}


def test_one_view_goes_first(db: CouchDB) -> None:
    """The low priority's tokens come when the high priority has none."""
    fill(db, "new")
    fill(db, "failed", lock=5, done=6, exit_code=1)
    actor = Actor(db, PrioritizedViewIterator(db, "error", "todo"))
    actor.run()
    assert [c for c in actor.calls if c in ("new", "failed")] == ["failed", "new"]


def test_a_script_s_own_loop(db: CouchDB) -> None:
    """A token that a script saves as done ends its lease; progress in between does not."""
    fill(db, "a")
    for task in TaskViewIterator(db, "todo"):
        task["progress"] = 0.5
        db.save(task)
        assert db["a"]["lease"]
        task["exit_code"] = 0
        db.save(task.done())
    doc = db["a"]
    assert (doc["progress"], doc["exit_code"]) == (0.5, 0)
    assert {"lease", "pilot"}.isdisjoint(doc)
    assert token.attempts(doc)[0]["exit_code"] == 0
    db.holding.end("test")


def test_waiting_for_work(url: str, db: CouchDB) -> None:
    """An endless iterator wakes as soon as there is work, and ends when it is told to."""
    ended = threading.Event()

    def push() -> None:
        time.sleep(0.5)
        fill(client(url), "late")
        ended.set()

    thread = threading.Thread(target=push)
    thread.start()
    iterator = EndlessViewIterator(TaskViewIterator(db, "todo"), sleep_sec=30)
    begun = time.monotonic()
    actor = Actor(db, iterator)
    actor.run(max_tasks=1)
    thread.join()
    assert time.monotonic() - begun < 20
    assert states(db) == {"done": 1}


def test_an_endless_iterator_ends(db: CouchDB) -> None:
    """By its callback, and by the actor's total time; both count."""
    calls = []

    def stop(limit: int) -> bool:
        calls.append(limit)
        return len(calls) > limit

    iterator = EndlessViewIterator(TaskViewIterator(db, "todo"), 0.01, stop, limit=2)
    assert list(iterator) == []
    assert calls == [2, 2, 2]
    endless = EndlessViewIterator(TaskViewIterator(db, "todo"), 0.01)
    Actor(db, endless).run(max_total_time=0.1)
    assert endless.stop_callback is None


def test_many_actors_and_few_tokens(url: str, db: CouchDB) -> None:
    """Each token is run by one of them, and none of them fails."""
    fill(db, *(f"t{i:02}" for i in range(30)))
    ran: list[str] = []
    failures: list[BaseException] = []

    class Quick(RunActor):
        def process_task(self, task: Any) -> None:
            ran.append(task.id)

    def work() -> None:
        try:
            Quick(client(url)).run()
        except BaseException as failure:  # noqa: BLE001 - to be shown by the test
            failures.append(failure)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert sorted(ran) == [f"t{i:02}" for i in range(30)]
    assert states(db) == {"done": 30}


class StandIn:
    """Somebody's own database object: only what actors need, the classic way."""

    def __init__(self, *docs: dict[str, Any]) -> None:
        self.docs = {doc["_id"]: {**doc, "_rev": "1"} for doc in docs}
        self.conflict: Callable[[Task], BaseException | None] = lambda _: None

    def copy(self) -> "StandIn":
        """The same."""
        return self

    def get(self, name: str) -> Task:
        """A copy of a document."""
        return Task(dict(self.docs[name]))

    def get_single_from_view(self, view: str, window_size: int = 1, **params: Any) -> Task:
        """One that is todo; `IndexError` if there is none."""
        return self.get(random.choice([n for n, d in self.docs.items() if not d["lock"]]))

    def save(self, task: Task) -> Task:
        """Write a document, or raise the conflict that the test wants."""
        if (conflict := self.conflict(task)) is not None:
            raise conflict
        task["_rev"] = str(int(self.docs[task.id]["_rev"]) + 1)
        self.docs[task.id] = dict(task.value)
        return task


TODO = {"_id": "a", "type": "token", "lock": 0, "done": 0, "input": "x", "scrub_count": 0}


def test_a_stand_in_for_the_database() -> None:
    """An actor works with an object that has only the classic verbs."""
    db = StandIn(TODO)
    actor = Actor(db)
    actor.run()
    assert actor.tasks_processed == 1
    assert db.docs["a"]["exit_code"] == 0
    assert db.docs["a"]["output"] == {"length": 1}


def test_a_conflict_of_a_stand_in_is_merged() -> None:
    """The result is written into the newest revision, and the edit is kept."""
    from picas.errors import Conflict

    db = StandIn(TODO)

    def once(task: Task) -> BaseException | None:
        if task["done"] and "note" not in db.docs["a"]:
            db.docs["a"] |= {"note": 1, "_rev": "9"}
            return Conflict("edited")
        return None

    db.conflict = once
    Actor(db).run()
    assert (db.docs["a"]["note"], db.docs["a"]["exit_code"]) == (1, 0)


def test_an_iterator_of_one_s_own(db: CouchDB) -> None:
    """Its tokens are recorded by saving them, as the classic actor does."""
    fill(db, "a")

    class Own(ViewIterator):
        def claim_task(self) -> Task:
            if db["a"]["lock"]:
                raise IndexError("none left")
            task = Task(db.get("a"))
            db.save(task.lock())
            return task

    Actor(db, Own()).run()
    assert states(db) == {"done": 1}


def test_what_has_to_be_overridden() -> None:
    """The base classes say what they lack; an actor needs a database."""
    with pytest.raises(NotImplementedError, match="claim_task"):
        next(ViewIterator())
    with pytest.raises(NotImplementedError, match="process_task"):
        AbstractRunActor(StandIn()).process_task(None)
    with pytest.raises(ValueError, match="database"):
        RunActor(None)
    with pytest.raises(ValueError, match="token_reset_values"):
        RunActor(StandIn(), token_reset_values=[1])


def test_a_subclass_that_reads_its_own_way(db: CouchDB, url: str) -> None:
    """It is used as it is; a view that is not there is an error in the end, no endless wait."""

    class Own(CouchDB):
        def get(self, id: str) -> Any:
            doc = super().get(id)
            doc["seen"] = True
            return doc

    fill(db, "a")
    own = client(url, Own)
    Actor(own).run()
    assert db["a"]["seen"] is True
    assert states(db) == {"done": 1}
    with pytest.raises(ViewMissing):
        Actor(own, view="nothing").run()
    with pytest.raises(ViewMissing):
        Actor(db, view="nothing").run()
