"""How pilots find work in a CouchDB: all of it, once, and without reading what is not for them."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any
from urllib.parse import quote

import pytest

from picas import token
from picas.errors import PoolUnreachable
from picas.inputs import Identifier
from picas.needs import Offer
from picas.pool import Pool, Settlement, Verdict, Wish, connect
from picas.pool.couchdb import work as finding
from picas.pool.couchdb.ids import between, shard
from picas.token import Document, Holder
from picas.views import FREE, raw_view
from tests.contract.support import ANNA, TODO, claim_all, fill, names, numbered, outcome
from tests.couchdb.server import CouchServer

FIT = Offer("host-a", cores=2)


@pytest.fixture
def pool(couch_url: str) -> Iterator[Pool]:
    """A pool on a CouchDB."""
    with connect(couch_url, create=True) as made:
        yield made


@pytest.fixture
def read(pool: Pool) -> Callable[[], list[str]]:
    """Tells which documents the pool's look for work has read since it was last asked."""
    work = pool.store._work  # type: ignore[attr-defined]
    seen: list[str] = []
    real = work._read

    def noted(ids: Sequence[str]) -> Any:
        seen.extend(i for i in ids if not i.startswith("_design/"))
        return real(ids)

    def since() -> list[str]:
        found, seen[:] = list(seen), []
        return found

    work._read = noted
    return since


def without_free(pool: Pool) -> None:
    """Give the pool a Monitor as a classic client makes it."""
    (doc,) = pool.store.read(["_design/Monitor"])
    assert doc is not None
    del doc["picas"], doc["views"][FREE]
    (written,) = pool.store.write([doc])
    assert written.error is None


@pytest.mark.parametrize("classic", [False, True], ids=["ours", "classic"])
def test_pilots_share_out_all_there_is(pool: Pool, couch_url: str, classic: bool) -> None:
    """Pilots that claim different numbers at once get every token, each once."""
    if classic:
        without_free(pool)
    ids = fill(pool, *numbered(400))
    sizes = [1, 3, 20, 100]

    def drain(size: int) -> list[str]:
        taken: list[str] = []
        holder = Holder(f"pilot_{size}", "host")
        with connect(couch_url, create=False) as own:
            while docs := own.claim(TODO, size, holder):
                assert len(docs) <= size
                taken += names(docs)
        return taken

    with ThreadPoolExecutor(len(sizes)) as threads:
        taken = [name for got in threads.map(drain, sizes) for name in got]
    assert Counter(taken) == Counter(ids)


def test_tokens_that_wait_are_not_read(pool: Pool, read: Callable[[], list[str]]) -> None:
    """However many wait, an empty claim looks at none of them, and knows when the first is due."""
    due = pool.now() + 500
    fill(pool, *(f"w{n}" for n in range(450)), not_before=due + 100)
    fill(pool, "first", not_before=due)
    assert pool.claim(TODO, 10, ANNA) == []
    assert pool.passed_over.due == pytest.approx(due, abs=1)
    assert read() == []


def test_tokens_that_need_more_are_not_read(pool: Pool, read: Callable[[], list[str]]) -> None:
    """What does not fit is told by the view; the pilot finds what does among it."""
    fill(pool, *(f"b{n:03}" for n in range(450)), cores=16)
    assert pool.claim(TODO, 10, ANNA, FIT) == []
    assert pool.passed_over.unfit == 450
    fill(pool, "small", cores=1)
    assert names(pool.claim(TODO, 10, ANNA, FIT)) == ["small"]
    assert set(read()) == {"small"}


def test_what_had_to_wait_is_not_last(pool: Pool) -> None:
    """A token whose time has come goes before those that never had to wait."""
    fill(pool, *numbered(50))
    fill(pool, "waited", not_before=pool.now() - 5)
    pool.count("Monitor/todo")  # the views are current
    assert names(pool.claim(TODO, 1, ANNA)) == ["waited"]


def test_tokens_are_read_ahead_for_claims_of_one(pool: Pool, read: Callable[[], list[str]]) -> None:
    """Claims of one token at a time do not look into the view each time."""
    ids = fill(pool, *numbered(60))
    asked: list[str] = []
    work = pool.store._work  # type: ignore[attr-defined]
    real = work._ask

    def ask(view: str, query: Any) -> Any:
        asked.append(view)
        return real(view, query)

    work._ask = ask
    taken: list[str] = []
    while docs := pool.claim(TODO, 1, ANNA):
        taken += names(docs)
    assert sorted(taken) == ids
    assert len(asked) < len(ids) / 2
    assert len(read()) <= 4 * len(ids)


def test_tokens_read_ahead_and_taken_by_others_are_left_to_them(pool: Pool, couch_url: str) -> None:
    """What somebody else claimed meanwhile is not claimed from what was read before."""
    ids = fill(pool, *numbered(40))
    mine = [doc for _ in range(8) for doc in pool.claim(TODO, 1, ANNA)]
    with connect(couch_url, create=False) as other:
        theirs = other.claim(TODO, 20, Holder("pilot_other", "host"))
    rest = claim_all(pool)
    taken = [*names(mine), *names(theirs), *names(rest)]
    assert sorted(taken) == ids
    for doc in (*mine, *theirs, *rest):
        assert token.holds(pool.get(doc["_id"]), doc)


