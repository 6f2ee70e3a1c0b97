"""Tokens of different needs side by side in one pilot, with real processes."""

import os
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.integration.test_pilot import commands, log_of, wait_until

from picas import token
from picas.pilot import Pilot, StopCriteria
from picas.pool import Pool

CORES = len(os.sched_getaffinity(0))


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pilot believes that it has eight cores."""
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "8")


def push(pool: Pool, **tokens: dict[str, Any]) -> None:
    """Add tokens by name."""
    docs = [token.new(fields, name) for name, fields in tokens.items()]
    assert all(pushed.error is None for pushed in pool.push(docs))


def test_cores_are_never_given_twice(pool: Pool, tmp_path: Path) -> None:
    """Of tokens of one, three and five cores as many run at once as have cores, and all run."""
    watched = f"{tmp_path}/running"
    Path(watched).mkdir()
    # Each notes the cores of all that run beside it.
    line = (
        f"touch {watched}/$PICAS_TOKEN_ID.$PICAS_CORES; ls {watched}; sleep 0.2; "
        f"rm {watched}/$PICAS_TOKEN_ID.$PICAS_CORES"
    )
    wants = {f"t{i}": (1, 3, 5)[i % 3] for i in range(18)}
    push(pool, **{name: {"input": line, "cores": cores} for name, cores in wants.items()})
    summary = Pilot(pool, commands(pool, tmp_path), slots=8, claim_ahead=0).run()
    assert summary.counters.done == 18
    seen = [log_of(pool, name).decode().split() for name in wants]
    at_once = [sum(int(entry.rpartition(".")[2]) for entry in entries) for entries in seen]
    assert max(at_once) <= 8
    assert max(at_once) > 5, "they did not run side by side"


def test_a_large_token_gets_its_turn(pool: Pool, tmp_path: Path) -> None:
    """A token that needs all cores runs once the small ones are done, without being asked again."""
    push(pool, large={"input": "echo $PICAS_CORES", "cores": 8})
    go = tmp_path / "go"
    small = {"input": f"until [ -e {go} ]; do sleep 0.05; done"}
    pilot = Pilot(pool, commands(pool, tmp_path), slots=8)
    pool.claim("Monitor/todo", 1, pilot.holder)  # while small ones are begun
    push(pool, **{f"s{i}": small for i in range(3)})
    thread = threading.Thread(target=pilot.run)
    thread.start()
    wait_until(lambda: pilot.running == 3)
    pool.reset(["large"])
    go.touch()
    thread.join(30)
    assert log_of(pool, "large") == b"8\n"


def test_memory_is_shared(pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens that say how much memory they need do not run side by side beyond what there is."""
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "100")
    lock = tmp_path / "lock"
    alone = {"input": f"mkdir {lock} && sleep 0.1 && rmdir {lock}", "memory": "60M"}
    push(pool, **{f"t{i}": alone for i in range(4)})
    summary = Pilot(pool, commands(pool, tmp_path), slots=8).run()
    assert summary.counters.as_dict() | {"done": 4} == summary.counters.as_dict()


def test_nothing_is_begun_that_cannot_end(pool: Pool, tmp_path: Path) -> None:
    """A pilot near its end takes what is short enough, and leaves the rest without a try."""
    push(pool, long={"input": "sleep 60", "time": "1m"}, short={"input": "true", "time": 1})
    pilot = Pilot(pool, commands(pool, tmp_path), criteria=StopCriteria(ends_in=30))
    summary = pilot.run()
    assert summary.counters.done == 1
    assert "1 token needs more than this pilot has" in summary.reason
    assert token.attempts(pool.get("long")) == []


def test_what_is_usual_is_learned_from_the_pool(pool: Pool, tmp_path: Path) -> None:
    """A new pilot goes by how long the view's tokens took so far."""
    push(pool, **{f"t{i}": {"input": "sleep 0.5"} for i in range(6)})
    Pilot(pool, commands(pool, tmp_path), slots=8).run()
    push(pool, next={"input": "echo"})
    # Longer than a token took, but what is left once the pilot has begun is not.
    pilot = Pilot(pool, commands(pool, tmp_path), criteria=StopCriteria(ends_in=30))
    pilot._offering._started -= 29.7
    assert pilot.run().counters.done == 0


@pytest.mark.skipif(CORES < 2, reason="needs two cores")
def test_each_task_has_its_own_cpus(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tasks are bound to different CPUs of those that the pilot has, and the pilot is not bound."""
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", str(CORES))
    both = tmp_path / "both"
    look = f"taskset -cp $$ | sed 's/.*: //'; touch {both}.$PICAS_TOKEN_ID; "
    meet = f"until [ -e {both}.a -a -e {both}.b ]; do sleep 0.02; done"
    push(pool, a={"input": look + meet}, b={"input": look + meet})
    Pilot(pool, commands(pool, tmp_path), slots=CORES, bind=True).run()
    mine = {log_of(pool, name).decode().strip() for name in ("a", "b")}
    assert len(mine) == 2
    assert all(cpu.isdigit() for cpu in mine)
    assert len(os.sched_getaffinity(0)) == CORES
    push(pool, all={"input": "nproc", "cores": CORES})
    Pilot(pool, commands(pool, tmp_path), slots=CORES, bind=True).run()
    assert log_of(pool, "all") == f"{CORES}\n".encode()


def test_an_idle_pilot_stays_for_a_while(pool: Pool, tmp_path: Path) -> None:
    """With an idle time it takes what comes within it, and ends when nothing did."""
    pilot = Pilot(pool, commands(pool, tmp_path), criteria=StopCriteria(idle=2))
    thread = threading.Thread(target=pilot.run)
    thread.start()
    wait_until(lambda: pilot._dry)
    push(pool, late={"input": "true"})
    thread.join(30)
    assert pilot.summary.counters.done == 1
    assert pilot.summary.reason.startswith("no work left")
