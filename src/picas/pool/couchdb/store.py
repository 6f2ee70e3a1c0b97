"""Documents in a CouchDB database."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from picas.errors import (
    Conflict,
    Forbidden,
    NotFound,
    PoolError,
    PoolMissing,
    Refused,
    ServerError,
    TokenMissing,
    TooLarge,
    Unauthorized,
    ViewMissing,
)
from picas.pool.base import (
    Candidates,
    Changes,
    Leaf,
    Query,
    ReadyAt,
    Rows,
    Store,
    Written,
)
from picas.pool.couchdb import conflicts
from picas.pool.couchdb.http import READ_SECONDS, Session, as_parameter, as_text, encode
from picas.pool.couchdb.resolve import Resolver
from picas.pool.couchdb.work import Parameters, Row, WorkFinder, page_of
from picas.pool.settle import content_type
from picas.token import Document, State
from picas.views import FREE, MONITOR, split

WRITE_DOCUMENTS = 2_000
"""Documents one ``_bulk_docs`` carries at most; many more go slower a document."""

WRITE_BYTES = 4_000_000
"""Bytes one ``_bulk_docs`` carries, unless a single document is larger."""

READ_DOCUMENTS = 200
PAGE = 500
_LISTS = ("results", "rows")
"""Keys of answers under which there are lists of objects."""

_LAST = "\U0010ffff"
"""Sorts behind every other character: ``_all_docs`` goes by bytes."""


class CouchStore(Store):
    """Documents in one database of a CouchDB server.

    Args:
        session: Connection to the server.
        database: The database's name.
        verify: Whether a claim is read back before it counts; by default where the server keeps
            several copies of the database.
    """

    shared = True

    def __init__(self, session: Session, database: str, *, verify: bool | None = None) -> None:
        self.url = self.address = f"{session.base}/{database}"
        self._session = session
        self._path = f"/{quote(database, safe='')}"
        self._work = WorkFinder(self._rows, self.read, self.now, self._shards)
        self._verify = verify
        self._known_cluster: Mapping[str, Any] | None = None
        self._resolver = Resolver(self._revisions, self.write, self.now)

    # --- the database --------------------------------------------------------------------------

    def exists(self) -> bool:
        try:
            self._session.json("looking for the database", "GET", self._path)
        except NotFound:
            return False
        return True

    def create(self) -> bool:
        made = not self.exists() and self._make()
        monitor = MONITOR.document()
        if self.read([monitor["_id"]]) == [None]:
            for written in self.write([monitor]):
                if written.error is not None:
                    raise written.error
        return made

    def _make(self) -> bool:
        try:
            self._session.json(f"making the database {self.url}", "PUT", self._path)
        except Conflict:
            return False
        except Unauthorized as error:
            # CouchDB says 401 to users whose password is right, too.
            raise Forbidden(
                f"there is no database at {self.url}, and only an administrator of the server "
                "may make it; ask one, or check the name"
            ) from error
        return True

    def version(self) -> str:
        operation = "asking for the version"
        answer = self._checked(operation, self._session.json(operation, "GET", "/"), "couchdb")
        return f"CouchDB {answer.get('version', '(unknown)')}"

    def info(self) -> Mapping[str, Any]:
        return dict(self._ask("looking at the database", "GET", "", "doc_count"))

    def now(self) -> float:
        return self._session.clock.now()

    @property
    def sure(self) -> bool:
        return self._copies() == 1 if self._verify is None else not self._verify

    def _copies(self) -> int:
        """How many nodes of a cluster keep a copy of each document."""
        return self._cluster("n")

    def _shards(self) -> int:
        """In how many pieces the documents are kept."""
        return self._cluster("q")

    def _cluster(self, name: str) -> int:
        """A number that tells how the server keeps the database; asked once."""
        if self._known_cluster is None:
            info = self._ask("looking at the database", "GET", "", "db_name")
            cluster = info.get("cluster")
            self._known_cluster = cluster if isinstance(cluster, dict) else {}
        number = self._known_cluster.get(name)
        return number if isinstance(number, int) and number > 0 else 1

    def hurry(self, seconds: float) -> None:
        self._session.hurry(seconds)

    def within(self, seconds: float) -> AbstractContextManager[object]:
        return self._session.within(seconds)

    def close(self) -> None:
        self._session.close()

    def _ask(self, operation: str, method: str, path: str, *has: str, **more: Any) -> Any:
        """A request about this database; `has` are the keys of its answer that are needed."""
        with self._in_database():
            answer = self._session.json(operation, method, self._path + path, **more)
        return self._checked(operation, answer, *has)

    def _checked(self, operation: str, answer: Any, *has: str) -> Any:
        """An answer that has these keys, and lists of objects where CouchDB has lists of them."""
        lists = (answer.get(key, []) for key in _LISTS) if isinstance(answer, dict) else (answer,)
        if not all(map(_are_objects, lists)) or any(key not in answer for key in has):
            raise self._strange(operation)
        return answer

    def _strange(self, operation: str) -> ServerError:
        return ServerError(
            f"{operation}: {self._session.base} answers, but not as a CouchDB does; "
            "check the pool's URL"
        )

    @contextmanager
    def _in_database(self) -> Iterator[None]:
        """Tell a missing database from a missing document."""
        try:
            yield
        except NotFound as error:
            if "Database does not exist" in str(error) or "no_db_file" in str(error):
                raise PoolMissing(
                    f"there is no database at {self.url}; 'picas init' makes it"
                ) from error
            raise

    # --- documents -----------------------------------------------------------------------------

    def read(self, ids: Sequence[str]) -> list[Document | None]:
        return self._resolver.resolve(self._revisions(ids))

    def leaves(self, ids: Sequence[str]) -> list[list[Leaf]]:
        query = {"r": self._copies(), "revs": "true"}
        return [
            [conflicts.leaf(doc) for doc in revisions if not doc.get("_deleted")]
            for revisions in self._revisions(ids, query)
        ]

    def spread(self, leaves: Sequence[Leaf]) -> None:
        body = {"new_edits": False, "docs": [conflicts.replica(leaf) for leaf in leaves]}
        # Refused where a copy has no such attachment yet: then the nodes do it, in some seconds.
        with suppress(Conflict, Refused):
            self._ask("spreading revisions", "POST", "/_bulk_docs", body=body)

    def _revisions(
        self, ids: Sequence[str], query: dict[str, object] | None = None
    ) -> list[list[Document]]:
        """The leaves of each document, deletions too."""
        found: list[list[Document]] = []
        for start in range(0, len(ids), READ_DOCUMENTS):
            wanted = {"docs": [{"id": doc_id} for doc_id in ids[start : start + READ_DOCUMENTS]]}
            operation = "reading documents"
            answer = self._ask(
                operation, "POST", "/_bulk_get", "results", query=query, body=wanted, read=True
            )
            docs = [row.get("docs") for row in answer["results"]]
            if len(docs) != len(wanted["docs"]) or not all(map(_are_objects, docs)):
                raise self._strange(operation)
            found += [_found(revisions) for revisions in docs]
        return found

    def write(self, docs: Sequence[Document]) -> list[Written]:
        written: list[Written] = []
        batch: list[bytes] = []
        size = 0
        for doc in docs:
            data = encode(doc)
            if batch and (len(batch) >= WRITE_DOCUMENTS or size + len(data) > WRITE_BYTES):
                written += self._write(docs[len(written) : len(written) + len(batch)], batch)
                batch, size = [], 0
            batch.append(data)
            size += len(data)
        if batch:
            written += self._write(docs[len(written) :], batch)
        if any(isinstance(answer.error, Conflict) for answer in written):
            self._work.crowded()
        return written

    def _write(self, docs: Sequence[Document], encoded: list[bytes]) -> list[Written]:
        body = b'{"docs":[' + b",".join(encoded) + b"]}"
        operation = f"writing {len(docs)} documents"
        try:
            answer = self._ask(operation, "POST", "/_bulk_docs", body=body)
        except (TooLarge, Refused, Conflict) as error:
            # One document spoils a request, of which nothing is written: find out which. (It is
            # too large, or keeps an attachment that is gone, which CouchDB answers with 412.)
            if len(docs) == 1:
                return [Written(docs[0]["_id"], None, self._too_large(docs[0], encoded[0], error))]
            half = len(docs) // 2
            return self._write(docs[:half], encoded[:half]) + self._write(
                docs[half:], encoded[half:]
            )
        if not isinstance(answer, list) or len(answer) != len(docs):
            raise self._strange(operation)
        return [self._written(doc, row) for doc, row in zip(docs, answer, strict=True)]

    def _written(self, doc: Document, row: dict[str, Any]) -> Written:
        if "rev" in row:
            return Written(doc["_id"], row["rev"], whole="accepted" not in row)
        kinds: dict[str, type[PoolError]] = {"conflict": Conflict, "forbidden": Forbidden}
        kind = kinds.get(row.get("error", ""), Refused)
        return Written(
            doc["_id"],
            None,
            kind(f"writing {doc['_id']!r} to {self.url}: {row.get('error')}: {row.get('reason')}"),
        )

    def _too_large(self, doc: Document, data: bytes, error: PoolError) -> PoolError:
        if not isinstance(error, TooLarge):
            return error
        return TooLarge(
            f"{doc['_id']!r} is {len(data):,} bytes, more than {self.url} takes in a document: "
            "keep large data in files or attachments"
        )

    def ids(self, prefix: str, limit: int) -> list[str]:
        query = {"startkey": as_text(prefix), "endkey": as_text(prefix + _LAST), "limit": limit}
        answer = self._ask("looking up ids", "GET", "/_all_docs", "rows", query=query)
        return [row["id"] for row in answer["rows"]]

    # --- views ---------------------------------------------------------------------------------

    def candidates(
        self, view: str, limit: int, ready_at: ReadyAt, *, quick: bool = False
    ) -> Candidates:
        return self._work.candidates(view, limit, ready_at, quick=quick)

    def find(self, view: str, *, after: str = "", limit: int | None = None) -> Iterator[Document]:
        left = limit
        behind: Row | None = {"key": after, "id": after} if after else None
        while left is None or left > 0:
            page = PAGE if left is None else min(PAGE, left)
            rows = page_of(self._rows, view, {"limit": page}, behind)
            yield from (doc for doc in self.read([row["id"] for row in rows]) if doc is not None)
            if not rows:
                return
            behind = rows[-1]
            left = None if left is None else left - len(rows)

    def rows(self, view: str, query: Query) -> Rows:
        wanted = {name: value for name, value in query.items() if value is not None}
        body = {"keys": list(wanted.pop("keys"))} if "keys" in wanted else None
        encoded = {name: as_parameter(name, value) for name, value in wanted.items()}
        answer = self._view(view, encoded, body)
        return Rows(answer["rows"], answer.get("total_rows"), answer.get("offset"))

    def count(self, view: str) -> int:
        name, part = split(view)
        if part == "overview_total":
            return sum(self.counts(name).values())
        answer = self._rows(view, {"limit": 0})
        return int(answer.get("total_rows", 0))

    def counts(self, design: str) -> dict[State, int]:
        answer = self._rows(f"{design}/overview_total", {"group": "true"}, reduce=True)
        names = {state.value: state for state in State}
        return {names[r["key"]]: int(r["value"]) for r in answer["rows"] if r["key"] in names}

    def designs(self) -> dict[str, Document]:
        query = {
            "startkey": as_text("_design/"),
            "endkey": as_text("_design0"),
            "include_docs": "true",
        }
        answer = self._ask("reading the designs", "GET", "/_all_docs", "rows", query=query)
        return {row["id"].removeprefix("_design/"): row["doc"] for row in answer["rows"]}

    def _rows(self, view: str, query: Parameters, *, reduce: bool = False) -> Any:
        return self._view(view, query if reduce else {**query, "reduce": "false"})

    def _view(self, view: str, query: Parameters, body: object = None) -> Any:
        path = "/_all_docs"
        if view != "_all_docs":
            name, part = split(view)
            path = f"/_design/{quote(name, safe='')}/_view/{quote(part, safe='')}"
        verb, operation = "GET" if body is None else "POST", f"reading the view {view}"
        try:
            return self._ask(operation, verb, path, "rows", query=query, body=body, read=True)
        except PoolMissing:
            raise
        except NotFound as error:
            raise ViewMissing(
                f"no view {view!r} in {self.url}; there are: {', '.join(self._view_names())}"
            ) from error

    def _view_names(self) -> list[str]:
        designs = self.designs().items()
        names = [
            f"{name}/{part}"
            for name, doc in designs
            for part in doc.get("views", {})
            if part != FREE
        ]
        return names or ["none ('picas views create' makes the standard ones)"]

    def security(self) -> dict[str, Any]:
        return dict(self._ask("reading who may use the database", "GET", "/_security"))

    def set_security(self, security: Mapping[str, Any]) -> None:
        self._ask("setting who may use the database", "PUT", "/_security", body=security)

    # --- attachments and changes ---------------------------------------------------------------

    def read_attachment(self, doc_id: str, name: str) -> Iterator[bytes]:
        path = f"{self._path}/{_quoted(doc_id)}/{_segment(name)}"
        try:
            with self._in_database():
                return self._session.download(f"reading the attachment {name!r}", path)
        except PoolMissing:
            raise
        except NotFound as error:
            raise TokenMissing(f"{doc_id!r} has no attachment {name!r} in {self.url}") from error

    def attach(self, doc_id: str, rev: str, name: str, file: Path) -> str:
        with file.open("rb") as stream, self._in_database():
            operation = f"attaching {name!r} to {doc_id!r}"
            answer = self._session.upload(
                operation,
                f"{self._path}/{_quoted(doc_id)}/{_segment(name)}",
                stream,
                file.stat().st_size,
                content_type(name),
                {"rev": rev},
            )
        return str(self._checked(operation, answer, "rev")["rev"])

    def changes(self, since: str | None, *, timeout: float, todo: bool = False) -> Changes:
        if since is None:
            answer = self._changes({"since": "now", "limit": 0}, None, 0)
            return Changes(str(answer["last_seq"]))
        query = {"since": since, "feed": "longpoll", "timeout": max(1, int(timeout * 1000))}
        wanted = self._todo_now() if todo else None
        deadline = time.monotonic() + timeout
        answer = self._changes(query, wanted, timeout)
        if not answer["results"] and (left := deadline - time.monotonic()) > 1:
            # A proxy or the server ended the poll early: do not turn that into a busy loop.
            time.sleep(min(left, 1.0))
        return Changes(str(answer["last_seq"]), [row["id"] for row in answer["results"]])

    def _todo_now(self) -> dict[str, object]:
        """Selects tokens that may be claimed now: those that wait need wake nobody."""
        ready = [{"not_before": {"$exists": False}}, {"not_before": {"$lte": self.now()}}]
        return {"type": "token", "lock": 0, "done": 0, "$or": ready}

    def _changes(
        self, query: dict[str, object], selector: dict[str, object] | None, timeout: float
    ) -> Any:
        more: dict[str, Any] = {"timeout": timeout + READ_SECONDS, "read": True}
        if selector is not None:
            query = query | {"filter": "_selector"}
            more["body"] = {"selector": selector}
        verb = "POST" if selector is not None else "GET"
        needed = ("last_seq", "results")
        return self._ask("waiting for changes", verb, "/_changes", *needed, query=query, **more)


def _quoted(doc_id: str) -> str:
    if doc_id.startswith("_design/"):
        return "_design/" + _segment(doc_id.removeprefix("_design/"))
    return _segment(doc_id)


def _segment(text: str) -> str:
    """A text as one segment of a path; dots alone would be taken for folders."""
    return text.replace(".", "%2E") if text in (".", "..") else quote(text, safe="")


def _are_objects(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, dict) for one in value)


def _found(revisions: list[dict[str, Any]]) -> list[Document]:
    """The leaves of one document as ``_bulk_get`` has them; none of what is missing."""
    for revision in revisions:
        error = revision.get("error", {})
        if error.get("error") == "internal_fabric_error":
            # The nodes that keep it did not answer: that says nothing of whether it is there.
            raise ServerError(f"reading {error.get('id')!r}: no node has it: {error.get('reason')}")
    return [revision["ok"] for revision in revisions if "ok" in revision]