def test_tokens_with_odd_numbers_stay_as_they_are(pool: Pool) -> None:
    """No JavaScript stands between a token and its pilot: numbers keep all their digits."""
    own: Document = {"big": 2**63 + 1, "whole": 1.0, "small": 1e-320}
    fill(pool, "a", **own)
    (doc,) = pool.claim(TODO, 1, ANNA)
    assert {name: doc[name] for name in own} == own
    assert isinstance(doc["whole"], float)


def test_view_that_gains_its_free_tokens_later(pool: Pool) -> None:
    """A pilot that began on a classic Monitor goes on when ours takes its place."""
    full = pool.designs()["Monitor"].document()
    without_free(pool)
    fill(pool, *numbered(10))
    taken = names(pool.claim(TODO, 3, ANNA))
    (there,) = pool.store.read(["_design/Monitor"])
    assert there is not None
    (written,) = pool.store.write([{**full, "_rev": there["_rev"]}])
    assert written.error is None
    taken += names(claim_all(pool))
    assert sorted(taken) == numbered(10)


def test_classic_monitor_that_takes_the_place_of_ours(pool: Pool) -> None:
    """A pilot goes on in `todo` when a classic client puts back its own views."""
    ids = fill(pool, *numbered(200))
    taken = names(pool.claim(TODO, 20, ANNA))
    without_free(pool)
    taken += names(claim_all(pool))
    assert sorted(taken) == ids


def test_tokens_read_ahead_must_fit_who_asks(pool: Pool) -> None:
    """What was read for a large pilot is not handed to a small one."""
    fill(pool, *numbered(60), cores=16)
    large = Offer("host-a", cores=64)
    for _ in range(6):
        assert pool.claim(TODO, 1, ANNA, large)
    assert pool.claim(TODO, 1, ANNA, FIT) == []


def test_tokens_that_do_not_fit_are_walked_past_once(pool: Pool) -> None:
    """Thousands that need more stand before the others; only the first look goes past them."""
    fill(pool, *(f"a{n:05}" for n in range(3000)), cores=16)
    fill(pool, *(f"z{n:05}" for n in range(60)), cores=1)
    asked = 0
    work = pool.store._work  # type: ignore[attr-defined]
    real = work._ask

    def ask(view: str, query: Any) -> Any:
        nonlocal asked
        asked += 1
        return real(view, query)

    work._ask = ask
    assert pool.claim(TODO, 1, ANNA, FIT)
    asked = 0
    for _ in range(12):
        for walk in work._walks.values():
            walk.shelf.until = 0.0  # as after a long task
        assert pool.claim(TODO, 1, ANNA, FIT)
    assert asked <= 12 * 3


def test_due_is_the_earliest_though_hosts_are_avoided(pool: Pool) -> None:
    """A token that waits a little longer, but not for another host, comes due first."""
    now = pool.now()
    avoided = {"avoid": ["host-a"], "avoid_until": now + 3600}
    fill(pool, *(f"a{n:03}" for n in range(250)), not_before=now + 20, **avoided)
    fill(pool, "z", not_before=now + 30)
    assert pool.claim(TODO, 3, ANNA) == []
    assert pool.passed_over.due == pytest.approx(now + 30, abs=1)


