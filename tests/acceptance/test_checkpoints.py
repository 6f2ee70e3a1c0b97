"""A task longer than its pilots goes on from its checkpoint, on both stores."""

import signal
from functools import partial
from pathlib import Path

import pytest
from tests.acceptance.work import Work, until

from picas import token
from picas.token import State

STEPS = """\
#!/bin/bash
n=$(cat "$PICAS_CHECKPOINT_DIR/n" 2>/dev/null || echo 0)
trap 'echo $n >"$PICAS_CHECKPOINT_DIR/n"; exit 143' TERM
while [ $n -lt 30 ]; do
  n=$((n + 1)); echo "$PICAS_TOKEN_ID $n" >>ledger
  sleep 0.1 & wait $!
done
"""


@pytest.mark.parametrize("options", [[], ["--checkpoint-dir", "kept"]], ids=["attached", "shared"])
def test_a_task_longer_than_its_pilots(work: Work, options: list[str]) -> None:
    """Three pilots are ended; each goes on where the one before stopped, and no try is counted."""
    script, ledger = work.folder / "steps.sh", work.folder / "ledger"
    script.write_text(STEPS)
    script.chmod(0o755)
    work.push("./steps.sh", "./steps.sh")
    ledger.touch()
    for _ in range(3):
        goals = {token_id: number + 3 for token_id, number in steps(ledger).items()}
        with work.started("run", "--slots", "2", *options) as process:
            until(partial(reached, ledger, goals))
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=60)
        assert "2 given back" in said
    work.picas("run", "--slots", "2", *options)
    for token_id in ("t0", "t1"):
        numbers = [
            int(line.split()[1])
            for line in ledger.read_text().splitlines()
            if line.startswith(token_id)
        ]
        assert numbers == list(range(1, 31)), "each step was done once, in order"
        doc = work.get(token_id)
        assert (token.state(doc), doc["scrub_count"]) == (State.DONE, 0)
        assert [a["reason"] for a in doc["attempts"]] == ["released: SIGTERM"] * 3 + ["exit code 0"]
        assert token.checkpoint_name(token_id) not in doc["_attachments"]
    assert not list((work.folder / "kept").glob("*"))


def reached(ledger: Path, goals: dict[str, int]) -> bool:
    """Whether each token has done so many steps."""
    return all(steps(ledger)[token_id] >= goal for token_id, goal in goals.items())


def steps(ledger: Path) -> dict[str, int]:
    """How many steps each token has done."""
    done = {"t0": 0, "t1": 0}
    for line in ledger.read_text().splitlines():
        done[line.split()[0]] += 1
    return done


def test_a_large_checkpoint(work: Work) -> None:
    """Megabytes are streamed into the token, and out of it at its next attempt."""
    work.push(
        'cd "$PICAS_CHECKPOINT_DIR"; [ -e big ] && exec sha256sum big; '
        "trap 'head -c 9000000 /dev/urandom >big; sha256sum big; exit 143' TERM; "
        f"touch {work.folder}/begun; sleep 60 & wait"
    )
    with work.started("run", "--keep-logs", "--logs", "first") as process:
        until((work.folder / "begun").exists)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    work.picas("run")
    assert work.log("t0") == (work.folder / "first" / "logs_t0.out").read_bytes() != b""


def test_a_grace_that_does_not_fit(local: Work) -> None:
    """In a job whose end leaves less time than tasks get, the pilot says so in one line."""
    local.push("true")
    env = {"SLURM_JOB_ID": "7", "SLURM_JOB_END_TIME": "99999999999"}
    said = local.picas("run", "--grace", "2m", env=env).stderr
    assert said.count("--grace 120s is too long: this pilot ends 60 s before its job does") == 1
    assert "too long" not in local.picas("run", "--grace", "2m").stderr
