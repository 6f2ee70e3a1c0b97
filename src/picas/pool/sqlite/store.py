"""The embedded store: SQLite in a file, for any number of processes on one machine.

Documents are rows: the JSON text, and beside it what views ask for (``state``). Every write is one
transaction, so a process killed in the middle leaves nothing half-written; in WAL mode readers and
the writer do not wait for each other.
"""

import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from picas import token
from picas.dice import dice
from picas.errors import (
    Conflict,
    Forbidden,
    PoolError,
    PoolMissing,
    TokenMissing,
    TooLarge,
    Unsupported,
)
from picas.needs import not_before
from picas.pool.base import Candidates, Changes, Query, ReadyAt, Rows, Store, Written
from picas.pool.filesystem import refuse_network
from picas.pool.sqlite import attachments, designs, rows
from picas.pool.sqlite.designs import Designs
from picas.pool.sqlite.file import (
    FORMAT,
    FREE_TOKENS,
    LAYOUT,
    Connection,
    document,
    errors,
    layout_of,
)
from picas.pool.sqlite.watch import FileWatch
from picas.pool.sqlite.work import WorkFinder
from picas.token import Document, State
from picas.views import MONITOR

MAX_DOCUMENT_BYTES = 8_000_000
"""As CouchDB's default, so that a pool can move there."""

_Row = tuple[str, int, str, str | None, float, str]
_PUT = (
    "INSERT INTO documents (id, seq, rev, state, not_before, body) VALUES (?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (id) DO UPDATE SET seq = excluded.seq, rev = excluded.rev, "
    "state = excluded.state, not_before = excluded.not_before, body = excluded.body"
)
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode

_BLIND_SECONDS = 1.0
_AFTER_A_SIGN = (0.002, 0.02)
"""Seconds after which the database is asked again when there was a sign and nothing new: the log
is written to before that counts, which is noted in shared memory, without another sign."""

_PAGE = 500


@dataclass(slots=True)
class _Batch:
    """Documents that are to be written together, with their attachments."""

    rows: list[_Row] = field(default_factory=list)
    files: attachments.Batch = field(default_factory=attachments.Batch)

    def write(self, db: sqlite3.Connection) -> None:
        self.files.write(db)
        db.executemany(_PUT, self.rows)


@dataclass(slots=True)
class _New:
    """A document on its way into a row.

    Attributes:
        id: Its id.
        old_rev: The revision that it follows; None if it is to be made.
        rev: Its own revision.
        deleted: It is to be deleted.
        body: The document without id and revision.
        text: The same as JSON.
        state: Of `picas.token.state`.
        waits: Until when it is left alone.
        files: What becomes of its attachments; None without any.
        error: Why it cannot be written.
    """

    id: str
    old_rev: str | None
    rev: str = ""
    deleted: bool = False
    body: Document = field(default_factory=dict)
    text: str = ""
    state: str | None = None
    waits: float = 0.0
    files: attachments.Plan | None = None
    error: PoolError | None = None


