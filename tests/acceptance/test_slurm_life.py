"""What a cluster does to pilots: requeue, the death of a node; in a real Slurm and CouchDB."""

import json
import time
import venv
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.acceptance.accounts import Picas
from tests.acceptance.work import until
from tests.slurm.cluster import Slurm

from picas import token
from picas.pool import connect
from picas.pool.reap import may_hold_tokens
from picas.token import State

pytestmark = pytest.mark.couchdb

LONG_LEASE = {"PICAS_LEASE": "1h"}
"""Nothing comes back by the lease while a test runs."""

SHORT_LEASE = {"PICAS_LEASE": "10s"}


def push(database: str, *inputs: str) -> None:
    """Push commands as tokens that are named t0, t1 and so on."""
    with connect(database) as pool:
        docs = [token.new({"input": line}, f"t{i}") for i, line in enumerate(inputs)]
        assert all(pushed.error is None for pushed in pool.push(docs))


def submit(picas: Picas, env: dict[str, str], *options: str) -> str:
    """Submit pilots; returns the id of their job array."""
    done = picas("submit", "slurm", "--json", *options, env=env)
    (job,) = json.loads(done.stdout)["jobs"]
    return str(job["job"])


def start_now(slurm: Slurm, job: str) -> None:
    """Let a requeued job start soon: Slurm has it wait for two minutes."""
    slurm.until("job that waits again", lambda: slurm.job(job)[0]["JobState"] == "PENDING", 60)
    # Its node counts in whole seconds: what was made in that of the end is not started any more.
    time.sleep(2)

    def started() -> bool:
        (facts,) = slurm.job(job)
        if facts["JobState"] == "PENDING":
            slurm.run("scontrol", "update", f"jobid={job}", "StartTime=now", check=False)
        return facts["Restarts"] == "1" and facts["JobState"] in ("RUNNING", "COMPLETED")

    slurm.until("second run of the job", started, 60)


@contextmanager
def dead(slurm: Slurm, node: str) -> Iterator[None]:
    """A node without power, which comes back at the end."""
    slurm.kill_node(node)
    slurm.mark_down(node)
    try:
        yield
    finally:
        slurm.revive_node(node)


def test_requeue_of_a_running_pilot(
    picas: Picas, site: dict[str, str], slurm: Slurm, database: str
) -> None:
    """What it ran is given back, and done by the job's next run, once; no try is charged."""
    push(database, 'touch begun; [ "$SLURM_RESTART_COUNT" ] || exec sleep 300; echo x >>ledger')
    job = submit(picas, {**site, **LONG_LEASE})
    until((picas.folder / "begun").exists)
    slurm.run("scontrol", "requeue", f"{job}_0")
    start_now(slurm, f"{job}_0")
    slurm.wait()
    assert (picas.folder / "ledger").read_text() == "x\n"
    with connect(database) as pool:
        doc, pilots = pool.get("t0"), sorted(pool.pilots(), key=lambda pilot: pilot["restarts"])
    assert token.state(doc) is State.DONE
    assert doc["scrub_count"] == 0
    assert [e["reason"] for e in token.attempts(doc)] == ["released: SIGTERM", "exit code 0"]
    assert [(p["slurm_job_id"], p["restarts"], p["state"]) for p in pilots] == [
        *((f"{job}_0", 0, "ended"), (f"{job}_0", 1, "ended")),
    ]


def test_a_job_that_runs_again_starts_clean(
    picas: Picas, site: dict[str, str], slurm: Slurm, database: str
) -> None:
    """Its node died: the job's next run gives back at once what the pilot there held."""
    push(database, 'touch begun; [ "$SLURM_RESTART_COUNT" ] || exec sleep 300; echo x >>ledger')
    job = submit(picas, {**site, **LONG_LEASE})
    until((picas.folder / "begun").exists)
    with dead(slurm, slurm.job(f"{job}_0")[0]["BatchHost"]):
        start_now(slurm, f"{job}_0")
        slurm.wait()
    assert (picas.folder / "ledger").read_text() == "x\n"
    with connect(database) as pool:
        doc, pilots = pool.get("t0"), pool.pilots()
    assert token.state(doc) is State.DONE
    assert doc["scrub_count"] == 0
    assert [e["reason"] for e in token.attempts(doc)] == [token.LOST, "exit code 0"]
    assert {(p["restarts"], p["state"]) for p in pilots} == {(0, "lost"), (1, "ended")}


def test_half_of_the_pilots_are_cancelled(
    picas: Picas, site: dict[str, str], slurm: Slurm, database: str
) -> None:
    """The others run what those gave back: no token is lost, none is charged a try."""
    push(database, *["echo $PICAS_TOKEN_ID >>begun; sleep 1"] * 60)
    job = submit(
        picas, {**site, **LONG_LEASE}, "--pilots", "6", "--cores", "4", "--claim-ahead", "0"
    )
    begun = picas.folder / "begun"
    until(lambda: begun.exists() and len(begun.read_text().split()) >= 24, 60)
    slurm.run("scancel", *[f"{job}_{i}" for i in range(3)])
    slurm.wait()
    with connect(database) as pool:
        docs, pilots = [pool.get(f"t{i}") for i in range(60)], pool.pilots()
    assert [doc for doc in docs if token.state(doc) is not State.DONE] == []
    assert {doc["scrub_count"] for doc in docs} == {0}
    assert all(token.attempts(doc)[-1]["reason"] == "exit code 0" for doc in docs)
    assert Counter(pilot["reason"] == "SIGTERM" for pilot in pilots) == {True: 3, False: 3}


