"""What a pilot does when a token, a file, the pool or the host is odd."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.components import skipped_component
from tests.couchdb.server import InstalledCouch, installed
from tests.integration.tokens import push

from picas import token
from picas.errors import Forbidden, InputError, PoolUnreachable
from picas.pilot import CommandRunner, FunctionRunner, Pilot, StopCriteria, Summary, handled
from picas.pool import Pool, Written, connect
from picas.token import Document, State
from picas.views import Design


def runner(pool: Pool, tmp_path: Path, *template: str, **options: Any) -> CommandRunner:
    """A runner of commands with its logs in the test's folder."""
    return CommandRunner(pool.url, template or None, logs=tmp_path / "logs", grace=0.5, **options)


def overwrite(pool: Pool, token_id: str, **fields: Any) -> None:
    """Change a token as a person with a database tool would."""
    (doc,) = pool.store.read([token_id])
    assert doc is not None
    (written,) = pool.store.write([{**doc, **fields}])
    assert written.rev is not None


def test_pattern_that_a_token_lacks_the_field_for(pool: Pool, tmp_path: Path) -> None:
    """It fails that token before its command runs, and no other."""
    push(pool, "touch ran")
    summary = Pilot(pool, runner(pool, tmp_path, attach=["out_{sample}*"])).run()
    assert summary.trouble is None
    assert "no field 'sample'" in pool.get("t0")["error"][0]["message"]
    assert not Path("ran").exists()


def test_task_that_removes_its_logs(pool: Pool, tmp_path: Path) -> None:
    """It is recorded all the same, once, with a word about the log."""
    push(pool, f"rm -rf {tmp_path}/logs", "true")
    summary = Pilot(pool, runner(pool, tmp_path), slots=1).run()
    assert summary.counters.done + summary.counters.error == 2
    assert summary.trouble is None
    assert pool.counts()[State.LOCKED] == 0


