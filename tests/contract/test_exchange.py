"""Results and claims by one write keep the promises of both."""

from collections.abc import Sequence
from typing import Any

import pytest

from picas import token
from picas.errors import PoolUnreachable
from picas.pool import Pool, Settlement, Verdict, Wish, Written
from picas.token import Again, Document, State
from tests.contract.support import (
    ANNA,
    TODO,
    claim_one,
    edit,
    fill,
    lose_reply,
    meanwhile,
    names,
    numbered,
    outcome,
)


def filled(pool: Pool, *ids: str) -> None:
    """Push tokens, and let the views see them: beside results a claim takes only what is seen."""
    fill(pool, *ids)
    pool.counts()


def results(docs: Sequence[Document], **more: Any) -> list[Settlement]:
    """The results of tokens that ended well."""
    return [Settlement(doc, outcome(0), **more) for doc in docs]


def test_results_and_claims_go_by_one_write(pool: Pool) -> None:
    """What ended is recorded and what comes next is claimed, in a single request."""
    filled(pool, *numbered(6))
    first = pool.claim(TODO, 3, ANNA)
    writes: list[int] = []
    real = pool.store.write

    def counted(docs: Sequence[Document]) -> list[Written]:
        writes.append(len(docs))
        return real(docs)

    pool.store.write = counted  # type: ignore[method-assign]
    verdicts, second = pool.exchange(results(first), Wish(TODO, 3, ANNA))
    assert verdicts == [Verdict.RECORDED] * len(first)
    assert writes == [len(first) + len(second)]
    assert second
    assert not set(names(first)) & set(names(second))
    assert pool.counts()[State.DONE] == len(first)
    assert pool.counts()[State.LOCKED] == len(second)


def test_results_are_recorded_where_there_is_nothing_to_claim(pool: Pool) -> None:
    """An empty view does not hold up the results."""
    filled(pool, "a")
    verdicts, claimed = pool.exchange(results([claim_one(pool)]), Wish(TODO, 3, ANNA))
    assert (verdicts, claimed) == ([Verdict.RECORDED], [])
    assert pool.counts()[State.DONE] == 1


def test_edit_under_a_result_holds_up_no_claim(pool: Pool) -> None:
    """A token that a person edited is settled after the others, with the edit; claims count."""
    filled(pool, "a", "b")
    doc = claim_one(pool)
    edit(pool, doc["_id"], note="kept")
    verdicts, claimed = pool.exchange(results([doc]), Wish(TODO, 1, ANNA))
    assert verdicts == [Verdict.RECORDED]
    assert len(claimed) == 1
    stored = pool.get(doc["_id"])
    assert (stored["note"], token.state(stored)) == ("kept", State.DONE)


def test_claims_are_kept_when_the_results_meet_trouble(pool: Pool) -> None:
    """If the pool goes away behind the common write, what it granted comes with the next claim."""
    filled(pool, "a", "b")
    doc = claim_one(pool)
    edit(pool, doc["_id"], note="another revision")

    def unreachable(ids: Sequence[str]) -> list[Document | None]:
        raise PoolUnreachable("gone")

    real, write = pool.store.read, pool.store.write

    def then_gone(docs: Sequence[Document]) -> list[Written]:
        pool.store.read = unreachable  # type: ignore[method-assign]
        return write(docs)

    pool.store.write = then_gone  # type: ignore[method-assign]
    with pytest.raises(PoolUnreachable):
        pool.exchange(results([doc]), Wish(TODO, 1, ANNA))
    pool.store.read, pool.store.write = real, write  # type: ignore[method-assign]
    (other,) = {"a", "b"} - {doc["_id"]}
    assert pool.in_doubt == [other]
    verdicts, claimed = pool.exchange(results([doc]), Wish(TODO, 1, ANNA))
    assert verdicts == [Verdict.RECORDED]
    assert names(claimed) == [other]
    assert token.holds(pool.get(other), claimed[0])


def test_lost_reply_of_a_common_write(pool: Pool) -> None:
    """Results that were recorded are recognised, claims that were granted are found."""
    filled(pool, "a", "b")
    doc = claim_one(pool)
    lose_reply(pool)
    with pytest.raises(PoolUnreachable):
        pool.exchange(results([doc]), Wish(TODO, 1, ANNA))
    assert pool.settle(results([doc])) == [Verdict.RECORDED]
    assert len(token.attempts(pool.get(doc["_id"]))) == 1
    claimed = pool.claim(TODO, 1, ANNA)
    assert len(claimed) == 1
    assert token.holds(pool.get(claimed[0]["_id"]), claimed[0])


def test_result_without_its_lease_is_fenced_and_claims_count(pool: Pool) -> None:
    """A result whose token was taken away is not recorded, whatever travels with it."""
    filled(pool, "a", "b")
    doc = claim_one(pool)
    pool.reset([doc["_id"]])
    verdicts, claimed = pool.exchange(results([doc]), Wish(TODO, 2, ANNA))
    assert verdicts == [Verdict.FENCED]
    assert claimed
    assert pool.counts()[State.DONE] == 0


def test_token_to_be_tried_again_is_not_claimed_by_its_own_write(pool: Pool) -> None:
    """A token is never twice in one write; the next claim finds it."""
    filled(pool, "a")
    doc = claim_one(pool)
    again = [Settlement(doc, outcome(1), Again())]
    verdicts, claimed = pool.exchange(again, Wish(TODO, 2, ANNA))
    assert (verdicts, claimed) == ([Verdict.RECORDED], [])
    assert names(pool.claim(TODO, 2, ANNA)) == ["a"]


def test_edit_under_a_result_whose_claim_lost_every_race(pool: Pool) -> None:
    """A result that met an edit is not forgotten while the claim beside it is tried again."""
    filled(pool, "a", "b")
    doc = claim_one(pool)
    (other,) = {"a", "b"} - {doc["_id"]}
    edit(pool, doc["_id"], note="kept")
    if pool.store.shared:  # the embedded store lets nobody in between
        meanwhile(pool, lambda: edit(pool, other, note="faster"))
    verdicts, claimed = pool.exchange(results([doc]), Wish(TODO, 1, ANNA))
    assert verdicts == [Verdict.RECORDED]
    assert names(claimed) == [other]
    assert pool.get(doc["_id"])["note"] == "kept"


def test_claim_that_lost_every_race_still_records(pool: Pool) -> None:
    """Results travel with the first try of a claim, and are written once."""
    filled(pool, "a", "b")
    doc = claim_one(pool)
    (other,) = {"a", "b"} - {doc["_id"]}
    if pool.store.shared:  # the embedded store lets nobody in between
        meanwhile(pool, lambda: edit(pool, other, note="faster"))
    verdicts, claimed = pool.exchange(results([doc]), Wish(TODO, 1, ANNA))
    assert verdicts == [Verdict.RECORDED]
    assert names(claimed) == [other]
    assert len(token.attempts(pool.get(doc["_id"]))) == 1
