"""The end of batch jobs in a real Slurm: no token is lost, none charged a try, work goes on."""

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.acceptance.accounts import Picas
from tests.acceptance.work import until
from tests.slurm.cluster import Slurm

from picas import token
from picas.pool import Pool, connect
from picas.token import State

pytestmark = pytest.mark.couchdb

ENDINGS = [
    "exec sleep 300",
    "trap 'exit 1' TERM; sleep 300 & wait",
    "trap 'sleep 0.5; exit 143' TERM; sleep 300 & wait",
    "trap 'date >\"$PICAS_CHECKPOINT_DIR/at\"; exit 0' TERM; sleep 300 & wait",
]
"""What tasks do when they get TERM: die, fail, take their time, or look as if they were done."""

COUNT = """\
n=$(cat "$PICAS_CHECKPOINT_DIR/n" 2>/dev/null || echo 0)
echo "$PICAS_TOKEN_ID from $n" >>ledger
trap 'echo $n >"$PICAS_CHECKPOINT_DIR/n"; exit 143' TERM
until [ -e enough ]; do sleep 0.1 & wait $!; n=$((n + 1)); done
"""


def push(database: str, lines: list[str]) -> None:
    """Push commands as tokens t0, t1 and so on; each makes a file when it begins."""
    with connect(database) as pool:
        docs = [
            token.new({"input": f"touch begun.$PICAS_TOKEN_ID; {line}"}, f"t{i}")
            for i, line in enumerate(lines)
        ]
        assert all(pushed.error is None for pushed in pool.push(docs))


def under_way(folder: Path, number: int) -> Callable[[], bool]:
    """Whether so many tokens have run for two seconds."""

    def check() -> bool:
        began = [file.stat().st_mtime for file in folder.glob("begun.*")]
        return len(began) == number and max(began) < time.time() - 2

    return check


def submit(slurm: Slurm, picas: Picas, site: dict[str, str], *options: str) -> str:
    """Submit a pilot of four slots; returns its job's id."""
    done = picas(
        *("submit", "slurm", "--cores", "4", "--claim-ahead", "0", "--grace", "2s", *options),
        env=site,
    )
    return done.stdout.rpartition(" ")[2].strip().rstrip(".")


def check_free(pool: Pool, number: int) -> None:
    """So many tokens are todo, after one attempt that costs no try."""
    docs = list(pool.find("Monitor/todo"))
    assert len(docs) == number, pool.counts()
    assert {doc["scrub_count"] for doc in docs} == {0}
    assert {a["reason"] for doc in docs for a in token.attempts(doc)} == {"released: SIGTERM"}
    assert {len(token.attempts(doc)) for doc in docs} == {1}


@pytest.mark.parametrize(
    "how",
    [["scancel"], ["scancel", "--signal=TERM", "--full"], ["scontrol", "requeue"]],
    ids=["scancel", "signal", "requeue"],
)
def test_the_end_of_a_job_costs_no_try(
    picas: Picas, site: dict[str, str], slurm: Slurm, database: str, how: list[str]
) -> None:
    """Every process of the job gets TERM: tasks may end before their pilot has heard of it."""
    push(database, ENDINGS)
    job = submit(slurm, picas, site, "--sbatch=--requeue")
    until(under_way(picas.folder, 4), 60)
    slurm.run(*how, job)
    with connect(database) as pool:
        until(lambda: all(pilot["state"] == "ended" for pilot in pool.pilots()), 60)
        slurm.run("scancel", job, check=False)  # a job that is requeued begins again later
        slurm.wait()
        check_free(pool, 4)


def test_work_goes_on_over_the_ends_of_jobs(
    picas: Picas, site: dict[str, str], slurm: Slurm, database: str
) -> None:
    """Tokens longer than their jobs: none is lost or charged a try, all go on to their end.

    Of three pilots one is ended by the time limit, one by ``scancel``, and one by itself, before
    its job ends; others finish what they have begun.
    """
    push(database, [COUNT] * 12)
    (picas.folder / "setup.sh").write_text("export SLURM_JOB_END_TIME=$(($(date +%s) + 20))\n")
    ended, cancelled = submit(slurm, picas, site), submit(slurm, picas, site)
    submit(slurm, picas, site, "--script", "setup.sh")
    until(lambda: slurm.job(ended)[0]["JobState"] == "RUNNING", 60)
    slurm.run("scontrol", "update", f"jobid={ended}", "EndTime=now+5")
    until(under_way(picas.folder, 12), 60)
    slurm.run("scancel", cancelled)
    slurm.wait()
    with connect(database) as pool:
        assert pool.counts() == {
            State.TODO: 12,
            State.LOCKED: 0,
            State.DONE: 0,
            State.ERROR: 0,
        }
        reasons = Counter(a["reason"] for d in pool.find("Monitor/todo") for a in d["attempts"])
        assert reasons == {"released: SIGTERM": 8, "released: the batch job ends soon": 4}
        assert all("checkpoint_" in str(d["_attachments"]) for d in pool.find("Monitor/todo"))
    (picas.folder / "enough").touch()
    for _ in range(3):
        submit(slurm, picas, site)
    slurm.wait()
    with connect(database) as pool:
        docs = list(pool.find("Monitor/done"))
        assert len(docs) == 12, pool.counts()
        assert {doc["scrub_count"] for doc in docs} == {0}
        assert not any("checkpoint_" in name for doc in docs for name in doc["_attachments"])
    ledger = (picas.folder / "ledger").read_text().splitlines()
    assert len(ledger) == 24
    assert all(line.endswith(" from 0") for line in ledger[:12])
    assert not any(line.endswith(" from 0") for line in ledger[12:])
