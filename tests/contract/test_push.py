"""Tokens go in once, whatever happens on the way."""

import math
from collections.abc import Callable

import pytest

from picas import token
from picas.errors import InputError, TooLarge
from picas.pool import Pool, PushState
from picas.token import State
from tests.contract.support import claim_one, edit, fill, lose_reply, numbered


def test_new_token_is_added_and_waits(pool: Pool) -> None:
    """A pushed token is in the pool as it was given, in todo."""
    (answer,) = pool.push([token.new({"input": {"x": [1, 2]}, "note": "mine"}, "a")])
    assert (answer.id, answer.state, answer.error) == ("a", PushState.ADDED, None)
    stored = pool.get("a")
    assert token.state(stored) is State.TODO
    assert stored["input"] == {"x": [1, 2]}
    assert stored["note"] == "mine"
    assert stored["_rev"].startswith("1-")


def test_same_token_again_is_present(pool: Pool) -> None:
    """Pushing the same work twice changes nothing, not even when it has been claimed."""
    fill(pool, "a")
    claimed = claim_one(pool)
    (answer,) = pool.push([token.new({"input": "echo a"}, "a")])
    assert answer.state is PushState.PRESENT
    assert pool.get("a")["_rev"] == claimed["_rev"]


def test_other_work_under_the_same_id_is_different(pool: Pool) -> None:
    """An id that is taken by other work is told, and the token there stays as it is."""
    fill(pool, "a")
    (answer,) = pool.push([token.new({"input": "something else"}, "a")])
    assert answer.state is PushState.DIFFERENT
    assert pool.get("a")["input"] == "echo a"


def test_changed_user_field_is_different_work(pool: Pool) -> None:
    """The user's own fields are part of the work."""
    fill(pool, "a", cores=2)
    (answer,) = pool.push([token.new({"input": "echo a", "cores": 4}, "a")])
    assert answer.state is PushState.DIFFERENT


def test_id_twice_in_one_push(pool: Pool) -> None:
    """The first of two tokens with one id goes in; the second gets its own answer."""
    docs = [token.new({"input": n}, i) for n, i in [(1, "a"), (1, "a"), (2, "a"), (3, "b")]]
    states = [answer.state for answer in pool.push(docs)]
    added, present, different = PushState.ADDED, PushState.PRESENT, PushState.DIFFERENT
    assert states == [added, present, different, added]


def test_more_than_a_chunk(pool: Pool) -> None:
    """Tokens beyond one bulk write go in too, answered one by one in order."""
    ids = numbered(1200)
    answers = list(pool.push(token.new({}, i) for i in ids))
    assert [a.id for a in answers] == ids
    assert {a.state for a in answers} == {PushState.ADDED}
    assert pool.count("Monitor/todo") == 1200


def test_token_that_is_too_large_is_refused_alone(pool: Pool) -> None:
    """One token over the limit is named; those beside it go in."""
    docs = [token.new({"input": text}, i) for i, text in [("a", ""), ("b", "x" * 9_000_000)]]
    docs.append(token.new({}, "c"))
    answers = list(pool.push(docs))
    added, refused = PushState.ADDED, PushState.REFUSED
    assert [a.state for a in answers] == [added, refused, added]
    assert isinstance(answers[1].error, TooLarge)
    assert "'b'" in str(answers[1].error)
    assert pool.counts()[State.TODO] == 2


@pytest.mark.parametrize(
    "fields",
    [{"x": math.nan}, {"x": [math.inf]}, {"_x": 1}, {"x": b""}, {"x": "\udcff"}, {"\udcff": 1}],
    ids=["NaN", "infinity", "underscore", "bytes", "surrogate", "surrogate name"],
)
def test_what_no_store_can_hold_is_refused(pool: Pool, fields: dict[str, object]) -> None:
    """A document that is no token stops the push before anything of its chunk is written."""
    bad = {"_id": "bad", "type": "token", **fields}
    with pytest.raises(InputError, match="bad"):
        list(pool.push([token.new({}, "good"), bad]))
    assert pool.counts()[State.TODO] == 0


def test_lost_reply_adds_once_and_says_added(pool: Pool) -> None:
    """A write whose reply was lost is sent again; what it had added counts as added."""
    lose_reply(pool)
    fill(pool, "a", "b")
    assert pool.count("Monitor/todo") == 2
    assert pool.get("a")["_rev"].startswith("1-")


def test_lost_reply_beside_tokens_of_before(pool: Pool, join: Callable[[], Pool]) -> None:
    """After a lost reply, a token that others have worked on is still told as present."""
    fill(pool, "a")
    edit(join(), "a", note="seen")
    lose_reply(pool)
    docs = [token.new({"input": "echo a", "note": "seen"}, "a"), token.new({}, "b")]
    states = [answer.state for answer in pool.push(docs)]
    assert states == [PushState.PRESENT, PushState.ADDED]


def test_deleted_token_can_be_pushed_again(pool: Pool) -> None:
    """An id is free again once its token was deleted."""
    fill(pool, "a")
    assert pool.delete(["a"]) == 1
    fill(pool, "a", note="second life")
    assert pool.get("a")["note"] == "second life"


def test_unicode_survives(pool: Pool) -> None:
    """Text of any script, NUL and emoji included, comes back as it went in."""
    text = "ünï \u0000 \u2028 日本 😀 \" ' \\"
    fill(pool, "a", note=text, **{"größe 😀": 1, "": 2})
    stored = pool.get("a")
    assert stored["note"] == text
    assert (stored["größe 😀"], stored[""]) == (1, 2)


def test_numbers_survive(pool: Pool) -> None:
    """Large integers and floats lose no digit."""
    numbers = [2**53 + 1, -(2**63) - 1, 1.5, 1e-300, 0.1, True, None]
    fill(pool, "a", numbers=numbers)
    assert pool.get("a")["numbers"] == numbers
