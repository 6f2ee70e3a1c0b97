"""Pilots that are killed without warning: their tokens come back, by real processes."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from tests.acceptance.cli import PICAS, clean_environment, run_picas

from picas import token
from picas.pool import connect
from picas.token import State

TIMES = {"PICAS_LEASE": "2", "PICAS_HEARTBEAT": "0.4"}


def killed_pilot(url: str, folder: Path) -> None:
    """Start a pilot, and kill it without warning once it runs a token."""
    with connect(url, create=True) as pool:
        docs = [token.new({"input": "test -e second || sleep 3"}, f"t{i}") for i in range(3)]
        assert all(pushed.error is None for pushed in pool.push(docs))
        environ = clean_environment(folder.with_name("home"), {"PICAS_POOL": url, **TIMES})
        pilot = subprocess.Popen(
            [PICAS, "run", "--slots", "2"],
            cwd=folder,
            env=environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while pool.count("Monitor/locked") < 2:
            time.sleep(0.02)
        os.kill(pilot.pid, signal.SIGKILL)
        pilot.wait()
    (folder / "second").touch()


def test_next_pilot_takes_over(pool_url: str, tmp_path: Path) -> None:
    """Tokens of a killed pilot run again in the next one, without a person and without a scrub."""
    folder = tmp_path / "work"
    folder.mkdir()
    killed_pilot(pool_url, folder)
    time.sleep(4)
    run_picas("run", cwd=folder, env={"PICAS_POOL": pool_url, **TIMES}, check=0)
    with connect(pool_url) as pool:
        assert pool.counts() == {State.TODO: 0, State.LOCKED: 0, State.DONE: 3, State.ERROR: 0}
        lost = [doc for doc in pool.find("Monitor/done") if len(doc["attempts"]) == 2]
        assert len(lost) == 2
        assert all(doc["attempts"][0]["reason"] == token.LOST for doc in lost)
        assert all(doc["scrub_count"] == 0 for doc in lost)


def test_reap_command(pool_url: str, tmp_path: Path) -> None:
    """`picas reap` gives tokens back once the lease time has passed, and not before."""
    folder = tmp_path / "work"
    folder.mkdir()
    killed_pilot(pool_url, folder)
    env = {"PICAS_POOL": pool_url}
    early = run_picas("reap", cwd=folder, env=env, check=0)
    assert early.stdout.startswith("gave back 0 tokens of pilots that are gone; 1 pilot heard of")
    given_back = 0
    deadline = time.monotonic() + 20
    while given_back < 2 and time.monotonic() < deadline:
        time.sleep(0.5)
        done = run_picas("reap", "--json", cwd=folder, env={**env, **TIMES}, check=0)
        given_back += json.loads(done.stdout)["tokens"]
    assert given_back == 2
    with connect(pool_url) as pool:
        assert pool.counts()[State.TODO] == 3


@pytest.mark.parametrize(
    ("times", "text"),
    [
        ({"PICAS_LEASE": "soon"}, "PICAS_LEASE='soon' is no time"),
        ({"PICAS_LEASE": "60", "PICAS_HEARTBEAT": "50"}, "more than a fifth of the lease time"),
    ],
)
def test_bad_times(tmp_path: Path, times: dict[str, str], text: str) -> None:
    """Times that would not work are one clear line and status 2."""
    run_picas("push", "-", cwd=tmp_path, input="true\n", check=0)
    assert text in run_picas("run", cwd=tmp_path, env=times, check=2).stderr
