"""What this machine and its servers can do at most, measured with nothing in between."""

import json
import secrets
import sqlite3
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from picas.config import Settings
from picas.pool.couchdb.http import Session
from picas.pool.couchdb.store import WRITE_DOCUMENTS

BATCH = 100


def processes(number: int, threads: int, folder: Path) -> float:
    """Start `/bin/true` in a bare loop of threads, output into two files each; tokens a second."""

    def loop(thread: int) -> None:
        for i in range(number // threads):
            out, err = folder / f"{thread}_{i}.out", folder / f"{thread}_{i}.err"
            with out.open("wb") as stdout, err.open("wb") as stderr:
                subprocess.run(
                    ["/bin/true"],
                    stdin=subprocess.DEVNULL,
                    stdout=stdout,
                    stderr=stderr,
                    check=True,
                )
            out.unlink()
            err.unlink()

    return _rate(number, [threading.Thread(target=loop, args=(t,)) for t in range(threads)])


def sqlite(number: int, folder: Path) -> float:
    """Claim and settle documents of a token's size in SQLite, in batches; tokens a second."""
    db = sqlite3.connect(folder / "limit.db", isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, state TEXT, body TEXT)")
    db.execute("CREATE INDEX s ON t (state, id)")
    db.execute("BEGIN")
    db.executemany("INSERT INTO t VALUES (?, 'todo', ?)", ((i, _BODY) for i in range(number)))
    db.execute("COMMIT")
    start = time.perf_counter()
    for _ in range(0, number, BATCH):
        for state in ("locked", "done"):
            db.execute("BEGIN IMMEDIATE")
            query = "SELECT id FROM t WHERE state = ? ORDER BY id LIMIT ?"
            before = "todo" if state == "locked" else "locked"
            ids = db.execute(query, (before, BATCH)).fetchall()
            db.executemany(f"UPDATE t SET state = '{state}' WHERE id = ?", ids)
            db.execute("COMMIT")
    elapsed = time.perf_counter() - start
    db.close()
    return number / elapsed


def couchdb(number: int, settings: Settings) -> float:
    """Write documents twice by `_bulk_docs`, as a claim and a settle must; tokens a second."""
    location = settings.pool
    assert location.kind == "couchdb"
    password = settings.password.reveal() if settings.password else None
    session = Session(location.base_url, settings.username, password)
    path = f"/limit-{secrets.token_hex(4)}"
    session.json("limit", "PUT", path)
    try:
        docs = [{"_id": f"t{i}", **json.loads(_BODY)} for i in range(number)]
        revs = _bulk(session, path, docs)
        start = time.perf_counter()
        for _ in range(2):
            docs = [doc | {"_rev": rev} for doc, rev in zip(docs, revs, strict=True)]
            revs = _bulk(session, path, docs)
        return number / (time.perf_counter() - start)
    finally:
        session.json("limit", "DELETE", path)
        session.close()


def _bulk(session: Session, path: str, docs: Sequence[dict[str, object]]) -> list[str]:
    revs: list[str] = []
    for i in range(0, len(docs), WRITE_DOCUMENTS):
        body = {"docs": docs[i : i + WRITE_DOCUMENTS]}
        answer = session.json("limit", "POST", f"{path}/_bulk_docs", body=body)
        revs += [row["rev"] for row in answer]
    return revs


def _rate(number: int, threads: list[threading.Thread]) -> float:
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return number / (time.perf_counter() - start)


_BODY = json.dumps({"type": "token", "lock": 0, "done": 0, "input": "x" * 40, "error": []})
