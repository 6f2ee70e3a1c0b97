"""Three real nodes of a cluster: what they take, what PiCaS makes of it, and nodes that go."""

import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.cli import PICAS, clean_environment
from tests.contract.support import ANNA, BERT, TODO, claim_all, claim_one, fill, numbered, settle
from tests.couchdb.cluster import InstalledCluster, Node, until
from tests.couchdb.leaves import leaves
from tests.couchdb.raw import Raw

from picas import token
from picas.errors import PoolUnreachable
from picas.pool import Candidates, Pool, Verdict, connect
from picas.token import Document, Holder, State

pytestmark = pytest.mark.couchdb


@pytest.fixture(autouse=True)
def _verification_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PICAS_VERIFY_CLAIMS", raising=False)


@pytest.fixture
def name(cluster: InstalledCluster) -> Iterator[str]:
    """A database with the standard views, of which each node has a copy; all nodes run."""
    cluster.start()
    made = cluster.nodes[0].new_database()
    with connect(cluster.nodes[0].database_url(made), create=True):
        yield made
    cluster.start()
    cluster.nodes[0].delete_database(made)


@pytest.fixture
def join(cluster: InstalledCluster, name: str) -> Iterator[Callable[[int], Pool]]:
    """Opens the pool through the node of that number, from 0."""
    with ExitStack() as stack:
        yield lambda number: stack.enter_context(
            connect(cluster.nodes[number].database_url(name), create=False)
        )


def together(actions: Sequence[Callable[[], Any]]) -> list[Any]:
    """Do things at the same moment, each in a thread; what came of them."""
    gate = threading.Barrier(len(actions))

    def run(action: Callable[[], Any]) -> Any:
        gate.wait()
        return action()

    with ThreadPoolExecutor(len(actions)) as threads:
        return list(threads.map(run, actions))


def aim_at_the_same(pools: Sequence[Pool], docs: Sequence[Document]) -> None:
    """Have the next claim of each pool meet the others' at the same tokens."""
    for pool in pools:
        pool.store.candidates = once(pool, docs)  # type: ignore[method-assign]


def once(pool: Pool, docs: Sequence[Document]) -> Callable[..., Candidates]:
    """Offers these documents, and later none."""
    offers = [Candidates(docs)]
    return lambda *_, **__: offers.pop() if offers else Candidates()


def copies(node: Node, name: str, ids: Sequence[str]) -> list[list[Document]]:
    """The leaves of documents on all copies, deletions left out."""
    with node.raw(f"/{name}") as raw:
        return [leaves(raw, doc_id, 3) for doc_id in ids]


# --- what a cluster does -------------------------------------------------------------------------


def test_a_node_may_go_and_come_back(cluster: InstalledCluster, name: str) -> None:
    """Two of three nodes take writes as before; the third one has them when it is back."""
    one, _, three = cluster.nodes
    three.kill()
    with one.raw(f"/{name}") as raw:
        assert raw.put("/a", {}).status == 201
    three.start()
    with three.raw(f"/{name}") as raw:
        assert raw.get("/a").status == 200
        assert raw.get("").json["cluster"]["n"] == 3


def test_at_most_one_writer_of_a_revision_has_most_copies(
    cluster: InstalledCluster, name: str
) -> None:
    """Several are told that they wrote, but only one of them without the mark ``accepted``."""
    ids = numbered(120)
    with cluster.nodes[0].raw(f"/{name}") as raw:
        rows = raw.post("/_bulk_docs", {"docs": [{"_id": i} for i in ids]}).json
    revs = {row["id"]: row["rev"] for row in rows}
    written: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    for start in range(0, len(ids), 10):
        some = ids[start : start + 10]
        raws = [node.raw(f"/{name}") for node in cluster.nodes]

        def write(raw: Raw, some: Sequence[str] = some) -> Any:
            docs = [{"_id": i, "_rev": revs[i], "by": raw.connection.host} for i in some]
            return raw.post("/_bulk_docs", {"docs": docs}).json

        for rows in together([lambda raw=raw: write(raw) for raw in raws]):  # type: ignore[misc]
            written.update(row["id"] for row in rows if "rev" in row)
            whole.update(row["id"] for row in rows if "rev" in row and "accepted" not in row)
        for raw in raws:
            raw.close()
    assert set(whole.values()) <= {1}
    assert sum(written.values()) > len(ids), "no write of a revision met another: odd"


