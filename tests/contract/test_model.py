"""Each store against a small model in memory, by random sequences of what users and pilots do."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from picas import token
from picas.pool import Pool, PushState, Settlement, Verdict, connect
from picas.token import Again, Document, Holder, State
from tests.contract.support import TODO, edit, outcome
from tests.couchdb.server import CouchServer

IDS = ["a", "b/c", "ü 😀", "d%25"]
EXAMPLES = {"sqlite": 60, "couchdb": 5, "double": 15}


@dataclass
class Expected:
    """What the model knows of one token.

    Attributes:
        state: Where it stands.
        lease: Who holds it.
        scrubs: How often it was given back.
        note: The user's own field.
        results: The leases whose result was recorded, oldest first.
    """

    state: State = State.TODO
    lease: str = ""
    scrubs: int = 0
    note: Any = None
    results: list[str] = field(default_factory=list)


class Machine(RuleBasedStateMachine):
    """Two pilots and a person at work on one pool."""

    claims = Bundle("claims")

    def __init__(self, first: Pool, second: Pool) -> None:
        super().__init__()
        self.pools = [first, second]
        self.person = second
        self.model: dict[str, Expected] = {}
        # The pool outlives an example: begin with an empty one.
        first.delete(list(first.store.ids("", 100)))

    @rule(token_id=st.sampled_from(IDS), note=st.sampled_from(["x", 1, None, {"ü": [1.5]}]))
    def push(self, token_id: str, note: Any) -> None:
        """Push a token, new or not."""
        (answer,) = self.person.push([token.new({"note": note}, token_id)])
        there = self.model.get(token_id)
        if there is None:
            assert answer.state is PushState.ADDED
            self.model[token_id] = Expected(note=note)
        else:
            same = there.note == note
            assert answer.state is (PushState.PRESENT if same else PushState.DIFFERENT)

    @rule(target=claims, pilot=st.integers(0, 1), limit=st.integers(1, 3))
    def claim(self, pilot: int, limit: int) -> tuple[int, list[Document]]:
        """A pilot claims."""
        docs = self.pools[pilot].claim(TODO, limit, Holder(f"pilot_{pilot}", "host"))
        free = [i for i, e in self.model.items() if e.state is State.TODO]
        assert len(docs) <= limit
        assert bool(docs) == bool(free)
        for doc in docs:
            assert doc["_id"] in free
            expected = self.model[doc["_id"]]
            expected.state, expected.lease = State.LOCKED, doc["lease"]
        return pilot, docs

    @rule(claim=claims, exit_code=st.integers(0, 2), again=st.booleans(), file=st.booleans())
    def settle(
        self, claim: tuple[int, list[Document]], exit_code: int, again: bool, file: bool
    ) -> None:
        """A pilot settles what it claimed once, maybe long ago, maybe not for the first time."""
        pilot, docs = claim
        files = {"log": b"text"} if file else {}
        results = [
            Settlement(d, outcome(exit_code), Again() if again else None, files) for d in docs
        ]
        for doc, verdict in zip(docs, self.pools[pilot].settle(results), strict=True):
            expected, lease = self.model.get(doc["_id"]), doc["lease"]
            if expected is None or (expected.lease != lease and lease not in expected.results):
                assert verdict is Verdict.FENCED
                continue
            assert verdict is Verdict.RECORDED
            if expected.lease == lease:
                closed = State.ERROR if exit_code else State.DONE
                expected.state = State.TODO if again else closed
                expected.scrubs += again
                expected.lease = ""
                expected.results.append(lease)

    @rule(claim=claims, reason=st.sampled_from(["", "told to stop"]))
    def release(self, claim: tuple[int, list[Document]], reason: str) -> None:
        """A pilot gives back what it claimed."""
        pilot, docs = claim
        held = [d["_id"] for d in docs if self._held(d)]
        verdicts = self.pools[pilot].release(docs, reason)
        assert verdicts.count(Verdict.RECORDED) == len(held)
        for token_id in held:
            expected = self.model[token_id]
            expected.state, expected.lease = State.TODO, ""

    @rule(ids=st.lists(st.sampled_from(IDS), max_size=3))
    def reset(self, ids: list[str]) -> None:
        """A person resets tokens."""
        hit = {i for i in ids if i in self.model and self.model[i].state is not State.TODO}
        assert self.person.reset(ids) == len(hit)
        for token_id in hit:
            expected = self.model[token_id]
            expected.state, expected.lease = State.TODO, ""
            expected.scrubs += 1

    @rule(token_id=st.sampled_from(IDS))
    def delete(self, token_id: str) -> None:
        """A person deletes a token."""
        there = self.model.pop(token_id, None)
        assert self.person.delete([token_id]) == (there is not None)

    @precondition(lambda self: bool(self.model))
    @rule(data=st.data(), note=st.sampled_from(["edited", 0, [None]]))
    def edit(self, data: st.DataObject, note: Any) -> None:
        """A person edits a field of a token, whatever its state."""
        token_id = data.draw(st.sampled_from(sorted(self.model)))
        edit(self.person, token_id, note=note)
        self.model[token_id].note = note

    @invariant()
    def counts_agree(self) -> None:
        """The pool counts what the model counts."""
        states = [e.state for e in self.model.values()]
        assert self.pools[0].counts() == {s: states.count(s) for s in State}

    @invariant()
    def tokens_agree(self) -> None:
        """Each token has its holder, its results, its scrubs and the user's field."""
        docs = self.pools[0].store.read(IDS)
        stored = {doc["_id"]: doc for doc in docs if doc is not None}
        assert stored.keys() == self.model.keys()
        for token_id, expected in self.model.items():
            doc = stored[token_id]
            results = [a["lease"] for a in token.attempts(doc) if "exit_code" in a]
            assert results == expected.results[-token.MAX_ATTEMPTS :]
            assert doc.get("lease", "") == expected.lease
            assert (doc["scrub_count"], doc["note"]) == (expected.scrubs, expected.note)
            assert token.state(doc) is expected.state

    def _held(self, doc: Document) -> bool:
        expected = self.model.get(doc["_id"])
        return expected is not None and expected.lease == doc["lease"]


@contextmanager
def two_pools(url: str) -> Iterator[tuple[Pool, Pool]]:
    """Two pilots' connections to one pool."""
    with connect(url, create=True) as first, connect(url, create=False) as second:
        yield first, second


@pytest.mark.parametrize(
    "store", ["sqlite", pytest.param("couchdb", marks=pytest.mark.couchdb), "double"]
)
def test_store_behaves_like_the_model(
    store: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Whatever users and pilots do in whatever order, the store is as the model says."""
    url = f"sqlite:///{tmp_path / 'pool.db'}"
    if store != "sqlite":
        server: CouchServer = request.getfixturevalue(store)
        url = server.database_url(server.new_database())
    with two_pools(url) as (first, second):

        class OnThisStore(Machine):
            """The machine, at work on these two."""

            def __init__(self) -> None:
                super().__init__(first, second)

        run_state_machine_as_test(
            OnThisStore,
            settings=settings(
                max_examples=EXAMPLES[store],
                stateful_step_count=25,
                deadline=None,
                derandomize=True,
                database=None,
                print_blob=True,
                suppress_health_check=list(HealthCheck),
            ),
        )
