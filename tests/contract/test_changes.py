"""Waiting for work: the change feed wakes, filters and gives up in time."""

import threading
import time
from collections.abc import Callable

from picas.pool import Pool, Settlement
from picas.token import Again
from tests.contract.support import claim_one, edit, fill, outcome, settle


def test_present_point_comes_at_once(pool: Pool) -> None:
    """Without a point to ask from, the feed tells where it stands."""
    started = time.monotonic()
    assert list(pool.changes(None, timeout=60).ids) == []
    assert time.monotonic() - started < 5


def test_changes_of_before_come_at_once(pool: Pool) -> None:
    """What changed since a point is told without waiting, each document once."""
    seq = pool.changes(None, timeout=0).seq
    fill(pool, "a", "b")
    edit(pool, "a", note=1)
    changed = pool.changes(seq, timeout=60)
    assert sorted(changed.ids) == ["a", "b"]
    assert list(pool.changes(changed.seq, timeout=0).ids) == []


def test_gives_up_in_time(pool: Pool) -> None:
    """With nothing to tell, the feed answers after the time that was asked."""
    seq = pool.changes(None, timeout=0).seq
    started = time.monotonic()
    assert list(pool.changes(seq, timeout=0.3).ids) == []
    assert 0.2 < time.monotonic() - started < 5


def test_new_work_wakes(pool: Pool, join: Callable[[], Pool]) -> None:
    """A pilot that waits hears of a token that another thread pushes."""
    seq = pool.changes(None, timeout=0, todo=True).seq
    rival = join()
    pusher = threading.Timer(0.2, lambda: fill(rival, "a"))
    pusher.start()
    started = time.monotonic()
    changed = pool.changes(seq, timeout=30, todo=True)
    pusher.join()
    assert list(changed.ids) == ["a"]
    assert time.monotonic() - started < 5


def test_only_waiting_tokens_wake_a_pilot(pool: Pool) -> None:
    """Claims, results and pilots' documents are no work; a token given back is."""
    fill(pool, "a", "b")
    seq = pool.changes(None, timeout=0).seq
    first, second = claim_one(pool), claim_one(pool)
    settle(pool, first)
    pool.save_pilot({"_id": "pilot_x", "type": "pilot", "lock": 0, "done": 0})
    quiet = pool.changes(seq, timeout=0.2, todo=True)
    assert list(quiet.ids) == []
    pool.release([second])
    assert list(pool.changes(quiet.seq, timeout=5, todo=True).ids) == [second["_id"]]


def test_token_that_waits_wakes_nobody(pool: Pool) -> None:
    """A token given back for later is no work now: a thousand idle pilots go on sleeping."""
    fill(pool, "a")
    doc = claim_one(pool)
    seq = pool.changes(None, timeout=0).seq
    pool.settle([Settlement(doc, outcome(1), Again(delay=100))])
    quiet = pool.changes(seq, timeout=0.2, todo=True)
    assert list(quiet.ids) == []
    assert pool.reset(["a"]) == 1
    assert list(pool.changes(quiet.seq, timeout=5, todo=True).ids) == ["a"]
