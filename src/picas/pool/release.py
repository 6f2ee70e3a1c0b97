"""Giving tokens back that were claimed and not run to their end."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from picas import token
from picas.logs import Excerpt
from picas.pool.base import Store
from picas.pool.settle import Verdict, inline
from picas.pool.update import Change, update
from picas.token import Document


def release(
    store: Store,
    tokens: Sequence[Document],
    reason: str,
    files: Mapping[str, Mapping[str, bytes | Path | Excerpt]],
) -> list[Verdict]:
    """Give tokens back; see `picas.pool.Pool.release`."""
    now = store.now()

    def change(claimed: Document) -> Change:
        carried = files.get(claimed["lease"], {})
        attached = {name: inline(name, content) for name, content in carried.items()}

        def change_one(doc: Document) -> Document | None:
            if not token.holds(doc, claimed):
                return None
            released = token.release(doc, now, reason)
            if attached:
                released["_attachments"] = {**(doc.get("_attachments") or {}), **attached}
            return released

        return change_one

    results = update(store, [(doc, change(doc)) for doc in tokens])
    verdicts = [
        Verdict.REFUSED if u.error else Verdict.RECORDED if u.changed else Verdict.FENCED
        for u in results
    ]
    # That a file cannot be stored must not keep its token locked.
    refused = [i for i, doc in enumerate(tokens) if results[i].error and doc["lease"] in files]
    for i in refused:
        (verdict,) = release(store, [tokens[i]], reason, {})
        verdicts[i] = Verdict.BARE if verdict is Verdict.RECORDED else verdict
    return verdicts
