"""A pilot notices that its host fails everything."""

import pytest

from picas import token
from picas.pilot.health import SLOW_AFTER, Health
from picas.token import Document, Outcome


def fail(health: Health, number: int = 1, *, wall: float = 0.1, final: bool = False) -> None:
    """Let so many different tokens fail."""
    for n in range(number):
        health.saw(token.new({}, f"t{n}"), Outcome(127, 0, 1, "exit code 127", wall), final=final)


def succeed(health: Health) -> None:
    """Let a token succeed."""
    health.saw(token.new({}, "good"), Outcome(0, 0, 1, "exit code 0", 0.1), final=False)


def test_first_failures_change_nothing() -> None:
    """A few failures are nothing to speak of."""
    health = Health(20)
    fail(health, SLOW_AFTER - 1)
    assert not health.is_slow
    assert health.pause == 0
    assert health.note == ""


def test_slows_down_then_ends() -> None:
    """Failures in a row make the pilot slow, and many of them end it, saying why."""
    health = Health(20)
    fail(health, SLOW_AFTER)
    assert health.is_slow
    assert 0 < health.pause <= 0.5
    assert not health.is_broken
    fail(health, 20 - SLOW_AFTER)
    assert health.is_broken
    assert health.pause <= 10
    assert "20 different tokens failed" in health.note
    assert "exit code 127" in health.note


def test_one_success_clears_the_host() -> None:
    """A host that can run one token is not broken."""
    health = Health(20)
    fail(health, 19)
    succeed(health)
    assert not health.is_slow
    fail(health, SLOW_AFTER - 1)
    assert not health.is_slow


@pytest.mark.parametrize(("wall", "final"), [(3600.0, False), (0.1, True)])
def test_failures_of_the_tokens_own(wall: float, *, final: bool) -> None:
    """Failing late, or by a code that the policy calls final, says nothing about the host."""
    health = Health(20)
    fail(health, 50, wall=wall, final=final)
    assert not health.is_slow


def test_token_that_failed_before_is_no_witness() -> None:
    """One broken token that is tried again and again does not end the pilot."""
    health = Health(20)
    doc: Document = token.new({"attempts": [{"n": 1, "exit_code": 1}]}, "bad")
    for _ in range(100):
        health.saw(doc, Outcome(1, 0, 1, "exit code 1", 0.1), final=False)
    assert not health.is_slow


def test_never() -> None:
    """With 0 no number of failures matters."""
    health = Health(0)
    fail(health, 1000)
    assert not health.is_slow
    assert not health.is_broken


def test_few_are_enough_if_so_wanted() -> None:
    """A low number ends the pilot before it is slow, and says why as well."""
    health = Health(2)
    fail(health, 2)
    assert health.is_broken
    assert "2 different tokens failed" in health.note