def test_a_database_with_one_copy_is_sure(cluster: InstalledCluster, name: str) -> None:
    """Made with ``n=1`` a database of a cluster takes one writer of a revision."""
    url = cluster.nodes[0].database_url(f"{name}-single")
    with cluster.nodes[0].raw() as raw:
        assert raw.put(f"/{name}-single?n=1&q=2").status == 201
        with connect(url, create=True) as pool:
            fill(pool, "a")
            assert pool.store.sure
            assert settle(pool, claim_one(pool)) is Verdict.RECORDED
        raw.delete(f"/{name}-single")


# --- claims --------------------------------------------------------------------------------------


def test_pools_that_race_agree_on_every_lease(
    cluster: InstalledCluster, name: str, join: Callable[[int], Pool]
) -> None:
    """At the same tokens at the same moment, through three nodes: nobody has what another has."""
    pools = [join(number) for number in range(3)]
    fill(pools[0], *numbered(200))
    assert not pools[0].store.sure
    granted: dict[str, Document] = {}
    for start in range(0, 200, 10):
        ids = numbered(200)[start : start + 10]
        docs = [doc for doc in pools[0].store.read(ids) if doc]
        aim_at_the_same(pools, docs)
        for docs in together([lambda p=p: p.claim(TODO, 10, ANNA) for p in pools]):  # type: ignore[misc]
            assert not {doc["_id"] for doc in docs} & granted.keys()
            granted |= {doc["_id"]: doc for doc in docs}
    for pool in pools:
        del pool.store.candidates
    granted |= {doc["_id"]: doc for doc in claim_all(pools[0])}
    assert granted.keys() == set(numbered(200))
    for number in range(3):
        found = join(number).store.read(numbered(200))
        assert all(
            token.holds(doc, granted[i]) for i, doc in zip(numbered(200), found, strict=True)
        )
    for found_leaves in copies(cluster.nodes[0], name, numbered(200)):
        assert sum(token.state(doc) is State.LOCKED for doc in found_leaves) == 1
    assert [settle(pools[1], doc) for doc in granted.values()] == [Verdict.RECORDED] * 200


def test_pools_share_out_a_view_through_three_nodes(join: Callable[[int], Pool]) -> None:
    """Six claim and settle from one view until it is empty: each token is run once."""
    pools = [join(number % 3) for number in range(6)]
    ids = fill(pools[0], *numbered(150))

    def work(number: int) -> list[str]:
        done = []
        while docs := pools[number].claim(TODO, 15, Holder(f"pilot_{number}", "host")):
            for doc in docs:
                assert settle(pools[number], doc) is Verdict.RECORDED
            done += [doc["_id"] for doc in docs]
        return done

    ran = together([lambda n=n: work(n) for n in range(len(pools))])  # type: ignore[misc]
    assert Counter(i for some in ran for i in some) == Counter(ids)
    assert all(len(doc["attempts"]) == 1 for doc in pools[0].store.read(ids) if doc)


def test_few_nodes_grant_nothing(
    cluster: InstalledCluster, name: str, join: Callable[[int], Pool]
) -> None:
    """One of three nodes alone cannot know what the others do: nothing is claimed, nor lost."""
    fill(join(0), "a")
    one, two, three = cluster.nodes
    one.stop()
    two.stop()
    alone = join(2)
    with pytest.raises(PoolUnreachable, match="too few nodes"):
        alone.claim(TODO, 1, ANNA)
    assert alone.in_doubt == []
    cluster.start()
    mine = claim_one(alone)
    assert settle(alone, mine) is Verdict.RECORDED
    assert [len(found) for found in copies(three, name, ["a"])] == [1]


def test_a_claim_stands_against_one_of_a_node_that_was_cut_off(
    cluster: InstalledCluster, name: str, join: Callable[[int], Pool]
) -> None:
    """What the lesser side of a split network claimed does not disturb who holds the token."""
    fill(join(0), "a")
    rev = join(0).get("a")["_rev"]
    one, two, three = cluster.nodes
    until(lambda: three.has(name, "a", rev), "the third copy of the token")
    three.kill()
    mine = claim_one(join(0))
    one.kill()
    two.kill()
    three.launch()
    three.wait()
    with pytest.raises(PoolUnreachable, match="too few nodes"):
        join(2).claim(TODO, 1, BERT)
    cluster.start()
    until(lambda: len(copies(one, name, ["a"])[0]) == 2, "the nodes to tell each other")
    assert token.holds(join(2).get("a"), mine)
    assert [len(found) for found in copies(one, name, ["a"])] == [1]
    assert settle(join(1), mine) is Verdict.RECORDED


