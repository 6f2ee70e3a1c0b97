"""The pilot's loop on an embedded pool, with real commands."""

import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.integration.tokens import push

from picas import token
from picas.errors import PoolUnreachable, ViewMissing
from picas.pilot import CommandRunner, FunctionRunner, Pilot, StopCriteria, Summary, handled
from picas.pool import Pool, Written
from picas.token import Document, State


def commands(pool: Pool, tmp_path: Path, **options: Any) -> CommandRunner:
    """A runner of commands with its logs in the test's folder and a short grace period."""
    template = options.pop("template", None)
    return CommandRunner(pool.url, template, logs=tmp_path / "logs", grace=0.5, **options)


def run(pool: Pool, tmp_path: Path, slots: int = 2, **criteria: Any) -> Summary:
    """Run a pilot of commands to its end."""
    pilot = Pilot(pool, commands(pool, tmp_path), slots=slots, criteria=StopCriteria(**criteria))
    return pilot.run()


def in_background(pilot: Pilot) -> "tuple[threading.Thread, list[Summary]]":
    """Run a pilot in a thread; its summary comes into the list."""
    summaries: list[Summary] = []
    thread = threading.Thread(target=lambda: summaries.append(pilot.run()))
    thread.start()
    return thread, summaries


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for something to come true, or fail."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)


def log_of(pool: Pool, token_id: str, stream: str = "out") -> bytes:
    """A token's stored log."""
    return b"".join(pool.attachment(token_id, token.log_name(token_id, stream)))


def test_main_job(pool: Pool, tmp_path: Path) -> None:
    """Tokens are run, settled with exit code, logs and resource use, and the pilot ends."""
    push(pool, "echo out; echo err >&2", "exit 3", "kill -9 $$")
    summary = run(pool, tmp_path)
    assert summary.counters.as_dict() == {
        "done": 1,
        "error": 2,
        "scrubbed": 0,
        "released": 0,
        "fenced": 0,
    }
    assert summary.reason == "no work left in Monitor/todo"
    assert (log_of(pool, "t0"), log_of(pool, "t0", "err")) == (b"out\n", b"err\n")
    assert [pool.get(f"t{i}")["exit_code"] for i in range(3)] == [0, 3, 137]
    (attempt,) = pool.get("t2")["attempts"]
    assert attempt["reason"] == "exit code 137 (signal 9)"
    assert attempt["wall"] > 0
    assert attempt["cpu"] >= 0
    assert "lease" not in pool.get("t0")
    assert not (tmp_path / "logs").exists(), "logs that are in the tokens do not stay on disk"


