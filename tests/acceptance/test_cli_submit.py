"""``picas submit slurm`` and pilots in jobs, in a real Slurm with a real CouchDB."""

import json
import os
import sys
from collections import Counter
from pathlib import Path

import pytest
from tests.acceptance.accounts import Picas
from tests.acceptance.work import until
from tests.slurm.cluster import Slurm

from picas import token
from picas.conditions import parse
from picas.pool import connect
from picas.token import State
from picas.views import Design

CORES = len(os.sched_getaffinity(0))


def push(database: str, *inputs: str) -> None:
    """Push commands as tokens that are named t0, t1 and so on."""
    with connect(database) as pool:
        docs = [token.new({"input": line}, f"t{i}") for i, line in enumerate(inputs)]
        assert all(pushed.error is None for pushed in pool.push(docs))


@pytest.mark.couchdb
def test_an_array_drains_a_pool(
    picas: Picas, site: dict[str, str], slurm: Slurm, database: str
) -> None:
    """Six pilots of four cores run 300 tokens, each once; tokens and pilots name their jobs."""
    push(database, *["echo $PICAS_TOKEN_ID $SLURM_CPUS_PER_TASK >>ledger"] * 300)
    done = picas("submit", "slurm", "--pilots", "6", "--cores", "4", "--json", env=site)
    (job,) = json.loads(done.stdout)["jobs"]
    assert job["pilots"] == 6
    slurm.wait()
    ran = Counter((picas.folder / "ledger").read_text().splitlines())
    assert ran == Counter(f"t{i} 4" for i in range(300))
    with connect(database) as pool:
        assert pool.counts()[State.DONE] == 300
        jobs = {doc["slurm_job_id"] for doc in pool.pilots()}
        assert {doc["slots"] for doc in pool.pilots()} == {4}
        assert jobs == {f"{job['job']}_{i}" for i in range(6)}
        assert {doc["slurm_job_id"] for doc in pool.find("Monitor/done")} <= jobs


@pytest.mark.couchdb
@pytest.mark.skipif(CORES < 2, reason="needs two cores")
def test_tokens_of_two_shapes(
    picas: Picas, site: dict[str, str], slurm: Slurm, database: str
) -> None:
    """Tokens run on the pilots of their view; each task is bound to cores of its own."""
    with connect(database) as pool:
        pool.add_design(Design("SingleCore", parse("cores == 1")))
        pool.add_design(Design("MultiCore", parse(f"cores == {CORES}")))
        line = 'echo "$SLURM_ARRAY_JOB_ID $(nproc) $PICAS_CORES"'
        docs = [
            token.new({"input": line, "cores": cores}, f"{cores}-{i}")
            for cores in (1, CORES)
            for i in range(6)
        ]
        assert all(pushed.error is None for pushed in pool.push(docs))
    jobs = {}
    for cores, view in ((1, "SingleCore"), (CORES, "MultiCore")):
        done = picas(
            *("submit", "slurm", "--pilots", "2", "--cores", f"{CORES}", "--json"),
            *("--view", f"{view}/todo"),
            env=site,
        )
        (job,) = json.loads(done.stdout)["jobs"]
        jobs[cores] = job["job"]
    slurm.wait()
    with connect(database) as pool:
        for cores, job in jobs.items():
            logs = [
                b"".join(pool.attachment(f"{cores}-{i}", f"logs_{cores}-{i}.out")) for i in range(6)
            ]
            assert {log.decode().strip() for log in logs} == {f"{job} {cores} {cores}"}


