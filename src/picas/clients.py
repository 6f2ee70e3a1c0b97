"""The client of the classic API: ``from picas.clients import CouchDB``."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from picas import views
from picas.config import SqliteLocation, parse_pool
from picas.credentials import Secret
from picas.database import Database, Row, ViewResults
from picas.dice import dice
from picas.documents import Document
from picas.errors import ConfigError, Conflict, PoolMissing, TokenMissing
from picas.holding import Holding
from picas.interop import errors_of_both, missing, of_both
from picas.mapfunctions import condition_of
from picas.picaslogger import picaslogger
from picas.pool import Pool, Store
from picas.pool.sqlite import SqliteStore
from picas.views import DEFAULT_DESIGN, Design


class DocumentMissing(TokenMissing, ValueError):
    """There is no document of that id; the classic client raises `ValueError` then."""


@dataclass(frozen=True, slots=True)
class _Address:
    """Where the database is, and who asks: what a copy of a client needs."""

    url: str = field(repr=False)  # there may be a password in it
    db: str
    username: str | None
    password: Secret
    verify: bool


class CouchDB:
    """A database: on a CouchDB server, or in a file on this machine.

    Args:
        url: The server, ``http(s)://host:port``, a user name and password in it count too. Or
            ``sqlite:///file.db``, a path that ends in ``.db``: an embedded pool, which is made if
            it is missing.
        db: Name of the database on the server.
        username: User name; None for none.
        password: Password.
        ssl_verification: False trusts any certificate.
        create: Make the database, with the standard views, if it is missing.

    Raises:
        PoolMissing: There is no such database.
        PoolError: The server did not answer, or refused.
        ConfigError: The URL cannot be used.
    """

    def __init__(
        self,
        url: str = "http://localhost:5984",
        db: str = "test",
        username: str | None = None,
        password: str = "",
        ssl_verification: bool = True,
        create: bool = False,
    ) -> None:
        self._address = _Address(url, db, username, Secret(password or ""), bool(ssl_verification))
        self._holding: Holding | None = None
        with errors_of_both():
            store, name = _open(self._address)
            if create or not store.shared:
                store.create()
            elif not store.exists():
                raise PoolMissing(f"there is no database at {store.url}; create=True makes it")
        self.pool = Pool(store)
        self.db = Database(store, name)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.pool.url}>"

    def __getitem__(self, idx: str) -> dict[str, Any]:
        """A document as a plain dict; `TokenMissing` if there is none."""
        return self.db[idx]

    @property
    def holding(self) -> Holding:
        """The tokens that this client has claimed for its script."""
        if self._holding is None:
            self._holding = Holding(self.pool)
        return self._holding

    def copy(self) -> Self:
        """The same database by a connection of its own; tokens that are held stay held."""
        at = self._address
        made = type(self)(at.url, at.db, at.username, at.password.reveal(), at.verify)
        made._holding = self.holding
        return made

    # --- documents -----------------------------------------------------------------------------

    def get(self, id: str) -> Document:
        """A document; raises `DocumentMissing`, which is a `ValueError`, if there is none."""
        data = self.db.get(id)
        if data is None:
            raise of_both(DocumentMissing)(f"{id!r} is no document in {self.pool.url}")
        return Document(data)

    def save(self, doc: Document) -> Document:
        """Write a document, new or changed; it has its ``_id`` and new ``_rev`` then.

        A token that was claimed here and is closed by this ends its lease.

        Raises:
            Conflict: It was changed since it was read, or the id exists already.
        """
        value = doc.value
        held = self._holding if self._holding and self._holding.holds(value) else None
        closed = held.closing(value) if held else None
        if closed is not None:
            value.update(closed)
            for name in ("lease", "pilot"):
                value.pop(name, None)
        self.db.save(value)
        if held:
            held.saved(value)
        return doc

    def save_documents(self, docs: Sequence[Document]) -> list[bool]:
        """Write documents by few requests; tells for each whether it was written.

        Not written is a new one whose id exists already, and a changed one that somebody else
        changed meanwhile. The written ones have their new ``_rev``.
        """
        return [good for good, _, _ in self.db.update(list(docs))]

    def delete(self, doc: Document) -> None:
        """Delete a document; `Conflict` if it was changed since it was read."""
        self.db.delete(doc.value)

    def delete_documents(self, docs: Sequence[Document]) -> list[bool]:
        """Delete documents by few requests; tells for each whether it was deleted."""
        known = [doc for doc in docs if "_id" in doc and "_rev" in doc]
        answers = iter(self.db.delete_all([doc.value for doc in known]))
        deleted: list[bool] = []
        for doc in docs:
            why: Any = "it is not from the database"
            good = False
            if "_id" in doc and "_rev" in doc:
                good, _, why = next(answers)
            if not good:
                picaslogger.info("Could not delete document %s: %s", doc.get("_id"), why)
            deleted.append(good)
        return deleted

    def doc_count(self) -> int:
        """How many documents the database has: designs and those of pilots count, too."""
        return int(self.db.info()["doc_count"])

    # --- views ---------------------------------------------------------------------------------

    def view(self, view: str, design_doc: str = DEFAULT_DESIGN, **view_params: Any) -> ViewResults:
        """The rows of a view; each has ``id``, ``key`` and ``value``.

        Args:
            view: The view's name.
            design_doc: The design's name.
            view_params: Parameters as CouchDB has them: ``limit``, ``key``, ``startkey``, ….

        Raises:
            ViewMissing: There is no such view.
        """
        return self.db.view(f"{design_doc}/{view}", **view_params)

    def get_from_view(self, view: str, **view_params: Any) -> list[Document]:
        """The documents of a view, without those that were deleted meanwhile."""
        rows = self.view(view, **view_params)
        return [Document(doc) for doc in self.db.read([str(row.id) for row in rows])]

    def get_single_from_view(self, view: str, window_size: int = 1, **view_params: Any) -> Document:
        """A document of the first `window_size` rows of a view, chosen at random.

        Raises:
            IndexError: The view has no rows.
        """
        rows = self.view(view, limit=window_size, **view_params).rows
        if not rows:
            design = view_params.get("design_doc", DEFAULT_DESIGN)
            raise IndexError(f"the view {design}/{view} is empty")
        return self.get(str(dice.choice(rows).id))

    def is_view_nonempty(self, view: str, *, strict: bool = False, **view_params: Any) -> bool:
        """Tell whether a view has rows, so that a pilot is worth starting.

        Args:
            view: The view's name.
            strict: Raise `ViewMissing` where there is no such view, instead of saying False.
            view_params: As for `view`.
        """
        name = f"{view_params.get('design_doc', DEFAULT_DESIGN)}/{view}"
        query = {"limit": view_params.pop("window_size", 1), **view_params}
        try:
            rows = self.view(view, **query).rows
        except missing() as error:
            if strict:
                raise
            picaslogger.warning("There is no view %s: %s", name, error)
            return False
        picaslogger.info("View %s is %s.", name, "non-empty" if rows else "empty")
        return bool(rows)

    def delete_from_view(self, view: str, design_doc: str = DEFAULT_DESIGN) -> list[bool]:
        """Delete all documents of a view; tells for each whether it was deleted."""
        deleted: list[bool] = []
        rows = list(self.view(view, design_doc=design_doc))
        for docs in _pages(self.db, rows):
            deleted += self.delete_documents([Document(doc) for doc in docs])
        return deleted

    @errors_of_both()
    def add_view(
        self,
        view: str,
        map_fun: str,
        *args: Any,
        reduce_fun: str | None = None,
        design_doc: str = DEFAULT_DESIGN,
        **kwargs: Any,
    ) -> None:
        """Add a view to a design, or replace it there; the design is made if it is missing.

        Args:
            view: The view's name.
            map_fun: Its JavaScript. The embedded store takes functions that emit the tokens in one
                state (see `picas.mapfunctions`).
            reduce_fun: JavaScript, or the name of a function that CouchDB has: ``_sum``.
            design_doc: The design's name.
            args: The language and a wrapper, of which only JavaScript and none are known.
            kwargs: ``options`` goes into the view; others are those of `args` by name.

        Raises:
            Unsupported: The embedded store cannot have that view.
        """
        language = kwargs.pop("language", args[0] if args else "javascript")
        options = kwargs.pop("options", {})
        kwargs.pop("wrapper", None)
        if language != "javascript" or kwargs or len(args) > 2:
            odd = next(iter(kwargs), language)
            raise ConfigError(f"add_view knows nothing of {odd!r}; views are in JavaScript here")
        if not self.pool.store.shared:
            _add_embedded(self.pool, design_doc, view, map_fun)
            return
        doc_id = f"_design/{design_doc}"
        doc = self.db.get(doc_id, {"_id": doc_id, "language": "javascript"})
        definition = views.raw_view(map_fun.strip(), reduce_fun) | (
            {"options": options} if options else {}
        )
        if doc.get("views", {}).get(view) != definition:
            doc["views"] = {**doc.get("views", {}), view: definition}
            self.db.save(doc)

    # --- users ---------------------------------------------------------------------------------

    @errors_of_both()
    def set_users(
        self,
        admins: list[str] | None = None,
        members: list[str] | None = None,
        admin_roles: list[str] | None = None,
        member_roles: list[str] | None = None,
    ) -> None:
        """Say who may use the database; None leaves a list as it is.

        Args:
            admins: Names of users who may change designs and these lists.
            members: Names of users who may read and write documents.
            admin_roles: Roles with the rights of `admins`.
            member_roles: Roles with the rights of `members`.

        Raises:
            Unsupported: The embedded store has no users.
            Forbidden: Only administrators may.
        """
        given = {
            ("admins", "names"): admins,
            ("members", "names"): members,
            ("admins", "roles"): admin_roles,
            ("members", "roles"): member_roles,
        }
        security = self.pool.store.security()
        for (who, what), names in given.items():
            if names is not None:
                security[who] = {**security.get(who, {}), what: names}
        self.pool.store.set_security(security)


def _open(at: _Address) -> tuple[Store, str]:
    """The store behind an address, and the database's name."""
    if at.url.startswith("sqlite:") or at.url.endswith((".db", ".sqlite")):
        location = parse_pool(at.url)
        assert isinstance(location, SqliteLocation)
        return SqliteStore(location.path), location.path.stem
    # Here, since an embedded pool needs no HTTP library.
    from picas.pool.couchdb import CouchStore, Session

    # A database that cannot be stands in: what there is to know of the URL is all before it.
    location = parse_pool(f"{at.url.rstrip('/')}/picas")
    if isinstance(location, SqliteLocation):
        raise ConfigError(f"{location.url} is no server")
    username, password = at.username, at.password
    if username is None and location.username is not None:
        username, password = location.username, location.password or Secret("")
    session = Session(location.base_url, username, password.reveal(), verify=at.verify)
    return CouchStore(session, at.db), at.db


def _add_embedded(pool: Pool, design: str, view: str, map_fun: str) -> None:
    """Make the design that a view belongs to, unless it is there with the same condition."""
    where = condition_of(view, map_fun)
    there = pool.designs().get(design)
    if there is None:
        pool.add_design(Design(design, where))
    elif (there.where and there.where.text) != (where and where.text):
        raise Conflict(
            f"the views {design}/… of {pool.url} are of other tokens than those of this map "
            "function; the embedded store has one condition for all views of a design"
        )


def _pages(db: Database, rows: Sequence[Row], size: int = 500) -> Iterator[list[dict[str, Any]]]:
    for start in range(0, len(rows), size):
        yield list(db.read([str(row.id) for row in rows[start : start + size]]))
