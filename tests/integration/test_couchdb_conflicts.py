"""Conflicting revisions of a token, as clusters and replication make them, on one real node."""

import logging
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.contract.support import ANNA, BERT, TODO, claim_one, edit, fill, settle
from tests.couchdb.leaves import add_leaf, leaves
from tests.couchdb.raw import Raw

from picas import token
from picas.errors import ConfigError, PoolUnreachable, ServerError
from picas.pool import Pool, Verdict, connect
from picas.pool.base import Written
from picas.pool.couchdb import CouchStore
from picas.token import Document, State

pytestmark = pytest.mark.couchdb
LOW, HIGH = "0", "f"
"""Digests of revisions that lose, and win, where CouchDB chooses."""


@pytest.fixture(autouse=True)
def _verification_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PICAS_VERIFY_CLAIMS", raising=False)


@pytest.fixture
def pool(database: str) -> Iterator[Pool]:
    """An empty pool on a single node."""
    with connect(database, create=True) as opened:
        yield opened


@pytest.fixture
def careful(database: str, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pool]:
    """The same, with claims that are read back as on a cluster."""
    monkeypatch.setenv("PICAS_VERIFY_CLAIMS", "1")
    with connect(database) as opened:
        yield opened


@pytest.fixture
def raw(database: str) -> Iterator[Raw]:
    """Plain requests to the same database."""
    with Raw(database) as connection:
        yield connection


def store(pool: Pool) -> CouchStore:
    """The pool's store, of its own kind."""
    assert isinstance(pool.store, CouchStore)
    return pool.store


def claimed(pool: Pool, doc: Document, lease: str = "beef") -> Document:
    """A free token as somebody else would claim it."""
    return token.claim(doc, pool.now(), BERT, lease)


def result(pool: Pool, doc: Document, exit_code: int = 0, lease: str = "beef") -> Document:
    """A free token as somebody else would have settled it."""
    reason = f"exit code {exit_code}"
    outcome = token.Outcome(exit_code, 100.0, 102.0, reason, 2.0)
    return token.settle(claimed(pool, doc, lease), pool.now(), outcome)


