"""Filling pools, and looking whether everything in them ended as it had to."""

import itertools
import secrets
import time
from collections.abc import Callable, Iterator

from benchmarks.report import WrongCount
from picas import config, token
from picas.inputs import Identifier
from picas.pool import Pool
from picas.pool.connect import open_pool
from picas.token import Document, Outcome, State
from picas.views import DEFAULT_DESIGN

MakeTokens = Callable[[int], Iterator[Document]]
"""Makes so many new tokens."""

_parts = itertools.count()


def opened(url: str) -> Pool:
    """A pool, made where it is missing; nobody's configuration plays a part."""
    return open_pool(config.load(url, environ={}), create=True)


def tokens(number: int, line: str = "/bin/true") -> Iterator[Document]:
    """New tokens, numbered in a field, with the ids that `picas push` gives them."""
    with Identifier() as identifier:
        for part in itertools.islice(_parts, number):
            fields = {"input": line, "part": part}
            yield token.new(fields, identifier.assign(fields, part, "a benchmark"))


def scattered_tokens(number: int) -> Iterator[Document]:
    """New tokens whose ids lie anywhere: before, between and behind those of `tokens`."""
    ids = (f"token_{secrets.token_hex(10)}" for _ in range(number))
    return (token.new({"input": "/bin/true"}, token_id) for token_id in ids)


def push(pool: Pool, number: int, make: MakeTokens = tokens) -> list[str]:
    """Add new tokens, and let the views see them: nobody's time is to hold that of the first look.

    Returns:
        Their ids.
    """
    ids = _push(pool, make(number))
    warm(pool)
    return ids


def fill(pool: Pool, number: int) -> None:
    """Add tokens that are done already, as a pilot leaves them."""
    now = int(time.time())
    outcome = Outcome(0, now, now, "exit code 0", 0.0)
    _push(pool, (token.settle({**doc, "lock": now}, now, outcome) for doc in tokens(number)))
    warm(pool)


def warm(pool: Pool) -> None:
    """Bring the index of every design up to date."""
    for name, design in pool.store.designs().items():
        for view in list(design.get("views", {}))[:1]:
            pool.count(f"{name}/{view}")


def only_classic_views(pool: Pool) -> None:
    """Leave only the views that a classic pilot reads: it shall not wait for those of ours."""
    for name in pool.designs():
        if name != DEFAULT_DESIGN:
            pool.remove_design(name)


def check_done(pool: Pool, number: int) -> None:
    """See that so many tokens are done and no other is left.

    Raises:
        WrongCount: They are not.
    """
    counts = pool.counts()
    wanted = dict.fromkeys(State, 0) | {State.DONE: number}
    if counts != wanted:
        found = ", ".join(f"{counts[state]:,} {state.value}" for state in State)
        raise WrongCount(f"{number:,} tokens had to be done, but there are {found}")


def _push(pool: Pool, docs: Iterator[Document]) -> list[str]:
    ids = []
    for pushed in pool.push(docs):
        if pushed.error is not None:
            raise pushed.error
        ids.append(pushed.id)
    return ids
