"""What CouchDB lets whom do: the same on a real server and on its double."""

import secrets
from collections.abc import Callable
from typing import Any

import pytest
from tests.couchdb.double import DoubleCouch
from tests.couchdb.exchange import NO_DATABASE, Exchange, error
from tests.couchdb.raw import Raw
from tests.couchdb.server import CouchServer, InstalledCouch, installed

WRONG = (401, error("unauthorized", "Name or password is incorrect."))
NOBODY = (401, error("unauthorized", "You are not authorized to access this db."))
STRANGER = (403, error("forbidden", "You are not allowed to access this db."))
NO_SERVER_ADMIN = (401, error("unauthorized", "You are not a server admin."))
NO_ADMIN = (403, error("forbidden", "You are not a db or server admin."))
LOCKED = "Account is temporarily locked due to multiple authentication failures"
DESIGN = {"views": {"v": {"map": "function (doc) { emit(1); }"}}}


@pytest.fixture
def user(exchange: Exchange) -> tuple[str, Raw]:
    """The name of a user without any right, and a connection as that user."""
    name = add_user(exchange.server)
    return name, exchange.user(name, "secret")


def add_user(server: CouchServer, **fields: Any) -> str:
    """Make a user with the password ``secret``; its name."""
    name = f"user-{secrets.token_hex(4)}"
    body = {"name": name, "type": "user", "roles": [], "password": "secret", **fields}
    with server.raw("/_users") as users:
        assert users.put(f"/org.couchdb.user:{name}", body).status == 201
    return name


def test_passwords_are_checked(exchange: Exchange, user: tuple[str, Raw]) -> None:
    """A wrong password or name is 401 everywhere, even where nobody needs one."""
    name, _ = user
    for who in (exchange.user(name, "wrong"), exchange.user("nobody", "secret")):
        assert exchange.ask("GET", "", by=who) == WRONG
        assert exchange.ask("GET", "/a", by=who) == WRONG
    for path in ("/", "/_up", "/_session"):
        wrong = exchange.user(name, "wrong", database=False)
        assert wrong.get(path).status == 401
        assert exchange.user("", None, database=False).get(path).status == 200
    odd = {"Authorization": "Basic !!"}
    assert exchange.user("", None).call("GET", "", None, odd).status == 400


def test_session_tells_who_asks(exchange: Exchange, user: tuple[str, Raw]) -> None:
    """Name and roles: of the administrator, of a user, of nobody."""
    name, _ = user

    def who(raw: Raw) -> tuple[Any, Any, Any]:
        session = raw.get("/_session").json
        context = session["userCtx"]
        return context["name"], context["roles"], session["info"].get("authenticated")

    with exchange.server.raw() as admin:
        assert who(admin)[1:] == (["_admin"], "default")
    assert who(exchange.user(name, "secret", database=False)) == (name, [], "default")
    assert who(exchange.user("", None, database=False)) == (None, [], None)


def test_new_databases_are_for_administrators(exchange: Exchange, user: tuple[str, Raw]) -> None:
    """By default nobody else may look inside; a database that is not there is just missing."""
    for who, refused in ((user[1], STRANGER), (exchange.user("", None), NOBODY)):
        for method, path, body in (
            ("GET", "", None),
            ("GET", "/a", None),
            ("PUT", "/a", {}),
            ("GET", "/_all_docs", None),
            ("POST", "/_bulk_docs", {"docs": []}),
            ("GET", "/_security", None),
        ):
            assert exchange.ask(method, path, body, by=who) == refused
    outside = exchange.user(user[0], "secret", database=False)
    assert exchange.ask("GET", "/no-such-database", by=outside) == (404, NO_DATABASE)


def test_only_administrators_make_databases(exchange: Exchange, user: tuple[str, Raw]) -> None:
    """Nobody else makes, removes or lists databases, nor changes the configuration."""
    outside = exchange.user(user[0], "secret", database=False)
    for method, path in (
        ("PUT", "/another"),
        ("DELETE", f"/{exchange.name}"),
        ("GET", "/_all_dbs"),
        ("GET", "/_node/_local/_config/chttpd/port"),
    ):
        assert exchange.ask(method, path, by=outside) == NO_SERVER_ADMIN