def requests(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collects the paths that the pool asks for."""
    session = store(pool)._session
    asked, real = [], session.json

    def json(operation: str, method: str, path: str, **more: Any) -> Any:
        asked.append(path.rpartition("/")[2])
        return real(operation, method, path, **more)

    monkeypatch.setattr(session, "json", json)
    return asked


def just_before(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, path: str, action: Callable[[], object]
) -> None:
    """Do something right before the pool's next request to a path, as if by somebody else."""
    session = store(pool)._session
    real = session.json

    def json(operation: str, method: str, asked: str, **more: Any) -> Any:
        if asked.endswith(path):
            monkeypatch.setattr(session, "json", real)
            action()
        return real(operation, method, asked, **more)

    monkeypatch.setattr(session, "json", json)


# --- reading -------------------------------------------------------------------------------------


def test_a_result_stands_against_an_edited_copy(pool: Pool, raw: Raw) -> None:
    """CouchDB shows the longer history, a token that is todo; the one that is done stands."""
    fill(pool, "a")
    doc = pool.get("a")
    edited = add_leaf(raw, {**doc, "note": 1}, digest=HIGH, follows=doc["_rev"])
    add_leaf(raw, {**doc, "note": 2}, digest=HIGH, follows=edited)
    done = add_leaf(raw, result(pool, doc), digest=LOW, follows=doc["_rev"])
    assert pool.counts()[State.TODO] == 1
    assert pool.get("a")["_rev"] == done
    assert [leaf["_rev"] for leaf in leaves(raw, "a")] == [done]
    assert pool.counts() == {**dict.fromkeys(State, 0), State.DONE: 1}


def test_what_has_a_result_is_never_claimed(pool: Pool, raw: Raw) -> None:
    """A token that a view shows as todo, but that was settled elsewhere, is not run again."""
    for name in fill(pool, "a", "b"):
        doc = pool.get(name)
        add_leaf(raw, result(pool, doc), digest=LOW, follows=doc["_rev"])
        later = add_leaf(raw, doc, digest=HIGH, follows=doc["_rev"])
        add_leaf(raw, doc, digest=HIGH, follows=later)
    assert pool.count(TODO) == 2
    assert pool.claim(TODO, 5, ANNA) == []
    assert pool.counts()[State.DONE] == 2


def test_a_free_token_is_claimed_in_one_revision(pool: Pool, raw: Raw) -> None:
    """Copies of a free token are cleared away before it is claimed."""
    fill(pool, "a")
    doc = pool.get("a")
    for digest in "1", "7", "3":
        add_leaf(raw, {**doc, "note": digest}, digest=digest, follows=doc["_rev"])
    mine = claim_one(pool)
    assert mine["note"] == "7"
    assert [leaf["_rev"] for leaf in leaves(raw, "a")] == [mine["_rev"]]
    assert settle(pool, mine) is Verdict.RECORDED


def test_two_results_one_stands_and_the_other_is_told(
    pool: Pool, raw: Raw, caplog: pytest.LogCaptureFixture
) -> None:
    """Both runs stay in the history, and a warning names the token, once."""
    fill(pool, "a")
    doc = pool.get("a")
    add_leaf(raw, result(pool, doc, 3, "bbbb"), digest=HIGH, follows=doc["_rev"])
    add_leaf(raw, result(pool, doc, 0, "aaaa"), digest=LOW, follows=doc["_rev"])
    with caplog.at_level(logging.WARNING):
        found = [pool.get("a") for _ in range(3)]
    assert token.state(found[0]) is State.DONE
    assert found[0] == found[1] == found[2]
    own, dropped = found[0]["attempts"]
    assert (own["lease"], own["exit_code"], dropped["lease"]) == ("aaaa", 0, "bbbb")
    assert dropped["reason"] == "exit code 3; dropped: another result stands"
    assert len(leaves(raw, "a")) == 1
    assert [record.getMessage() for record in caplog.records] == [
        "a: of 2 conflicting revisions the one that is done stands; "
        "a result of another was dropped, its history tells"
    ]


def test_both_of_two_holders_settle(pool: Pool, raw: Raw) -> None:
    """Where two pilots hold one token, both settle; at the next look one result stands."""
    fill(pool, "a")
    doc = pool.get("a")
    held = {}
    for digest in LOW, HIGH:
        held[digest] = claimed(pool, doc, digest * 4)
        held[digest]["_rev"] = add_leaf(raw, held[digest], digest=digest, follows=doc["_rev"])
    assert len(leaves(raw, "a")) == 2
    assert settle(pool, held[LOW]) is Verdict.RECORDED
    assert settle(pool, held[HIGH], 3) is Verdict.RECORDED
    final = pool.get("a")
    assert token.state(final) is State.DONE
    assert {entry["lease"] for entry in final["attempts"]} == {LOW * 4, HIGH * 4}
    assert len(leaves(raw, "a")) == 1


def test_a_claim_loses_against_a_result(pool: Pool, raw: Raw) -> None:
    """Whoever still runs a token that has a result elsewhere is fenced."""
    fill(pool, "a")
    doc = pool.get("a")
    mine = claim_one(pool)
    add_leaf(raw, result(pool, doc), digest=LOW, follows=doc["_rev"])
    assert token.state(pool.get("a")) is State.DONE
    assert settle(pool, mine) is Verdict.FENCED


def test_no_conflict_costs_nothing(pool: Pool, raw: Raw, monkeypatch: pytest.MonkeyPatch) -> None:
    """Documents without conflicts are read in one request, those with old ones, too."""
    fill(pool, "a", "b")
    doc = pool.get("a")
    add_leaf(raw, doc, digest=LOW, follows=doc["_rev"])
    add_leaf(raw, doc, digest=HIGH, follows=doc["_rev"])
    asked = requests(pool, monkeypatch)
    pool.store.read(["a", "b"])
    assert asked == ["_bulk_get", "_bulk_docs", "_bulk_get"]
    del asked[:]
    assert all(pool.store.read(["a", "b"]))
    assert asked == ["_bulk_get"]


def test_other_documents_keep_their_conflicts(pool: Pool, raw: Raw) -> None:
    """What is no token is shown as CouchDB has it, and nothing of it is deleted."""
    (written,) = pool.store.write([{"_id": "note", "type": "note"}])
    assert written.rev is not None
    for digest in LOW, HIGH:
        add_leaf(raw, {"_id": "note", "by": digest}, digest=digest, follows=written.rev)
    assert pool.get("note")["by"] == HIGH
    assert len(leaves(raw, "note")) == 2


def test_who_may_only_read_sees_what_stands(pool: Pool, raw: Raw) -> None:
    """Where the losers cannot be deleted, everybody still agrees on the one that stands."""
    fill(pool, "a")
    doc = pool.get("a")
    add_leaf(raw, doc, digest=HIGH, follows=doc["_rev"])
    done = add_leaf(raw, result(pool, doc), digest=LOW, follows=doc["_rev"])
    forbid = "function () { throw({forbidden: 'closed'}); }"
    raw.put("/_design/closed", {"validate_doc_update": forbid})
    assert pool.get("a")["_rev"] == done
    assert len(leaves(raw, "a")) == 2


def test_an_unreachable_pool_is_no_reason_to_fail_a_read(
    pool: Pool, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resolution that gets no answer is left to the next reader."""
    fill(pool, "a")
    doc = pool.get("a")
    for digest in LOW, HIGH:
        add_leaf(raw, doc, digest=digest, follows=doc["_rev"])

    def lost() -> None:
        raise PoolUnreachable("no answer")

    just_before(pool, monkeypatch, "_bulk_docs", lost)
    assert pool.get("a")["_rev"].endswith(HIGH)
    assert len(leaves(raw, "a")) == 2
    pool.get("a")
    assert len(leaves(raw, "a")) == 1


def test_resolutions_that_meet_do_not_lose_the_token(
    database: str, pool: Pool, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What each deleted in favour of the other's is put back, free to run."""
    fill(pool, "a")
    doc = pool.get("a")
    first = {**claimed(pool, doc)}
    first["_rev"] = add_leaf(raw, first, digest=LOW, follows=doc["_rev"])
    later = add_leaf(raw, doc, digest=HIGH, follows=doc["_rev"])
    add_leaf(raw, doc, digest=HIGH, follows=later)

    def others() -> None:
        """The claim is given back; somebody who sees that deletes the shorter history."""
        with connect(database) as other:
            other.store.write([token.release(first, pool.now(), "")])
            assert other.get("a")["_rev"].startswith("3-")

    just_before(pool, monkeypatch, "_bulk_docs", others)
    revived = pool.get("a")
    assert token.state(revived) is State.TODO
    assert leaves(raw, "a") == [revived]
    assert claim_one(pool)["_id"] == "a"


def test_nodes_that_do_not_answer_are_no_missing_tokens(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cluster's word that no copy could be read is an error, not the absence of the token."""
    error = {"id": "a", "rev": "all", "error": "internal_fabric_error", "reason": "timeout"}
    answer = {"results": [{"id": "a", "docs": [{"error": error}]}]}
    monkeypatch.setattr(store(pool)._session, "json", lambda *_, **__: answer)
    with pytest.raises(ServerError, match="'a': no node has it: timeout"):
        pool.store.read(["a"])


# --- claims that are read back -------------------------------------------------------------------


def test_a_claim_is_read_back_in_one_request(
    careful: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch costs one more request, and the first claim a look at the database."""
    fill(careful, *(f"t{n}" for n in range(20)))
    assert not careful.store.sure
    asked = requests(careful, monkeypatch)
    held = careful.claim(TODO, 10, ANNA)
    assert asked[-3:-1] == ["_bulk_docs", urlsplit(careful.url).path[1:]]
    held += careful.claim(TODO, 10, ANNA)
    assert asked[-2:] == ["_bulk_docs", "_bulk_get"]
    while len(held) < 20:  # a claim may see only the end of the view
        held += careful.claim(TODO, 10, ANNA)
    assert [settle(careful, doc) for doc in held] == [Verdict.RECORDED] * 20


def test_a_claim_beside_another_of_other_descent_is_given_back(
    careful: Pool, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two claims on two copies of a token may both be on most nodes: who sees it gives way."""
    fill(careful, "a", "b")
    doc = careful.get("a")

    def rival() -> None:
        copy = add_leaf(raw, doc, digest=LOW, follows=doc["_rev"])
        add_leaf(raw, claimed(careful, doc), digest=HIGH, follows=copy)

    just_before(careful, monkeypatch, "_bulk_docs", rival)
    assert [d["_id"] for d in careful.claim(TODO, 2, ANNA)] == ["b"]
    assert careful.in_doubt == []
    assert careful.get("a")["lease"] == "beef"
    assert len(leaves(raw, "a")) == 1


def test_a_claim_on_most_copies_stands_beside_its_sibling(
    careful: Pool, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two claims of one revision the one that most copies took is granted."""
    fill(careful, "a")
    doc = careful.get("a")

    def sibling() -> None:
        add_leaf(raw, claimed(careful, doc), digest=HIGH, follows=doc["_rev"])

    read_back = careful.store.leaves

    def leaves_then(ids: Any) -> Any:
        sibling()
        return read_back(ids)

    monkeypatch.setattr(careful.store, "leaves", leaves_then)
    mine = claim_one(careful)
    assert mine["pilot"] == ANNA.pilot
    assert len(leaves(raw, "a")) == 2


def lesser_part(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on each write is taken by the lesser part of a cluster's copies."""
    real = pool.store.write

    def write(docs: Any) -> list[Written]:
        return [Written(w.id, w.rev, w.error, whole=False) for w in real(docs)]

    monkeypatch.setattr(pool.store, "write", write)


def test_a_claim_on_few_copies_gives_way_to_its_sibling(
    careful: Pool, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that most copies did not take is given back, so that the other stands."""
    fill(careful, "a")
    doc = careful.get("a")
    read_back = careful.store.leaves

    def leaves_then(ids: Any) -> Any:
        add_leaf(raw, claimed(careful, doc), digest=LOW, follows=doc["_rev"])
        return read_back(ids)

    monkeypatch.setattr(careful.store, "leaves", leaves_then)
    lesser_part(careful, monkeypatch)
    assert careful.claim(TODO, 1, ANNA) == []
    assert careful.get("a")["lease"] == "beef"
    assert len(leaves(raw, "a")) == 1


def test_with_few_nodes_left_nothing_is_claimed(
    careful: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim that the lesser part of the copies took, with no rival, is an outage."""
    fill(careful, "a")
    lesser_part(careful, monkeypatch)
    with pytest.raises(PoolUnreachable, match="too few nodes"):
        careful.claim(TODO, 1, ANNA)
    assert careful.in_doubt == []
    assert careful.counts()[State.TODO] == 1


def test_a_claim_whose_reply_was_lost_is_made_sure(
    careful: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows how many copies took it: it is brought to all, and then it is ours."""
    fill(careful, "a")
    real = careful.store.write

    def write(docs: Any) -> list[Written]:
        monkeypatch.setattr(careful.store, "write", real)
        real(docs)
        raise PoolUnreachable("the reply was lost")

    monkeypatch.setattr(careful.store, "write", write)
    with pytest.raises(PoolUnreachable):
        careful.claim(TODO, 1, ANNA)
    assert careful.in_doubt == ["a"]
    mine = claim_one(careful)
    assert mine["_rev"].startswith("3-")
    assert careful.in_doubt == []
    assert settle(careful, mine) is Verdict.RECORDED


def test_a_read_back_without_an_answer_is_done_again(
    careful: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written and not read back is granted by the next claim."""
    fill(careful, "a")
    real = careful.store.leaves

    def read_back(ids: Any) -> Any:
        monkeypatch.setattr(careful.store, "leaves", real)
        raise PoolUnreachable("no answer")

    monkeypatch.setattr(careful.store, "leaves", read_back)
    with pytest.raises(PoolUnreachable):
        careful.claim(TODO, 1, ANNA)
    assert careful.in_doubt == ["a"]
    assert claim_one(careful)["_rev"].startswith("2-")


def test_what_was_edited_in_between_is_looked_at_again(
    careful: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim that could not be made sure, nor given back, is not forgotten."""
    fill(careful, "a")
    real = careful.store.write
    lesser_part(careful, monkeypatch)
    read_back = careful.store.leaves

    def leaves_then(ids: Any) -> Any:
        found = read_back(ids)
        monkeypatch.setattr(careful.store, "leaves", read_back)
        monkeypatch.setattr(careful.store, "write", real)
        edit(careful, "a", note="now another revision")
        return found

    monkeypatch.setattr(careful.store, "leaves", leaves_then)
    assert careful.claim(TODO, 1, ANNA) == []
    assert careful.in_doubt == ["a"]
    mine = claim_one(careful)
    assert mine["note"] == "now another revision"
    assert careful.in_doubt == []


@pytest.mark.parametrize(("told", "sure"), [("", True), ("0", True), ("1", False)])
def test_a_single_node_is_sure_unless_told_otherwise(
    database: str, pool: Pool, monkeypatch: pytest.MonkeyPatch, told: str, sure: bool
) -> None:
    """One copy takes one writer; the environment may ask for more care."""
    monkeypatch.setenv("PICAS_VERIFY_CLAIMS", told)
    with connect(database) as opened:
        assert opened.store.sure is sure


def test_a_word_that_says_neither_is_refused(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variable is 0 or 1."""
    monkeypatch.setenv("PICAS_VERIFY_CLAIMS", "yes")
    with pytest.raises(ConfigError, match="PICAS_VERIFY_CLAIMS='yes'"):
        connect(database)
