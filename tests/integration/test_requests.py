"""What a token costs CouchDB, counted in requests: a guard that needs no quiet machine."""

from collections.abc import Iterable

import pytest
from benchmarks.requests import Meter, done, drain, waiting

from picas.pool import Pool, connect
from picas.token import Document, State

MOST = {1: 1.25, 10: 0.25, 100: 0.06}
"""Requests a token at most, by how many are claimed at a time."""


def push(pool: Pool, docs: Iterable[Document]) -> None:
    """Add tokens, and bring the views up to date."""
    assert all(pushed.error is None for pushed in pool.push(docs))
    pool.counts()


@pytest.mark.parametrize("batch", MOST)
def test_requests_a_token(database: str, batch: int) -> None:
    """One write settles a batch and claims the next; looking for work costs little beside it."""
    with connect(database, create=True) as pool:
        push(pool, waiting(600))
        meter = drain(pool, batch)
        assert meter.tokens == 600
        assert pool.counts()[State.DONE] == 600
        assert 1 / batch <= meter.per_token <= MOST[batch], meter


@pytest.mark.parametrize("batch", MOST)
def test_nothing_grows_with_the_tokens_that_are_done(database: str, batch: int) -> None:
    """Beside thousands of done tokens the same work takes as many requests, and as many bytes."""
    meters: list[Meter] = []
    with connect(database, create=True) as pool:
        for number, old in enumerate((0, 3000)):
            push(pool, done(old))
            push(pool, waiting(200, f"t{number}_"))
            meters.append(drain(pool, batch))
    few, many = meters
    assert few.tokens == many.tokens == 200
    assert few.requests >= 200 / batch, meters
    # Where a pilot begins to look is random, so the figures differ by a few requests. Whatever
    # read all the done tokens would take several times as much as these allow.
    assert many.requests <= few.requests * 1.1 + 6, meters
    assert many.received <= few.received * 1.2 + 60_000, meters
    assert many.largest <= few.largest + 50_000, meters
