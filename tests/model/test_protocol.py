"""The promises hold in every state that the protocol can reach, and the model would notice."""

import pytest

from tests.model.protocol import Scenario, shallow
from tests.model.world import (
    EDIT_LOST,
    HANDED_TWICE,
    OVERWRITTEN,
    RUN_AGAIN,
    STUCK,
    TAKEN,
    UNFENCED,
    Breach,
    Faults,
    Rules,
)


@pytest.mark.parametrize("scenario", shallow(), ids=str)
def test_every_promise_holds_whatever_goes_wrong(scenario: Scenario) -> None:
    """No order of two pilots, a reaper, a person and these faults breaks a promise."""
    report = scenario.explore()
    assert report.violation is None, str(report.violation)
    assert report.ends


@pytest.mark.parametrize("faults", [Faults(lost=3), Faults(lost=1, late=1)], ids=["lost", "late"])
def test_without_a_reason_to_run_again_each_token_runs_once(faults: Faults) -> None:
    """Two pilots, requests and replies lost, and requests late alone: no token runs twice."""
    report = Scenario(faults, tokens=2).explore()
    assert report.violation is None, str(report.violation)
    assert {world.runs for world in report.ends} == {(0, 0)}


def test_the_exploration_reaches_the_rare_moments() -> None:
    """What the model holds does happen in it: fencing, recognised results, late writes."""
    happened = Scenario(Faults(lost=1, reset=1, outage=1)).explore().happened
    assert happened >= {
        "pilot 1: reads A back: the claim was granted",
        "pilot 2: reads A back: not its own",
        "pilot 1: settles A: recorded before",
        "pilot 1: settles A: fenced",
        "pilot 2: beats",
    }
    happened = Scenario(Faults(crash=1, edit=1, late=1)).explore().happened
    assert happened >= {
        "pilot 1: settles A: conflict, reads the newest revision",
        "reaper: gives A back: written",
        "reaper: gives A back: conflict, reads it again",
        "reaper: notes the gone as lost",
        "pilot 1: reads A back: as it was seen",
        "pilot 1: claims A: conflict",
        "pilot 1: settles A: no answer, the request is on its way",
        "the late write of pilot 1 to A is applied",
        "the late write of the reaper to A is applied",
    }


@pytest.mark.parametrize("breach", [HANDED_TWICE, RUN_AGAIN, OVERWRITTEN])
def test_a_claim_over_the_newest_revision_is_found_out(breach: Breach) -> None:
    """The classic client's claim runs a token twice, and wipes out a result."""
    assert_found(Scenario(Faults(), rules=Rules(claim_newest=True)), breach, steps=8)


def test_settling_without_the_lease_is_found_out() -> None:
    """A pilot whose token was reset would record its result all the same."""
    scenario = Scenario(Faults(reset=1), rules=Rules(settle_unchecked=True))
    assert_found(scenario, UNFENCED, steps=6)


def test_settling_without_the_lease_overwrites_a_result() -> None:
    """A pilot that comes back late would write over the result of another."""
    scenario = Scenario(Faults(suspend=1), rules=Rules(settle_unchecked=True))
    assert_found(scenario, OVERWRITTEN, steps=15)


def test_sending_a_claim_again_is_found_out() -> None:
    """A pilot that takes the conflict with its own claim for another's locks the token for ever."""
    assert_found(Scenario(Faults(lost=1), rules=Rules(resend_claims=True)), STUCK, steps=2)


def test_settling_with_the_own_copy_is_found_out() -> None:
    """What a person edited while the token ran would be gone."""
    assert_found(Scenario(Faults(edit=1), rules=Rules(settle_own_copy=True)), EDIT_LOST, steps=6)


def test_a_claim_read_back_once_is_found_out() -> None:
    """A claim applied after that would lock the token for a pilot that does not know it."""
    assert_found(Scenario(Faults(late=1), rules=Rules(read_back_once=True)), STUCK, steps=4)


def test_reaping_by_age_alone_is_found_out() -> None:
    """Right after an outage all heartbeats are old: pilots that live would lose their tokens."""
    assert_found(Scenario(Faults(outage=1), rules=Rules(by_age=True)), TAKEN, steps=6)


def test_a_touch_that_outlasts_an_outage_is_found_out() -> None:
    """Of two outages in a row, the second would count as the time to say that one lives."""
    assert_found(Scenario(Faults(outage=2), rules=Rules(touch_outlasts=True)), TAKEN, steps=7)


def test_a_missing_document_taken_for_silence_is_found_out() -> None:
    """A pilot whose document a person deleted lives, and needs the time to write it again."""
    scenario = Scenario(Faults(forget=1), rules=Rules(missing_is_silent=True))
    assert_found(scenario, TAKEN, steps=9)


def test_reaping_without_a_thorough_look_is_found_out() -> None:
    """A pilot found gone, resumed, and killed before its next beat would leave a token locked."""
    scenario = Scenario(Faults(suspend=1, crash=1), rules=Rules(trust_documents=True))
    assert_found(scenario, STUCK, steps=8)


def assert_found(scenario: Scenario, breach: Breach, *, steps: int) -> None:
    """The exploration finds that promise broken, in a trace of at most so many steps."""
    violation = scenario.explore({breach}).violation
    assert violation is not None
    assert violation.breach == breach
    assert len(violation.trace) <= steps, str(violation)
