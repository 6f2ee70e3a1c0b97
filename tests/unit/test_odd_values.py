"""Whatever JSON somebody writes into a document, what reads it goes on."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from picas import figures, needs, retry, token, units
from picas.cli.table import clock
from picas.conditions import parse
from picas.errors import ConfigError, InputError
from picas.explain import Scene, explain
from picas.needs import Offer
from picas.pilot.lease import LeaseTimes
from picas.pool import PoolSettings
from picas.pool import settings as pool_settings
from picas.pool.couchdb import conflicts
from picas.retry import Policies, RetryPolicy
from picas.token import Document, Holder, Outcome
from picas.views import MONITOR, Design

NOW = 1_800_000_000.0
HOLDER = Holder("pilot_node1_7_aaaaaaaa", "node1")
HUGE = 10**400

NUMBERS = st.one_of(
    st.integers(-3, 300),
    st.floats(),
    st.sampled_from([HUGE, -HUGE, 1e308, -1e308, NOW + 60, NOW - 60, 2.0**63]),
)
TEXTS = st.one_of(
    st.text(max_size=4),
    st.sampled_from(["²", "9" * 400, "9" * 5000, "64-78", "5m", "8G", "Infinity", "node1", "0x1f"]),
)
ODD = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=4,
)


def some(*names: str, of: st.SearchStrategy[Any] = ODD) -> st.SearchStrategy[dict[str, Any]]:
    """Objects in which some of these fields have odd values."""
    return st.fixed_dictionaries({}, optional=dict.fromkeys(names, of))


POLICIES = st.one_of(ODD, some(*retry.SETTINGS, "trys"))
ATTEMPTS = st.one_of(
    ODD,
    st.lists(
        some(
            "n", "start", "end", "host", "pilot", "lease", "exit_code", "reason", "wall", "memory"
        ),
        max_size=4,
    ),
)
SETTINGS = st.builds(
    lambda fields, retry, designs: {**fields, "retry": retry, "designs": designs},
    some("lease", "heartbeat", "type", "note"),
    POLICIES,
    st.one_of(ODD, st.dictionaries(st.sampled_from(["Big", "Monitor", ""]), some("retry"))),
)
PILOT_FIELDS = some(
    *("hostname", "state", "view", "slots", "running", "started", "heartbeat", "ended", "done"),
    *("error", "scrubbed", "unsettled", "health", "reason", "logs", "cores", "memory", "gpus"),
)


@st.composite
def tokens(draw: st.DrawFn) -> Document:
    """A token in some state, with odd values in some of its fields."""
    doc = token.new({"input": "true"}, "t")
    if draw(st.booleans()):
        doc = token.claim(doc, NOW - 600, HOLDER, "nonce")
        if draw(st.booleans()):
            code = draw(st.sampled_from([0, 1, 137]))
            doc = token.settle(doc, NOW - 300, Outcome(code, NOW - 600, NOW - 300, "why", 300.0))
    doc |= draw(
        some(
            *("type", "lock", "done", "exit_code", "hostname", "scrub_count", "tries_from"),
            *("pilot", "lease", "not_before", "avoid", "avoid_until", "error", *needs.NEEDS),
        )
    )
    doc |= draw(some("retry", of=POLICIES)) | draw(some("attempts", of=ATTEMPTS))
    return doc


@st.composite
def pilots(draw: st.DrawFn) -> Document:
    """The document of a pilot, with odd values in some of its fields."""
    doc: Document = {"_id": HOLDER.pilot, "type": "pilot", "hostname": "node1"}
    doc |= {"view": "Monitor/todo", "slots": 2, "running": ["t"], "state": "running"}
    return doc | {"started": NOW - 900, "heartbeat": NOW - 20} | draw(PILOT_FIELDS)


@given(ODD)
def test_numbers_times_and_sizes(value: Any) -> None:
    """A value is a finite number or none; a span and a size, or refused in one short line."""
    found = units.number(value)
    assert found is None or abs(found) < float("inf")
    for read in (units.seconds, units.size):
        told = ""
        try:
            assert read(value) >= 0
        except InputError as error:
            told = str(error)
        assert len(told) < 150


@pytest.mark.parametrize("value", [True, "1", None, [], HUGE, -HUGE, float("nan"), float("inf")])
def test_what_is_no_number(value: object) -> None:
    """Truth values, texts, and what no float holds."""
    assert units.number(value) is None


@given(tokens())
def test_when_a_token_is_ready(doc: Document) -> None:
    """A pilot can tell of each token whether it takes it."""
    assert Offer("node1", 4, 8 << 30, 1).ready_at(doc) >= 0 or needs.not_before(doc) < 0
    json.dumps(needs.needs(doc))


@given(tokens(), st.booleans())
def test_what_becomes_of_a_failed_token(doc: Document, out_of_memory: bool) -> None:
    """Each has a policy, by which it gets another try or none; and that can be recorded."""
    outcome = Outcome(1, NOW - 9, NOW, "why", 9.0, memory=1 << 30, out_of_memory=out_of_memory)
    policy = Policies({"tries": 3}).of(doc)
    again = policy.decide(doc, outcome)
    if again is not None:
        assert 0 <= again.delay < float("inf")
        token.scrub(doc, NOW, outcome, again)


@given(POLICIES)
def test_a_policy_that_is_none_is_the_common_one(own: Any) -> None:
    """Anything odd in a token's own policy makes it no policy."""
    made = Policies({"tries": 3}).of({"retry": own})
    try:
        wanted = retry.policy(own, {"tries": 3}) if isinstance(own, dict) else RetryPolicy(3)
    except InputError:
        wanted = RetryPolicy(3)
    assert made == wanted