def test_two_results_of_a_split_network(
    cluster: InstalledCluster, name: str, join: Callable[[int], Pool]
) -> None:
    """Each side recorded a result: one of them stands, and the other one is in the history."""
    fill(join(0), "a")
    first = claim_one(join(0), ANNA)
    one, two, three = cluster.nodes
    until(lambda: three.has(name, "a", first["_rev"]), "the third copy of the claim")
    three.kill()
    join(0).reset(["a"])
    assert settle(join(0), claim_one(join(0), BERT), exit_code=3) is Verdict.RECORDED
    one.kill()
    two.kill()
    three.launch()
    three.wait()
    assert settle(join(2), first) is Verdict.RECORDED
    cluster.start()
    until(lambda: len(copies(one, name, ["a"])[0]) == 2, "the nodes to tell each other")
    final = join(1).get("a")
    assert token.state(final) is State.DONE
    assert [entry.get("exit_code") for entry in final["attempts"]] == [0, None]
    assert final["attempts"][1]["reason"] == "exit code 3; dropped: another result stands"
    assert join(2).get("a") == final


# --- pilots --------------------------------------------------------------------------------------


class Crew:
    """Real pilots on one pool, each through a node of its own.

    Args:
        folder: Where they work; their tokens note there that they ran.
        urls: The pool, as each of them reaches it.
    """

    def __init__(self, folder: Path, urls: Sequence[str]) -> None:
        self.folder = folder
        folder.mkdir()
        home = folder.with_name("home")
        self.pilots = [
            subprocess.Popen(
                [PICAS, "run", "--slots", "2"],
                cwd=folder,
                env=clean_environment(home, {"PICAS_POOL": url}),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
            for url in urls
        ]

    def ran(self) -> Counter[str]:
        """How often each token ran."""
        ledger = self.folder / "ledger"
        return Counter(ledger.read_text().split() if ledger.exists() else ())

    def finish(self, seconds: float = 200) -> None:
        """Wait for the pilots to end well."""
        deadline = time.monotonic() + seconds
        for pilot in self.pilots:
            _, err = pilot.communicate(timeout=max(1.0, deadline - time.monotonic()))
            assert pilot.returncode == 0, err.decode()


def push_work(pool: Pool, number: int, command: str) -> None:
    """Push tokens that note their runs; a line this short is appended whole."""
    line = f"{command}; echo $PICAS_TOKEN_ID >>ledger"
    docs = [token.new({"input": line}, name) for name in numbered(number)]
    assert all(pushed.error is None for pushed in pool.push(docs))


def test_a_pilot_waits_for_the_other_nodes(
    cluster: InstalledCluster, name: str, join: Callable[[int], Pool], tmp_path: Path
) -> None:
    """A pilot on the last node that runs claims in vain, and works once the others are back."""
    push_work(join(0), 20, "true")
    one, two, three = cluster.nodes
    one.stop()
    two.stop()
    crew = Crew(tmp_path / "work", [three.database_url(name)])
    alone = join(2)

    def given_back() -> bool:
        docs = alone.store.read(numbered(20))
        return any(doc and token.state(doc) is State.TODO and doc["_rev"][0] > "2" for doc in docs)

    until(given_back, "the pilot to claim, and to give back what is not sure")
    assert not crew.ran()
    cluster.start()
    crew.finish()
    assert Counter(crew.ran().values()) == {1: 20}


def test_pilots_finish_while_a_node_is_down(
    cluster: InstalledCluster, name: str, join: Callable[[int], Pool], tmp_path: Path
) -> None:
    """Four pilots through two nodes run 300 tokens, each once, with the third node gone."""
    push_work(join(0), 300, "true")
    cluster.nodes[2].kill()
    urls = [cluster.nodes[number % 2].database_url(name) for number in range(4)]
    crew = Crew(tmp_path / "work", urls)
    crew.finish()
    assert join(1).counts() == {**dict.fromkeys(State, 0), State.DONE: 300}
    assert Counter(crew.ran().values()) == {1: 300}


def test_a_node_goes_and_comes_back_in_mid_run(
    cluster: InstalledCluster, name: str, join: Callable[[int], Pool], tmp_path: Path
) -> None:
    """The pilot whose node was killed waits for it, and no token is lost or run twice."""
    push_work(join(0), 300, "sleep 0.05")
    crew = Crew(tmp_path / "work", [node.database_url(name) for node in cluster.nodes])
    until(lambda: len(crew.ran()) > 30, "the first tokens to run")
    cluster.nodes[2].kill()
    gone = len(crew.ran())
    until(lambda: len(crew.ran()) > gone + 60, "the other pilots to go on")
    cluster.nodes[2].start()
    crew.finish()
    pool = join(1)
    until(lambda: pool.count("Monitor/done") == 300, "the views to have everything")
    assert Counter(crew.ran().values()) == {1: 300}
    docs = list(pool.find("Monitor/done"))
    assert all(sum("exit_code" in entry for entry in doc["attempts"]) == 1 for doc in docs)
