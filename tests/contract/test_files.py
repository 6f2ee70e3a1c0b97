"""Attachments and logs: inline and streamed, kept, replaced, and too large."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from picas import token
from picas.errors import Conflict, PoolUnreachable, TokenMissing, TooLarge
from picas.pool import Pool, Verdict
from picas.pool.base import INLINE_LIMIT
from picas.pool.settle import KEPT_LOGS
from picas.token import State
from tests.contract.support import claim_one, content, edit, fill, lose_reply, meanwhile, settle

ODD_NAMES = ["two words.txt", "sub/dir/file.bin", "ünï 😀", "a%2Fb+c", "q?x#y", "'\""]


@pytest.mark.parametrize("name", ["plain.txt", *ODD_NAMES])
def test_small_and_large_file(pool: Pool, tmp_path: Path, name: str) -> None:
    """Bytes come back as they went in, inside the write or streamed, by any name."""
    fill(pool, "a")
    large = tmp_path / "large"
    large.write_bytes(os.urandom(INLINE_LIMIT + 1))
    files: dict[str, bytes | Path] = {name: bytes(range(256)), f"large {name}": large}
    files["empty"] = b""
    assert settle(pool, claim_one(pool), files=files) is Verdict.RECORDED
    assert content(pool, "a", name) == bytes(range(256))
    assert content(pool, "a", f"large {name}") == large.read_bytes()
    assert content(pool, "a", "empty") == b""
    stubs = pool.get("a")["_attachments"]
    assert {n: s["length"] for n, s in stubs.items()} == {
        name: 256,
        f"large {name}": INLINE_LIMIT + 1,
        "empty": 0,
    }


def test_file_of_20_megabytes(pool: Pool, tmp_path: Path) -> None:
    """A large file streams in and comes back in pieces."""
    fill(pool, "a")
    file = tmp_path / "big"
    file.write_bytes(os.urandom(1 << 20) * 20)
    assert settle(pool, claim_one(pool), files={"big": file}) is Verdict.RECORDED
    pieces = list(pool.attachment("a", "big"))
    assert max(map(len, pieces)) <= 1 << 20
    assert b"".join(pieces) == file.read_bytes()


def test_missing_attachment(pool: Pool) -> None:
    """An attachment or a token that is not there is told at once."""
    fill(pool, "a")
    for token_id, name in (("a", "none"), ("nobody", "none")):
        with pytest.raises(TokenMissing, match="none"):
            pool.attachment(token_id, name)


def test_reading_may_stop_half_way(pool: Pool, tmp_path: Path) -> None:
    """A reader that had enough leaves the pool in order."""
    fill(pool, "a", "b")
    file = tmp_path / "big"
    file.write_bytes(os.urandom(4 << 20))
    settle(pool, claim_one(pool), files={"big": file})
    (done,) = pool.find("Monitor/done")
    reader = pool.attachment(done["_id"], "big")
    next(reader)
    reader.close()  # type: ignore[attr-defined]
    for _ in range(3):
        assert pool.get("b")["_id"] == "b"


def test_attachments_of_before_are_kept(pool: Pool) -> None:
    """A result adds files, and replaces those of the same name."""
    fill(pool, "a", _attachments={n: {"data": "aGVsbG8="} for n in ("in", "out")})
    settle(pool, claim_one(pool), files={"out": b"new"})
    assert content(pool, "a", "in") == b"hello"
    assert content(pool, "a", "out") == b"new"


def test_attachment_left_out_is_dropped(pool: Pool) -> None:
    """A write without an attachment's stub removes that attachment."""
    fill(pool, "a", _attachments={n: {"data": "aGVsbG8="} for n in ("in", "out")})
    stubs = pool.get("a")["_attachments"]
    edit(pool, "a", _attachments={"in": stubs["in"]})
    assert content(pool, "a", "in") == b"hello"
    with pytest.raises(TokenMissing):
        pool.attachment("a", "out")


def test_attach_is_written_against_the_revision(pool: Pool, tmp_path: Path) -> None:
    """Streaming a file into a document that changed meanwhile is a conflict."""
    fill(pool, "a")
    file = tmp_path / "file"
    file.write_bytes(b"x" * 10)
    stale = pool.get("a")["_rev"]
    rev = pool.store.attach("a", stale, "file", file)
    assert pool.get("a")["_rev"] == rev
    with pytest.raises(Conflict):
        pool.store.attach("a", stale, "file", file)


def test_edit_between_stream_and_settle(
    pool: Pool, join: Callable[[], Pool], tmp_path: Path
) -> None:
    """A person's edits around the streaming of a file do not keep the result from its token."""
    fill(pool, "a")
    rival, claimed = join(), claim_one(pool)
    large = tmp_path / "large"
    large.write_bytes(os.urandom(INLINE_LIMIT + 1))
    meanwhile(pool, lambda: edit(rival, "a", priority=1), "attach")
    assert settle(pool, claimed, files={"large": large}) is Verdict.RECORDED
    assert pool.get("a")["priority"] == 1
    assert content(pool, "a", "large") == large.read_bytes()


