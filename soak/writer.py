"""A process that writes into an embedded pool and never ends its transaction.

``python -m soak.writer hold|scribble FILE``: it takes the write lock, with ``scribble`` also spoils
every token, says so on its standard output, and waits to be killed.
"""

import contextlib
import sqlite3
import sys
import time

from soak.checker import SCRIBBLE


def main(what: str, path: str) -> None:
    """Write, and wait."""
    with sqlite3.connect(path, timeout=60, isolation_level=None) as db:
        db.execute("PRAGMA cache_size = 50")  # so that much of it is written before the end
        db.execute("BEGIN IMMEDIATE")
        if what == "scribble":
            with contextlib.suppress(sqlite3.OperationalError):  # the disk is full
                db.execute(f"UPDATE documents SET body = json_set(body, '$.{SCRIBBLE}', 1)")
        print("in the middle of it", flush=True)
        time.sleep(600)


if __name__ == "__main__":
    main(*sys.argv[1:])
