"""The file of an embedded pool: its layout, connections to it, and what its errors mean."""

import json
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from picas.backoff import delays
from picas.errors import Forbidden, PoolError, ServerError, Unsupported
from picas.token import Document

BUSY_SECONDS = 60.0
"""How long a process waits for others that write."""

CHECKPOINT_PAGES = 4000
"""Pages in the write-ahead log (16 MB) from which on it goes into the file. A token's page is
written for its claim and for its result: the fewer such moments, the more often both go at once."""

FORMAT = 3
"""Number of the layout below, kept in the file's ``user_version``."""

FREE_TOKENS = "state = 'todo'"
WAITING_TOKENS = f"{FREE_TOKENS} AND not_before > 0"
"""Tokens that nobody has, and those of them that wait for a moment, or did; in the words of the
indexes below: SQLite uses these only where it finds the same words again."""

LAYOUT = f"""
CREATE TABLE documents (
    number INTEGER PRIMARY KEY,
    id     TEXT NOT NULL UNIQUE,
    seq    INTEGER NOT NULL,
    rev    TEXT NOT NULL,
    state  TEXT,
    not_before REAL NOT NULL,
    body   TEXT NOT NULL
);
CREATE INDEX documents_by_state ON documents (state, id);
CREATE INDEX documents_by_seq ON documents (seq);
CREATE INDEX documents_free ON documents (number, not_before) WHERE {FREE_TOKENS};
CREATE INDEX documents_waiting ON documents (not_before) WHERE {WAITING_TOKENS};
CREATE TABLE counter (seq INTEGER NOT NULL);
INSERT INTO counter VALUES (0);
"""


class Connection:
    """A thread's own connection: closed with the thread, or when the store is closed in it."""

    def __init__(self, path: Path) -> None:
        self.db = sqlite3.connect(
            path,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,  # the last reference may go in another thread
            cached_statements=256,
        )
        _use_wal(self.db)
        # In WAL mode NORMAL loses nothing when a process dies, only when the power does.
        self.db.execute("PRAGMA synchronous = NORMAL")
        self.db.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")

    def __del__(self) -> None:
        if hasattr(self, "db"):
            self.db.close()


def _use_wal(db: sqlite3.Connection) -> None:
    """Turn write-ahead logging on; SQLite's busy time-out does not cover this one statement."""
    deadline = time.monotonic() + BUSY_SECONDS
    for wait in delays(0.01, 0.5):
        try:
            db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(wait)
        else:
            return


def layout_of(db: sqlite3.Connection) -> int:
    """The number of a file's layout; 0 for a new one."""
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def document(row: Sequence[Any]) -> Document:
    """A document as it was written, from its row: id, revision and text."""
    doc_id, rev, body = row
    return {"_id": doc_id, "_rev": rev, **json.loads(body)}


@contextmanager
def errors(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours, each naming the file and what to do."""
    try:
        yield
    except sqlite3.Error as error:
        text = str(error)
        advice = {
            "database or disk is full": "the disk is full: make room, then run this again",
            "database is locked": f"other processes kept it busy for {BUSY_SECONDS:.0f} s",
            "attempt to write a readonly database": "you may not write it: check its permissions",
            "unable to open database file": "check that its folder exists and may be written",
            "file is not a database": "it is some other file: choose another name",
        }.get(text, "")
        kinds: dict[str, type[PoolError]] = {
            "file is not a database": Unsupported,
            "attempt to write a readonly database": Forbidden,
        }
        kind = kinds.get(text, ServerError)
        problem = f"{text}: {advice}" if advice else text
        raise kind(f"the pool at {os.fspath(path)}: {problem}") from error
