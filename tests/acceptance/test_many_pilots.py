"""Many real pilots on one pool: every token's command runs exactly once."""

import os
import subprocess
import time
from collections import Counter
from pathlib import Path

from tests.acceptance.cli import PICAS, clean_environment

from picas import token
from picas.pool import Pool, connect
from picas.token import State

TASK = "echo $PICAS_TOKEN_ID $PICAS_ATTEMPT >>ledger"
"""A task that notes its run; a line this short is appended whole (O_APPEND)."""


def start_pilots(
    number: int, url: str, folder: Path, *options: str
) -> list[subprocess.Popen[bytes]]:
    """Start real `picas run` processes on a pool."""
    environ = clean_environment(folder.with_name("home"), {"PICAS_POOL": url})
    command = [PICAS, "run", "--slots", "2", *options]
    return [
        subprocess.Popen(
            command, cwd=folder, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        for _ in range(number)
    ]


def finish(pilots: list[subprocess.Popen[bytes]], seconds: float = 240) -> None:
    """Wait for pilots to end well."""
    deadline = time.monotonic() + seconds
    for pilot in pilots:
        _, err = pilot.communicate(timeout=max(1.0, deadline - time.monotonic()))
        assert pilot.returncode == 0, err.decode()


def push(pool: Pool, number: int, before: str = "") -> None:
    """Push tokens that each note their run."""
    docs = (token.new({"input": before + TASK}, f"t{i:05}") for i in range(number))
    assert all(pushed.error is None for pushed in pool.push(docs))


def runs(folder: Path) -> Counter[str]:
    """How often each token ran, by the ledger."""
    return Counter(line.split()[0] for line in (folder / "ledger").read_text().splitlines())


def test_sixteen_pilots_run_each_token_once(pool_url: str, tmp_path: Path) -> None:
    """1,000 tokens, 16 pilots: each command ran exactly once, all are done, none is locked."""
    folder = tmp_path / "work"
    folder.mkdir()
    with connect(pool_url, create=True) as pool:
        push(pool, 1000)
        finish(start_pilots(16, pool_url, folder))
        assert pool.counts() == {State.TODO: 0, State.LOCKED: 0, State.DONE: 1000, State.ERROR: 0}
        assert set(runs(folder).values()) == {1}
        assert len(runs(folder)) == 1000
        assert all(len(doc["attempts"]) == 1 for doc in pool.find("Monitor/done"))


def test_two_pilots_at_one_token(pool_url: str, tmp_path: Path) -> None:
    """Pilots started at the same second on a single token: one of them runs it."""
    folder = tmp_path / "work"
    folder.mkdir()
    with connect(pool_url, create=True) as pool:
        push(pool, 1)
        finish(start_pilots(2, pool_url, folder))
        assert runs(folder) == {"t00000": 1}
        assert pool.count("Monitor/done") == 1


def test_pilots_that_are_told_to_stop_lose_nothing(pool_url: str, tmp_path: Path) -> None:
    """Four pilots get TERM in mid-run; two more finish the work, and no result is missing."""
    folder = tmp_path / "work"
    folder.mkdir()
    with connect(pool_url, create=True) as pool:
        push(pool, 400, "sleep 0.02; ")
        first = start_pilots(4, pool_url, folder)
        while len(pool.pilots()) < 4:
            time.sleep(0.01)
        for pilot in first:
            os.kill(pilot.pid, 15)
        finish(first)
        assert pool.count("Monitor/locked") == 0
        finish(start_pilots(2, pool_url, folder))
        assert pool.count("Monitor/done") == 400
        again = [t for t, times in runs(folder).items() if times > 1]
        # Only a task that was broken off in mid-run may run again.
        assert all(pool.get(t)["attempts"][0]["reason"].startswith("released") for t in again), (
            again
        )
        assert all(doc["scrub_count"] == 0 for doc in pool.find("Monitor/done"))
