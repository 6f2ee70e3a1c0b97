"""The token document: its states, its changes, and what survives them."""

import copy
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from picas import token, wellformed
from picas.errors import InputError
from picas.jobid import JOB_ID_FIELDS
from picas.token import MAX_ATTEMPTS, Document, Holder, Outcome, State

NOW = 1_700_000_000.7
HOLDER = Holder("pilot_x", "host", {"pbs_job_id": "12.server"})
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abü", min_size=1), inner),
    max_leaves=5,
)
OWN_NAMES = st.text("xyzü", min_size=1, max_size=3)


def locked(**fields: Any) -> Document:
    """A claimed token."""
    return token.claim(token.new(fields, "a"), NOW, HOLDER, "lease1")


def ended(exit_code: int | None = 0, **more: Any) -> Outcome:
    """An attempt of ten seconds."""
    return Outcome(exit_code, NOW, NOW + 10.00049, f"exit code {exit_code}", 10.00049, **more)


# --- states --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lock", "done", "exit_code", "state"),
    [
        (0, 0, "", State.TODO),
        ("0", False, "", State.TODO),
        ("", 0, "", State.TODO),
        (5, 0, "", State.LOCKED),
        ("5", "0", "", State.LOCKED),
        (5, 6, 0, State.DONE),
        (5, 6, "0", State.DONE),
        (5, 6, "0x0", State.DONE),
        (5, 6, 0.7, State.DONE),
        (5, 6, " 0 ", State.DONE),
        (5, 6, 1, State.ERROR),
        (5, 6, "", State.ERROR),
        (5, 6, None, State.ERROR),
        (5, 6, False, State.ERROR),
        (99, 99, "", State.ERROR),
        (10**400, 1, 0, State.DONE),
        (-1, 0, "", None),
        (0, 5, 0, None),
        (None, 0, "", None),
        ("soon", 0, "", None),
        ([], 0, "", None),
    ],
)
def test_state_as_the_classic_views_see_it(
    lock: Any, done: Any, exit_code: Any, state: State | None
) -> None:
    """The state comes from the fields by the views' own loose comparisons."""
    doc = {"type": "token", "lock": lock, "done": done, "exit_code": exit_code}
    assert token.state(doc) is state


@pytest.mark.parametrize("kind", [None, "task", "pilot", ["token"]])
def test_other_documents_have_no_state(kind: Any) -> None:
    """Only documents of type token are tokens."""
    assert token.state({"type": kind, "lock": 0, "done": 0}) is None


# --- making --------------------------------------------------------------------------------------


def test_new_token_has_the_classic_fields() -> None:
    """What the user leaves out is there as a classic client has it."""
    doc = token.new({"input": "x", "mine": 1}, "a")
    assert next(iter(doc)) == "_id"
    assert doc == {"_id": "a", **token.CLASSIC_DEFAULTS, "input": "x", "mine": 1}
    assert token.new({"_id": "b"})["_id"] == "b"
    assert token.new({"_id": "b"}, "c")["_id"] == "c"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "needs an _id"),
        ({"_id": ""}, "needs an _id"),
        ({"_id": 5}, "needs an _id"),
        ({"_id": "_a"}, "starts with '_'"),
        ({"_id": "a", "type": "task"}, 'must be "token"'),
        ({"_id": "a", "_x": 1}, "'_x'"),
        ({"_id": "a", "x": {"y": [1, math.nan]}}, r"x\.y\[1\] is nan"),
        ({"_id": "a", "x": -math.inf}, "x is -inf"),
        ({"_id": "a", "x": b"1"}, "x is a bytes"),
        ({"_id": "a", "x": {1}}, "x is a set"),
        ({"_id": "a", "x": {1: 2}}, "name 1 in x is not a text"),
        ({"_id": "a", "x": "\udc80"}, "surrogate"),
        ({"_id": "a", "x": {"\udc80": 1}}, "surrogate"),
        ({"_id": "\udc80"}, "surrogate"),
    ],
)
def test_what_is_no_token(fields: Document, words: str) -> None:
    """Each reason why something cannot be a token is told, with the place."""
    with pytest.raises(InputError, match=words) as caught:
        token.new(fields)
    assert "\n" not in str(caught.value)
    str(caught.value).encode()


@pytest.mark.parametrize("fields", [{"_rev": "1-a"}, {"_id": "b"}, {"x": math.inf}])
def test_fields_that_a_task_may_not_write(fields: Document) -> None:
    """A task's fields are checked before they get near the token."""
    with pytest.raises(InputError, match="'a'"):
        wellformed.check_fields("a", fields)


