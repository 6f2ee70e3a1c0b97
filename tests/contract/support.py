"""Short names for what the contract tests do all the time."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from picas import token
from picas.errors import PoolUnreachable
from picas.pool import Pool, PushState, Settlement, Verdict
from picas.token import Again, Document, Holder, Outcome

TODO = "Monitor/todo"
ANNA = Holder("pilot_anna", "host-a", {"slurm_job_id": "17_3"})
BERT = Holder("pilot_bert", "host-b")

ODD_IDS = [
    "a/b",
    "a+b",
    "100%",
    "a%2Fb",
    "two words",
    "ünï-çødé",
    "日本 😀",
    "'single'",
    '"double"',
    "q?x=1&y#z",
    "back\\slash",
    "..",
    "semi;colon,comma",
]
"""Ids that trip over quoting in URLs, SQL or JSON."""


def fill(pool: Pool, *ids: str, **fields: Any) -> list[str]:
    """Push tokens with these ids and fields; all must be new."""
    answers = list(pool.push(token.new({"input": f"echo {i}", **fields}, i) for i in ids))
    assert [a.state for a in answers] == [PushState.ADDED] * len(ids), answers
    return list(ids)


def numbered(count: int) -> list[str]:
    """Ids in order: ``t0000``, ``t0001`` and on."""
    return [f"t{n:04}" for n in range(count)]


def claim_one(pool: Pool, holder: Holder = ANNA, view: str = TODO) -> Document:
    """Claim exactly one token."""
    (doc,) = pool.claim(view, 1, holder)
    return doc


def claim_all(pool: Pool, holder: Holder = ANNA, view: str = TODO) -> list[Document]:
    """Claim until the view is empty; one claim may give fewer than it was asked for."""
    taken: list[Document] = []
    while docs := pool.claim(view, 50, holder):
        taken += docs
    return taken


def outcome(exit_code: int | None = 0, **more: Any) -> Outcome:
    """How an attempt of two seconds ended."""
    reason = more.pop("reason", f"exit code {exit_code}")
    return Outcome(exit_code, 100.0, 102.0, reason, 2.0, **more)


def settle(
    pool: Pool,
    doc: Document,
    exit_code: int = 0,
    *,
    again: bool = False,
    files: Mapping[str, bytes | Path] | None = None,
    **more: Any,
) -> Verdict:
    """Settle one token."""
    result = Settlement(doc, outcome(exit_code, **more), Again() if again else None, files or {})
    (verdict,) = pool.settle([result])
    return verdict


def edit(pool: Pool, token_id: str, **fields: Any) -> Document:
    """Change fields as a person does: read the document, write it back."""
    (doc,) = pool.store.read([token_id])
    assert doc is not None
    (written,) = pool.store.write([{**doc, **fields}])
    assert written.error is None
    return {**doc, **fields, "_rev": written.rev}


def content(pool: Pool, token_id: str, name: str) -> bytes:
    """All bytes of an attachment."""
    return b"".join(pool.attachment(token_id, name))


def names(docs: Iterable[Document]) -> list[str]:
    """The documents' ids."""
    return [doc["_id"] for doc in docs]


def lose_reply(pool: Pool, verb: str = "write") -> None:
    """Make the store do its next `verb`, and lose the reply."""
    real = getattr(pool.store, verb)

    def once(*args: Any, **more: Any) -> Any:
        setattr(pool.store, verb, real)
        real(*args, **more)
        raise PoolUnreachable("the reply was lost")

    setattr(pool.store, verb, once)


def meanwhile(pool: Pool, action: Any, verb: str = "write") -> None:
    """Run `action` right before the store's next `verb`, as if someone else got in between."""
    real = getattr(pool.store, verb)

    def once(*args: Any, **more: Any) -> Any:
        setattr(pool.store, verb, real)
        action()
        return real(*args, **more)

    setattr(pool.store, verb, once)


def counted(pool: Pool, verb: str) -> list[str]:
    """Have the store note each time it does a `verb`; the list grows with them."""
    real = getattr(pool.store, verb)
    times: list[str] = []

    def noted(*args: Any, **more: Any) -> Any:
        times.append(verb)
        return real(*args, **more)

    setattr(pool.store, verb, noted)
    return times
