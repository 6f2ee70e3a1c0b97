"""Who asks, and what they may do."""

import base64
import binascii
import hashlib
import secrets
import time
from typing import Any

from tests.couchdb.double.database import Database
from tests.couchdb.double.http import Json, Refusal, Request, bad_request

USER_PREFIX = "org.couchdb.user:"
ITERATIONS = 1000
_FAILURES = 5
_LOCKED_SECONDS = 300.0


def wrong_password() -> Refusal:
    """The 401 of a wrong name or password."""
    return Refusal(401, "unauthorized", "Name or password is incorrect.")


class Guard:
    """Knows the users, and locks out who guesses passwords.

    Args:
        admin: Name and password of the administrator.
        users: The database ``_users``.
        lockout: Whether five wrong passwords lock a name out, for the address they came from.
    """

    def __init__(self, admin: tuple[str, str], users: Database, *, lockout: bool) -> None:
        self.admin = admin
        self.users = users
        self.lockout = lockout
        self._failures: dict[tuple[str, str], tuple[int, float]] = {}

    def identify(self, request: Request, address: str) -> None:
        """Note in the request who sends it; 401 for a wrong password."""
        header = request.headers.get("authorization", "")
        if not header.lower().startswith("basic "):
            return
        try:
            pair = base64.b64decode(header[6:], validate=True).decode()
        except (binascii.Error, ValueError):
            reason = "Authorization header has invalid base64 value"
            raise bad_request(reason) from None
        name, _, password = pair.partition(":")
        count, last = self._failures.get((address, name), (0, 0.0))
        if self.lockout and count >= _FAILURES and time.monotonic() - last < _LOCKED_SECONDS:
            reason = "Account is temporarily locked due to multiple authentication failures"
            raise Refusal(403, "forbidden", reason)
        roles = self._roles(name, password)
        if roles is None:
            self._failures[address, name] = (count + 1, time.monotonic())
            raise wrong_password()
        self._failures.pop((address, name), None)
        request.user, request.roles = name, roles

    def _roles(self, name: str, password: str) -> list[str] | None:
        """The user's roles; None if there is no such user or the password is another."""
        if (name, password) == self.admin:
            return ["_admin"]
        found = self.users.newest(USER_PREFIX + name)
        if found is None or found.deleted or "derived_key" not in found.body:
            return None
        body = found.body
        if _derive(password, body["salt"]) != body["derived_key"]:
            return None
        return list(body.get("roles", []))


def with_password(body: dict[str, Json]) -> dict[str, Json]:
    """A user's document as it is stored: the password made into a key."""
    if "password" not in body:
        return body
    salt = secrets.token_hex(16)
    hashed = {
        "password_scheme": "pbkdf2",
        "pbkdf2_prf": "sha256",
        "salt": salt,
        "iterations": ITERATIONS,
        "derived_key": _derive(str(body["password"]), salt),
    }
    kept = {name: value for name, value in body.items() if name != "password"}
    return {**kept, **hashed}


def _derive(password: str, salt: str) -> str:
    return hashlib.pbkdf2_hmac("sha256", password.encode(), salt.encode(), ITERATIONS).hex()


def need_server_admin(request: Request) -> None:
    """Refuse everybody but a server administrator."""
    if not request.admin:
        raise Refusal(401, "unauthorized", "You are not a server admin.")


def need_member(request: Request, database: Database) -> None:
    """Refuse who may not use the database."""
    members = database.security.get("members", {})
    public = not members.get("names") and not members.get("roles")
    if request.admin or public or _listed(request, members) or is_database_admin(request, database):
        return
    if request.user is None:
        raise Refusal(401, "unauthorized", "You are not authorized to access this db.")
    raise Refusal(403, "forbidden", "You are not allowed to access this db.")


def is_database_admin(request: Request, database: Database) -> bool:
    """Whether the user may write design documents of the database."""
    return request.admin or _listed(request, database.security.get("admins", {}))


def need_database_admin(request: Request, database: Database) -> None:
    """Refuse who is no administrator of the database."""
    if not is_database_admin(request, database):
        status, error = (401, "unauthorized") if request.user is None else (403, "forbidden")
        raise Refusal(status, error, "You are not a db or server admin.")


def session(request: Request) -> Json:
    """The answer to ``GET /_session``."""
    info: dict[str, Any] = {"authentication_handlers": ["cookie", "default"]}
    if request.user is not None:
        info["authenticated"] = "default"
    return {
        "ok": True,
        "userCtx": {"name": request.user, "roles": request.roles},
        "info": info,
    }


def _listed(request: Request, group: dict[str, Json]) -> bool:
    named = request.user is not None and request.user in group.get("names", [])
    return named or any(role in group.get("roles", []) for role in request.roles)
