"""Groups of views: the standard one, own conditions, raw JavaScript."""

import time
from collections.abc import Callable
from functools import partial

import pytest

from picas.conditions import parse
from picas.errors import PoolError, Unsupported, ViewMissing
from picas.pool import Pool, connect
from picas.token import Document, State
from picas.views import MONITOR, Design
from tests.contract.support import ANNA, claim_all, claim_one, fill, names

RAW: Document = {
    "_id": "_design/Raw",
    "language": "javascript",
    "views": {
        "all": {"map": "function (doc) { if (doc.type == 'token') { emit(doc._id, null); } }"},
    },
}


def becomes_true(pool: Pool, condition: Callable[[], bool]) -> bool:
    """Wait for a condition: CouchDB keeps designs in memory, where a change shows a bit later."""
    deadline = time.monotonic() + (10.0 if pool.store.shared else 0.0)
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.02)
    return True


def has_gone(pool: Pool, view: str) -> bool:
    """Tell whether a pool no longer has a view."""
    try:
        pool.count(view)
    except ViewMissing:
        return True
    return False


def test_new_pool_has_the_standard_views(pool: Pool) -> None:
    """A pool that was just made can be asked by the views of the classic Monitor."""
    assert pool.designs() == {"Monitor": MONITOR}


def test_add_replace_remove(pool: Pool, join: Callable[[], Pool]) -> None:
    """A design is added once, replaced by another condition, and removed, for every user."""
    fill(pool, "small", cores=2)
    fill(pool, "big", cores=8)
    other = join()
    design = Design("Own", parse("cores > 4"))
    assert pool.add_design(design)
    assert not pool.add_design(design)
    assert pool.designs()["Own"] == design
    assert names(other.find("Own/todo")) == ["big"]
    assert pool.add_design(Design("Own", parse("cores < 4")))
    assert becomes_true(pool, lambda: names(other.find("Own/todo")) == ["small"])
    pool.remove_design("Own")
    for each in (pool, other):
        assert becomes_true(pool, partial(has_gone, each, "Own/todo"))
    with pytest.raises(ViewMissing, match="Own"):
        pool.remove_design("Own")
    assert pool.add_design(design)
    assert names(other.find("Own/todo")) == ["big"]


def test_odd_condition(pool: Pool) -> None:
    """A condition with quotes and letters of any script selects the same everywhere."""
    pool.add_design(Design("Odd", parse("""name == "it's 'ü' \\"😀\\"" """)))
    fill(pool, "yes", name="it's 'ü' \"😀\"")
    fill(pool, "no", name="its")
    assert names(pool.find("Odd/todo")) == ["yes"]


def test_raw_views(pool: Pool) -> None:
    """JavaScript runs on CouchDB; the embedded store refuses it with what to do instead."""
    fill(pool, "a", "b")
    if not pool.store.shared:
        with pytest.raises(Unsupported, match="--where"):
            pool.store.write([RAW])
        assert list(pool.designs()) == ["Monitor"]
        return
    pool.store.write([RAW])
    assert pool.designs()["Raw"].raw
    assert names(pool.find("Raw/all")) == ["a", "b"]
    assert pool.count("Raw/all") == 2
    claimed = claim_one(pool, view="Raw/all")
    assert names(claim_all(pool, view="Raw/all")) == [i for i in "ab" if i != claimed["_id"]]
    with pytest.raises(Unsupported):
        pool.designs()["Raw"].document()


def test_raw_view_that_shows_more_than_is_free(couch_url: str) -> None:
    """Work behind a hundred locked tokens is found in a view that shows all of them."""
    with connect(couch_url, create=True) as pool:
        pool.store.write([RAW])
        fill(pool, *(f"a{n:03}" for n in range(250)), lock=5)
        fill(pool, "b")
        assert names(pool.claim("Raw/all", 1, ANNA)) == ["b"]
        assert pool.claim("Raw/all", 1, ANNA) == []


def test_database_made_by_somebody_else(couch_url: str) -> None:
    """A database without views gets the standard ones with `create`; else it is told."""
    with connect(couch_url, create=False) as pool, pytest.raises(PoolError, match="no view"):
        pool.count("Monitor/todo")
    with connect(couch_url, create=True) as pool:
        assert pool.counts() == dict.fromkeys(State, 0)