# --- changes -------------------------------------------------------------------------------------


def test_claim() -> None:
    """A claim says when, by whom, where and in which batch job, and forgets the job of before."""
    before = token.new({"slurm_job_id": "old", "exit_code": 3, "mine": 1}, "a")
    doc = token.claim(before, NOW, HOLDER, "lease1")
    assert token.state(doc) is State.LOCKED
    assert (doc["lock"], doc["exit_code"], doc["hostname"], doc["mine"]) == (
        int(NOW),
        "",
        "host",
        1,
    )
    assert (doc["pilot"], doc["lease"], doc["pbs_job_id"]) == ("pilot_x", "lease1", "12.server")
    assert "slurm_job_id" not in doc
    assert token.holds(doc, doc)
    assert not token.holds(doc, {**doc, "lease": "lease2"})
    assert not token.holds(None, doc)
    assert token.locked_at(doc) == int(NOW)


@pytest.mark.parametrize(
    ("exit_code", "state"), [(0, State.DONE), (1, State.ERROR), (143, State.ERROR)]
)
def test_settle(exit_code: int, state: State) -> None:
    """The result ends the lease and is in the history; the batch job stays to be seen."""
    doc = token.settle(
        locked(),
        NOW + 10,
        ended(exit_code, cpu=1.23456, memory=5),
    )
    assert token.state(doc) is state
    assert doc["pbs_job_id"] == "12.server"
    assert not {"lease", "pilot"} & doc.keys()
    (attempt,) = doc["attempts"]
    assert (attempt["wall"], attempt["cpu"], attempt["memory"]) == (10.0, 1.235, 5)
    assert (attempt["job"], attempt["host"], attempt["n"]) == ("12.server", "host", 1)
    assert token.ended(doc, "lease1")
    assert not token.ended(doc, "lease2")
    assert not token.ended(None, "lease1")


def test_whole_floats_are_counts() -> None:
    """JSON does not tell 2.0 from 2, and some clients write the one for the other."""
    assert token.scrub_count({"scrub_count": 2.0}) == 2
    assert token.failed_tries({"scrub_count": 3.0, "tries_from": 1.0}) == 2
    odd = ["2", True, 2.5, float("inf"), 10**400, None]
    assert [token.scrub_count({"scrub_count": value}) for value in odd] == [0] * 6


def test_scrub() -> None:
    """A failed token waits again, counted, without its batch job."""
    doc = token.scrub(locked(scrub_count="odd"), NOW, ended(3, error="boom"), token.Again())
    assert token.state(doc) is State.TODO
    assert doc["scrub_count"] == 1
    assert doc["error"] == [{"time": int(NOW), "message": "boom"}]
    assert not set(JOB_ID_FIELDS) & doc.keys()
    assert token.ended(doc, "lease1")


def test_release() -> None:
    """A token given back is not counted; its history tells only what had begun."""
    assert "attempts" not in token.release(locked(), NOW + 5, "")
    doc = token.release(locked(), NOW + 5, "told to stop")
    assert (token.state(doc), doc["scrub_count"]) == (State.TODO, 0)
    assert doc["attempts"][0]["reason"] == "told to stop"
    assert doc["attempts"][0]["wall"] == pytest.approx(5.7)


@pytest.mark.parametrize("broken_off", ["release", "reset"])
def test_broken_off_is_not_recorded(broken_off: str) -> None:
    """An attempt that a person or the pilot's end broke off has no result under its lease."""
    doc = locked()
    doc = token.reset(doc, NOW) if broken_off == "reset" else token.release(doc, NOW, "stop")
    assert doc["attempts"][0]["lease"] == "lease1"
    assert not token.ended(doc, "lease1")


def test_reset() -> None:
    """A reset token waits again, counted; a finished one gets no second entry."""
    doc = token.reset(token.settle(locked(), NOW, ended(1)), NOW + 20)
    assert (token.state(doc), doc["scrub_count"], len(doc["attempts"])) == (State.TODO, 1, 1)
    assert (doc["hostname"], doc["exit_code"]) == ("", "")


@pytest.mark.parametrize("errors", [[], "", None, {}, "old", [{"old": 1}]])
def test_error(errors: Any) -> None:
    """A message is added to whatever a classic client left in the list of errors."""
    doc = token.error(locked(error=errors), NOW, "boom")
    assert token.state(doc) is State.ERROR
    assert doc["error"][-1] == {"time": int(NOW), "message": "boom"}
    assert len(doc["error"]) == 1 + bool(errors)
    assert doc["exit_code"] == 1