@contextmanager
def urgent_partition(slurm: Slurm) -> Iterator[str]:
    """A partition whose jobs take nodes from those of the other."""
    slurm.run("scontrol", "create", "partitionname=urgent", "nodes=ALL", "prioritytier=10")
    try:
        yield "urgent"
    finally:
        slurm.wait()
        slurm.run("scontrol", "delete", "partitionname=urgent")


def test_preemption(picas: Picas, site: dict[str, str], slurm: Slurm, database: str) -> None:
    """A pilot whose node is taken away gives back what it ran, and goes on when its job does."""
    push(database, *['touch begun; [ "$SLURM_RESTART_COUNT" ] || exec sleep 300'] * 4)
    here = "--sbatch=--nodelist=n1"
    job = submit(picas, {**site, **LONG_LEASE}, "--cores", "8", "--slots", "4", here)
    with connect(database) as pool, urgent_partition(slurm) as urgent:
        until((picas.folder / "begun").exists)
        others = ("--nodelist=n1", "--cpus-per-task=8", "--wrap", "touch came")
        slurm.submit(f"--partition={urgent}", *others, cwd=picas.folder)
        until((picas.folder / "came").exists, 60)
        assert pool.counts()[State.TODO] == 4
        start_now(slurm, f"{job}_0")
        slurm.wait()
        docs, pilots = list(pool.find("Monitor/done")), pool.pilots()
    assert [doc["scrub_count"] for doc in docs] == [0] * 4
    assert all("released: SIGTERM" in str(token.attempts(doc)) for doc in docs)
    assert {(p["restarts"], p["state"]) for p in pilots} == {(0, "ended"), (1, "ended")}


def test_death_of_a_node_in_mid_run(
    picas: Picas, site: dict[str, str], slurm: Slurm, database: str
) -> None:
    """Its tokens are back within the lease time, and all are done, each recorded once."""
    push(database, *["sleep 1; echo $PICAS_TOKEN_ID >>ledger"] * 60)
    ledger = picas.folder / "ledger"
    # So many cores that each pilot has a node of its own.
    options = ("--pilots", "3", "--cores", "6", "--slots", "2", "--sbatch=--no-requeue")
    job = submit(picas, {**site, **SHORT_LEASE}, *options)
    until(lambda: ledger.exists() and len(ledger.read_text().splitlines()) > 6, 60)
    victim = f"{job}_1"
    with dead(slurm, slurm.job(victim)[0]["BatchHost"]):
        slurm.wait()
    with connect(database) as pool:
        docs, pilots = list(pool.find("Monitor/done")), pool.pilots()
    assert len(docs) == 60
    assert {doc["scrub_count"] for doc in docs} == {0}
    assert Counter(ledger.read_text().split()).keys() == {f"t{i}" for i in range(60)}
    reasons = [Counter(e["reason"] for e in token.attempts(doc)) for doc in docs]
    assert {reason["exit code 0"] for reason in reasons} == {1}
    assert 1 <= sum(reason[token.LOST] for reason in reasons) <= 2
    assert {p["slurm_job_id"]: p["state"] for p in pilots}[victim] == "lost"
    assert not any(may_hold_tokens(pilot) for pilot in pilots)


def test_modules_and_a_virtual_environment(
    picas: Picas, site: dict[str, str], slurm: Slurm, database: str
) -> None:
    """The script's module and environment are there for tasks; the pilot keeps its own Python."""
    venv.create(picas.folder / "my env", symlinks=True)
    script = [
        *("#!/bin/bash -l", "#SBATCH --output=own.log", "set -e"),
        *("module load thing/1.0", "source 'my env/bin/activate'"),
        'export FLAGS="a b"',
    ]
    (picas.folder / "setup.sh").write_text("\n".join(script))
    code = "import os, sys; print(sys.prefix, os.environ['LOADED'], os.environ['FLAGS'], sep='|')"
    push(database, f'python3 -c "{code}"')
    # As sites have it: a function of the shell, which is handed on by the environment.
    module = {"BASH_FUNC_module%%": '() { [ "$1" = load ] && export LOADED="$2"\n}'}
    submit(picas, {**site, **module}, "--script", "setup.sh")
    slurm.wait()
    assert "1 token done" in (picas.folder / "own.log").read_text()
    with connect(database) as pool:
        said = b"".join(pool.attachment("t0", "logs_t0.out")).decode()
    assert said == f"{picas.folder}/my env|thing/1.0|a b\n"


def test_a_script_that_fails(
    picas: Picas, site: dict[str, str], slurm: Slurm, database: str
) -> None:
    """With ``set -e`` no pilot starts, and what is wrong is in the job's output."""
    (picas.folder / "setup.sh").write_text("#SBATCH --output=own.log\nset -e\nmodule load x\n")
    push(database, "touch ran")
    submit(picas, site, "--script", "setup.sh")
    slurm.wait()
    assert "module: command not found" in (picas.folder / "own.log").read_text()
    with connect(database) as pool:
        assert pool.counts()[State.TODO] == 1
        assert pool.pilots() == []
