"""Looking: one token, a view in order, counts, pilots."""

from collections.abc import Callable

import pytest

from picas.conditions import parse
from picas.errors import TokenMissing, ViewMissing
from picas.pool import Pool
from picas.token import State
from picas.views import Design
from tests.contract.support import (
    ODD_IDS,
    claim_all,
    claim_one,
    content,
    edit,
    fill,
    names,
    numbered,
    settle,
)


def test_get_by_id_or_by_its_beginning(pool: Pool) -> None:
    """A whole id wins over ids that it begins; a beginning must fit one token only."""
    fill(pool, "sample", "sample-1", "other-1")
    assert pool.get("sample")["_id"] == "sample"
    assert pool.get("oth")["_id"] == "other-1"
    with pytest.raises(TokenMissing, match=r"several.*sample-1"):
        pool.get("samp")
    for nobody in ("zzz", "", "Sample"):
        with pytest.raises(TokenMissing):
            pool.get(nobody)


def test_beginnings_in_any_script(pool: Pool) -> None:
    """Characters beyond the basic plane are found behind a beginning as well."""
    fill(pool, "a😀b", "b\ufffdz")
    assert pool.get("a")["_id"] == "a😀b"
    assert pool.get("b")["_id"] == "b\ufffdz"


def test_find_is_ordered_and_pages(pool: Pool) -> None:
    """A view comes in the order of the ids, from any point, up to any number."""
    ids = fill(pool, *numbered(1100))
    assert names(pool.find("Monitor/todo")) == ids
    assert names(pool.find("Monitor/todo", limit=7)) == ids[:7]
    assert names(pool.find("Monitor/todo", after=ids[9], limit=600)) == ids[10:610]
    assert names(pool.find("Monitor/todo", after="t0009x", limit=2)) == ids[10:12]
    assert names(pool.find("Monitor/todo", after=ids[-1])) == []
    assert names(pool.find("Monitor/todo", limit=0)) == []


def test_find_while_tokens_change(pool: Pool, join: Callable[[], Pool]) -> None:
    """Tokens that stay in the view are told once each, though others leave and come."""
    ids = fill(pool, *numbered(700))
    rival = join()
    seen = []
    for n, doc in enumerate(pool.find("Monitor/todo")):
        seen.append(doc["_id"])
        if n == 100:
            rival.delete([*ids[50:60], *ids[450:520], ids[499]])
            fill(rival, "t0250b", "t0600b")
    kept = [i for i in ids if i not in ids[450:520]]
    assert [i for i in seen if i in kept] == kept
    assert len(seen) == len(set(seen))
    assert "t0600b" in seen


def test_missing_views(pool: Pool) -> None:
    """Every question to a view that is not there names those that are."""
    questions: list[Callable[[], object]] = [
        lambda: list(pool.find("No/todo")),
        lambda: pool.count("Monitor/nope"),
        lambda: pool.counts("No"),
    ]
    for ask in questions:
        with pytest.raises(ViewMissing, match="Monitor/todo"):
            ask()


def test_counts_follow_the_states(pool: Pool) -> None:
    """Counts are those of the tokens now; other documents do not count."""
    assert pool.counts() == dict.fromkeys(State, 0)
    fill(pool, *numbered(6))
    pool.save_pilot({"_id": "pilot_x", "type": "pilot"})
    settle(pool, claim_one(pool), 0)
    settle(pool, claim_one(pool), 1)
    claim_one(pool)
    expected = {State.TODO: 3, State.LOCKED: 1, State.DONE: 1, State.ERROR: 1}
    assert pool.counts() == expected
    assert {s: pool.count(f"Monitor/{s.value}") for s in State} == expected
    assert pool.count("Monitor/overview_total") == 6


def test_counts_of_an_own_design(pool: Pool) -> None:
    """A design with a condition counts its own tokens only, in each state."""
    pool.add_design(Design("Big", parse('cores > 4 and kind == "a b"')))
    fill(pool, "small", cores=2, kind="a b")
    fill(pool, "big", "bigger", cores=8, kind="a b")
    claim_one(pool, view="Big/todo")
    assert pool.counts("Big") == dict.fromkeys(State, 0) | {State.TODO: 1, State.LOCKED: 1}
    assert pool.count("Big/todo") == pool.count("Big/locked") == 1
    edit(pool, "small", cores=16)
    assert pool.count("Big/todo") == 2


def test_pilots(pool: Pool) -> None:
    """A pilot's document is written over what is there, also after somebody removed it."""
    first = pool.save_pilot({"_id": "pilot_x", "type": "pilot", "n": 1})
    second = pool.save_pilot({"_id": "pilot_x", "type": "pilot", "n": 2})
    again = pool.save_pilot({**first, "n": 3})
    assert again["_rev"] not in (first["_rev"], second["_rev"])
    assert [p["n"] for p in pool.pilots()] == [3]
    pool.store.write([{"_id": "pilot_x", "_rev": again["_rev"], "_deleted": True}])
    assert pool.pilots() == []
    pool.save_pilot(pool.save_pilot({**again, "n": 4}))
    assert [p["n"] for p in pool.pilots()] == [4]


@pytest.mark.parametrize("odd", ODD_IDS)
def test_odd_ids_through_every_verb(pool: Pool, odd: str) -> None:
    """An id of any characters works wherever a token is named."""
    fill(pool, odd)
    doc = claim_one(pool)
    pool.release([doc])
    doc = claim_one(pool)
    log = f"logs_{odd}.out"
    settle(pool, doc, 3, again=True, files={log: b"one"})
    doc = claim_one(pool)
    settle(pool, doc, 4, files={log: b"two"})
    assert content(pool, odd, log) == b"two"
    assert content(pool, odd, f"logs_{odd}.1.out") == b"one"
    assert names(pool.find("Monitor/error")) == [odd]
    assert pool.store.ids(odd[:1], 5) == [odd]
    assert pool.get(odd)["_id"] == odd
    seq = pool.changes(None, timeout=0).seq
    assert pool.reset([odd]) == 1
    assert list(pool.changes(seq, timeout=5).ids) == [odd]
    assert pool.delete([odd]) == 1
    assert names(claim_all(pool)) == []


def test_streamed_into_odd_ids(pool: Pool, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Files are streamed into tokens of any id."""
    file = tmp_path_factory.mktemp("files") / "file"
    file.write_bytes(b"x" * 1000)
    for odd in fill(pool, *ODD_IDS):
        pool.store.attach(odd, pool.get(odd)["_rev"], "a file", file)
        assert content(pool, odd, "a file") == file.read_bytes()