def test_files_with_odd_names_are_attached(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that is not UTF-8, or that the pool keeps for itself, becomes one it takes."""
    monkeypatch.chdir(tmp_path)
    push(pool, r"printf a >$'x_\xff.txt'; printf b >_x.txt")
    summary = Pilot(pool, runner(pool, tmp_path, attach=["x_*", "_x*"])).run()
    assert summary.counters.done == 1
    names = set(pool.get("t0")["_attachments"])
    assert {r"x_\xff.txt", "file_x.txt"} <= names


@pytest.mark.parametrize(
    "history",
    [[{"exit_code": 1}], [{"n": 300_000_000, "exit_code": 1}], ["x"], {"n": 1}, "x", [{"n": "1"}]],
)
def test_odd_history(pool: Pool, tmp_path: Path, history: object) -> None:
    """Whatever somebody wrote into the history, the token runs and is recorded."""
    push(pool, "true")
    overwrite(pool, "t0", attempts=history)
    summary = Pilot(pool, runner(pool, tmp_path)).run()
    assert summary.counters.done == 1


def test_ids_alike_have_logs_of_their_own(pool: Pool, tmp_path: Path) -> None:
    """Long ids that differ only in the middle do not share a log on disk."""
    ids = [f"{'a' * 150}{i}{'b' * 150}" for i in range(4)]
    docs = [token.new({"input": f"echo {i}; sleep 0.2"}, name) for i, name in enumerate(ids)]
    assert all(pushed.error is None for pushed in pool.push(docs))
    assert Pilot(pool, runner(pool, tmp_path), slots=4).run().counters.done == 4
    for i, name in enumerate(ids):
        assert b"".join(pool.attachment(name, f"logs_{name}.out")) == f"{i}\n".encode()


@pytest.mark.parametrize(
    ("act", "exit_code"),
    [
        (lambda doc: sys.exit(3), 3),
        (lambda doc: sys.exit("no"), 1),
        (lambda doc: doc.clear(), 0),
        (lambda doc: doc.pop("lease"), 0),
        (lambda doc: doc.update(done=1), 0),
        (lambda doc: (_ for _ in ()).throw(KeyboardInterrupt), 1),
    ],
)
def test_functions_may_do_what_they_like(
    pool: Pool, act: Callable[[Document], object], exit_code: int
) -> None:
    """Whatever a function does to its token or to the interpreter, its end is recorded."""

    def work(doc: Document) -> None:
        act(doc)

    push(pool, "x", "y")
    summary = Pilot(pool, FunctionRunner(work)).run()
    assert summary.counters.ran == 2
    assert pool.counts()[State.LOCKED] == 0
    assert pool.get("t0")["exit_code"] == exit_code


def test_inner_changes_of_a_function_survive_an_edit(pool: Pool) -> None:
    """What a function changes inside a field is recorded though a person edited the token."""

    def work(doc: Document) -> None:
        doc["result"]["n"] = 1
        overwrite(pool, "t0", note="mine")

    push(pool, "x", result={"n": 0})
    assert Pilot(pool, FunctionRunner(work)).run().counters.done == 1
    doc = pool.get("t0")
    assert (doc["result"], doc["note"]) == ({"n": 1}, "mine")


def test_lock_of_a_classic_client_is_respected(pool: Pool) -> None:
    """A classic client that reset and locked our token keeps it, though our lease stands in it."""

    def work(doc: Document) -> None:
        overwrite(pool, "t0", lock=doc["lock"] + 5, hostname="theirs")

    push(pool, "x")
    assert Pilot(pool, FunctionRunner(work)).run().counters.fenced == 1
    assert token.state(pool.get("t0")) is State.LOCKED


class Store:
    """The store of a pool with writes that fail when told to."""

    def __init__(self, pool: Pool) -> None:
        self.write = pool.store.write
        self.fail: Callable[[Sequence[Document]], list[Written] | None] = lambda docs: None
        pool.store.write = self.failing_write  # type: ignore[method-assign]

    def failing_write(self, docs: Sequence[Document]) -> list[Written]:
        """Write, unless `fail` has another answer."""
        answer = self.fail(docs) if docs and docs[0].get("type") == "token" else None
        return self.write(docs) if answer is None else answer


def test_one_refused_result_strands_no_other(pool: Pool) -> None:
    """A token that the pool will not take back stays locked and is named; the others are done."""
    push(pool, *"abcd")
    store = Store(pool)

    def refuse_t1(docs: Sequence[Document]) -> list[Written] | None:
        if all("lease" in doc for doc in docs):
            return None  # claims
        good = iter(self_written := store.write([d for d in docs if d["_id"] != "t1"]))
        del self_written
        refusal = Forbidden("a rule of this database")
        return [Written("t1", None, refusal) if d["_id"] == "t1" else next(good) for d in docs]

    store.fail = refuse_t1
    summary = Pilot(pool, FunctionRunner(lambda _: 0), slots=4).run()
    assert summary.counters.done == 3
    assert summary.unsettled == ["t1"]
    assert [doc["_id"] for doc in pool.find("Monitor/locked")] == ["t1"]


def test_lockout_in_mid_run_is_waited_for(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Being refused after the pool took our claims is an outage, not the end of the pilot."""
    monkeypatch.setattr("picas.pilot.outage.delays", lambda *_: iter([0.05] * 1000))
    push(pool, *"abcd")
    store = Store(pool)
    refusals = [Forbidden("Account is temporarily locked")] * 3

    def locked_out(docs: Sequence[Document]) -> list[Written] | None:
        if refusals and "lease" not in docs[0]:
            raise refusals.pop()
        return None

    store.fail = locked_out
    assert Pilot(pool, FunctionRunner(lambda _: 0)).run().counters.done == 4


def test_claim_in_doubt_is_given_back_at_the_end(pool: Pool) -> None:
    """A pilot that is stopped before it knows of a claim finds out, and releases the tokens."""
    push(pool, *"abc")
    store = Store(pool)
    pilot = Pilot(pool, FunctionRunner(lambda _: 0), slots=3)

    def lose_reply(docs: Sequence[Document]) -> list[Written] | None:
        store.fail = lambda docs: None
        store.write(docs)
        pilot.stop("SIGTERM")
        raise PoolUnreachable("the reply was lost")

    store.fail = lose_reply
    summary = pilot.run()
    assert summary.unsettled == []
    assert pool.counts()[State.TODO] == 3


def test_hanging_server_does_not_hold_up_the_end(tmp_path: Path) -> None:
    """With a CouchDB that stopped answering, two interrupts end a pilot within seconds."""
    if not installed():
        skipped_component("a hanging CouchDB", "only an installed server can be suspended")
        pytest.skip("a hanging CouchDB: only an installed server can be suspended")
    with InstalledCouch() as server:
        url = server.database_url(server.new_database())
        with connect(url, create=True) as pool:
            push(pool, *["sleep 0.3"] * 100)
            pilot = Pilot(pool, runner(pool, tmp_path), slots=2)
            process = server.process
            assert process is not None
            begun: list[float] = []

            def hang() -> None:
                time.sleep(1.0)
                os.kill(process.pid, signal.SIGSTOP)
                begun.append(time.monotonic())
                for _ in range(2):
                    time.sleep(1.5)
                    os.kill(os.getpid(), signal.SIGINT)

            thread = threading.Thread(target=hang)
            try:
                with handled(pilot):
                    thread.start()
                    summary = pilot.run()
                ended = time.monotonic()
                thread.join()
            finally:
                os.kill(process.pid, signal.SIGCONT)
    assert ended - begun[0] < 15
    assert summary.unsettled


def test_pool_that_is_away_for_too_long(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pilot gives up at last, says so, and names what it could not record."""
    monkeypatch.setattr("picas.pilot.loop.OUTAGE_SECONDS", 0.2)
    monkeypatch.setattr("picas.pilot.outage.delays", lambda *_: iter([0.05] * 1000))
    push(pool, "a")
    store = Store(pool)

    def away(docs: Sequence[Document]) -> list[Written] | None:
        if "lease" not in docs[0]:
            raise PoolUnreachable("gone")
        return None

    store.fail = away
    summary: Summary = Pilot(pool, FunctionRunner(lambda _: 0), criteria=StopCriteria()).run()
    assert summary.outage
    assert summary.unsettled == ["t0"]


def test_pool_without_the_standard_views(pool: Pool) -> None:
    """A pilot works by a view of the user's own, though those of lost pilots cannot be found."""
    pool.add_design(Design("Own"))
    pool.remove_design("Monitor")
    pool.save_pilot({"_id": "pilot_gone", "type": "pilot", "state": "running", "heartbeat": 1})
    push(pool, "x")
    summary = Pilot(pool, FunctionRunner(lambda _: 0), view="Own/todo").run()
    assert summary.counters.done == 1
    assert summary.reason == "no work left in Own/todo"


def test_release_whose_reply_was_lost(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that was given back may be free already: it is not run on the old claim."""
    monkeypatch.setattr("picas.pilot.loop.UNSTARTED_SECONDS", 0.2)
    monkeypatch.setattr("picas.pilot.outage.delays", lambda *_: iter([0.05] * 1000))
    push(pool, *["x"] * 40)
    real, ran, lost = pool.release, [], threading.Event()

    def lost_once(tokens: Sequence[Document], reason: str = "") -> object:
        monkeypatch.setattr(pool, "release", real)
        real(tokens, reason)
        lost.set()
        raise PoolUnreachable("the reply was lost")

    def work(doc: Document) -> int:
        ran.append(doc["_id"])
        if len(ran) == 20:  # the slot is free again right after the reply was lost
            lost.wait(10)
        return 0

    monkeypatch.setattr(pool, "release", lost_once)
    summary = Pilot(pool, FunctionRunner(work), slots=1).run()
    assert pool.release == real, "nothing was given back: the test shows nothing"
    assert sorted(ran) == sorted(f"t{n}" for n in range(40))
    assert (summary.counters.done, summary.counters.fenced) == (40, 0)


def test_holder_that_is_no_pilot(pool: Pool) -> None:
    """A pilot whose heartbeat nobody would find is refused, instead of losing its tokens."""
    with pytest.raises(InputError, match="its id begins with 'pilot_'"):
        Pilot(pool, FunctionRunner(lambda _: 0), holder=token.Holder("worker", "host"))


def test_stop_in_an_outage_does_not_spin(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pilot that waits for its last task while the pool is away asks now and then, no more."""
    push(pool, "x")
    asked = 0

    def away(*_: object, **__: object) -> object:
        nonlocal asked
        asked += 1
        raise PoolUnreachable("away")

    def work(_: Document) -> int:
        monkeypatch.setattr(pool.store, "changes", away)
        pilot.stop("told to")
        pilot._outage.failed(PoolUnreachable("away"))
        time.sleep(2)
        monkeypatch.undo()
        return 0

    pilot = Pilot(pool, FunctionRunner(work), slots=1)
    assert pilot.run().counters.done == 1
    assert asked < 20


def test_stop_function_that_fails_loses_nothing(pool: Pool) -> None:
    """What ran when the user's function raised is recorded, and the pilot has ended."""
    push(pool, *"abcdef")

    def stop() -> bool:
        raise FileNotFoundError("stop file")

    criteria = StopCriteria(stop_function=stop)
    pilot = Pilot(pool, FunctionRunner(lambda _: 0), slots=3, criteria=criteria)
    with pytest.raises(FileNotFoundError, match="stop file"):
        pilot.run()
    counts = pool.counts()
    assert counts[State.LOCKED] == 0
    assert counts[State.DONE] >= 1
    assert [doc["state"] for doc in pool.pilots()] == ["ended"]


def test_token_that_comes_during_the_last_look_is_not_missed(pool: Pool) -> None:
    """A pilot that was woken while it looked does not take the view for empty."""
    push(pool, "a")
    pilot = Pilot(pool, FunctionRunner(lambda _: 0))
    real = pool.exchange
    late = ["late"]

    def exchange(settlements: Any, wish: Any) -> Any:
        answer = real(settlements, wish)
        if late and wish is not None and not answer[1] and pilot._watcher.ready:
            assert [p.error for p in pool.push([token.new({"input": "x"}, late.pop())])] == [None]
            pilot.wake()
        return answer

    pool.exchange = exchange  # type: ignore[method-assign]
    assert pilot.run().counters.done == 2
