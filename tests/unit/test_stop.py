"""When a pilot takes no new tokens."""

from picas.pilot.stop import StopCriteria


def test_nothing_set_never_stops() -> None:
    """Without criteria a pilot ends only when there is no work."""
    assert StopCriteria().reason(tasks=10**6, elapsed=10.0**6) is None


def test_max_tasks() -> None:
    """The number of tokens is counted up to the limit, and the reason says so."""
    criteria = StopCriteria(max_tasks=3)
    assert criteria.reason(2, 0.0) is None
    assert criteria.reason(3, 0.0) == "max_tasks: 3 tokens were run"


def test_max_total_time() -> None:
    """The time since the start ends a pilot, and the reason says so."""
    criteria = StopCriteria(max_total_time=60)
    assert criteria.reason(0, 59.9) is None
    assert criteria.reason(0, 60.0) == "max_total_time: 60 s have passed"
