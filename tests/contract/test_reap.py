"""Tokens of pilots that are gone come back; those of pilots that live do not."""

import pytest

from picas import token
from picas.pool import Pool, Reaped, Settlement, Verdict
from picas.token import Document, Holder, Outcome, State

LEASE = 300.0
VIEW = "Monitor/todo"


def pilot(pool: Pool, name: str, silent: float, **facts: object) -> Holder:
    """A pilot that was last heard of so many seconds ago."""
    heard = pool.now() - silent
    doc: Document = {"_id": name, "type": "pilot", "state": "running", "heartbeat": heard}
    pool.save_pilot(doc | facts)
    return Holder(name, "host")


def claimed(pool: Pool, holder: Holder, *ids: str) -> list[Document]:
    """Push tokens and claim all that are todo."""
    assert all(p.error is None for p in pool.push(token.new({"input": "x"}, i) for i in ids))
    return pool.claim(VIEW, len(ids), holder)


def test_tokens_of_a_silent_pilot_come_back(pool: Pool) -> None:
    """A pilot silent for longer than the lease loses its tokens; it costs them no retry."""
    gone = pilot(pool, "pilot_gone", silent=LEASE + 10)
    claimed(pool, gone, "a", "b")
    assert pool.reap(LEASE) == Reaped(("pilot_gone",), tokens=2)
    doc = pool.get("a")
    assert token.state(doc) is State.TODO
    assert doc["scrub_count"] == 0
    assert [entry["reason"] for entry in doc["attempts"]] == [token.LOST]
    (document,) = pool.pilots()
    assert document["state"] == "lost"
    assert pool.reap(LEASE) == Reaped(), "a pilot is found gone once"


def test_a_living_pilot_keeps_its_tokens(pool: Pool) -> None:
    """A heartbeat within the lease time keeps the tokens, even while others are reaped."""
    alive = pilot(pool, "pilot_alive", silent=LEASE - 100)
    claimed(pool, alive, "a")
    gone = pilot(pool, "pilot_gone", silent=LEASE + 10)
    claimed(pool, gone, "b")
    assert pool.reap(LEASE).tokens == 1
    assert token.state(pool.get("a")) is State.LOCKED
    assert token.state(pool.get("b")) is State.TODO


def test_late_result_of_a_reaped_token_is_fenced(pool: Pool) -> None:
    """A pilot that was only slow cannot record over what happened since."""
    (doc,) = claimed(pool, pilot(pool, "pilot_slow", silent=LEASE + 10), "a")
    pool.reap(LEASE)
    outcome = Outcome(0, 1, 2, "exit code 0", 1)
    assert pool.settle([Settlement(doc, outcome)]) == [Verdict.FENCED]
    assert token.state(pool.get("a")) is State.TODO


def test_classic_locks_are_left_alone(pool: Pool) -> None:
    """A token locked by a classic client has no lease, and nobody but a person resets it."""
    classic = token.new({"input": "x"}, "classic")
    assert all(p.error is None for p in pool.push([{**classic, "lock": 5, "hostname": "theirs"}]))
    claimed(pool, pilot(pool, "pilot_gone", silent=LEASE + 10), "a")
    assert pool.reap(LEASE, thorough=True).tokens == 1
    assert token.state(pool.get("classic")) is State.LOCKED


def test_token_of_a_pilot_without_a_document(pool: Pool) -> None:
    """Where somebody deleted the pilot's document, a thorough look finds its tokens."""
    claimed(pool, Holder("pilot_unknown", "host"), "a")
    assert pool.reap(LEASE, thorough=True) == Reaped(), "it may be about to write it"
    assert pool.reap(-10, thorough=True).tokens == 1


def test_third_loss_running_is_an_error(pool: Pool) -> None:
    """A token lost with its pilot three times in a row is closed, and says why."""
    assert all(p.error is None for p in pool.push([token.new({"input": "x"}, "a")]))
    for number in range(3):
        gone = pilot(pool, f"pilot_{number}", silent=LEASE + 10)
        assert len(pool.claim(VIEW, 1, gone)) == 1
        reaped = pool.reap(LEASE)
    assert (reaped.tokens, reaped.errors) == (0, 1)
    doc = pool.get("a")
    assert token.state(doc) is State.ERROR
    assert "3 times running" in doc["error"][-1]["message"]


@pytest.mark.parametrize(("unsettled", "found"), [(0, 0), (1, 1)])
def test_pilot_that_ended(pool: Pool, unsettled: int, found: int) -> None:
    """One that ended owing tokens is looked after as well; one that ended well is not."""
    silent = pilot(pool, "pilot_p", silent=LEASE + 10, state="ended", unsettled=unsettled)
    claimed(pool, silent, "a")
    assert pool.reap(LEASE).tokens == found