@pytest.mark.couchdb
def test_the_end_of_the_wall_time(
    picas: Picas, site: dict[str, str], slurm: Slurm, database: str
) -> None:
    """Before the job ends, its pilot gives back what runs: no try is counted, nothing is locked."""
    push(database, "touch begun; exec sleep 300")
    # The job asks Slurm for its time; the pilot in it is told of a nearer end, as newer versions
    # of Slurm do it, so that the test need not wait for a minute.
    look = "from picas.schedulers import time_left; print(time_left())"
    (picas.folder / "setup.sh").write_text(
        f"{sys.executable} -c '{look}' > left\nexport SLURM_JOB_END_TIME=$(($(date +%s) + 8))\n"
    )
    picas(
        *("submit", "slurm", "--time", "1m", "--script", "setup.sh", "--grace", "1s", "-v"),
        env=site,
    )
    until((picas.folder / "begun").exists)
    assert 45 <= float((picas.folder / "left").read_text()) <= 60
    with connect(database) as pool:
        until(lambda: token.state(pool.get("t0")) is State.TODO, 60)
        doc = pool.get("t0")
        assert doc["scrub_count"] == 0
        assert token.attempts(doc)[0]["reason"] == "released: the batch job ends soon"
        slurm.wait()
        (pilot,) = pool.pilots()
        assert (pilot["state"], pilot["reason"]) == ("ended", "the batch job ends soon")


@pytest.mark.couchdb
def test_a_script_of_one_s_own(
    picas: Picas, site: dict[str, str], slurm: Slurm, database: str
) -> None:
    """Its lines go before the pilot, and a command behind the options is run for each token."""
    push(database, "word")
    (picas.folder / "setup.sh").write_text("#SBATCH --output=own.log\nexport OWN=thing\n")
    picas(
        *("submit", "slurm", "--script", "setup.sh", "--sbatch", "--comment=x"),
        *("--log-json", "--", "sh", "-c", 'echo "$OWN {{ $0" > out', "{input}"),
        env=site,
    )
    slurm.wait()
    assert (picas.folder / "out").read_text() == "thing { word\n"
    assert '"reason"' in (picas.folder / "own.log").read_text()


def test_only_looking(picas: Picas) -> None:
    """The script is printed, and nothing is submitted, also where there is no Slurm."""
    pool = "http://127.0.0.1:9/db"
    done = picas("submit", "slurm", "--pool", pool, "--dry-run", "--time", "2h", "--max-scrub", "2")
    assert "#SBATCH --time=2:00:00" in done.stdout
    assert f"export PICAS_POOL={pool}" in done.stdout
    assert done.stdout.rstrip().endswith("run --max-scrub 2")


def test_slips_are_told_before_anything_is_submitted(picas: Picas) -> None:
    """An option that 'picas run' does not know, and a pool that jobs cannot reach."""
    pool = "http://127.0.0.1:9/db"
    done = picas("submit", "slurm", "--pool", pool, "--max-scrubs", "2", status=2)
    assert "--max-scrubs" in done.stderr
    done = picas("submit", "slurm", "--dry-run", status=2)
    assert "a file on this machine" in done.stderr


def test_in_the_background_of_this_machine(picas: Picas) -> None:
    """Pilots of an embedded pool; they outlive the command, and have the cores they were given."""
    url = f"sqlite:///{picas.folder}/picas.db"
    with connect(url, create=True):
        pass
    push(url, *["echo $PICAS_TOKEN_ID >>ledger"] * 20)
    done = picas(
        *("submit", "local", "--pool", "picas.db", "--pilots", "2", "--cores", "3"),
        *("--time", "2h", "--json", "--max-scrub", "2"),
    )
    jobs = [job["job"] for job in json.loads(done.stdout)["jobs"]]
    with connect(url) as pool:
        until(lambda: pool.counts()[State.DONE] == 20)
        until(lambda: all(doc["state"] == "ended" for doc in pool.pilots()))
        pilots = pool.pilots()
    assert {doc["local_job_id"] for doc in pilots} <= set(jobs)
    assert {doc["slots"] for doc in pilots} == {3}
    assert len(set((picas.folder / "ledger").read_text().split())) == 20
    state = Path(f"{picas.folder}.home") / ".local/state/picas/jobs"
    assert "no work left" in (state / pilots[0]["local_job_id"] / "output").read_text()