def test_look_that_takes_long_is_not_taken_for_an_empty_one(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However slow the reading was, what was found is handed out."""
    monkeypatch.setattr(finding, "FRESH_SECONDS", -1.0)
    fill(pool, *numbered(10))
    assert len(pool.claim(TODO, 3, ANNA)) == 3


def test_claims_of_one_read_few_documents(pool: Pool, read: Callable[[], list[str]]) -> None:
    """In a fresh pool, too: tokens may be large, and a pilot is to stay small."""
    fill(pool, *numbered(150))
    assert pool.claim(TODO, 1, ANNA)
    assert len(read()) <= 2


def test_raw_view_with_many_rows_of_one_document(pool: Pool) -> None:
    """What stands behind them is found."""
    rows = "for (var i = 0; i < (doc.rows || 1); i++) emit(doc._id, i);"
    pool.add_raw_design("Mine", {"todo": raw_view(f"function (doc) {{ {rows} }}")})
    fill(pool, "a", rows=500, not_before=pool.now() + 10_000)
    fill(pool, "b")
    assert names(pool.claim("Mine/todo", 1, ANNA)) == ["b"]
    assert {doc["_id"] for doc in pool.find("Mine/todo")} >= {"a", "b"}


def test_results_do_not_wait_for_a_thorough_look(pool: Pool) -> None:
    """A view may take minutes to be brought up to date: what has ended is recorded before."""
    fill(pool, "a")
    states: list[token.State | None] = []
    work = pool.store._work  # type: ignore[attr-defined]
    real = work._ask

    def ask(view: str, query: Any) -> Any:
        if "update" not in query:
            states.append(token.state(pool.get("a")))
        return real(view, query)

    work._ask = ask
    (claimed,) = pool.claim(TODO, 1, ANNA)
    states.clear()
    verdicts, granted = pool.exchange([Settlement(claimed, outcome(0))], Wish(TODO, 1, ANNA))
    assert (verdicts, granted) == ([Verdict.RECORDED], [])
    assert states == []
    assert pool.claim(TODO, 1, ANNA) == []
    assert set(states) == {token.State.DONE}


def test_nothing_is_claimed_before_it_is_known_whether_claims_are_sure(pool: Pool) -> None:
    """A server that goes away at that question leaves no token locked for a pilot unaware of it."""
    fill(pool, "a")
    store: Any = pool.store
    store._known_cluster, real = None, store._ask

    def ask(operation: str, *asked: Any, **how: Any) -> Any:
        if operation == "looking at the database":
            raise PoolUnreachable("no answer")
        return real(operation, *asked, **how)

    store._ask = ask
    with pytest.raises(PoolUnreachable):
        pool.claim(TODO, 1, ANNA)
    store._ask = real
    assert pool.counts()[token.State.LOCKED] == 0
    assert names(pool.claim(TODO, 1, ANNA)) == ["a"]


def test_document_with_many_free_rows_is_offered_once(pool: Pool) -> None:
    """A view of somebody's own may show a token in many rows: none is claimed twice, or in vain."""
    rows = "if (doc.lock == 0) for (var i = 0; i < 5; i++) emit(doc._id, i);"
    pool.add_raw_design("Mine", {"todo": raw_view(f"function (doc) {{ {rows} }}")})
    ids = fill(pool, *numbered(20))
    work = pool.store._work  # type: ignore[attr-defined]
    work.crowded = lambda: pytest.fail("a claim met another revision")
    taken = [name for _ in ids for name in names(pool.claim("Mine/todo", 1, ANNA))]
    assert sorted(taken) == ids


def test_claims_of_one_stay_in_a_shard(pool: Pool) -> None:
    """What was read ahead is offered shard by shard: a result and the next claim meet there."""
    ids = fill(pool, *numbered(80))
    work = pool.store._work  # type: ignore[attr-defined]
    work._shards = lambda: 4
    taken = [name for _ in ids for name in names(pool.claim(TODO, 1, ANNA))]
    assert sorted(taken) == ids
    shards = [shard(name, 4) for name in taken]
    # By chance it would be 3 of 4. Where the pilot begins is random, so it may read a few times.
    assert sum(a != b for a, b in pairwise(shards)) < len(ids) / 2


@pytest.mark.couchdb
def test_shards_are_those_of_the_server(couchdb: CouchServer) -> None:
    """Documents are in the shard that we think; else we would spread writes, not gather them."""
    if couchdb.kind == "double":
        pytest.skip("the test double has no shards")
    name = couchdb.new_database(shards=8)
    with couchdb.raw(f"/{name}") as raw:
        for doc_id in (*numbered(20), "é"):
            begin = raw.get(f"/_shards/{quote(doc_id)}").json["range"].partition("-")[0]
            assert shard(doc_id, 8) == int(begin, 16) >> 29
    couchdb.delete_database(name)


@pytest.mark.parametrize("classic", [False, True], ids=["ours", "classic"])
def test_pilots_begin_far_apart(pool: Pool, couch_url: str, classic: bool) -> None:
    """In a large view they do not all begin within one leap of its head."""
    if classic:
        without_free(pool)
    ids = sorted(fill(pool, *numbered(3 * finding.LEAP)))
    places = []
    for _ in range(24):
        with connect(couch_url, create=False) as one:
            (doc,) = one.claim(TODO, 1, ANNA)
            places.append(ids.index(doc["_id"]))
    assert max(places) > 1.5 * finding.LEAP


def test_pilots_begin_apart_in_a_numbered_series(pool: Pool, couch_url: str) -> None:
    """Its ids lie in groups of a thousand: not all pilots begin in one or two of them."""
    with Identifier() as identifier:
        made = [identifier.assign({"input": f"run {n}"}, n, "") for n in range(61_000, 67_000)]
    ids = sorted(fill(pool, *made))
    begun = set()
    for _ in range(24):
        with connect(couch_url, create=False) as one:
            (doc,) = one.claim(TODO, 1, ANNA)
            begun.add(ids.index(doc["_id"]) // 1_000)
    assert len(begun) >= 3


def test_text_between_two() -> None:
    """It lies between them, anywhere; where there is nothing between, it is the first."""
    texts = {between("job_0001", "job_0999") for _ in range(200)}
    assert all("job_0001" < text < "job_0999" for text in texts)
    assert {text[5] for text in texts} == set("0123456789")
    assert between("a", "a") == "a"
    assert between("a", "a0") == "a"
