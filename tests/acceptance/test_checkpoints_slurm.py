"""The end of batch jobs in a real Slurm: no token is lost, none charged a try, work goes on."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.acceptance.accounts import Picas
from tests.acceptance.work import until
from tests.slurm.cluster import Slurm

from picas import token
from picas.pool import Pool, connect

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
while [ $n -lt 60 ]; do sleep 0.1 & wait $!; n=$((n + 1)); done
"""


def push(database: str, lines: list[str]) -> None:
    """Push commands as tokens t0, t1 and so on; each makes a file when it begins."""
    with connect(database) as pool:
        docs = [
            token.new({"input": f"touch begun.$PICAS_TOKEN_ID; {line}"}, f"t{i}")
            for i, line in enumerate(lines)
        ]
        assert all(pushed.error is None for pushed in pool.push(docs))


def begun(folder: Path, number: int) -> Callable[[], bool]:
    """Whether so many tokens have begun."""
    return lambda: len(list(folder.glob("begun.*"))) == number


def submit(slurm: Slurm, picas: Picas, site: dict[str, str], *options: str) -> str:
    """Submit a pilot of four slots; returns its job's id."""
    done = picas(
        *("submit", "slurm", "--cores", "4", "--claim-ahead", "0", "--grace", "2s", *options),
        env=site,
    )
    return done.stdout.rpartition(" ")[2].strip().rstrip(".")


def check_free(pool: Pool, number: int) -> None:
    """All tokens are todo, after one attempt that costs no try."""
    docs = list(pool.find("Monitor/todo"))
    assert len(docs) == number, pool.counts()
    assert {doc["scrub_count"] for doc in docs} == {0}
    assert {a["reason"] for doc in docs for a in token.attempts(doc)} == {"released: SIGTERM"}
    assert {len(token.attempts(doc)) for doc in docs} == {1}


@pytest.mark.parametrize("how", [[], ["--signal=TERM", "--full"]], ids=["plain", "full"])
def test_scancel_costs_no_try(
    picas: Picas, site: dict[str, str], slurm: Slurm, database: str, how: list[str]
) -> None:
    """Every process of the job gets TERM: tasks may end before their pilot has heard of it."""
    push(database, ENDINGS)
    job = submit(slurm, picas, site)
    until(begun(picas.folder, 4), 60)
    slurm.run("scancel", *how, job)
    slurm.wait()
    with connect(database) as pool:
        check_free(pool, 4)
