"""Tokens go back to todo, or away: release, reset, delete."""

from collections.abc import Callable

import pytest

from picas import token
from picas.errors import PoolUnreachable, TokenMissing
from picas.jobid import JOB_ID_FIELDS
from picas.pool import Pool, Verdict
from picas.token import State
from tests.contract.support import (
    BERT,
    TODO,
    claim_all,
    claim_one,
    edit,
    fill,
    lose_reply,
    meanwhile,
    numbered,
    settle,
)


def test_release_costs_no_retry(pool: Pool) -> None:
    """A token given back waits again as if nothing was: no scrub, no lease, no batch job."""
    fill(pool, "a", note="mine")
    assert pool.release([claim_one(pool)]) == [Verdict.RECORDED]
    doc = pool.get("a")
    assert token.state(doc) is State.TODO
    assert (doc["scrub_count"], doc["note"]) == (0, "mine")
    assert not {"lease", "pilot", "attempts", *JOB_ID_FIELDS} & doc.keys()


def test_release_with_a_reason_leaves_a_note(pool: Pool) -> None:
    """A token that had started has the broken-off attempt in its history."""
    fill(pool, "a")
    claimed = claim_one(pool)
    assert pool.release([claimed], "the pilot was told to stop") == [Verdict.RECORDED]
    doc = pool.get("a")
    (attempt,) = doc["attempts"]
    assert attempt["reason"] == "the pilot was told to stop"
    assert attempt["lease"] == claimed["lease"]
    assert "exit_code" not in attempt
    assert doc["scrub_count"] == 0


def test_release_of_a_lost_lease_does_nothing(pool: Pool) -> None:
    """A token that somebody else holds by now is not taken from them."""
    fill(pool, "a", "b")
    mine = claim_all(pool)
    pool.reset([mine[0]["_id"]])
    (theirs,) = pool.claim(TODO, 1, BERT)
    assert pool.release(mine) == [Verdict.FENCED, Verdict.RECORDED]
    assert pool.get(theirs["_id"])["lease"] == theirs["lease"]


def test_release_keeps_an_edit(pool: Pool) -> None:
    """A person's edit of a running token is still there after its release."""
    fill(pool, "a")
    claimed = claim_one(pool)
    edit(pool, "a", priority=9)
    assert pool.release([claimed]) == [Verdict.RECORDED]
    assert pool.get("a")["priority"] == 9


def test_release_again_after_a_lost_reply(pool: Pool) -> None:
    """Releasing twice leaves one token in todo with one note."""
    fill(pool, "a")
    claimed = claim_one(pool)
    lose_reply(pool)
    with pytest.raises(PoolUnreachable):
        pool.release([claimed], "stop")
    assert pool.release([claimed], "stop") == [Verdict.FENCED]
    assert len(pool.get("a")["attempts"]) == 1


def test_reset_of_each_state(pool: Pool) -> None:
    """Locked, done and failed tokens wait again, counted as a scrub; waiting ones are left."""
    ids = fill(pool, *numbered(4))
    docs = {d["_id"]: d for d in (claim_one(pool) for _ in range(3))}
    locked, done, failed = docs
    (waiting,) = set(ids) - set(docs)
    settle(pool, docs[done])
    settle(pool, docs[failed], 3)
    assert pool.reset([*ids, "missing"]) == 3
    assert pool.counts()[State.TODO] == 4
    assert [pool.get(i)["scrub_count"] for i in (locked, done, failed, waiting)] == [1, 1, 1, 0]
    assert pool.get(locked)["attempts"][-1]["reason"] == "reset by a person"
    assert [a["exit_code"] for a in pool.get(failed)["attempts"]] == [3]
    assert not {"lease", "pilot", *JOB_ID_FIELDS} & pool.get(locked).keys()


def test_reset_keeps_logs_and_fields(pool: Pool) -> None:
    """What a token has attached and what the user wrote survive a reset."""
    fill(pool, "a", note="mine")
    settle(pool, claim_one(pool), 1, files={"logs_a.out": b"hello"})
    pool.reset(["a"])
    assert b"".join(pool.attachment("a", "logs_a.out")) == b"hello"
    assert pool.get("a")["note"] == "mine"


def test_reset_of_old_locks_only(pool: Pool) -> None:
    """With a time limit, only tokens locked at or before it go back, odd locks included."""
    fill(pool, "new")
    claimed = claim_one(pool)
    fill(pool, "old", lock=1000)
    fill(pool, "text", lock="1000")
    fill(pool, "later", lock=1001)
    assert pool.reset(["new", "old", "text", "later"], locked_before=1000) == 2
    assert token.state(pool.get("old")) is State.TODO
    assert token.state(pool.get("text")) is State.TODO
    assert token.holds(pool.get("new"), claimed)


def test_reset_meets_an_edit(pool: Pool, join: Callable[[], Pool]) -> None:
    """A token edited while it is reset has both."""
    fill(pool, "a", lock=5)
    rival = join()
    meanwhile(pool, lambda: edit(rival, "a", priority=2))
    assert pool.reset(["a"]) == 1
    doc = pool.get("a")
    assert (token.state(doc), doc["priority"]) == (State.TODO, 2)


def test_reset_of_many(pool: Pool) -> None:
    """More tokens than one bulk write are reset, each counted once though named twice."""
    ids = fill(pool, *numbered(600), lock=5)
    assert pool.reset([*ids, ids[0], ids[0]]) == 600
    assert pool.counts()[State.TODO] == 600


def test_delete(pool: Pool) -> None:
    """A deleted token is gone with its attachments, and its pilot's result is fenced."""
    fill(pool, "a", "b", _attachments={"x": {"data": "aGVsbG8="}})
    claimed = claim_one(pool)
    gone = claimed["_id"]
    assert pool.delete([gone, gone, "missing"]) == 1
    assert pool.store.read([gone]) == [None]
    with pytest.raises(TokenMissing):
        pool.attachment(gone, "x")
    assert settle(pool, claimed) is Verdict.FENCED
    assert pool.counts() == dict.fromkeys(State, 0) | {State.TODO: 1}


def test_delete_takes_tokens_only(pool: Pool) -> None:
    """Views and pilots cannot be deleted by mistake for tokens."""
    pool.save_pilot({"_id": "pilot_x", "type": "pilot"})
    assert pool.delete(["_design/Monitor", "pilot_x"]) == 0
    assert len(pool.pilots()) == 1
    assert "Monitor" in pool.designs()


def test_delete_meets_an_edit(pool: Pool, join: Callable[[], Pool]) -> None:
    """A token edited while it is deleted is gone."""
    fill(pool, "a")
    rival = join()
    meanwhile(pool, lambda: edit(rival, "a", priority=2))
    assert pool.delete(["a"]) == 1
    assert pool.store.read(["a"]) == [None]