def test_environment_of_a_task(pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task knows its token, its attempt and the pool, and never the password."""
    monkeypatch.setenv("PICAS_PASSWORD", "s3cret-word")
    push(pool, 'echo $PICAS_TOKEN_ID $PICAS_ATTEMPT $PICAS_POOL; cat "$PICAS_TOKEN_FILE"; env', q=4)
    run(pool, tmp_path)
    out = log_of(pool, "t0").decode()
    assert out.startswith(f"t0 1 {pool.url}\n")
    assert '"q": 4' in out
    assert "s3cret-word" not in out


def test_failing_token_is_tried_again(pool: Pool, tmp_path: Path) -> None:
    """With max_scrub=2 a failing token runs three times and keeps the logs of each attempt."""
    push(pool, "echo try $PICAS_ATTEMPT; exit 1")
    summary = run(pool, tmp_path, max_scrub=2)
    assert (summary.counters.scrubbed, summary.counters.error) == (2, 1)
    doc = pool.get("t0")
    assert doc["scrub_count"] == 2
    assert [entry["n"] for entry in doc["attempts"]] == [1, 2, 3]
    assert log_of(pool, "t0") == b"try 3\n"
    assert b"".join(pool.attachment("t0", "logs_t0.1.out")) == b"try 1\n"
    assert b"".join(pool.attachment("t0", "logs_t0.2.out")) == b"try 2\n"


def test_time_limit(pool: Pool, tmp_path: Path) -> None:
    """A token over its time limit is ended, given another try, then closed with 124."""
    push(pool, "echo begun; trap '' TERM; sleep 60")
    summary = run(pool, tmp_path, max_token_time=0.3, max_scrub=1)
    assert (summary.counters.scrubbed, summary.counters.error) == (1, 1)
    doc = pool.get("t0")
    assert doc["exit_code"] == 124
    assert doc["error"][-1]["message"] == "time limit of 0.3 s"
    assert log_of(pool, "t0") == b"begun\n"


def test_max_tasks(pool: Pool, tmp_path: Path) -> None:
    """No more tokens than asked for are run, even with slots to spare; the rest stays todo."""
    push(pool, *["true"] * 10)
    summary = run(pool, tmp_path, slots=4, max_tasks=3)
    assert summary.counters.done == 3
    assert pool.counts() == {State.TODO: 7, State.LOCKED: 0, State.DONE: 3, State.ERROR: 0}


def test_max_total_time(pool: Pool, tmp_path: Path) -> None:
    """When the time is up the running token finishes and no other is started."""
    push(pool, *["sleep 0.3"] * 10)
    summary = run(pool, tmp_path, slots=1, max_total_time=0.5)
    assert summary.reason.startswith("max_total_time")
    assert 1 <= summary.counters.done <= 3
    assert pool.count("Monitor/locked") == 0


def test_stop_function(pool: Pool, tmp_path: Path) -> None:
    """A function of the user's ends the pilot after the token that made it true."""
    push(pool, *["true"] * 5)
    calls: list[int] = []

    def enough() -> bool:
        calls.append(1)
        return len(calls) == 2

    summary = run(pool, tmp_path, slots=1, stop_function=enough)
    assert summary.reason == "stop_function"
    assert summary.counters.done >= 2
    assert pool.count("Monitor/locked") == 0


def test_endless_pilot_wakes_up_for_new_work(pool: Pool, tmp_path: Path) -> None:
    """An endless pilot without work takes a token soon after it was pushed."""
    pilot = Pilot(pool, commands(pool, tmp_path), criteria=StopCriteria(endless=True))
    thread, summaries = in_background(pilot)
    time.sleep(0.3)
    push(pool, "true")
    wait_until(lambda: pool.count("Monitor/done") == 1, seconds=3)
    pilot.stop("test")
    thread.join(5)
    assert summaries[0].reason == "test"


def test_stop_releases_what_runs(pool: Pool, tmp_path: Path) -> None:
    """A pilot told to stop ends its tasks and gives the tokens back without a scrub."""
    push(pool, *["echo begun; sleep 60"] * 5)
    pilot = Pilot(pool, commands(pool, tmp_path), slots=2)
    thread, summaries = in_background(pilot)
    wait_until(lambda: len(list((tmp_path / "logs").glob("*.out"))) == 2)
    pilot.stop("SIGTERM")
    thread.join(5)
    assert summaries[0].counters.released == 2
    assert pool.counts()[State.TODO] == 5
    ran = [doc for doc in pool.find("Monitor/todo") if token.attempts(doc)]
    assert len(ran) == 2
    for doc in ran:
        assert doc["scrub_count"] == 0
        assert doc["attempts"][0]["reason"] == "released: SIGTERM"
        assert "lease" not in doc


def test_signal_stops_the_pilot(pool: Pool, tmp_path: Path) -> None:
    """TERM to the process that runs the pilot releases the running token."""
    push(pool, "sleep 60")
    pilot = Pilot(pool, commands(pool, tmp_path))
    timer = threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with handled(pilot) as came:
        timer.start()
        pilot.run()
    assert came == [signal.SIGTERM]
    assert pool.counts()[State.TODO] == 1


def test_second_interrupt_leaves_no_grace(pool: Pool, tmp_path: Path) -> None:
    """A task that ignores TERM is killed at once by a second stop, and its token released."""
    push(pool, "trap '' TERM; echo begun; sleep 60")
    runner = CommandRunner(pool.url, logs=tmp_path / "logs", grace=60)
    pilot = Pilot(pool, runner)
    thread, _ = in_background(pilot)
    wait_until(lambda: any(p.stat().st_size for p in (tmp_path / "logs").glob("*.out")))
    pilot.stop("SIGINT")
    thread.join(0.3)
    assert thread.is_alive()
    pilot.stop("SIGINT", now=True)
    thread.join(5)
    assert not thread.is_alive()
    assert pool.counts()[State.TODO] == 1


def test_results_are_attached(pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that a pattern names are stored with the token, large ones too."""
    monkeypatch.chdir(tmp_path)
    push(pool, "unused")
    script = "printf small >output_$1.txt; head -c 3000000 /dev/zero >output_$1.bin; touch other"
    runner = commands(
        pool,
        tmp_path,
        template=["bash", "-c", script, "-", "{id}"],
        attach=["output_{id}*", "none_*"],
    )
    Pilot(pool, runner).run()
    assert b"".join(pool.attachment("t0", "output_t0.txt")) == b"small"
    assert sum(len(p) for p in pool.attachment("t0", "output_t0.bin")) == 3_000_000
    assert "other" not in pool.get("t0")["_attachments"]


def test_long_log_is_cut_and_stays_on_disk(pool: Pool, tmp_path: Path) -> None:
    """A log over the limit keeps head and tail in the token and all of it on disk."""
    push(pool, "seq 1 100000")
    Pilot(pool, commands(pool, tmp_path, log_limit=2000)).run()
    log = log_of(pool, "t0").decode()
    assert log.startswith("1\n2\n")
    assert log.endswith("99999\n100000\n")
    assert len(log) < 2500
    assert (tmp_path / "logs" / "logs_t0.out").read_text().count("\n") == 100000


def test_token_without_the_field_fails_with_the_reason(pool: Pool, tmp_path: Path) -> None:
    """A token that a template does not fit becomes an error that says what is missing."""
    push(pool, "x")
    Pilot(pool, commands(pool, tmp_path, template=["echo", "{q}"])).run()
    doc = pool.get("t0")
    assert doc["exit_code"] == 2
    assert "no field 'q'" in doc["error"][0]["message"]


def test_host_without_room_for_logs_gives_tokens_back(pool: Pool, tmp_path: Path) -> None:
    """A host that cannot write logs runs nothing, loses nothing, and says what is wrong."""
    push(pool, *["true"] * 3)
    blocked = tmp_path / "file"
    blocked.write_text("")
    runner = CommandRunner(pool.url, logs=blocked / "logs")
    summary = Pilot(pool, runner, slots=2).run()
    assert summary.trouble is not None
    assert "--logs" in summary.trouble
    assert pool.counts()[State.TODO] == 3
    assert all(doc["scrub_count"] == 0 for doc in pool.find("Monitor/todo"))


def test_function_runner(pool: Pool) -> None:
    """A Python function runs a token; what it changes in it, returns or raises is recorded."""

    def work(doc: Document) -> int | None:
        if doc["_id"] == "t1":
            raise ValueError("no luck")
        doc["output"] = {"sum": sum(doc["input"])}
        return None

    push(pool, [1, 2], "x")
    Pilot(pool, FunctionRunner(work), slots=2).run()
    assert pool.get("t0")["output"] == {"sum": 3}
    failed = pool.get("t1")
    assert failed["exit_code"] == 1
    assert "no luck" in failed["error"][0]["message"]


def test_missing_view(pool: Pool, tmp_path: Path) -> None:
    """A view that does not exist ends the pilot with those that do."""
    with pytest.raises(ViewMissing, match="Monitor/todo"):
        Pilot(pool, commands(pool, tmp_path), view="Nope/todo").run()


def test_pilot_document(pool: Pool, tmp_path: Path) -> None:
    """A pilot leaves a document that tells where it ran, what it did and why it ended."""
    push(pool, "true", "false")
    run(pool, tmp_path, slots=3)
    (doc,) = pool.pilots()
    assert doc["type"] == "pilot"
    assert (doc["state"], doc["slots"], doc["done"], doc["error"]) == ("ended", 3, 1, 1)
    assert doc["reason"] == "no work left in Monitor/todo"
    assert doc["running"] == []
    # The server's clock is known better with each answer: it may step back a little.
    assert doc["started"] - 1 <= doc["heartbeat"] <= doc["ended"] + 1


class Flaky:
    """A store whose writes lose their reply, or fail, when told to."""

    def __init__(self, pool: Pool) -> None:
        self.write = pool.store.write
        self.failures: list[str] = []
        pool.store.write = self.flaky_write  # type: ignore[method-assign]

    def flaky_write(self, docs: Sequence[Document]) -> list[Written]:
        """Write, but fail first if a failure is due."""
        if not self.failures or docs[0].get("type") != "token":
            return self.write(docs)
        kind = self.failures.pop(0)
        if kind == "applied":
            self.write(docs)
        raise PoolUnreachable("the connection broke")


@pytest.mark.parametrize("kind", ["applied", "refused"])
def test_lost_replies_lose_nothing(
    pool: Pool, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether or not a write was applied before its reply was lost, each token runs once."""
    monkeypatch.setattr("picas.pilot.outage.delays", lambda *_: itertools.repeat(0.01))
    ledger = tmp_path / "ledger"
    push(pool, *[f"echo x >>{ledger}"] * 6)
    flaky = Flaky(pool)
    flaky.failures = [kind] * 4
    summary = run(pool, tmp_path, slots=2)
    assert flaky.failures == []
    assert summary.counters.done == 6
    assert ledger.read_text() == "x\n" * 6
    assert all(len(doc["attempts"]) == 1 for doc in pool.find("Monitor/done"))


def test_unstarted_tokens_are_given_back(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tokens claimed ahead that turn out to wait are released for others, with no attempt noted."""
    monkeypatch.setattr("picas.pilot.loop.UNSTARTED_SECONDS", 0.1)
    monkeypatch.setattr("picas.pilot.loop.TICK_SECONDS", 0.1)
    push(pool, *["true"] * 10)
    criteria = StopCriteria(endless=True)
    pilot = Pilot(pool, commands(pool, tmp_path), slots=1, criteria=criteria)
    thread, _ = in_background(pilot)
    wait_until(lambda: pool.count("Monitor/done") == 10, 30)
    slow = [token.new({"input": "sleep 60"}, f"u{i}") for i in range(10)]
    assert len(list(pool.push(slow))) == 10
    wait_until(lambda: pool.count("Monitor/locked") == 1)
    assert pool.count("Monitor/todo") == 9
    pilot.stop("test")
    thread.join(5)
    assert sum(len(token.attempts(doc)) for doc in pool.find("Monitor/todo")) == 1
