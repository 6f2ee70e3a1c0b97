"""A token is handed to one pilot at a time (promise 1)."""

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from picas import token
from picas.conditions import parse
from picas.errors import Conflict, Forbidden, PoolUnreachable, ViewMissing
from picas.needs import Offer
from picas.pool import Pool, Verdict, Wish, Written
from picas.token import Document, State
from picas.views import Design
from tests.contract.support import (
    ANNA,
    BERT,
    TODO,
    claim_all,
    claim_one,
    edit,
    fill,
    lose_reply,
    meanwhile,
    names,
    numbered,
    settle,
)

AT_ONCE = Offer("host").ready_at


def test_claimed_token_says_who_holds_it(pool: Pool) -> None:
    """A claim writes time, host, pilot, batch job and a lease into the token."""
    fill(pool, "a")
    doc = claim_one(pool)
    assert doc == pool.get("a")
    assert token.state(doc) is State.LOCKED
    assert abs(doc["lock"] - pool.now()) < 5
    expected = {"hostname": "host-a", "pilot": "pilot_anna", "slurm_job_id": "17_3"}
    assert expected.items() <= doc.items()
    assert token.holds(doc, doc)


def test_claim_takes_at_most_what_was_asked(pool: Pool) -> None:
    """Several claims share out the view, none gets more than it asked for."""
    ids = fill(pool, *numbered(25))
    taken: list[str] = []
    while docs := pool.claim(TODO, 10, ANNA):
        assert len(docs) <= 10
        assert len({doc["lease"] for doc in docs}) == len(docs)
        taken += names(docs)
    assert sorted(taken) == ids


def test_lease_tells_what_was_claimed_ahead(pool: Pool) -> None:
    """Beyond the free slots tokens are claimed ahead; what was lost before comes first."""
    fill(pool, *numbered(5))
    now = pool.now()
    gone = pool.claim(TODO, 1, BERT)
    lost = token.lost(gone[0], now)
    (written,) = pool.store.write([lost])
    assert written.error is None
    while len(docs := pool.exchange((), Wish(TODO, 9, ANNA, at_once=2))[1]) < 5:
        pool.release(docs)  # a view may show the lost one later
    assert [token.claimed_ahead(doc) for doc in docs] == [False, False, True, True, True]
    assert docs[0]["_id"] == gone[0]["_id"]


def test_empty_view_gives_nothing(pool: Pool) -> None:
    """A view without tokens answers at once with none."""
    assert pool.claim(TODO, 5, ANNA) == []


def test_only_waiting_tokens_are_handed_out(pool: Pool) -> None:
    """Locked, finished and failed tokens stay where they are, of whatever view they are asked."""
    fill(pool, "a", "b")
    settle(pool, claim_one(pool))
    claim_one(pool)
    for view in ("locked", "done", "todo", "overview_total"):
        assert pool.claim(f"Monitor/{view}", 5, BERT) == []


@pytest.mark.parametrize("fields", [{"lock": 12345}, {"lock": 99, "done": 99}, {"lock": "5"}])
def test_tokens_of_classic_clients_are_left_alone(pool: Pool, fields: dict[str, Any]) -> None:
    """A token locked or failed by a classic client, which knows no lease, is not claimed."""
    fill(pool, "classic", **fields)
    assert pool.claim(TODO, 5, ANNA) == []


def test_fields_of_the_user_are_kept(pool: Pool) -> None:
    """A field that PiCaS does not know survives claim and settle, attachments too."""
    attached = {"in.txt": {"content_type": "text/plain", "data": "aGVsbG8="}}
    own = {"mine": {"deep": [1, {"x": None}]}, "priority": 3}
    fill(pool, "a", **own, _attachments=attached)
    settle(pool, claim_one(pool))
    stored = pool.get("a")
    assert own.items() <= stored.items()
    assert b"".join(pool.attachment("a", "in.txt")) == b"hello"


def test_missing_view_names_those_there_are(pool: Pool) -> None:
    """A mistyped view is told together with the names that exist."""
    for wrong in ("Monitor/todoo", "Nowhere/todo"):
        with pytest.raises(ViewMissing, match="Monitor/todo") as caught:
            pool.claim(wrong, 1, ANNA)
        assert wrong in str(caught.value)


def test_view_with_a_condition(pool: Pool) -> None:
    """A design of one's own hands out only the tokens that match its condition."""
    pool.add_design(Design("Big", parse("cores > 4")))
    fill(pool, "small", cores=2)
    fill(pool, "big", cores=8)
    assert names(pool.claim("Big/todo", 5, ANNA)) == ["big"]
    assert pool.claim("Big/todo", 5, ANNA) == []
    assert names(pool.claim(TODO, 5, ANNA)) == ["small"]


def test_stale_candidates_are_not_claimed(pool: Pool, join: Callable[[], Pool]) -> None:
    """Tokens that others took after they were read are not taken a second time."""
    fill(pool, *numbered(4))
    rival = join()
    stale = pool.store.candidates(TODO, 4, AT_ONCE).docs
    taken = rival.claim(TODO, 2, BERT)
    answers = pool.store.write([token.claim(d, 1, ANNA, token.new_lease()) for d in stale])
    assert {a.id for a in answers if a.rev is None} == set(names(taken)) & set(names(stale))
    assert all(pool.get(d["_id"])["lease"] == d["lease"] for d in taken)


