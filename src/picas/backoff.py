"""How long to wait before trying again."""

from collections.abc import Iterator

from picas.dice import dice


def delays(first: float = 0.5, most: float = 30.0) -> Iterator[float]:
    """Yield growing waits in seconds, without end, each at random below a doubling ceiling.

    The randomness ("full jitter") keeps a thousand pilots from knocking in step after an outage.
    Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.

    Args:
        first: Ceiling of the first wait, in seconds.
        most: Ceiling of every later one.
    """
    ceiling = first
    while True:
        yield dice.uniform(ceiling / 4, ceiling)
        ceiling = min(most, ceiling * 2)
