"""What a pilot does with tokens that fail: other tries, other hosts, more memory, a broken host."""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.components import skipped_component
from tests.integration.tokens import push

from picas import cgroup, needs, token
from picas.pilot import CommandRunner, Pilot, StopCriteria, Summary
from picas.pilot.health import SLOW_AFTER
from picas.pool import Pool, settings
from picas.token import State

MEGABYTE = 1 << 20


def run(pool: Pool, tmp_path: Path, slots: int = 1, **criteria: Any) -> Summary:
    """Run a pilot of commands to its end."""
    runner = CommandRunner(pool.url, logs=tmp_path / "logs", grace=0.5)
    return Pilot(pool, runner, slots=slots, criteria=StopCriteria(**criteria)).run()


def sets(pool: Pool, design: str | None = None, **texts: str) -> None:
    """Set what holds for the pool."""
    pool.change_settings(lambda there: settings.change(there, texts.items(), design))


def test_back_off_is_waited_for(pool: Pool, tmp_path: Path) -> None:
    """The pilot does other work meanwhile, waits for the token's time, and tries it again."""
    sets(pool, tries="3", delay="0.4")
    push(pool, f"test -e {tmp_path}/flag || {{ touch {tmp_path}/flag; exit 1; }}", "true")
    start = time.monotonic()
    summary = run(pool, tmp_path)
    assert (summary.counters.done, summary.counters.scrubbed) == (2, 1)
    first, second = pool.get("t0")["attempts"]
    assert second["start"] - first["end"] >= 0.2
    assert pool.get("t0")["scrub_count"] == 1
    assert time.monotonic() - start < 10


def test_token_that_waits_for_long_ends_no_night_shift(pool: Pool, tmp_path: Path) -> None:
    """A pilot does not sit on its hours for a token of next week; it says that one waits."""
    push(pool, "true", not_before=time.time() + 7 * 86400)
    summary = run(pool, tmp_path)
    assert summary.counters.ran == 0
    assert "a token waits for another 10,0" in summary.reason
    assert pool.counts()[State.TODO] == 1


def test_endless_pilot_wakes_when_a_token_comes_due(pool: Pool, tmp_path: Path) -> None:
    """Nothing changes in the pool when a time has come; the pilot sees it all the same."""
    push(pool, "true", not_before=time.time() + 1.0)
    assert run(pool, tmp_path, endless=True, max_tasks=1).counters.done == 1


def test_tokens_own_policy_comes_first(pool: Pool, tmp_path: Path) -> None:
    """What the token says comes before --max-scrub, that before what the pool says."""
    sets(pool, tries="9")
    push(pool, "exit 1", retry={"tries": 2})
    push_second = token.new({"input": "exit 1"}, "other")
    assert all(p.error is None for p in pool.push([push_second]))
    run(pool, tmp_path, max_scrub=2)
    assert len(pool.get("t0")["attempts"]) == 2
    assert len(pool.get("other")["attempts"]) == 3


def test_final_exit_code(pool: Pool, tmp_path: Path) -> None:
    """A code that is final for this view closes the token though tries remain."""
    sets(pool, "Monitor", tries="5", final="3")
    push(pool, "exit 3", "exit 4")
    run(pool, tmp_path)
    assert [len(pool.get(t)["attempts"]) for t in ("t0", "t1")] == [1, 5]


def test_try_elsewhere(pool: Pool, tmp_path: Path) -> None:
    """A code that blames the host leaves the token to other hosts until its time is over."""
    sets(pool, tries="2", elsewhere="127", elsewhere_time="1.2")
    push(pool, "exit 127")
    run(pool, tmp_path)
    doc = pool.get("t0")
    first, second = doc["attempts"]
    assert doc["avoid"] == [first["host"]]
    assert second["start"] - first["end"] > 1.0


def test_token_that_needs_more_is_left_to_others(pool: Pool, tmp_path: Path) -> None:
    """A token that needs more than the pilot has is not run to fail, and the pilot says so."""
    push(pool, "true", cores=100_000)
    summary = run(pool, tmp_path)
    assert summary.counters.ran == 0
    assert "1 token needs more than this pilot has" in summary.reason
    document = pool.pilots()[0]
    offer = needs.here("")
    assert (document["cores"], document["memory"]) == (offer.cores, offer.memory)


def test_broken_host_leaves_the_pool_alone(pool: Pool, tmp_path: Path) -> None:
    """A pilot on which all fails slows down, ends, says why, and leaves the rest to others."""
    push(pool, *["exit 42"] * 40)
    summary = run(pool, tmp_path, slots=2, drain_after=SLOW_AFTER + 2)
    assert summary.trouble is not None
    assert "different tokens failed one after another" in summary.trouble
    counts = pool.counts()
    assert counts[State.LOCKED] == 0
    assert counts[State.TODO] >= 25
    (document,) = pool.pilots()
    assert document["reason"].startswith("drained: ")
    assert "exit code 42" in document["health"]


def test_failures_among_successes_are_no_broken_host(pool: Pool, tmp_path: Path) -> None:
    """Tokens that fail here and there do not slow anything down."""
    push(pool, *["exit 1", "exit 1", "true"] * 12)
    summary = run(pool, tmp_path, slots=1, drain_after=SLOW_AFTER)
    assert summary.trouble is None
    assert summary.counters.error == 24


@pytest.fixture
def small_memory() -> Iterator[None]:
    """This process and its children in a control group with little memory."""
    entries = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    groups = [path for _, controllers, path in entries if "memory" in controllers.split(",")]
    home = Path(f"/sys/fs/cgroup/memory{groups[0]}") if groups else Path("/none")
    group = home / f"picas-test-{os.getpid()}"
    try:
        group.mkdir()
        limit = group / "memory.limit_in_bytes"
        limit.write_text(str(400 * MEGABYTE))
        (group / "cgroup.procs").write_text(str(os.getpid()))
    except OSError as error:
        skipped_component("out-of-memory kills", f"no control group can be made: {error.strerror}")
        pytest.skip("no control group can be made")
    cgroup._counter.cache_clear()
    yield
    (home / "cgroup.procs").write_text(str(os.getpid()))
    with suppress(OSError):
        group.rmdir()
    cgroup._counter.cache_clear()


@pytest.mark.usefixtures("small_memory")
def test_more_memory_after_an_out_of_memory_kill(pool: Pool, tmp_path: Path) -> None:
    """The kernel kills the task; its token says so, and asks for more memory next time."""
    sets(pool, tries="3", memory_factor="1000")
    push(pool, "exec python3 -c 'bytearray(800 << 20)'", memory="300M")
    summary = run(pool, tmp_path)
    doc = pool.get("t0")
    assert [entry["reason"] for entry in doc["attempts"]] == ["out of memory (exit code 137)"]
    assert doc["memory"] >= 300 * MEGABYTE * 1000
    assert "more than this pilot has" in summary.reason
    assert pool.pilots()[0]["memory"] == 400 * MEGABYTE


def test_kill_that_is_not_for_memory(pool: Pool, tmp_path: Path) -> None:
    """A task that somebody killed is not taken for one that ran out of memory."""
    push(pool, "kill -9 $$")
    run(pool, tmp_path)
    assert pool.get("t0")["attempts"][0]["reason"] == "exit code 137 (signal 9)"
