"""How many tokens a pilot claims."""

from picas.pilot.pace import MOST_AHEAD, Pace


def test_begins_with_the_free_slots() -> None:
    """Before anything is known, a pilot claims one token for each slot."""
    assert Pace(slots=4).want(held=0) == 4


def test_long_tokens_are_claimed_one_for_each_free_slot() -> None:
    """With tokens of a minute nothing is held that another pilot could run."""
    pace = Pace(slots=2)
    pace.saw(60.0)
    assert pace.ahead == 0
    assert pace.want(held=2) == 0
    assert pace.want(held=1) == 1


def test_short_tokens_are_claimed_by_the_batch() -> None:
    """With tokens of milliseconds about half a second of work is held."""
    pace = Pace(slots=2)
    for _ in range(20):
        pace.saw(0.01)
    assert 90 <= pace.want(held=0) <= 102
    assert pace.want(held=100) == 0


def test_no_ops_do_not_claim_the_whole_pool() -> None:
    """However short the tokens, what is held ahead has a limit."""
    pace = Pace(slots=2)
    pace.saw(0.0)
    assert pace.ahead == MOST_AHEAD


def test_claims_that_travel_with_results_come_earlier() -> None:
    """Where results are written anyway, what is held ahead is filled up sooner."""
    pace = Pace(slots=1)
    for _ in range(20):
        pace.saw(0.005)
    assert pace.want(held=60) == 0
    assert pace.want(held=60, settling=True) == 41


def test_nothing_is_held_ahead_once_tokens_had_to_wait() -> None:
    """Where tokens claimed ahead were not started, no more are claimed until one has ended."""
    pace = Pace(slots=2)
    pace.saw(0.001)
    pace.forget()
    assert pace.want(held=2) == 0
    pace.saw(0.001)
    assert pace.want(held=2) > 50


def test_nothing_is_held_ahead_on_demand() -> None:
    """With no time to claim ahead for, tokens are claimed for free slots only, however short."""
    pace = Pace(slots=2, ahead=0.0)
    pace.saw(0.0)
    assert pace.want(held=0) == 2
    assert pace.want(held=1) == 1
    assert pace.want(held=2, settling=True) == 0


def test_a_token_that_turns_long_shrinks_the_batch() -> None:
    """One slow token among fast ones brings the claims down at once."""
    pace = Pace(slots=1)
    pace.saw(0.001)
    pace.saw(100.0)
    assert pace.ahead == 0
