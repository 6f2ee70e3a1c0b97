"""A result is recorded once, by the holder of the lease, or not at all (promises 2, 3, 7)."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from picas import token
from picas.errors import PoolUnreachable
from picas.jobid import JOB_ID_FIELDS
from picas.pool import Pool, Settlement, Verdict
from picas.token import MAX_ATTEMPTS, Again, State
from tests.contract.support import (
    BERT,
    claim_all,
    claim_one,
    edit,
    fill,
    lose_reply,
    meanwhile,
    numbered,
    outcome,
    settle,
)


@pytest.mark.parametrize(("exit_code", "state"), [(0, State.DONE), (3, State.ERROR)])
def test_outcome_is_recorded(pool: Pool, exit_code: int, state: State) -> None:
    """A settled token has its exit code, its time and the attempt; its lease is over."""
    fill(pool, "a")
    claimed = claim_one(pool)
    assert settle(pool, claimed, exit_code, cpu=1.5, memory=4096) is Verdict.RECORDED
    doc = pool.get("a")
    assert token.state(doc) is state
    assert (doc["exit_code"], doc["scrub_count"], doc["slurm_job_id"]) == (exit_code, 0, "17_3")
    assert abs(doc["done"] - pool.now()) < 5
    assert not {"lease", "pilot"} & doc.keys()
    assert doc["attempts"] == [
        {
            "n": 1,
            "start": 100.0,
            "end": 102.0,
            "host": "host-a",
            "job": "17_3",
            "pilot": "pilot_anna",
            "lease": claimed["lease"],
            "exit_code": exit_code,
            "reason": f"exit code {exit_code}",
            "wall": 2.0,
            "cpu": 1.5,
            "memory": 4096,
        }
    ]


def test_scrubbed_token_waits_again(pool: Pool) -> None:
    """A failure that gets another try goes back to todo and is counted."""
    fill(pool, "a")
    assert settle(pool, claim_one(pool), 7, again=True, error="boom") is Verdict.RECORDED
    doc = pool.get("a")
    assert token.state(doc) is State.TODO
    assert (doc["scrub_count"], doc["exit_code"]) == (1, "")
    assert doc["error"][0]["message"] == "boom"
    assert [a["exit_code"] for a in doc["attempts"]] == [7]
    assert not {"lease", "pilot", *JOB_ID_FIELDS} & doc.keys()


def test_history_grows_and_is_capped(pool: Pool) -> None:
    """Every attempt is noted in order; the oldest leave when there are too many."""
    fill(pool, "a")
    tries = MAX_ATTEMPTS + 2
    for n in range(tries):
        settle(pool, claim_one(pool), n + 1, again=True)
    history = pool.get("a")["attempts"]
    assert [a["n"] for a in history] == list(range(3, tries + 1))
    assert [a["exit_code"] for a in history] == list(range(3, tries + 1))


def test_batch_is_answered_in_order(pool: Pool, tmp_path: Path) -> None:
    """One call settles many tokens; each gets its own verdict."""
    fill(pool, *numbered(4))
    docs = claim_all(pool)
    pool.reset([docs[1]["_id"]])
    files = {"gone": tmp_path / "gone"}
    results = [
        Settlement(docs[0], outcome(0)),
        Settlement(docs[1], outcome(0)),
        Settlement(docs[2], outcome(0), files=files),
        Settlement(docs[3], outcome(5), again=Again()),
    ]
    recorded, fenced, bare = Verdict.RECORDED, Verdict.FENCED, Verdict.BARE
    assert pool.settle(results) == [recorded, fenced, bare, recorded]
    assert pool.counts() == {State.TODO: 2, State.DONE: 2, State.LOCKED: 0, State.ERROR: 0}


def test_settle_of_nothing(pool: Pool) -> None:
    """No results, no verdicts."""
    assert pool.settle([]) == []


def test_reset_fences_the_pilot(pool: Pool) -> None:
    """A result that comes after a reset changes nothing."""
    fill(pool, "a")
    claimed = claim_one(pool)
    pool.reset(["a"])
    before = pool.get("a")
    assert settle(pool, claimed) is Verdict.FENCED
    assert settle(pool, claimed, 1, again=True) is Verdict.FENCED
    assert pool.get("a") == before


def test_new_holder_fences_the_old(pool: Pool, join: Callable[[], Pool]) -> None:
    """Of two pilots that believe to hold a token, the one with the standing lease records."""
    fill(pool, "a")
    old = claim_one(pool)
    pool.reset(["a"])
    new = claim_one(join(), BERT)
    assert settle(pool, old, 1) is Verdict.FENCED
    assert settle(pool, new, 0) is Verdict.RECORDED
    assert settle(pool, old, 1) is Verdict.FENCED
    assert pool.get("a")["exit_code"] == 0


def test_deleted_and_pushed_again_is_another_token(pool: Pool) -> None:
    """A late result does not settle a new token under the old id."""
    fill(pool, "a")
    old = claim_one(pool)
    pool.delete(["a"])
    fill(pool, "a")
    assert settle(pool, old) is Verdict.FENCED
    assert token.state(pool.get("a")) is State.TODO


def test_edit_made_meanwhile_is_kept(pool: Pool, join: Callable[[], Pool]) -> None:
    """What a person changed in a running token is there beside the result."""
    fill(pool, "a", priority=1)
    claimed = claim_one(pool)
    edit(join(), "a", priority=7, note="look at this one")
    assert settle(pool, claimed, fields={"output": {"sum": 3}}) is Verdict.RECORDED
    doc = pool.get("a")
    assert (doc["priority"], doc["note"], doc["output"]) == (7, "look at this one", {"sum": 3})


def test_edits_in_the_middle_of_settling(pool: Pool, join: Callable[[], Pool]) -> None:
    """An edit that comes between read and write is met by another try, files included."""
    fill(pool, "a", priority=1)
    claimed, rival = claim_one(pool), join()
    edit(rival, "a", priority=2)
    meanwhile(pool, lambda: edit(rival, "a", priority=3))
    assert settle(pool, claimed, files={"result": b"42"}) is Verdict.RECORDED
    assert pool.get("a")["priority"] == 3
    assert b"".join(pool.attachment("a", "result")) == b"42"


def test_attachment_removed_meanwhile(pool: Pool, join: Callable[[], Pool]) -> None:
    """A person may remove an attachment of a running token; its result is recorded all the same."""
    fill(pool, "a", "b", _attachments={"in": {"data": "aGVsbG8="}})
    docs = claim_all(pool)
    edit(join(), "a", _attachments={})
    verdicts = pool.settle([Settlement(d, outcome(0)) for d in docs])
    assert verdicts == [Verdict.RECORDED, Verdict.RECORDED]
    assert "_attachments" not in pool.get("a")
    assert "in" in pool.get("b")["_attachments"]


@pytest.mark.parametrize("again", [False, True])
def test_lost_reply_then_again_is_recorded_once(pool: Pool, again: bool) -> None:
    """After a lost reply the same results are sent again, and recognised."""
    fill(pool, "a", "b")
    results = [
        Settlement(d, outcome(1), Again() if again else None, {"log": b"text"})
        for d in claim_all(pool)
    ]
    lose_reply(pool)
    with pytest.raises(PoolUnreachable):
        pool.settle(results)
    assert pool.settle(results) == [Verdict.RECORDED] * 2
    for name in ("a", "b"):
        doc = pool.get(name)
        assert len(doc["attempts"]) == 1
        assert doc["scrub_count"] == int(again)


def test_recorded_result_is_recognised_after_a_new_claim(pool: Pool) -> None:
    """A result recorded long ago is told as recorded, though another pilot runs the token."""
    fill(pool, "a")
    first = claim_one(pool)
    settle(pool, first, 1, again=True)
    second = claim_one(pool, BERT)
    assert settle(pool, first, 1, again=True) is Verdict.RECORDED
    assert token.holds(pool.get("a"), second)


def test_same_result_twice_in_one_call(pool: Pool) -> None:
    """A result given twice is recorded once."""
    fill(pool, "a")
    result = Settlement(claim_one(pool), outcome(0))
    assert pool.settle([result, result]) == [Verdict.RECORDED] * 2
    assert len(pool.get("a")["attempts"]) == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"x": math.nan},
        {"_x": 1},
        {"_rev": "1-0"},
        {"x": {1}},
        {"x": "\udcff"},
        {"x": "y" * 9_000_000},
    ],
    ids=["NaN", "underscore", "revision", "set", "surrogate", "too large"],
)
def test_fields_that_cannot_be_stored(pool: Pool, fields: dict[str, object]) -> None:
    """That it ended is recorded though what the task wrote into its token cannot be."""
    fill(pool, "a", "b")
    docs = claim_all(pool)
    results = [
        Settlement(docs[0], outcome(0, fields=fields)),
        Settlement(docs[1], outcome(0, fields={"x": 1})),
    ]
    assert pool.settle(results) == [Verdict.BARE, Verdict.RECORDED]
    doc = pool.get(docs[0]["_id"])
    assert token.state(doc) is State.DONE
    assert "not stored" in doc["error"][0]["message"]
    assert not {"x", "_x"} & doc.keys()
    assert pool.get(docs[1]["_id"])["x"] == 1


def test_fields_cannot_undo_the_settling(pool: Pool) -> None:
    """A task that writes its token's own lock or history does not lose the token."""
    fill(pool, "a")
    bad = {"lock": 0, "done": 0, "type": "x", "attempts": "none", "lease": "l", "exit_code": 9}
    assert settle(pool, claim_one(pool), fields=bad) is Verdict.RECORDED
    doc = pool.get("a")
    assert (token.state(doc), doc["exit_code"], len(doc["attempts"])) == (State.DONE, 0, 1)
    assert "lease" not in doc


def test_messages_with_broken_text_are_recorded(pool: Pool) -> None:
    """A reason or an error with bytes that are no UTF-8 is stored in a form that is."""
    fill(pool, "a")
    verdict = settle(pool, claim_one(pool), 1, reason="no file \udcff", error="bad \udcfe")
    assert verdict is Verdict.RECORDED
    assert pool.get("a")["attempts"][0]["reason"] == "no file \\udcff"
