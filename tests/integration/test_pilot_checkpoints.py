"""What a task leaves when it is ended early, and finds at its next attempt."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.tokens import push

from picas import token
from picas.errors import PoolUnreachable, TooLarge
from picas.pilot import CommandRunner, Pilot, StopCriteria, Summary
from picas.pilot.checkpoint import Attached, Checkpoints, Shared
from picas.pool import Pool
from picas.pool.base import INLINE_LIMIT
from picas.process import Finished, Task
from picas.token import State

SAVES = 'cat "$PICAS_CHECKPOINT_DIR"/* >found.$PICAS_ATTEMPT; '
"""A task begins by showing what it finds."""

WAITS = "touch begun.$PICAS_ATTEMPT; sleep 60 & wait"


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def pilot(pool: Pool, checkpoints: Checkpoints, **options: Any) -> Pilot:
    """A pilot with one slot."""
    criteria = StopCriteria(**options.pop("criteria", {}))
    runner = CommandRunner(pool.url, logs=Path("logs"), grace=5, checkpoints=checkpoints, **options)
    return Pilot(pool, runner, criteria=criteria)


def stopped_at(
    number: int, pool: Pool, checkpoints: Checkpoints | None = None, **options: Any
) -> Summary:
    """Run a pilot that is told to stop once the token's attempt of that number has begun."""
    made = pilot(pool, checkpoints or Attached(pool), **options)
    begun = Path(f"begun.{number}")

    def end() -> None:
        wait_until(begun.exists)
        made.stop("enough")

    ender = threading.Thread(target=end)
    ender.start()
    summary = made.run()
    ender.join()
    return summary


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for something to come true, or fail."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)


def attached(pool: Pool) -> bool:
    """Whether the token t0 has a checkpoint."""
    return token.checkpoint_name("t0") in pool.get("t0").get("_attachments", {})


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """What the pilot warned of."""
    caplog.set_level(logging.WARNING, "picas")
    return lambda: "\n".join(record.getMessage() for record in caplog.records)


def save(content: str) -> str:
    """A task that goes on from what it finds, and at TERM leaves something."""
    trap = f"trap '{content} >\"$PICAS_CHECKPOINT_DIR/saved\"; exit 143' TERM USR1; "
    return f"{SAVES}{trap}[ $PICAS_ATTEMPT -gt 1 ] || {{ {WAITS}; }}"


@pytest.mark.parametrize("size", [10, INLINE_LIMIT + 1], ids=["small", "large"])
def test_next_attempt_finds_it(pool: Pool, size: int) -> None:
    """A pilot that is stopped keeps what its task leaves; once the token is done, it is gone."""
    push(pool, save(f"head -c {size} /dev/zero"))
    assert stopped_at(1, pool).counters.released == 1
    doc = pool.get("t0")
    assert (token.state(doc), doc["scrub_count"]) == (State.TODO, 0)
    assert [a["reason"] for a in doc["attempts"]] == ["released: enough"]
    assert attached(pool)
    pilot(pool, Attached(pool)).run()
    assert Path("found.2").stat().st_size == size
    assert pool.counts()[State.DONE] == 1
    assert not attached(pool)


def test_another_signal(pool: Pool) -> None:
    """A task may ask for another signal than TERM."""
    push(pool, save("echo $PICAS_ATTEMPT").replace("TERM USR1", "USR1"))
    stopped_at(1, pool, stop_signal=signal.SIGUSR1)
    pilot(pool, Attached(pool)).run()
    assert Path("found.2").read_text() == "1\n"


def test_time_limit(pool: Pool) -> None:
    """A task that goes over its time limit and is tried again goes on; its logs are kept, too."""
    push(pool, "echo log; " + save("echo half"))
    criteria = {"max_token_time": 1.0, "max_scrub": 1}
    pilot(pool, Attached(pool), criteria=criteria).run()
    assert Path("found.2").read_text() == "half\n"
    doc = pool.get("t0")
    assert (token.state(doc), doc["scrub_count"]) == (State.DONE, 1)
    assert b"".join(pool.attachment("t0", token.log_name("t0", "out", 1))) == b"log\n"


def test_failure_leaves_the_earlier_one(pool: Pool) -> None:
    """What a task that fails has in its folder is not kept; what it began with stays."""
    line = save("echo good").replace(
        "[ $",
        "[ $PICAS_ATTEMPT != 2 ] || { echo bad >$PICAS_CHECKPOINT_DIR/saved; exit 1; }; [ $",
        1,
    )
    push(pool, line)
    stopped_at(1, pool)
    pilot(pool, Attached(pool), criteria={"max_scrub": 1}).run()
    assert Path("found.3").read_text() == "good\n"
    assert [a.get("exit_code") for a in pool.get("t0")["attempts"]] == [None, 1, 0]


def test_too_large(pool: Pool, warnings: Callable[[], str]) -> None:
    """A checkpoint over the limit is not kept, with a word; the token is given back."""
    push(pool, save("head -c 20000 /dev/zero"))
    stopped_at(1, pool, Attached(pool, limit=20000))
    assert pool.counts()[State.TODO] == 1
    assert not attached(pool)
    assert "t0: its checkpoint: it is not kept, as it has more than 20,000 bytes" in warnings()


