"""How long tokens usually take."""

from picas.pilot.history import ENOUGH, REMEMBERED, History


def test_nearly_all_take_less() -> None:
    """The estimate is a high quantile: a rare long token does not count, a short one neither."""
    history = History()
    for _ in range(98):
        history.saw(10.0)
    history.saw(1.0)
    history.saw(900.0)
    assert history.usual(3600) == 10.0


def test_few_tell_nothing() -> None:
    """After a few tokens nothing is foretold."""
    history = History()
    for _ in range(ENOUGH - 1):
        history.saw(10.0)
    assert history.usual(3600) == 0.0
    history.saw(10.0)
    assert history.usual(3600) == 10.0


def test_what_no_pilot_has_is_not_waited_for() -> None:
    """Tokens longer than any pilot lives are begun all the same: waiting would be in vain."""
    history = History()
    for _ in range(ENOUGH):
        history.saw(100.0)
    assert history.usual(99) == 0.0


def test_the_latest_count() -> None:
    """What was long ago is forgotten."""
    history = History()
    for wall in [100.0] * REMEMBERED + [1.0] * REMEMBERED:
        history.saw(wall)
    assert history.usual(3600) == 1.0
