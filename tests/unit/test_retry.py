"""Whether, when and where a failed token is tried again."""

from typing import Any

import pytest

from picas import retry, token
from picas.errors import InputError
from picas.retry import Policies, RetryPolicy, policy
from picas.token import Again, Document, Outcome


def ended(exit_code: int = 1, **more: Any) -> Outcome:
    """An attempt that ended so."""
    return Outcome(exit_code, 0.0, 1.0, f"exit code {exit_code}", 1.0, **more)


def doc(**fields: Any) -> Document:
    """A token."""
    return token.new(fields, "a")


def decide(made: RetryPolicy, outcome: Outcome, **fields: Any) -> Again | None:
    """The policy's decision, without randomness."""
    return made.decide(doc(**fields), outcome, jitter=lambda: 0.5)


def test_default_is_one_try() -> None:
    """Without a policy a failed token is closed."""
    assert decide(policy(), ended()) is None


@pytest.mark.parametrize(("scrubs", "again"), [(0, True), (1, True), (2, False), (9, False)])
def test_tries(scrubs: int, *, again: bool) -> None:
    """Three tries are two scrubs: what the classic ``max_scrub`` of 2 is."""
    assert (decide(policy({"tries": 3}), ended(), scrub_count=scrubs) is not None) == again


def test_success_is_not_tried_again() -> None:
    """Exit code 0 closes a token whatever the policy."""
    assert decide(policy({"tries": 3}), ended(0)) is None


def test_a_persons_reset_gives_all_tries_again() -> None:
    """What failed before a reset does not count."""
    failed = {**doc(scrub_count=2), "lock": 5, "done": 9, "exit_code": 1}
    assert policy({"tries": 3}).decide(failed, ended()) is None
    again = token.reset(failed, 10)
    assert again["scrub_count"] == 3
    assert policy({"tries": 3}).decide(again, ended()) is not None
    assert token.failed_tries(again) == 0


@pytest.mark.parametrize(("scrubs", "delay"), [(0, 10), (1, 20), (2, 40), (3, 60), (500, 60)])
def test_delay_doubles_up_to_the_longest(scrubs: int, delay: float) -> None:
    """The back-off grows with each failure and stays bounded."""
    made = policy({"tries": 1000, "delay": "10s", "longest_delay": 60})
    assert decide(made, ended(), scrub_count=scrubs) == Again(delay=delay)


def test_delay_is_spread() -> None:
    """Tokens that failed together do not come back together."""
    made = policy({"tries": 2, "delay": 100})
    low = made.decide(doc(), ended(), jitter=lambda: 0.0)
    high = made.decide(doc(), ended(), jitter=lambda: 1.0)
    assert low is not None
    assert high is not None
    assert (low.delay, high.delay) == (50, 150)


@pytest.mark.parametrize(("code", "again"), [(2, False), (64, False), (78, False), (79, True)])
def test_final_exit_codes(code: int, *, again: bool) -> None:
    """Codes that the policy calls final end the tries, alone or in a range."""
    made = policy({"tries": 5, "final": [2, "64-78"]})
    assert (decide(made, ended(code)) is not None) == again
    assert made.is_final(ended(code)) != again


def test_elsewhere() -> None:
    """Codes that blame the host leave the next try to others for a while."""
    made = policy({"tries": 5, "elsewhere": 127, "elsewhere_time": "10m"})
    assert decide(made, ended(127)) == Again(avoid=600)
    assert decide(made, ended(1)) == Again()


@pytest.mark.parametrize(
    ("need", "peak", "memory"),
    [({"memory": 100}, 50, 200), ({"memory": "1K"}, 2000, 4000), ({}, 70, 140), ({}, None, None)],
)
def test_more_memory(need: dict[str, Any], peak: int | None, memory: int | None) -> None:
    """After an out-of-memory kill the token asks for more than it asked for, or had."""
    made = policy({"tries": 2, "memory_factor": 2})
    outcome = ended(137, memory=peak, out_of_memory=True)
    assert decide(made, outcome, **need) == Again(memory=memory)
    assert decide(made, ended(137, memory=peak), **need) == Again()


def test_closest_layer_wins_setting_by_setting() -> None:
    """A token's own policy comes before that of its view, that before the pool's."""
    made = Policies({"tries": 4, "delay": 7}, {"tries": 9, "final": [3], "delay": 1})
    assert made.of(doc()) == RetryPolicy(tries=4, delay=7.0, final=(range(3, 4),))
    assert made.of(doc(retry={"tries": 2})) == RetryPolicy(tries=2, delay=7.0, final=(range(3, 4),))


@pytest.mark.parametrize("own", [3, "often", {"colour": "red"}, {"tries": "many"}, None, []])
def test_field_of_the_users_is_no_policy(own: object) -> None:
    """Whatever older databases have in a field ``retry`` does no harm."""
    assert Policies({"tries": 4}).of(doc(retry=own)).tries == 4


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        ({"trys": 3}, "no setting 'trys'; it has: tries"),
        ({"tries": 0}, "tries: 0 is no number of tries"),
        ({"tries": True}, "no number of tries"),
        ({"delay": "soon"}, "delay: 'soon' is no duration"),
        ({"delay": -1}, "no duration"),
        ({"final": [300]}, "300 is no exit code"),
        ({"final": ["9-3"]}, "'9-3' is no exit code"),
        ({"elsewhere": 1.5}, "1.5 is no exit code"),
        ({"memory_factor": 0.5}, "0.5 is no factor"),
        ({"memory_factor": 10**400}, "is no factor"),
        ({"delay": 10**400}, "is no duration"),
        ({"final": ["²"]}, "'²' is no exit code"),
        ({"final": ["9" * 5000]}, "is no exit code"),
        ({"final": [True]}, "True is no exit code"),
    ],
)
def test_bad_policies(layer: dict[str, Any], text: str) -> None:
    """A policy that cannot be is refused, naming the setting."""
    with pytest.raises(InputError, match=text.replace("(", r"\(")):
        retry.read(layer)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("tries", "3", 3),
        ("delay", "1m30s", 90.0),
        ("final", "2,64-78", [2, "64-78"]),
        ("memory_factor", "1.5", 1.5),
    ],
)
def test_from_text(name: str, text: str, value: object) -> None:
    """What a person types becomes what JSON holds."""
    assert retry.from_text(name, text) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("tries", "x"),
        ("tries", "²"),
        ("tries", "1e400"),
        ("final", "a-b"),
        ("final", "²"),
        ("color", "1"),
    ],
)
def test_from_bad_text(name: str, text: str) -> None:
    """What cannot be is refused."""
    with pytest.raises(InputError):
        retry.from_text(name, text)
