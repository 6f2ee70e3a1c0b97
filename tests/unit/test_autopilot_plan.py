"""How many pilots are needed: figures in, a decision and its reason out."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from picas.autopilot import Kind
from picas.autopilot.plan import FEW, Figures, decide, hold, takes_on, tokens_of

KIND = Kind("single", "SingleCore/todo", "here", max=20, max_pending=5, max_per_hour=60)


def said(now: Figures, **limits: Any) -> tuple[int, bool, bool, str]:
    """A decision as a tuple."""
    found = decide(replace(KIND, **limits), now)
    return found.submit, found.endless, found.cancel, found.reason


@pytest.mark.parametrize(
    ("now", "submit", "reason"),
    [
        (
            Figures(40, running=3, pending=2),
            3,
            "40 tokens wait, 3 pilots run, 2 wait for their start: 3 more (max_pending)",
        ),
        (Figures(2), 2, "2 tokens wait, 0 pilots run: 2 more"),
        (Figures(40, running=19), 1, "40 tokens wait, 19 pilots run: 1 more (max)"),
        (Figures(40, running=20), 0, "40 tokens wait, 20 pilots run: none more (max)"),
        (Figures(40, hour=58), 2, "40 tokens wait, 0 pilots run: 2 more (max_per_hour)"),
        (Figures(40, hour=99), 0, "40 tokens wait, 0 pilots run: none more (max_per_hour)"),
        (
            Figures(9, pending=5, running=1),
            0,
            "9 tokens wait, 1 pilot runs, 5 wait for their start: none more (max_pending)",
        ),
        (Figures(1, pending=1), 0, "1 token waits, 0 pilots run, 1 waits for its start: enough"),
        (Figures(0, running=4), 0, "0 tokens wait, 4 pilots run: nothing to do"),
        (
            Figures(0, unfit=7),
            0,
            "0 tokens wait, 7 cannot run on such pilots now, 0 pilots run: nothing to do",
        ),
        (Figures(40, pending=9), 0, "40 tokens wait, 0 pilots run, 9 wait for their start: none"),
    ],
)
def test_without_history_a_pilot_for_each_slot_full(now: Figures, submit: int, reason: str) -> None:
    """As many as there are tokens for, within the limits; the limit that decides is told."""
    found = said(now)
    assert found[:3] == (submit, False, False)
    assert found[3].startswith(reason)


@pytest.mark.parametrize(
    ("seconds", "waiting", "slots", "submit"),
    [
        (1.0, 600, 1.0, 1),  # ten minutes of work: one pilot
        (1.0, 601, 1.0, 2),
        (1.0, 2400, 4.0, 1),  # four at once
        (60.0, 30, 1.0, 3),
        (7200.0, 3, 1.0, 3),  # longer than that each: a pilot for each
        (7200.0, 5, 4.0, 2),
        (0.001, 500, 1.0, 1),
    ],
)
def test_by_history_each_has_its_share_of_work(
    seconds: float, waiting: int, slots: float, submit: int
) -> None:
    """Enough pilots that each has about the work that it is to have."""
    assert decide(KIND, Figures(waiting, token_seconds=seconds, at_once=slots)).submit == submit


def test_what_is_on_its_way_counts() -> None:
    """Tokens that pilots take on which run, or wait for their start, need no further ones."""
    assert decide(KIND, Figures(10, taken=7.5)).submit == 3
    assert decide(KIND, Figures(10, pending=4, at_once=2)).submit == 1
    assert decide(KIND, Figures(900, token_seconds=1, pending=1)).submit == 1


def test_what_a_running_pilot_takes_on() -> None:
    """What its idle slots take now, or what it gets through in the time; long ones hold it up."""
    assert takes_on(4, 3, None, 600) == 3
    assert takes_on(4, 0, 60, 600) == 40
    assert takes_on(1, 0, 6000, 600) == pytest.approx(0.1)
    assert tokens_of(4, None, 600) == 4
    assert tokens_of(4, 6000, 600) == 4


def test_a_floor_is_kept_without_work() -> None:
    """So many stay, and are submitted as such; others come on top where there is work."""
    assert said(Figures(0), min=2) == (
        2,
        True,
        False,
        "0 tokens wait, 0 pilots run: 2 more, to keep 2",
    )
    assert said(Figures(0, running=1, pending=1), min=2)[:3] == (0, False, False)
    assert said(Figures(40, running=1), min=2)[:2] == (1, True)
    assert said(Figures(40, running=2), min=2)[:2] == (5, False)


def test_pending_ones_are_cancelled_in_vain() -> None:
    """Only where nothing waits, and only those that are not to stay."""
    found = said(Figures(0, running=1, pending=3, in_vain=3))
    assert found[:3] == (0, False, True)
    assert found[3].endswith(": cancel 3 pilots that would start in vain")
    assert not decide(KIND, Figures(1, pending=3, in_vain=3)).cancel
    assert not decide(KIND, Figures(0, pending=3)).cancel


def test_submissions_that_end_without_a_pilot() -> None:
    """One is tried again by a single pilot; after some, it waits longer and longer."""
    once = said(Figures(40, failed=1, output="slurm-7.out"))
    assert once[0] == 1
    assert once[3].endswith(
        ": 1 more (a trial: the last submission ended without a pilot; see slurm-7.out)"
    )
    assert decide(KIND, Figures(40, failed=1, pending=1)).submit == 0
    held = said(Figures(40, failed=3, held=100, output="slurm-9.out"))
    assert held[0] == 0
    assert held[3].endswith(
        ": none for 2 min, as 3 submissions in a row ended without a pilot; see slurm-9.out"
    )
    assert [hold(n) for n in (0, FEW - 1, FEW, FEW + 1, 99)] == [0, 0, 120, 240, 3600]


@given(
    st.builds(
        Figures,
        waiting=st.integers(0, 10**6),
        taken=st.floats(0, 10**6),
        running=st.integers(0, 50),
        pending=st.integers(0, 50),
        in_vain=st.integers(0, 50),
        hour=st.integers(0, 100),
        token_seconds=st.none() | st.floats(0.001, 10**6),
        at_once=st.floats(1, 128),
        failed=st.integers(0, 9),
        held=st.floats(0, 100),
    ),
    st.integers(0, 9),
)
def test_no_limit_is_ever_passed(now: Figures, floor: int) -> None:
    """Whatever the figures are."""
    found = decide(replace(KIND, min=floor), now)
    assert 0 <= found.submit <= max(0, KIND.max_pending - now.pending)
    assert found.submit <= max(0, KIND.max - now.running - now.pending)
    assert found.submit <= max(0, KIND.max_per_hour - now.hour)
    assert not (found.submit and found.cancel and now.waiting)
    assert found.submit == 0 or now.waiting > 0 or found.endless
    assert "\n" not in found.reason
