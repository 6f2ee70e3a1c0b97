"""Tokens that wait: for a time, for another host, for a pilot that has what they need."""

import time

import pytest

from picas import token
from picas.needs import Offer
from picas.pool import Pool, Settlement
from picas.token import Again, Outcome, State
from picas.views import Design
from tests.contract.support import ANNA, TODO, edit, fill, names, numbered

FAILED = Outcome(1, 1, 2, "exit code 1", 1)


def claim_all(pool: Pool, view: str = TODO, offer: Offer | None = None) -> list[str]:
    """Claim until nothing is left that is ready; returns the ids, in order."""
    claimed: list[str] = []
    while docs := pool.claim(view, 10, ANNA, offer):
        claimed += names(docs)
    return sorted(claimed)


def test_not_before(pool: Pool) -> None:
    """A token is claimed once its time has come, not before; the pool tells when that is."""
    fill(pool, *numbered(3))
    first, second, third = numbered(3)
    due = pool.now() + 100
    edit(pool, first, not_before=due)
    edit(pool, second, not_before=due + 50)
    edit(pool, third, not_before=pool.now() - 1)
    assert claim_all(pool) == [third]
    assert pool.passed_over.due == pytest.approx(due)
    assert pool.passed_over.unfit == 0
    edit(pool, first, not_before=pool.now() - 1)
    assert claim_all(pool) == [first]


def test_scrub_with_a_delay(pool: Pool) -> None:
    """A token that failed stays in todo, and is left alone for the delay."""
    fill(pool, "a")
    (doc,) = pool.claim(TODO, 1, ANNA)
    pool.settle([Settlement(doc, FAILED, Again(delay=0.5))])
    assert token.state(pool.get("a")) is State.TODO
    assert claim_all(pool) == []
    time.sleep(0.6)
    assert claim_all(pool) == ["a"]


def test_other_hosts_take_it(pool: Pool) -> None:
    """A token that blames a host is taken by another one at once, by that one later."""
    fill(pool, "a")
    (doc,) = pool.claim(TODO, 1, ANNA)
    pool.settle([Settlement(doc, FAILED, Again(avoid=100))])
    assert pool.get("a")["avoid"] == [ANNA.host]
    assert claim_all(pool, offer=Offer(ANNA.host)) == []
    assert pool.passed_over.due == pytest.approx(pool.now() + 100, abs=5)
    assert claim_all(pool, offer=Offer("another")) == ["a"]


def test_hosts_to_avoid_add_up(pool: Pool) -> None:
    """A token that failed on two hosts blames both, as long as the first is to be avoided."""
    fill(pool, "a")
    for host in ("host1", "host2"):
        (doc,) = pool.claim(TODO, 1, token.Holder("pilot_p", host))
        pool.settle([Settlement(doc, FAILED, Again(avoid=100))])
    assert pool.get("a")["avoid"] == ["host1", "host2"]
    edit(pool, "a", avoid_until=pool.now() - 1)
    (doc,) = pool.claim(TODO, 1, token.Holder("pilot_p", "host3"))
    pool.settle([Settlement(doc, FAILED, Again(avoid=100))])
    assert pool.get("a")["avoid"] == ["host3"]


def test_more_memory_is_asked_for(pool: Pool) -> None:
    """After an out-of-memory kill only a pilot with more memory takes the token."""
    fill(pool, "a")
    (doc,) = pool.claim(TODO, 1, ANNA)
    pool.settle([Settlement(doc, FAILED, Again(memory=2000))])
    assert claim_all(pool, offer=Offer("h", memory=1000)) == []
    assert (pool.passed_over.due, pool.passed_over.unfit) == (None, 1)
    assert claim_all(pool, offer=Offer("h", memory=2000)) == ["a"]


def test_tokens_that_fit_are_found_behind_those_that_do_not(pool: Pool) -> None:
    """However many tokens are not for this pilot, it finds the one that is."""
    ids = numbered(300)
    fill(pool, *ids, cores=64)
    edit(pool, ids[-1], cores=1)
    assert claim_all(pool, offer=Offer("h", cores=2)) == [ids[-1]]
    assert pool.passed_over.unfit == 299


def test_waiting_in_a_view_with_a_condition(pool: Pool) -> None:
    """A narrower view tells what waits in it, not in others."""
    from picas.conditions import parse

    pool.add_design(Design("Big", parse("size > 5")))
    fill(pool, "big", size=9)
    fill(pool, "small", size=1)
    edit(pool, "small", not_before=pool.now() + 10)
    edit(pool, "big", not_before=pool.now() + 100)
    assert claim_all(pool, "Big/todo") == []
    assert pool.passed_over.due == pytest.approx(pool.now() + 100, abs=5)


def test_reset_ends_the_waiting(pool: Pool) -> None:
    """On a person's word a token that waits may run at once, anywhere; it costs nothing."""
    fill(pool, "a", "b")
    edit(pool, "a", not_before=pool.now() + 100, avoid=[ANNA.host], avoid_until=pool.now() + 100)
    assert pool.reset(["a", "b"]) == 1
    assert "not_before" not in pool.get("a")
    assert pool.get("a")["scrub_count"] == 0
    assert claim_all(pool) == ["a", "b"]