class SqliteStore(Store):
    """Documents in an SQLite file."""

    shared = False

    def __init__(self, path: Path) -> None:
        """Name the file; it is opened, or made by `create`, later.

        Raises:
            Unsupported: The file is on a network file system.
        """
        self.path = path.absolute()
        refuse_network(self.path)
        self.url = f"sqlite:///{path}"
        self.address = f"sqlite:///{self.path}"
        self._local = threading.local()
        self._closings = 0
        self._designs = Designs(self.url)
        self._work = WorkFinder()

    # --- the file ------------------------------------------------------------------------------

    def exists(self) -> bool:
        try:
            return self.path.stat().st_size > 0
        except FileNotFoundError:
            return False
        except PermissionError as error:
            raise Forbidden(
                f"the pool at {self.path}: you may not look there; ask its owner to open the "
                "folders on the way, or name another pool"
            ) from error
        except OSError as error:
            raise PoolMissing(
                f"there can be no pool at {self.path}: {error.strerror}; name another one"
            ) from error

    def create(self) -> bool:
        if not self.exists() and not self.path.parent.is_dir():
            raise PoolMissing(f"{self.path}: there is no folder {self.path.parent}; make it first")
        db = self._open()
        if layout_of(db) == FORMAT:
            return False
        made = False
        with self._transaction(db):
            if layout_of(db) == 0:
                if db.execute("SELECT count(*) FROM sqlite_master").fetchone() != (0,):
                    raise Unsupported(
                        f"{self.path} is a database of another program; name a new one"
                    )
                for statement in (LAYOUT + attachments.LAYOUT).split(";"):
                    db.execute(statement)
                db.execute(f"PRAGMA user_version = {FORMAT}")
                self.write([MONITOR.document()])
                made = True
        self._check_layout(db)
        return made

    def version(self) -> str:
        return f"SQLite {sqlite3.sqlite_version}"

    def info(self) -> Mapping[str, Any]:
        with errors(self.path):
            (number,) = self._db.execute("SELECT count(*) FROM documents").fetchone()
            (seq,) = self._db.execute("SELECT seq FROM counter").fetchone()
        return {"doc_count": number, "update_seq": str(seq)}

    def now(self) -> float:
        return time.time()

    def close(self) -> None:
        # Other threads' connections are theirs to close: one of them may be in use right now.
        self._closings += 1
        self._local.__dict__.clear()

    def _open(self) -> sqlite3.Connection:
        """This thread's connection; the file is made if missing."""
        own: Connection | None = getattr(self._local, "own", None)
        if own is None:
            with errors(self.path):
                own = Connection(self.path)
            self._local.own = own
        return own.db

    @property
    def _db(self) -> sqlite3.Connection:
        own: Connection | None = getattr(self._local, "own", None)
        if own is not None:
            return own.db
        if not self.exists():
            raise PoolMissing(f"there is no pool at {self.path}; 'picas push' or 'init' make one")
        db = self._open()
        self._check_layout(db)
        return db

    def _check_layout(self, db: sqlite3.Connection) -> None:
        layout = layout_of(db)
        if layout != FORMAT:
            self.close()
            age = "a later version: upgrade PiCaS" if layout > FORMAT else "an earlier version"
            raise Unsupported(
                f"{self.path} was made by {age} (layout {layout}, this one reads {FORMAT}); "
                "what made it can 'picas export' its tokens, or choose another file"
            )

    @contextmanager
    def _transaction(self, db: sqlite3.Connection, kind: str = "IMMEDIATE") -> Iterator[None]:
        """One transaction of this thread; inside another, a part of that.

        One to read (``DEFERRED``) sees the file as it was at the first look; nothing is written in
        it.
        """
        if db.in_transaction:
            yield
            return
        with errors(self.path):
            db.execute(f"BEGIN {kind}")
            try:
                yield
                db.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    db.execute("ROLLBACK")
                raise

    # --- documents -----------------------------------------------------------------------------

    def read(self, ids: Sequence[str]) -> list[Document | None]:
        db = self._db
        with errors(self.path):
            found: dict[str, Document] = {}
            for start in range(0, len(ids), _PAGE):
                page = list(ids[start : start + _PAGE])
                marks = ",".join("?" * len(page))
                rows = db.execute(
                    f"SELECT id, rev, body FROM documents WHERE id IN ({marks})", page
                )
                found.update((row[0], document(row)) for row in rows)
        return [found.get(doc_id) for doc_id in ids]

    def write(self, docs: Sequence[Document]) -> list[Written]:
        db = self._db
        prepared = [self._prepare(doc) for doc in docs]  # others may write meanwhile
        written: list[Written] = []
        batch = _Batch()
        with self._transaction(db):
            (seq,) = db.execute(
                "UPDATE counter SET seq = seq + ? RETURNING seq", (len(docs),)
            ).fetchone()
            there = self._standing(db, docs)
            for number, new in enumerate(prepared, seq - len(docs) + 1):
                standing, has_attachments = there.get(new.id, (None, False))
                if standing != new.old_rev:
                    self._work.crowded()
                    why = Conflict(f"{new.id!r} was changed or made by someone else in {self.url}")
                    written.append(Written(new.id, None, why))
                    continue
                error = new.error or self._write(db, new, number, batch, has_attachments)
                if error is None:
                    there[new.id] = None if new.deleted else new.rev, new.files is not None
                written.append(Written(new.id, None if error else new.rev, error))
            batch.write(db)
        return written

    def _standing(
        self, db: sqlite3.Connection, docs: Sequence[Document]
    ) -> dict[str, tuple[str | None, bool]]:
        """The revisions of those that there are, and whether they have attachments."""
        found: dict[str, tuple[str | None, bool]] = {}
        for start in range(0, len(docs), _PAGE):
            page = [doc["_id"] for doc in docs[start : start + _PAGE]]
            marks = ",".join("?" * len(page))
            having = attachments.having(db, page)
            rows = db.execute(f"SELECT id, rev FROM documents WHERE id IN ({marks})", page)
            found.update((doc_id, (rev, doc_id in having)) for doc_id, rev in rows)
        return found

    def _prepare(self, doc: Document) -> _New:
        """Make ready what can be without looking at what there is."""
        new = _New(doc["_id"], doc.get("_rev"))
        generation = int(new.old_rev.split("-", 1)[0]) + 1 if new.old_rev else 1
        new.rev = f"{generation}-{dice.getrandbits(64):016x}"
        new.deleted = bool(doc.get("_deleted"))
        if new.deleted:
            return new
        body = new.body = dict(doc)
        del body["_id"]
        body.pop("_rev", None)
        if "_attachments" in body:
            try:
                new.files = attachments.plan(new.id, body, generation)
            except PoolError as error:
                new.error = error
                return new
        text = new.text = _encode(body)
        if len(text) > MAX_DOCUMENT_BYTES // 4 and len(text.encode()) > MAX_DOCUMENT_BYTES:
            new.error = self._too_large(new.id, len(text.encode()))
        state = token.state(body)
        new.state = state.value if state else None
        new.waits = not_before(body) if "not_before" in body else 0.0
        return new

    def _write(
        self, db: sqlite3.Connection, new: _New, seq: int, batch: _Batch, has_attachments: bool
    ) -> PoolError | None:
        """Delete a document, or add it to what is to be written."""
        is_design = new.id.startswith("_design/")
        if new.deleted:
            db.execute("DELETE FROM documents WHERE id = ?", (new.id,))
            attachments.drop(db, new.id)
            if is_design:
                designs.drop_indexes(db, new.id)
            return None
        if has_attachments or new.files is not None:
            plan = new.files or attachments.Plan(new.id)
            try:
                batch.files.add(plan.against(db if has_attachments or plan.kept else None))
            except TokenMissing as error:
                return error
        if is_design:
            designs.make_indexes(db, new.id, new.body)
        batch.rows.append((new.id, seq, new.rev, new.state, new.waits, new.text))
        return None

    def _too_large(self, doc_id: str, size: int) -> TooLarge:
        return TooLarge(
            f"{doc_id!r} is {size:,} bytes; a document may have {MAX_DOCUMENT_BYTES:,}: "
            "keep large data in files or attachments"
        )

    def ids(self, prefix: str, limit: int) -> list[str]:
        with errors(self.path):
            rows = self._db.execute(
                "SELECT id FROM documents WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
                (prefix, prefix + "\U0010ffff", limit),
            )
            return [row[0] for row in rows]

    # --- views ---------------------------------------------------------------------------------

    def candidates(
        self,
        view: str,
        limit: int,
        ready_at: ReadyAt,
        *,
        quick: bool = False,  # noqa: ARG002 - views are up to date at all times
    ) -> Candidates:
        db = self._db
        with self._transaction(db, "DEFERRED"):
            free = self._designs.free(db, view)
            return self._work.candidates(db, view, free, limit, ready_at)

    def find(self, view: str, *, after: str = "", limit: int | None = None) -> Iterator[Document]:
        where = self._sql(view)
        query = f"SELECT id, rev, body FROM documents WHERE {where} AND id > ? ORDER BY id LIMIT ?"
        left = limit
        while left is None or left > 0:
            page = _PAGE if left is None else min(_PAGE, left)
            with errors(self.path):
                rows = self._db.execute(query, (after, page)).fetchall()
            yield from map(document, rows)
            if len(rows) < page:
                return
            after = rows[-1][0]
            left = None if left is None else left - len(rows)

    def rows(self, view: str, query: Query) -> Rows:
        where = "1" if view == rows.ALL else self._sql(view)
        with errors(self.path):
            return rows.select(self._db, view, where, query)

    def count(self, view: str) -> int:
        with errors(self.path):
            query = f"SELECT count(*) FROM documents WHERE {self._sql(view)}"
            return int(self._db.execute(query).fetchone()[0])

    def counts(self, design: str) -> dict[State, int]:
        where = self._sql(f"{design}/overview_total")
        with errors(self.path):
            rows = self._db.execute(
                f"SELECT state, count(*) FROM documents WHERE {where} GROUP BY state"
            )
            return {State(name): number for name, number in rows}

    def designs(self) -> dict[str, Document]:
        db = self._db
        with errors(self.path):
            return designs.documents(db)

    def _sql(self, view: str) -> str:
        """The condition of a view."""
        db = self._db
        with errors(self.path):
            return self._designs.sql(db, view)

    # --- attachments and changes ---------------------------------------------------------------

    def read_attachment(self, doc_id: str, name: str) -> Iterator[bytes]:
        db = self._db
        if not attachments.exists(db, doc_id, name):
            raise TokenMissing(f"{doc_id!r} has no attachment {name!r} in {self.url}")
        return attachments.pieces(db, doc_id, name)

    def attach(self, doc_id: str, rev: str, name: str, file: Path) -> str:
        db = self._db
        with self._transaction(db), file.open("rb") as stream:
            (doc,) = self.read([doc_id])
            if doc is None or doc["_rev"] != rev:
                raise Conflict(f"{doc_id!r} was changed by someone else in {self.url}")
            generation = int(rev.split("-", 1)[0])
            stub = attachments.write(db, doc_id, name, stream, generation + 1)
            doc["_attachments"] = {**doc.get("_attachments", {}), name: stub}
            (written,) = self.write([doc])
            if written.rev is None:
                raise written.error or PoolError(f"{doc_id!r} was not written")
            return written.rev

    def changes(self, since: str | None, *, timeout: float, todo: bool = False) -> Changes:
        if since is None:
            return self._changed(None, todo=todo)
        deadline, closings, log = time.monotonic() + timeout, self._closings, self._log
        found = self._changed(since, todo=todo)
        while not found.ids and self._closings == closings:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            # Now and then the database is asked without a sign.
            signs = log.wait(min(_BLIND_SECONDS, left))
            found = self._changed(found.seq, todo=todo)
            for pause in _AFTER_A_SIGN if signs else ():
                if found.ids:
                    break
                time.sleep(pause)
                found = self._changed(found.seq, todo=todo)
        return found

    @property
    def _log(self) -> FileWatch:
        """This thread's watch on the write-ahead log, kept since it takes long to end one."""
        log: FileWatch | None = getattr(self._local, "log", None)
        if log is None:
            assert self._db is not None  # the log is there as long as this thread is connected
            file = self.path.resolve()  # SQLite keeps it beside the file that a link leads to
            log = self._local.log = FileWatch(file.with_name(f"{file.name}-wal"))
        return log

    def _changed(self, after: str | None, *, todo: bool) -> Changes:
        """What changed after a point, as it is now."""
        condition = f" AND {FREE_TOKENS} AND not_before <= ?" if todo else ""
        with errors(self.path):
            (latest,) = self._db.execute("SELECT seq FROM counter").fetchone()
            if after is None or int(after) >= latest:
                return Changes(str(latest))
            rows = self._db.execute(
                "SELECT id FROM documents INDEXED BY documents_by_seq "
                f"WHERE seq > ? AND seq <= ?{condition}",
                (int(after), latest, *((self.now(),) if todo else ())),
            )
            return Changes(str(latest), [row[0] for row in rows])