@given(st.sampled_from(retry.SETTINGS), TEXTS)
def test_settings_that_a_person_types(name: str, text: str) -> None:
    """They are refused as bad input, or can be read back."""
    with suppress(InputError):
        retry.read({name: retry.from_text(name, text)})


@given(SETTINGS)
def test_settings_of_a_pool(doc: Document) -> None:
    """They are read, or refused in one line; what can be read makes policies and times."""
    settings = PoolSettings.readable(doc)
    for design in ("Big", "Monitor"):
        Policies(*settings.retry_layers(design))
    with suppress(ConfigError):
        assert PoolSettings.from_document(doc) == settings
        assert not settings.problems
    with suppress(ConfigError):
        LeaseTimes.of(settings, {})


@given(SETTINGS)
def test_commands_that_are_told_mend_all_settings(doc: Document) -> None:
    """Taking out what the problems name, design by design, leaves only what can be read."""
    known = PoolSettings.readable(doc)
    for design in {problem.design for problem in known.problems}:
        names = [problem.name for problem in known.problems if problem.design == design]
        doc = pool_settings.change(doc, [(name, "") for name in names], design)
    mended = PoolSettings.from_document(doc)
    assert set(known.unknown) == set(mended.unknown)
    assert {n: v for n in mended.retry if (v := mended.retry[n])} == {
        n: v for n in known.retry if (v := known.retry[n])
    }


@given(st.lists(pilots(), max_size=3), tokens())
def test_figures(docs: list[Document], doc: Document) -> None:
    """Every figure can be told, and written for a person."""
    fleet = figures.Fleet.of(docs, NOW)
    assert fleet.running >= 0
    for pilot in docs:
        assert figures.pilot_state(pilot, NOW) in figures.PilotState
        figures.pilot_why(pilot)
        figures.duration(NOW - figures.number(pilot, "heartbeat"))
    rate = figures.pilots_rate(docs, NOW, "Monitor")
    if rate is not None:
        figures.rate(rate)
        figures.duration(figures.time_left(5, rate) or 0.0)
    figures.distribution(figures.wall_times([doc, *docs]))


@given(st.floats(allow_nan=False))
def test_durations(seconds: float) -> None:
    """No span of time is told in more than a few characters."""
    assert len(figures.duration(seconds)) <= 16


@given(tokens(), st.lists(pilots(), max_size=2), SETTINGS, st.integers(0, 2))
def test_explaining(doc: Document, docs: list[Document], stored: Document, waiting: int) -> None:
    """Each token is explained in some sentences."""
    designs = {"Monitor": MONITOR, "Big": Design("Big", parse("cores >= 4"))}
    settings = PoolSettings.readable(stored)
    scene = Scene(NOW, 300.0, clock, docs, designs, settings, {"Monitor/todo": waiting})
    found = explain(doc, scene)
    assert found
    assert all(finding.text for finding in found)


@given(st.lists(tokens(), min_size=1, max_size=3), st.randoms())
def test_conflicting_revisions(docs: list[Document], random: Any) -> None:
    """One stands, whatever the order; and what is dropped can be told."""
    leaves = [{**doc, "_rev": f"{n}-{n:032x}"} for n, doc in enumerate(docs, 1)]
    one = conflicts.standing(leaves)
    conflicts.resolution(leaves)
    random.shuffle(leaves)
    other = conflicts.standing(leaves)
    assert one is not None
    assert other is not None
    assert one["_rev"] == other["_rev"]