def test_refused_by_the_pool(
    pool: Pool, warnings: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint that the server does not take costs no more than itself."""

    def refuse(*args: object) -> None:
        raise TooLarge("the server takes less")

    monkeypatch.setattr(pool.store, "attach", refuse)
    push(pool, save(f"head -c {INLINE_LIMIT} /dev/zero"))
    assert stopped_at(1, pool).counters.released == 1
    assert pool.counts()[State.TODO] == 1
    assert "it is not kept: the server takes less" in warnings()


def test_outage_at_the_end(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large checkpoint is sent again if the pool was away for a moment."""
    real, failures = pool.store.attach, iter(range(2))

    def attach(doc_id: str, rev: str, name: str, file: Path) -> str:
        if next(failures, None) is not None:
            raise PoolUnreachable("no answer")
        return real(doc_id, rev, name, file)

    monkeypatch.setattr(pool.store, "attach", attach)
    push(pool, save(f"head -c {INLINE_LIMIT} /dev/zero"))
    stopped_at(1, pool)
    assert attached(pool)


def test_damaged(pool: Pool, warnings: Callable[[], str]) -> None:
    """An archive that cannot be read is told of, and the task starts afresh."""
    name = token.checkpoint_name("t0")
    push(pool, f"{SAVES} ls $PICAS_CHECKPOINT_DIR", _attachments={name: {"data": "aGVsbG8="}})
    pilot(pool, Attached(pool)).run()
    assert pool.counts()[State.DONE] == 1
    assert "it cannot be read, so the task starts afresh" in warnings()


def test_outage_before_the_start(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint that cannot be had now is waited for: work done must not be lost."""
    push(pool, save("echo half"))
    stopped_at(1, pool)
    real, failures = pool.store.read_attachment, iter(range(2))

    def read(doc_id: str, name: str) -> Iterator[bytes]:
        if next(failures, None) is not None:
            raise PoolUnreachable("no answer")
        return real(doc_id, name)

    monkeypatch.setattr(pool.store, "read_attachment", read)
    pilot(pool, Attached(pool)).run()
    assert Path("found.2").read_text() == "half\n"


def test_stop_while_it_waits_for_its_checkpoint(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pilot that is told to stop does not wait, and the checkpoint stays."""
    push(pool, save("echo half"))
    stopped_at(1, pool)

    def read(doc_id: str, name: str) -> Iterator[bytes]:
        Path("begun.2").touch()
        raise PoolUnreachable("no answer")

    monkeypatch.setattr(pool.store, "read_attachment", read)
    stopped_at(2, pool)
    assert not Path("found.2").exists()
    assert pool.counts()[State.TODO] == 1
    assert attached(pool)


def test_ended_by_the_signal_of_a_scheduler(pool: Pool) -> None:
    """A task that is gone by TERM before the pilot is told has not failed."""
    push(pool, "touch begun.1; kill $$")
    stopped_at(1, pool)
    doc = pool.get("t0")
    assert (token.state(doc), doc["scrub_count"]) == (State.TODO, 0)


def test_its_own_signal_is_a_failure(pool: Pool) -> None:
    """A task that ends itself by TERM while nobody stops the pilot has failed."""
    push(pool, "kill $$")
    pilot(pool, Attached(pool)).run()
    assert pool.get("t0")["exit_code"] == 143


@pytest.mark.parametrize("in_job", [True, False])
def test_success_in_the_moment_of_the_end(
    pool: Pool, in_job: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a batch job exit code 0 does not count if all processes may have been signalled."""
    push(pool, "true")
    made = pilot(pool, Attached(pool), in_job=in_job)
    real = Task.run

    def run(task: Task) -> Finished:
        finished = real(task)
        made.stop("SIGTERM")
        return finished

    monkeypatch.setattr(Task, "run", run)
    made.run()
    assert token.state(pool.get("t0")) is (State.TODO if in_job else State.DONE)


def test_shared_folder(pool: Pool) -> None:
    """A checkpoint in a folder of the user's stays there until its token is done."""
    shared = Path("shared")
    push(pool, save("echo half"))
    stopped_at(1, pool, Shared(shared, "a"))
    assert [f.read_text() for f in shared.glob("checkpoint_*_t0/saved")] == ["half\n"]
    assert not pool.get("t0").get("_attachments")
    pilot(pool, Shared(shared, "a")).run()
    assert Path("found.2").read_text() == "half\n"
    assert list(shared.iterdir()) == []


def test_shared_folder_after_a_reset(pool: Pool) -> None:
    """What is reset begins with an empty folder."""
    push(pool, "exit 1 >$PICAS_CHECKPOINT_DIR/saved")
    pilot(pool, Shared(Path("shared"), "a")).run()
    pool.reset(["t0"])
    (doc,) = pool.find("Monitor/todo")
    assert os.listdir(Shared(Path("shared"), "a").of(doc).path) == []  # noqa: PTH208


@pytest.mark.parametrize("token_id", ["..", ".", "a/../../b", "x" * 300])
def test_shared_folder_of_an_odd_id(token_id: str) -> None:
    """No id leads out of the folder."""
    path = Path(Shared(Path("shared"), "a").of({"_id": token_id}).path)
    assert path.parent == Path("shared").absolute()
    assert path.is_dir()


def test_folders_are_used_again(pool: Pool) -> None:
    """Each task has an empty folder; tasks that leave it so share one, one after another."""
    push(
        pool,
        *['ls -A "$PICAS_CHECKPOINT_DIR" >>seen; echo "$PICAS_CHECKPOINT_DIR" >>dirs'] * 3,
        'touch "$PICAS_CHECKPOINT_DIR/left"; echo "$PICAS_CHECKPOINT_DIR" >>dirs',
        'rm -r "$PICAS_CHECKPOINT_DIR"',
    )
    checkpoints = Attached(pool)
    pilot(pool, checkpoints).run()
    assert Path("seen").read_text() == ""
    assert 1 <= len(set(Path("dirs").read_text().split())) <= 3
    assert not checkpoints.scratch.exists()
