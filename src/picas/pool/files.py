"""Files of a result: what is streamed ahead of the settling write, and what travels inside it."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from picas import token
from picas.errors import Conflict, TokenMissing
from picas.pool.base import Store
from picas.pool.settle import Settlement, inline
from picas.token import Document


def send(store: Store, settlement: Settlement) -> tuple[Document, dict[str, Any]]:
    """Stream the large files of a result into its token, as long as its lease stands.

    Logs of the attempt before are kept under their number, before anything takes their place. All
    of it may be done again after a lost reply.

    Returns:
        The document to settle from, and the attachments that its write is to carry.

    Raises:
        TooLarge: The store does not take a file of that size.
        Refused: It does not take one of that name.
        OSError: A file cannot be read.
    """
    if not settlement.files:
        return settlement.token, {}
    large = settlement.large_files()
    carried = {name: inline(name, f) for name, f in settlement.files.items() if name not in large}
    base = settlement.token
    for name, kept_as in settlement.earlier_logs().items():
        try:
            if settlement.is_long(name) or name in large:  # its place is taken before that write
                with _copy(store, base["_id"], name) as file:
                    base = stream(store, settlement.token, base, kept_as, file, replace=False)
            else:
                data = b"".join(store.read_attachment(base["_id"], name))
                carried[kept_as] = inline(kept_as, data)
        except TokenMissing:
            pass  # somebody removed the log, or the whole token: there is nothing to keep
    for name, file in large.items():
        base = stream(store, settlement.token, base, name, file)
    return base, carried


def stream(
    store: Store,
    claimed: Document,
    base: Document,
    name: str,
    file: Path,
    *,
    replace: bool = True,
) -> Document:
    """Stream one file under the lease; returns the token as it is afterwards.

    Args:
        store: Where the token is.
        claimed: The token as it was claimed.
        base: As it was seen last.
        name: Name of the attachment.
        file: The file.
        replace: Also where there is an attachment of that name.
    """
    while token.holds(base, claimed) and (replace or name not in (base.get("_attachments") or {})):
        sent = True
        try:
            store.attach(base["_id"], base["_rev"], name, file)
        except Conflict:
            sent = False
        (now,) = store.read([base["_id"]])
        if now is None:
            break
        base = now
        if sent:
            break
    return base


@contextmanager
def _copy(store: Store, doc_id: str, name: str) -> Iterator[Path]:
    """An attachment as a file for a while: logs may be larger than the memory."""
    with tempfile.NamedTemporaryFile(prefix="picas-log-") as file:
        for piece in store.read_attachment(doc_id, name):
            file.write(piece)
        file.flush()
        yield Path(file.name)
