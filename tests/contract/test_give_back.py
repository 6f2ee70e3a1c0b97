"""Tokens go back to todo, or away: release, reset, delete."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from picas import token
from picas.errors import PoolUnreachable, TokenMissing, TooLarge
from picas.jobid import JOB_ID_FIELDS
from picas.pool import Pool, Verdict, Written
from picas.token import Document, State
from tests.contract.support import (
    BERT,
    TODO,
    claim_all,
    claim_one,
    content,
    counted,
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


def test_release_with_files(pool: Pool) -> None:
    """Files go along with the giving back, in one write; attachments and edits of others stay."""
    fill(pool, "a", "b", _attachments={"in": {"data": "aGVsbG8="}})
    mine = claim_all(pool)
    files = {mine[0]["lease"]: {"left": b"text"}}
    writes = counted(pool, "write")
    assert pool.release(mine, "stop", files) == [Verdict.RECORDED] * 2
    assert len(writes) == 1
    given, other = (pool.get(doc["_id"]) for doc in mine)
    assert token.state(given) is State.TODO
    assert content(pool, given["_id"], "left") == b"text"
    assert content(pool, given["_id"], "in") == b"hello"
    assert set(other["_attachments"]) == {"in"}


def test_release_with_files_meets_an_edit(pool: Pool, join: Callable[[], Pool]) -> None:
    """What a person changed or attached meanwhile is kept beside the files."""
    fill(pool, "a")
    claimed, rival = claim_one(pool), join()
    more = {"theirs": {"data": "aGVsbG8="}}
    meanwhile(pool, lambda: edit(rival, "a", priority=2, _attachments=more))
    assert pool.release([claimed], "stop", {claimed["lease"]: {"left": b"text"}}) == [
        Verdict.RECORDED
    ]
    assert pool.get("a")["priority"] == 2
    assert content(pool, "a", "theirs") == b"hello"
    assert content(pool, "a", "left") == b"text"


def test_files_of_a_lost_lease_are_not_attached(pool: Pool, tmp_path: Path) -> None:
    """Neither with a release nor streamed: the token is somebody else's by now."""
    fill(pool, "a")
    claimed = claim_one(pool)
    pool.reset(["a"])
    theirs = claim_one(pool, BERT)
    files = {claimed["lease"]: {"left": b"text"}}
    assert pool.release([claimed], "stop", files) == [Verdict.FENCED]
    (tmp_path / "file").write_text("text")
    pool.attach(claimed, "left", tmp_path / "file")
    assert pool.get("a") == theirs


def test_release_with_files_again_after_a_lost_reply(pool: Pool) -> None:
    """Releasing twice leaves one note, and the files once."""
    fill(pool, "a")
    claimed = claim_one(pool)
    files = {claimed["lease"]: {"left": b"text"}}
    lose_reply(pool)
    with pytest.raises(PoolUnreachable):
        pool.release([claimed], "stop", files)
    assert pool.release([claimed], "stop", files) == [Verdict.FENCED]
    assert content(pool, "a", "left") == b"text"
    assert len(pool.get("a")["attempts"]) == 1


def test_files_that_are_refused_do_not_keep_a_token(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token whose file the store does not take is given back without it."""
    fill(pool, "a", "b")
    mine = claim_all(pool)
    real = pool.store.write

    def write(docs: Sequence[Document]) -> list[Written]:
        if any("left" in (doc.get("_attachments") or {}) for doc in docs):
            good = [doc for doc in docs if "left" not in (doc.get("_attachments") or {})]
            told = {answer.id: answer for answer in real(good)}
            refused = TooLarge("too large")
            return [told.get(d["_id"]) or Written(d["_id"], None, refused) for d in docs]
        return real(docs)

    monkeypatch.setattr(pool.store, "write", write)
    files = {mine[0]["lease"]: {"left": b"text"}}
    assert pool.release(mine, "stop", files) == [Verdict.BARE, Verdict.RECORDED]
    assert pool.counts()[State.TODO] == 2


def test_streamed_file_of_a_running_token(
    pool: Pool, join: Callable[[], Pool], tmp_path: Path
) -> None:
    """A large file is attached ahead of the release, from any thread, whatever was edited."""
    fill(pool, "a")
    claimed = claim_one(pool)
    edit(join(), "a", priority=2)
    (tmp_path / "file").write_bytes(bytes(1 << 20))
    with ThreadPoolExecutor() as threads:
        threads.submit(pool.attach, claimed, "left", tmp_path / "file").result()
    assert pool.release([claimed], "stop") == [Verdict.RECORDED]
    doc = pool.get("a")
    assert (token.state(doc), doc["priority"]) == (State.TODO, 2)
    assert len(content(pool, "a", "left")) == 1 << 20


def test_life_of_a_checkpoint(pool: Pool) -> None:
    """It outlives releases and failures, and goes when the token is done; the rest stays."""
    name = token.checkpoint_name("a")
    fill(pool, "a", _attachments={"in": {"data": "aGVsbG8="}})
    claimed = claim_one(pool)
    pool.release([claimed], "stop", {claimed["lease"]: {name: b"saved"}})
    settle(pool, claim_one(pool), 1, again=True)
    assert content(pool, "a", name) == b"saved"
    assert settle(pool, claim_one(pool), 0, files={"out": b"result"}) is Verdict.RECORDED
    assert set(pool.get("a")["_attachments"]) == {"in", "out"}


def test_last_attachment_goes_with_the_checkpoint(pool: Pool) -> None:
    """A token that is done and had nothing else attached has nothing attached."""
    fill(pool, "a")
    claimed = claim_one(pool)
    pool.release([claimed], "stop", {claimed["lease"]: {token.checkpoint_name("a"): b"saved"}})
    assert settle(pool, claim_one(pool)) is Verdict.RECORDED
    assert not pool.get("a").get("_attachments")


def test_reset_starts_without_the_checkpoint(pool: Pool) -> None:
    """A person who resets a failed token has it begin afresh; one that waits keeps it."""
    for token_id in ("failed", "waits"):
        fill(pool, token_id)
        claimed = claim_one(pool)
        name = token.checkpoint_name(token_id)
        pool.release([claimed], "stop", {claimed["lease"]: {name: b"saved"}})
        if token_id == "failed":
            settle(pool, claim_one(pool), 1, files={"out": b"x"})
    edit(pool, "waits", not_before=pool.now() + 1000)
    assert pool.reset(["failed", "waits"]) == 2
    assert set(pool.get("failed")["_attachments"]) == {"out"}
    assert content(pool, "waits", token.checkpoint_name("waits")) == b"saved"