def test_error_of_a_waiting_or_finished_token() -> None:
    """Any token can be put to error; an exit code that says so already is kept."""
    assert token.state(token.error(token.new({}, "a"), NOW, "x")) is State.ERROR
    failed = token.settle(locked(), NOW, ended(7))
    assert token.error(failed, NOW, "x")["exit_code"] == 7
    done = token.settle(locked(), NOW, ended(0))
    assert token.state(token.error(done, NOW, "x")) is State.ERROR


def test_history_is_capped_and_counts_on() -> None:
    """Old attempts leave, numbers go on; what is no entry is ignored."""
    doc = token.new({"attempts": ["odd", {"n": "odd"}]}, "a")
    assert token.next_attempt(doc) == 1
    for n in range(MAX_ATTEMPTS + 3):
        doc = token.scrub(token.claim(doc, NOW, HOLDER, str(n)), NOW, ended(1), token.Again())
    assert len(doc["attempts"]) == MAX_ATTEMPTS
    assert token.next_attempt(doc) == MAX_ATTEMPTS + 4
    assert token.attempts({"attempts": "odd"}) == []


def test_names_of_logs() -> None:
    """Logs carry the token's id, and their attempt's number once another came after."""
    assert token.log_name("a/b", "out") == "logs_a/b.out"
    assert token.log_name("a", "err", 3) == "logs_a.3.err"


def test_leases_differ() -> None:
    """A lease is a fresh nonce."""
    leases = {token.new_lease() for _ in range(1000)}
    assert len(leases) == 1000
    assert {len(lease) for lease in leases} == {16}


@given(
    own=st.dictionaries(OWN_NAMES, JSON, max_size=4),
    fields=st.dictionaries(st.sampled_from(["lock", "done", "type", "attempts", "lease"]), JSON),
    exit_code=st.integers(0, 255),
    again=st.booleans(),
)
def test_changes_keep_the_users_fields(
    own: Document, fields: Document, exit_code: int, again: bool
) -> None:
    """No change touches the document given or the user's fields, and each ends where it should."""
    waiting = token.new(own, "a")
    held = token.claim(waiting, NOW, HOLDER, "lease1")
    outcome = ended(exit_code, fields=fields)
    closed = (
        token.scrub(held, NOW, outcome, token.Again())
        if again
        else token.settle(held, NOW, outcome)
    )
    changes = [
        (held, State.LOCKED),
        (closed, State.TODO if again else State.ERROR if exit_code else State.DONE),
        (token.release(held, NOW, "x"), State.TODO),
        (token.reset(closed, NOW), State.TODO),
        (token.error(held, NOW, "x"), State.ERROR),
    ]
    assert waiting == token.new(own, "a")
    unchanged = copy.deepcopy(held)
    for doc, state in changes:
        assert token.state(doc) is state
        assert own.items() <= doc.items()
        wellformed.check(doc)
        assert json.loads(json.dumps(doc, allow_nan=False)) == doc
    assert held == unchanged


def test_lost_three_times_running_is_an_error() -> None:
    """A token whose pilots keep dying is closed; a run in between starts the count anew."""

    def lost(doc: token.Document) -> token.Document:
        return token.lost(token.claim(doc, NOW, HOLDER, "lease"), NOW)

    twice = lost(lost(token.new({}, "a")))
    assert token.state(twice) is State.TODO
    assert token.state(lost(twice)) is State.ERROR
    ran = token.claim(twice, NOW, HOLDER, "lease")
    ran = token.scrub(ran, NOW, token.Outcome(1, NOW, NOW, "exit code 1", 0.0), token.Again())
    assert token.state(lost(lost(ran))) is State.TODO
    assert ran["scrub_count"] == 1


def test_losses_of_tokens_claimed_ahead_do_not_count() -> None:
    """A token that may never have started is not taken for what kills its pilots."""

    def lost(doc: token.Document, *, ahead: bool) -> token.Document:
        return token.lost(token.claim(doc, NOW, HOLDER, token.new_lease(ahead=ahead)), NOW)

    doc = token.new({}, "a")
    for _ in range(5):
        doc = lost(doc, ahead=True)
    assert token.state(doc) is State.TODO
    assert token.was_lost(doc)
    for ahead in (False, True, False):
        doc = lost(doc, ahead=ahead)
        assert token.state(doc) is State.TODO
    assert token.state(lost(doc, ahead=True)) is State.TODO
    assert token.state(lost(doc, ahead=False)) is State.ERROR
