"""What scripts of the classic API use of ``client.db``: plain documents, one request a call."""

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from picas.errors import PoolError, TokenMissing
from picas.interop import errors_of_both, of_both
from picas.pool import Rows, Store
from picas.pool.settle import inline
from picas.token import Document

PAGE = 500
"""Documents that are read or deleted by one request."""


class Row(dict[str, Any]):
    """A row of a view: a dict whose entries are attributes, too."""

    @property
    def id(self) -> str | None:
        """Id of the document that the row is of; None in a reduced view."""
        return self.get("id")

    @property
    def key(self) -> Any:
        """The key by which the view is ordered."""
        return self.get("key")

    @property
    def value(self) -> Any:
        """What the view says of the document."""
        return self.get("value")

    @property
    def doc(self) -> Document | None:
        """The document, where ``include_docs`` was asked for."""
        return self.get("doc")


class ViewResults:
    """The rows of a view.

    Attributes:
        rows: The rows, in order.
        total_rows: How many the whole view has; None if it is reduced.
        offset: How many come before these; None if it is reduced.
    """

    def __init__(self, found: Rows) -> None:
        self.rows = [Row(row) for row in found.rows]
        self.total_rows = found.total
        self.offset = found.offset

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)


class Database:
    """The documents of a database by their ids, as the ``couchdb`` package has them.

    Args:
        store: Where they are.
        name: The database's name.
    """

    def __init__(self, store: Store, name: str) -> None:
        self.store = store
        self.name = name

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    def __contains__(self, doc_id: object) -> bool:
        return isinstance(doc_id, str) and self.get(doc_id) is not None

    def __iter__(self) -> Iterator[str]:
        start: dict[str, Any] = {}
        while rows := self.view("_all_docs", limit=PAGE, **start).rows:
            yield from (str(row.id) for row in rows)
            start = {"startkey": rows[-1].id, "skip": 1}

    def __len__(self) -> int:
        return int(self.info()["doc_count"])

    def __getitem__(self, doc_id: str) -> Document:
        doc: Document | None = self.get(doc_id)
        if doc is None:
            raise of_both(TokenMissing)(f"there is no document {doc_id!r} in {self.store.url}")
        return doc

    def __setitem__(self, doc_id: str, content: Mapping[str, Any]) -> None:
        self.save({**content, "_id": doc_id})

    def __delitem__(self, doc_id: str) -> None:
        self.delete(self[doc_id])

    @errors_of_both()
    def info(self) -> dict[str, Any]:
        """``db_name``, ``doc_count`` and so on; every kind of document counts."""
        facts = dict(self.store.info())
        facts["db_name"] = self.name
        return facts

    @errors_of_both()
    def get(self, doc_id: str, default: Any = None) -> Any:
        """The newest revision of a document; `default` if there is none."""
        (doc,) = self.store.read([doc_id])
        return default if doc is None else doc

    def read(self, doc_ids: Sequence[str]) -> Iterator[Document]:
        """Documents by their ids, in that order, without those that are gone; many a request."""
        for start in range(0, len(doc_ids), PAGE):
            with errors_of_both():
                found = self.store.read(doc_ids[start : start + PAGE])
            yield from (doc for doc in found if doc is not None)

    def save(self, doc: Document) -> tuple[str, str]:
        """Write a document, whose ``_id`` and ``_rev`` are then those in the database.

        Returns:
            Its id and its new revision.

        Raises:
            Conflict: It was changed since it was read, or the id exists already.
        """
        ((good, doc_id, answer),) = self.update([doc])
        if not good:
            raise answer
        return doc_id, answer

    @errors_of_both()
    def update(self, docs: Sequence[Any]) -> list[tuple[bool, str, Any]]:
        """Write several documents, each for itself; those that are written get their revision.

        Returns:
            For each whether it was written, its id, and its revision or the error.
        """
        values = [doc if isinstance(doc, dict) else doc.value for doc in docs]
        for value in values:
            value.setdefault("_id", uuid4().hex)
        answers: list[tuple[bool, str, Any]] = []
        for value, written in zip(values, self.store.write(values), strict=True):
            if written.rev is not None:
                value["_rev"] = written.rev
                answers.append((True, written.id, written.rev))
            else:
                answers.append((False, written.id, _error_of_both(written.error)))
        return answers

    def delete(self, doc: Mapping[str, Any]) -> None:
        """Delete a document in the revision that it has here; `Conflict` if there is another."""
        ((good, _, answer),) = self.delete_all([doc])
        if not good:
            raise answer

    def delete_all(self, docs: Sequence[Mapping[str, Any]]) -> list[tuple[bool, str, Any]]:
        """Delete several documents by one request; answers as `update`."""
        return self.update(
            [{"_id": doc["_id"], "_rev": doc["_rev"], "_deleted": True} for doc in docs]
        )

    @errors_of_both()
    def view(self, name: str, **options: Any) -> ViewResults:
        """The rows of a view.

        Args:
            name: ``design/view``, or ``_all_docs``.
            options: Parameters as CouchDB has them: ``key``, ``startkey``, ``limit``, ….

        Raises:
            ViewMissing: There is no such view.
        """
        return ViewResults(self.store.rows(name, options))

    @errors_of_both()
    def get_attachment(
        self, id_or_doc: str | Mapping[str, Any], filename: str, default: Any = None
    ) -> Any:
        """An attachment, in memory, as a file to read from; `default` if there is none."""
        doc_id = id_or_doc if isinstance(id_or_doc, str) else id_or_doc["_id"]
        try:
            return io.BytesIO(b"".join(self.store.read_attachment(doc_id, filename)))
        except TokenMissing:
            return default

    @errors_of_both()
    def put_attachment(
        self,
        doc: Document,
        content: str | bytes | IO[bytes],
        filename: str | None = None,
        content_type: str | None = None,
    ) -> None:
        """Attach something to a document, which gets its new revision.

        Raises:
            ValueError: The content is no open file, and no name was given.
            Conflict: The document was changed since it was read.
        """
        name = filename or Path(str(getattr(content, "name", ""))).name
        if not name:
            raise ValueError("an attachment needs a name; give filename=…")
        data = content.encode() if isinstance(content, str) else content
        entry = inline(name, data if isinstance(data, bytes) else data.read())
        if content_type is not None:
            entry["content_type"] = content_type
        # The rest of the document stays as it is in the database: only the attachment is new.
        there = {**self[doc["_id"]], "_rev": doc["_rev"]}
        attachments = there.get("_attachments", {}) | {name: entry}
        doc["_rev"] = self.save({**there, "_attachments": attachments})[1]

    @errors_of_both()
    def delete_attachment(self, doc: Document, filename: str) -> None:
        """Take an attachment from a document, which gets its new revision."""
        there = {**self[doc["_id"]], "_rev": doc["_rev"]}
        left = {n: e for n, e in there.get("_attachments", {}).items() if n != filename}
        doc["_rev"] = self.save({**there, "_attachments": left})[1]


def _error_of_both(error: PoolError | None) -> PoolError:
    found = error or PoolError("it was not written")
    return of_both(type(found))(str(found))
