"""How many requests, and how many bytes, CouchDB is asked for a token: the same on any machine."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from picas import token
from picas.pool import Pool, Settlement, Wish
from picas.pool.couchdb import CouchStore
from picas.token import Document, Holder, Outcome

_DONE = Outcome(0, 1.0, 2.0, "exit code 0", 1.0)
_HOLDER = Holder("pilot_meter", "host")


@dataclass(slots=True)
class Meter:
    """What was asked.

    Attributes:
        tokens: Tokens claimed and settled.
        requests: Requests sent.
        received: Bytes of their answers.
        largest: Bytes of the largest answer.
    """

    tokens: int = 0
    requests: int = 0
    received: int = 0
    largest: int = 0

    @property
    def per_token(self) -> float:
        """Requests a token."""
        return self.requests / self.tokens


def drain(pool: Pool, batch: int, view: str = "Monitor/todo") -> Meter:
    """Claim and settle all tokens of a view, `batch` at a time, as one pilot with no-op tokens."""
    meter = Meter()
    wish = Wish(view, batch, _HOLDER)
    with _metered(pool, meter):
        _, docs = pool.exchange((), wish)
        while docs:
            meter.tokens += len(docs)
            _, docs = pool.exchange([Settlement(doc, _DONE) for doc in docs], wish)
            if not docs:  # beside results a look is only quick
                _, docs = pool.exchange((), wish)
    return meter


def waiting(number: int, prefix: str = "t") -> Iterator[Document]:
    """Tokens that wait."""
    return (token.new({"input": f"echo {n}"}, f"{prefix}{n:06}") for n in range(number))


def done(number: int, prefix: str = "old") -> Iterator[Document]:
    """Tokens that were run long ago."""
    for doc in waiting(number, prefix):
        yield token.settle({**doc, "lock": 1}, 2.0, _DONE)


@contextmanager
def _metered(pool: Pool, meter: Meter) -> Iterator[None]:
    """A span in which what a pool asks its CouchDB is counted."""
    assert isinstance(pool.store, CouchStore)
    session: Any = pool.store._session
    real = session._send

    def send(*args: Sequence[Any], **more: Any) -> Any:
        reply = real(*args, **more)
        read = reply.read

        def counted() -> bytes:
            data: bytes = read()
            meter.received += len(data)
            meter.largest = max(meter.largest, len(data))
            return data

        meter.requests += 1
        reply.read = counted
        return reply

    session._send = send
    try:
        yield
    finally:
        session._send = real
