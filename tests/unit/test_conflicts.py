"""Of a token's conflicting revisions one stands, the same for everybody, and no result is lost."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from picas import token
from picas.pool.couchdb.conflicts import LOST_TO, leaf, replica, resolution, revival, standing
from picas.token import Document, Holder, Outcome, State

HOLDER = Holder("pilot_anna", "host-a")
LATER, FIRST, LAST = "5-" + "0" * 32, "2-" + "1" * 32, "2-" + "f" * 32


def revision(rev: str, state: State = State.TODO, lease: str = "aaaa", **fields: Any) -> Document:
    """A token in that revision and state."""
    doc = {**token.new({"input": "true"}, "t"), "_rev": rev}
    if state is not State.TODO:
        doc = token.claim(doc, 100, HOLDER, lease)
    if state in (State.DONE, State.ERROR):
        code = 0 if state is State.DONE else 3
        doc = token.settle(doc, 110, Outcome(code, 100, 110, f"exit code {code}", 10.0))
    return {**doc, **fields}


def deleted(rev: str, **fields: Any) -> Document:
    """A deletion of that revision."""
    return {"_id": "t", "_rev": rev, "_deleted": True, **fields}


@st.composite
def leaves(draw: st.DrawFn) -> list[Document]:
    """The leaves of one token, in some order; deletions too."""
    revs = draw(
        st.lists(
            st.builds("{}-{:032x}".format, st.integers(1, 12), st.integers(0, 15)),
            min_size=1,
            max_size=5,
            unique=True,
        )
    )
    return [
        draw(
            st.one_of(
                st.builds(revision, st.just(rev), st.sampled_from(State), st.just(f"{n:04}")),
                st.just(deleted(rev)),
            )
        )
        for n, rev in enumerate(revs)
    ]


def results(doc: Document) -> set[str]:
    """Leases of the attempts in its history."""
    return {entry["lease"] for entry in token.attempts(doc)}


@given(leaves(), st.randoms())
def test_everybody_agrees(found: list[Document], random: Any) -> None:
    """The order in which a server has the revisions does not matter."""
    shuffled = random.sample(found, len(found))
    assert standing(shuffled) == standing(found)
    first, second = resolution(found), resolution(shuffled)
    assert (first and first.merged) == (second and second.merged)


@given(leaves(), st.data())
def test_what_stands_is_deleted_by_nobody(found: list[Document], data: st.DataObject) -> None:
    """Who sees only some of the revisions does not delete the one that stands among all."""
    best = standing(found)
    some = data.draw(st.lists(st.sampled_from(found), unique_by=lambda doc: doc["_rev"]))
    plan = resolution(some)
    assert plan is None or best not in plan.losers


@given(leaves())
def test_no_result_is_lost(found: list[Document]) -> None:
    """Every recorded result stands, or is in the history of the one that does."""
    plan = resolution(found)
    if plan is not None:
        kept = results(plan.merged or plan.standing)
        assert kept == results(plan.standing).union(*(results(doc) for doc in plan.losers))


@given(leaves())
def test_a_resolution_leaves_one_revision_that_is_no_claim(found: list[Document]) -> None:
    """But for claims side by side, which their pilots settle, all but one revision goes."""
    plan = resolution(found)
    live = [doc for doc in found if "_deleted" not in doc]
    left = [doc for doc in live if plan is None or doc not in plan.losers]
    assert len(left) <= 1 or {token.state(doc) for doc in left} == {State.LOCKED}


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (State.DONE, State.ERROR),
        (State.DONE, State.LOCKED),
        (State.ERROR, State.LOCKED),
        (State.ERROR, State.TODO),
        (State.LOCKED, State.TODO),
    ],
)
def test_the_most_advanced_one_stands(better: State, worse: State) -> None:
    """A result stands against a longer history of edits; a success against a failure."""
    best = revision(FIRST, better)
    plan = resolution([revision(LATER, worse), best])
    assert plan is not None
    assert plan.standing == best
    assert [doc["_rev"] for doc in plan.losers] == [LATER]


@pytest.mark.parametrize("state", State)
def test_among_equals_it_is_the_choice_of_couchdb(state: State) -> None:
    """The longest history stands, then the highest digest."""
    first, last, later = (revision(rev, state) for rev in (FIRST, LAST, LATER))
    assert standing([last, first]) == last
    assert standing([later, last, first]) == later
    assert standing([revision("10-" + "0" * 32, state), later])["_rev"][:2] == "10"  # type: ignore[index]


def test_claims_side_by_side_are_left_to_their_pilots() -> None:
    """Nobody deletes a claim while another one stands: one of the two may be granted."""
    locked = [revision(FIRST, State.LOCKED, "aaaa"), revision(LAST, State.LOCKED, "bbbb")]
    assert resolution(locked) is None
    plan = resolution([*locked, revision(LATER)])
    assert plan is not None
    assert [doc["_rev"] for doc in plan.losers] == [LATER]


def test_a_claim_that_ended_elsewhere_is_over() -> None:
    """An edit of a locked token that met its release does not leave it locked for nobody."""
    claimed = revision(FIRST, State.LOCKED, "aaaa")
    freed = {**token.release(claimed, 120, "released: TERM"), "_rev": LATER}
    plan = resolution([{**claimed, "_rev": LAST, "note": "an edit"}, freed])
    assert plan is not None
    assert (plan.standing, len(plan.losers)) == (freed, 1)


def test_a_dropped_result_is_told_in_the_history() -> None:
    """The operator sees that the token ran twice, and which result counts."""
    stands = revision(LATER, State.DONE, "aaaa")
    plan = resolution([stands, revision(FIRST, State.ERROR, "bbbb")])
    assert plan is not None
    assert plan.merged is not None
    own, dropped = plan.merged["attempts"]
    assert (own["lease"], own["exit_code"]) == ("aaaa", 0)
    assert dropped["reason"] == "exit code 3; dropped: another result stands"
    assert not token.ended(plan.merged, "bbbb")
    assert token.last_run(plan.merged) == 1
    assert token.state(plan.merged) is State.DONE


def test_a_result_is_merged_once() -> None:
    """A resolution that was broken off after its first write is only finished."""
    loser = revision(FIRST, State.ERROR, "bbbb")
    plan = resolution([revision(LATER, State.DONE), loser])
    assert plan is not None
    assert plan.merged is not None
    again = resolution([{**plan.merged, "_rev": "6-" + "0" * 32}, loser])
    assert again is not None
    assert (again.merged, again.losers) == (None, [loser])


def test_other_documents_are_left_alone() -> None:
    """Of designs, pilots and what users keep in the pool nothing is deleted."""
    docs = [revision(FIRST, State.DONE, type="design"), revision(LATER, type="design")]
    assert standing(docs) == docs[1]
    assert resolution(docs) is None
    assert resolution([revision(FIRST), {**revision(LAST), "type": "note"}]) is None


def test_one_revision_is_no_conflict() -> None:
    """Nothing is done about a document with one leaf beside old deletions, or none at all."""
    alone = revision(FIRST)
    assert resolution([alone, deleted(LATER)]) is None
    assert standing([alone, deleted(LATER)]) == alone
    assert standing([deleted(LATER)]) is None
    assert standing([]) is None


def test_deletions_say_for_what() -> None:
    """A deletion that resolves a conflict names the revision that stands."""
    plan = resolution([revision(FIRST), revision(LAST)])
    assert plan is not None
    assert plan.deletions() == [deleted(FIRST, **{LOST_TO: LAST})]


def test_a_token_that_resolutions_deleted_altogether_is_revived() -> None:
    """Two pilots that saw different revisions stand do not lose the token between them."""
    plan = resolution([revision(FIRST), revision(LAST, State.LOCKED)])
    assert plan is not None
    gone = [deleted(FIRST, **{LOST_TO: LAST}), deleted(LAST, **{LOST_TO: FIRST})]
    revived = revival(plan, gone, now=120)
    assert revived is not None
    assert token.state(revived) is State.TODO
    assert "_rev" not in revived
    assert "lease" not in revived


@pytest.mark.parametrize(
    "found",
    [[], [revision(LAST)], [deleted(LAST)], [deleted(FIRST, **{LOST_TO: LAST}), deleted(LAST)]],
)
def test_nothing_else_is_revived(found: list[Document]) -> None:
    """A token that is there, or that a person deleted, stays as it is."""
    plan = resolution([revision(FIRST), revision(LAST)])
    assert plan is not None
    assert revival(plan, found, now=120) is None


def test_a_leaf_knows_what_it_follows() -> None:
    """The history of revisions stays out of the document, and comes back for other copies."""
    read = {"_id": "t", "_rev": "3-c", "_revisions": {"start": 3, "ids": ["c", "b", "a"]}}
    assert leaf(read).parent == "2-b"
    assert leaf(read).doc == {"_id": "t", "_rev": "3-c"}
    assert replica(leaf(read)) == read
    assert leaf({"_rev": "1-a", "_revisions": {"start": 1, "ids": ["a"]}}).parent is None
    assert leaf({"_rev": "1-a"}).parent is None