def test_claim_goes_on_when_all_it_saw_was_taken(pool: Pool, join: Callable[[], Pool]) -> None:
    """A claim that lost every race looks again instead of calling the view empty."""
    fill(pool, "a")
    rival, real = join(), pool.store.candidates
    stale = real(TODO, 1, AT_ONCE)
    edit(rival, "a", note="now another revision")
    offers = [stale]
    pool.store.candidates = lambda *asked, **how: (  # type: ignore[method-assign]
        offers.pop() if offers else real(*asked, **how)
    )
    doc = claim_one(pool)
    assert doc["note"] == "now another revision"


def test_threads_share_out_the_tokens(pool: Pool, join: Callable[[], Pool]) -> None:
    """Several pilots at once get every token exactly once."""
    ids = fill(pool, *numbered(240))
    pools = [join() for _ in range(6)]

    def drain(number: int) -> list[str]:
        taken: list[str] = []
        holder = token.Holder(f"pilot_{number}", "host")
        while docs := pools[number].claim(TODO, 7, holder):
            taken += names(docs)
        return taken

    with ThreadPoolExecutor(len(pools)) as threads:
        taken = [i for got in threads.map(drain, range(len(pools))) for i in got]
    assert Counter(taken) == Counter(ids)
    assert pool.counts()[State.LOCKED] == 240


def test_one_by_one_under_contention(pool: Pool, join: Callable[[], Pool]) -> None:
    """Pilots that ask for one token at a time do not mistake a lost race for an empty view."""
    ids = fill(pool, *numbered(40))
    pools = [join() for _ in range(5)]

    def drain(number: int) -> list[str]:
        taken: list[str] = []
        while docs := pools[number].claim(TODO, 1, token.Holder(f"pilot_{number}", "host")):
            taken += names(docs)
        return taken

    with ThreadPoolExecutor(len(pools)) as threads:
        taken = [i for got in threads.map(drain, range(len(pools))) for i in got]
    assert sorted(taken) == ids


def test_claims_whose_reply_was_lost_are_found_again(pool: Pool) -> None:
    """What the pool granted without our hearing of it comes with the next claim."""
    fill(pool, *numbered(6))
    lose_reply(pool)
    with pytest.raises(PoolUnreachable):
        pool.claim(TODO, 4, ANNA)
    applied = names(pool.find("Monitor/locked"))
    granted = pool.claim(TODO, 4, ANNA)
    assert sorted(names(granted)) == sorted(applied) or not pool.store.shared
    assert all(token.holds(pool.get(d["_id"]), d) for d in granted)
    for doc in granted:
        settle(pool, doc)
    assert len(claim_all(pool)) == 6 - len(granted)
    assert pool.counts()[State.DONE] == len(granted)


def test_lost_claim_that_was_never_applied(pool: Pool) -> None:
    """If the pool had not granted anything, the next claim is an ordinary one."""
    fill(pool, "a")
    real = pool.store.write

    def unreachable(docs: Sequence[Document]) -> list[Written]:
        pool.store.write = real  # type: ignore[method-assign]
        raise PoolUnreachable("the request was lost")

    pool.store.write = unreachable  # type: ignore[method-assign]
    with pytest.raises(PoolUnreachable):
        pool.claim(TODO, 1, ANNA)
    assert claim_one(pool)["_rev"].startswith("2-")


def test_claim_that_arrives_late(pool: Pool) -> None:
    """A request that is applied after we gave it up locks nothing for a pilot unaware of it."""
    fill(pool, "a")
    real = pool.store.write
    on_their_way: list[Document] = []

    def slow(docs: Sequence[Document]) -> list[Written]:
        pool.store.write = real  # type: ignore[method-assign]
        on_their_way.extend(docs)
        raise PoolUnreachable("no answer in time")

    pool.store.write = slow  # type: ignore[method-assign]
    with pytest.raises(PoolUnreachable):
        pool.claim(TODO, 1, ANNA)
    (doc,) = pool.recover_claims()
    (late,) = pool.store.write(on_their_way)
    assert isinstance(late.error, Conflict)
    assert token.holds(pool.get("a"), doc)
    assert settle(pool, doc) is Verdict.RECORDED


def test_lost_claim_that_was_reset_meanwhile(pool: Pool) -> None:
    """A lost claim that somebody took back since is not returned as ours."""
    fill(pool, "a", "b")
    lose_reply(pool)
    with pytest.raises(PoolUnreachable):
        pool.claim(TODO, 1, ANNA)
    lost = names(pool.find("Monitor/locked"))
    pool.delete(lost)
    assert sorted(names(claim_all(pool))) == sorted({"a", "b"} - set(lost))


def test_token_deleted_under_the_claim(pool: Pool, join: Callable[[], Pool]) -> None:
    """A token that vanishes between look and claim is simply not handed out."""
    fill(pool, "a", "b")
    rival = join()
    if pool.store.shared:  # the embedded store lets nobody in between
        meanwhile(pool, lambda: rival.delete(["a"]))
        assert names(pool.claim(TODO, 2, ANNA)) == ["b"]
    else:
        rival.delete(["a"])
        assert names(pool.claim(TODO, 2, ANNA)) == ["b"]


def test_claim_that_is_not_allowed_says_so(pool: Pool) -> None:
    """A store that takes no writes from this user raises, instead of being asked for ever."""
    fill(pool, "a")
    pool.store.write = lambda docs: [  # type: ignore[method-assign]
        Written(d["_id"], None, Forbidden("you may only read")) for d in docs
    ]
    with pytest.raises(Forbidden, match="only read"):
        pool.claim(TODO, 1, ANNA)
