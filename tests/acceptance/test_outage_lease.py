"""An outage of the pool that is longer than the lease time costs time, and nothing else."""

import subprocess
import time
from pathlib import Path

import pytest
from tests.acceptance.cli import PICAS, clean_environment
from tests.acceptance.work import until
from tests.components import skipped_component
from tests.couchdb.server import InstalledCouch, installed

from picas import token
from picas.pool import connect
from picas.token import State

TIMES = {"PICAS_LEASE": "5", "PICAS_HEARTBEAT": "1"}
PILOTS = 3


@pytest.mark.couchdb
def test_nobody_is_taken_for_dead(tmp_path: Path) -> None:
    """After an outage all pilots were silent for too long; yet none loses a token to the others."""
    if not installed():
        skipped_component("restarts of CouchDB", "only an installed server can be restarted")
        pytest.skip("restarts of CouchDB: only an installed server can be restarted")
    with InstalledCouch() as server:
        url = server.database_url(server.new_database())
        task = "echo $PICAS_TOKEN_ID >>ledger; sleep 9"
        with connect(url, create=True) as pool:
            docs = [token.new({"input": task}, f"t{n}") for n in range(2 * PILOTS)]
            assert all(pushed.error is None for pushed in pool.push(docs))
        env = clean_environment(tmp_path / "home", {"PICAS_POOL": url, **TIMES})
        pilots = [
            subprocess.Popen(
                [PICAS, "run", "--slots", "2"],
                cwd=tmp_path,
                env=env,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(PILOTS)
        ]
        ledger = tmp_path / "ledger"
        until(lambda: ledger.exists() and len(ledger.read_text().split()) == 2 * PILOTS)
        server.stop()
        time.sleep(float(TIMES["PICAS_LEASE"]) + 1)
        server.start()
        for pilot in pilots:
            _, err = pilot.communicate(timeout=60)
            assert pilot.returncode == 0, err
            assert "the pool is back" in err or "no answer" not in err
        with connect(url) as pool:
            assert pool.counts()[State.DONE] == 2 * PILOTS
            assert all(len(doc["attempts"]) == 1 for doc in pool.find("Monitor/done"))
            assert all(doc["state"] == "ended" for doc in pool.pilots())
    assert sorted(ledger.read_text().split()) == [f"t{n}" for n in range(2 * PILOTS)]