@pytest.mark.parametrize(
    "member", [lambda name: {"names": [name]}, lambda name: {"roles": ["dev"]}]
)
def test_members_write_documents_but_no_designs(
    exchange: Exchange, member: Callable[[str], dict[str, Any]]
) -> None:
    """A member by name or by role reads and writes; designs need an administrator."""
    name = add_user(exchange.server, roles=["dev"])
    security = {"admins": {"names": [], "roles": []}, "members": member(name)}
    assert exchange.ask("PUT", "/_security", security) == (200, {"ok": True})
    assert exchange.ask("GET", "/_security") == (200, security)
    who = exchange.user(name, "secret")
    assert exchange.ask("PUT", "/a", {}, by=who)[0] == 201
    assert exchange.ask("PUT", "/_design/d", DESIGN, by=who) == NO_ADMIN
    both = {"docs": [{"_id": "_design/d", **DESIGN}, {"_id": "b"}]}
    assert exchange.ask("POST", "/_bulk_docs", both, by=who) == (
        201,
        [{"id": "_design/d", **NO_ADMIN[1]}, {"ok": True, "id": "b", "rev": "1-*"}],
    )
    assert exchange.ask("POST", "/_compact", {}, by=who)[0] == 401
    assert exchange.ask("PUT", "/_security", {}, by=who)[0] == 500
    assert exchange.ask("GET", "", by=exchange.user("", None)) == NOBODY
    stranger = exchange.user(add_user(exchange.server), "secret")
    assert exchange.ask("GET", "", by=stranger) == STRANGER


def test_database_administrators(exchange: Exchange, user: tuple[str, Raw]) -> None:
    """They write designs and change who may do what, but do not remove the database."""
    name, who = user
    security = {"admins": {"names": [name]}, "members": {"names": ["another"]}}
    exchange.ask("PUT", "/_security", security)
    assert exchange.ask("PUT", "/_design/d", DESIGN, by=who)[0] == 201
    assert exchange.ask("DELETE", "", by=who) == NO_SERVER_ADMIN
    assert exchange.ask("POST", "/_compact", {}, by=who) == (202, {"ok": True})
    assert exchange.ask("PUT", "/_security", {}, by=who) == (200, {"ok": True})


def test_database_without_members_is_public(exchange: Exchange, user: tuple[str, Raw]) -> None:
    """Whoever comes reads and writes documents, and still no designs."""
    exchange.ask("PUT", "/_security", {})
    nobody = exchange.user("", None)
    assert exchange.ask("PUT", "/a", {}, by=nobody)[0] == 201
    refused = (401, NO_ADMIN[1] | {"error": "unauthorized"})
    assert exchange.ask("PUT", "/_design/d", DESIGN, by=nobody) == refused
    assert exchange.ask("PUT", "/_design/d", DESIGN, by=user[1]) == NO_ADMIN


def test_users_may_not_see_their_own_document(exchange: Exchange, user: tuple[str, Raw]) -> None:
    """The users' database is for administrators only: a user cannot change the own password."""
    name, _ = user
    outside = exchange.user(name, "secret", database=False)
    path = f"/_users/org.couchdb.user:{name}"
    body = {"name": name, "type": "user", "roles": [], "password": "new"}
    assert exchange.ask("GET", path, by=outside) == STRANGER
    assert exchange.ask("PUT", path, body, by=outside) == STRANGER
    assert exchange.ask("GET", "/_users/_all_docs", by=outside) == NO_SERVER_ADMIN
    with exchange.server.raw() as admin:
        assert admin.put("/_users/_security", {}).status == 403


def test_passwords_are_kept_as_keys(exchange: Exchange) -> None:
    """A user's document shows no password, and written back as it is keeps it."""
    name = add_user(exchange.server)
    path = f"/org.couchdb.user:{name}"
    with exchange.server.raw("/_users") as users:
        doc = users.get(path).json
        assert (doc["password_scheme"], len(doc["derived_key"])) == ("pbkdf2", 64)
        assert "password" not in doc
        assert users.put(path, doc).status == 201
        assert exchange.user(name, "secret", database=False).get("/").status == 200


def test_passwords_can_be_changed(exchange: Exchange) -> None:
    """The administrator sets a new one; the old one is wrong from then on."""
    name = add_user(exchange.server)
    path = f"/org.couchdb.user:{name}"
    with exchange.server.raw("/_users") as users:
        doc = users.get(path).json
        assert users.put(path, {**doc, "password": "new"}).status == 201
    assert exchange.user(name, "secret", database=False).get("/").status == 401
    assert exchange.user(name, "new", database=False).get("/").status == 200


@pytest.mark.parametrize(
    "make", [DoubleCouch, pytest.param(InstalledCouch, marks=pytest.mark.couchdb)]
)
def test_guessing_locks_a_name_out(make: Callable[..., CouchServer]) -> None:
    """Five wrong passwords lock that name out, for the address they came from; others not."""
    if make is InstalledCouch and not installed():
        pytest.skip("real CouchDB: only a private server can be run with the lockout on")
    with make(lockout=True) as server:
        guessed, other = add_user(server), add_user(server)
        host = f"127.0.0.1:{server.url.rpartition(':')[2]}"

        def answer(name: str, password: str) -> Any:
            with Raw(f"http://{name}:{password}@{host}") as raw:
                reply = raw.get("/")
                return reply.status, reply.json.get("reason")

        assert {answer(guessed, "wrong") for _ in range(5)} == {(401, WRONG[1]["reason"])}
        assert answer(guessed, "wrong") == (403, LOCKED)
        assert answer(guessed, "secret") == (403, LOCKED)
        assert answer(other, "secret")[0] == 200
