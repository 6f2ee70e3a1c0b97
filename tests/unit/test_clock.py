"""The server's time from its Date headers, however wrong this host's clock is."""

import math
from email.utils import formatdate

import pytest

from picas.pool.couchdb.http import Clock


def observe(
    clock: Clock, local: float, offset: float, delay: float = 0.01, phase: float = 0.0
) -> None:
    """One answer: the server's clock is `offset` ahead of this host's.

    The server makes a new header every second, `phase` after its own clock's full second.
    """
    now = local + delay / 2 + offset
    made = math.floor(now - phase) + phase
    clock.saw(formatdate(made, usegmt=True), local, local + delay)


@pytest.mark.parametrize("phase", [0.0, 0.5, 0.99])
def test_agreeing_clocks_need_no_correction(phase: float) -> None:
    """A header has whole seconds only, and may be old: within that, this host's clock is right."""
    clock = Clock()
    for n in range(200):
        observe(clock, 1_000_000 + n * 0.37, 0.0, phase=phase)
    assert clock.offset == 0.0


@pytest.mark.parametrize("phase", [0.0, 0.5, 0.99])
@pytest.mark.parametrize("offset", [-3600.0, -7.3, 2.6, 86400.25])
def test_wrong_clock_is_corrected(offset: float, phase: float) -> None:
    """After some answers the offset is known to about half a second: a header tells no more."""
    clock = Clock()
    observe(clock, 1_000_000.4, offset, phase=phase)
    assert clock.offset == pytest.approx(offset, abs=1.6)
    for n in range(60):
        observe(clock, 1_000_000.4 + n * 1.037, offset, phase=phase)
    assert clock.offset == pytest.approx(offset, abs=0.6)


def test_slow_answers_do_not_mislead() -> None:
    """An answer that took long says little, and spoils nothing."""
    clock = Clock()
    for n in range(60):
        observe(clock, 1_000_000 + n * 1.037, 50.0)
    observe(clock, 1_000_100, 50.0, delay=30.0)
    assert clock.offset == pytest.approx(50.0, abs=0.6)


def test_clock_that_is_set_begins_again() -> None:
    """When one of the clocks is set, the newest answer counts."""
    clock = Clock()
    observe(clock, 1_000_000, 0.0)
    observe(clock, 1_000_010, 500.0)
    assert clock.offset == pytest.approx(500.0, abs=1.6)
    observe(clock, 1_000_020, -500.0)
    assert clock.offset == pytest.approx(-500.0, abs=1.6)


@pytest.mark.parametrize("header", [None, "", "yesterday", "Mon, 99 Foo 2020 00:00:00 GMT"])
def test_odd_headers_are_ignored(header: str | None) -> None:
    """An answer without a date, as from a proxy, changes nothing."""
    clock = Clock()
    observe(clock, 1_000_000, 20.0)
    before = clock.offset
    clock.saw(header, 1_000_001, 1_000_002)
    assert clock.offset == before


def test_now_is_the_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time told is this host's plus the offset; before any answer, this host's."""
    monkeypatch.setattr("picas.pool.couchdb.http.time.time", lambda: 1_000_000.0)
    clock = Clock()
    assert clock.now() == 1_000_000.0
    observe(clock, 1_000_000.0, 300.0)
    assert clock.now() == pytest.approx(1_000_300.0, abs=1.6)