def test_nothing_is_streamed_into_a_token_of_somebody_else(pool: Pool, tmp_path: Path) -> None:
    """A fenced pilot's large file does not get into the token."""
    fill(pool, "a")
    claimed = claim_one(pool)
    pool.reset(["a"])
    claim_one(pool)
    large = tmp_path / "large"
    large.write_bytes(os.urandom(INLINE_LIMIT + 1))
    assert settle(pool, claimed, files={"large": large}) is Verdict.FENCED
    assert "_attachments" not in pool.get("a")


# --- logs of earlier attempts -------------------------------------------------------------------


def test_logs_of_earlier_attempts_are_kept(pool: Pool) -> None:
    """The latest logs have the plain name; the few before it are kept under their numbers."""
    fill(pool, "a")
    tries = KEPT_LOGS + 3
    for n in range(1, tries + 1):
        logs = {f"logs_a.{s}": f"{s} {n}".encode() for s in ("out", "err")}
        assert settle(pool, claim_one(pool), n, again=True, files=logs) is Verdict.RECORDED
    kept = range(tries - KEPT_LOGS, tries)
    expected = {f"logs_a.{n}.{s}": f"{s} {n}".encode() for n in kept for s in ("out", "err")}
    expected |= {f"logs_a.{s}": f"{s} {tries}".encode() for s in ("out", "err")}
    assert {name: content(pool, "a", name) for name in pool.get("a")["_attachments"]} == expected


def test_large_logs_of_earlier_attempts_are_kept(pool: Pool, tmp_path: Path) -> None:
    """A log of many megabytes is kept as well, and does not spoil the next result."""
    fill(pool, "a")
    texts = [os.urandom(1 << 20) * 3 for _ in range(2)]
    file = tmp_path / "log"
    for text in texts:
        file.write_bytes(text)
        verdict = settle(pool, claim_one(pool), 1, again=True, files={"logs_a.out": file})
        assert verdict is Verdict.RECORDED
    assert content(pool, "a", "logs_a.1.out") == texts[0]
    assert content(pool, "a", "logs_a.out") == texts[1]


@pytest.mark.parametrize("verb", ["attach", "write"])
@pytest.mark.parametrize("size", [100, INLINE_LIMIT + 1])
def test_logs_after_a_lost_reply(pool: Pool, tmp_path: Path, verb: str, size: int) -> None:
    """Whichever reply is lost, sending again mixes up no logs."""
    fill(pool, "a")
    settle(pool, claim_one(pool), 1, again=True, files={"logs_a.out": b"first"})
    file = tmp_path / "log"
    file.write_bytes(b"2" * size)
    claimed = claim_one(pool)
    lose_reply(pool, verb)
    try:
        verdict = settle(pool, claimed, files={"logs_a.out": file})
    except PoolUnreachable:
        verdict = settle(pool, claimed, files={"logs_a.out": file})
    assert verdict is Verdict.RECORDED
    assert content(pool, "a", "logs_a.1.out") == b"first"
    assert content(pool, "a", "logs_a.out") == b"2" * size


def test_deleted_token_with_earlier_logs(pool: Pool) -> None:
    """A token that was deleted while it ran again fences its result, whatever logs it had."""
    fill(pool, "a")
    settle(pool, claim_one(pool), 1, again=True, files={"logs_a.out": b"first"})
    claimed = claim_one(pool)
    pool.delete(["a"])
    assert settle(pool, claimed, files={"logs_a.out": b"second"}) is Verdict.FENCED


# --- what cannot be stored ----------------------------------------------------------------------


def test_file_that_vanished(pool: Pool, tmp_path: Path) -> None:
    """The result is recorded without its files if one of them is gone; the token says so."""
    fill(pool, "a")
    gone = tmp_path / "gone"
    verdict = settle(pool, claim_one(pool), 4, files={"log": gone}, fields={"output": 1})
    assert verdict is Verdict.BARE
    doc = pool.get("a")
    assert (token.state(doc), doc["exit_code"]) == (State.ERROR, 4)
    assert str(gone) in doc["error"][0]["message"]
    assert doc["output"] == {}


def test_file_that_is_too_large(pool: Pool, tmp_path: Path) -> None:
    """The result is recorded without a file that the store does not take."""
    fill(pool, "a")
    large = tmp_path / "large"
    large.write_bytes(b"x" * (INLINE_LIMIT + 1))

    def refuse(doc_id: str, rev: str, name: str, file: Path) -> str:
        raise TooLarge("no file of that size")

    pool.store.attach = refuse  # type: ignore[method-assign]
    assert settle(pool, claim_one(pool), again=True, files={"log": large}) is Verdict.BARE
    doc = pool.get("a")
    assert (token.state(doc), doc["scrub_count"]) == (State.TODO, 1)
    assert "no file of that size" in doc["error"][0]["message"]


def test_bare_result_of_a_lost_lease_is_fenced(pool: Pool, tmp_path: Path) -> None:
    """Even a bare result needs the lease."""
    fill(pool, "a")
    claimed = claim_one(pool)
    pool.reset(["a"])
    assert settle(pool, claimed, files={"log": tmp_path / "gone"}) is Verdict.FENCED
