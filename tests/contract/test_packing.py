"""Claims that fill a pilot's room: several tokens side by side, by what they need."""

from collections.abc import Sequence

import pytest

from picas.needs import Offer
from picas.packing import Divided, Room, Share, Stock
from picas.pool import Pool, Wish, Written
from picas.token import Document
from tests.contract.support import ANNA, BERT, TODO, fill, names, numbered

OFFER = Offer(ANNA.host, cores=8, memory=16 << 30, gpus=0)
DIVIDED = Divided(OFFER, 8)


def claim(pool: Pool, left: Stock | None = None, limit: int = 8) -> tuple[list[str], Room]:
    """Claim for what is left of a pilot; the ids in order, and the room that was there."""
    room = Room(DIVIDED, left or DIVIDED.left(Stock()))
    wish = Wish(TODO, limit, ANNA, OFFER, room=room)
    return sorted(names(pool.exchange((), wish)[1])), room


def test_what_is_claimed_fits_together(pool: Pool) -> None:
    """Tokens with room each by itself are not claimed beyond what there is for all."""
    fill(pool, "a", "b", "c", cores=4)
    assert pool.count(TODO) == 3  # a view that shows some of them only would do for a claim
    (first, room), (second, _) = claim(pool), claim(pool)
    assert (len(first), len(second)) == (2, 1)
    assert room.cramped == []
    assert {*first, *second} == {"a", "b", "c"}


def test_a_lost_race_takes_no_room(pool: Pool) -> None:
    """A claim that others were faster with is made again, for as much room as before."""
    fill(pool, *numbered(20), cores=8)
    write = pool.store.write
    races: list[int] = []

    def lose(docs: Sequence[Document]) -> list[Written]:
        if not races and all(doc.get("pilot") == ANNA.pilot for doc in docs):
            races.append(len(docs))
            others = [{**doc, "pilot": BERT.pilot, "lease": "another"} for doc in docs]
            assert all(written.error is None for written in write(others))
        return write(docs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool.store, "write", lose)
        claimed, room = claim(pool)
    assert races == [1]
    assert (len(claimed), room.cramped) == (1, [])


def test_small_ones_pass_a_large_one(pool: Pool) -> None:
    """A token without room now is left in the pool, and that is noted; others are claimed."""
    fill(pool, "large", cores=6)
    fill(pool, "one", "two")
    claimed, _ = claim(pool, Stock(3, 0, 0))
    assert claimed == ["one", "two"]
    claimed, room = claim(pool, Stock(3, 0, 0))
    assert (claimed, room.cramped) == ([], [Share(6)])
    assert claim(pool)[0] == ["large"]


def test_time_is_a_need(pool: Pool) -> None:
    """A token that takes longer than the pilot has left is passed over, and counted as unfit."""
    fill(pool, "short", time="10m")
    fill(pool, "long", time="2h")
    hour = Offer(ANNA.host, time=3600)
    assert names(pool.claim(TODO, 9, ANNA, hour)) == ["short"]
    assert pool.claim(TODO, 9, ANNA, hour) == []
    assert pool.passed_over.unfit == 1
    assert names(pool.claim(TODO, 9, ANNA, Offer(ANNA.host, time=7200))) == ["long"]


def test_usual_time(pool: Pool) -> None:
    """What nearly all tokens take counts for those that do not say."""
    fill(pool, "plain")
    fill(pool, "quick", time=5)
    late = Offer(ANNA.host, time=60, usual=100)
    assert names(pool.claim(TODO, 9, ANNA, late)) == ["quick"]
    assert pool.claim(TODO, 9, ANNA, late) == []
    assert names(pool.claim(TODO, 9, ANNA, Offer(ANNA.host, time=200, usual=100))) == ["plain"]
