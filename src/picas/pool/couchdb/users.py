"""A CouchDB server as one of its users meets it: is it there, who are we, a new password.

Nothing here is asked more than once: CouchDB locks an address out after five wrong passwords.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from picas.config import CouchLocation, Settings
from picas.errors import (
    ConfigError,
    Forbidden,
    NotFound,
    PoolError,
    Refused,
    ServerError,
    Unauthorized,
)
from picas.pool.couchdb.http import Session

ASK_SECONDS = 15.0
ADMIN_ROLE = "_admin"
_USER = "org.couchdb.user:"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the server takes us for.

    Attributes:
        name: None if nobody in particular.
        roles: ``_admin`` among them for an administrator of the server.
    """

    name: str | None
    roles: tuple[str, ...] = ()

    @property
    def admin(self) -> bool:
        """True for an administrator of the whole server."""
        return ADMIN_ROLE in self.roles


def open_session(settings: Settings, *, anonymous: bool = False) -> Session:
    """A connection to the server of a CouchDB pool; the caller closes it.

    Args:
        settings: Where, and who we are.
        anonymous: Leave user name and password out.

    Raises:
        ConfigError: The pool is not on a server, or the CA file cannot be read.
    """
    location = settings.pool
    if not isinstance(location, CouchLocation):
        raise ConfigError(f"{location.url} is an embedded pool: it has no server")
    if anonymous:
        return Session(location.base_url, None, None, settings.ca_file)
    password = settings.password.reveal() if settings.password else None
    return Session(location.base_url, settings.username, password, settings.ca_file)


def welcome(session: Session) -> str:
    """Ask a server what it is; returns its version.

    Raises:
        Unauthorized: It is there, and tells nothing without a password.
        ServerError: Something that is no CouchDB answered.
    """
    answer = _get(session, "asking for the version", "/")
    if not isinstance(answer, dict) or "couchdb" not in answer:
        raise ServerError(f"{session.base} answers, but it is no CouchDB; check the pool's URL")
    return str(answer.get("version", "(unknown)"))


def identity(session: Session) -> Identity:
    """Sign in; raises `Unauthorized` if user name or password are wrong."""
    user = _get(session, "signing in", "/_session").get("userCtx", {})
    return Identity(user.get("name"), tuple(user.get("roles", ())))


def may_add_views(session: Session, database: str, who: Identity) -> bool:
    """Tell whether we are an administrator of the server or of this database."""
    if who.admin:
        return True
    path = f"/{quote(database, safe='')}/_security"
    admins: Mapping[str, Any] = _get(session, "asking who may add views", path).get("admins", {})
    names, roles = admins.get("names", ()), admins.get("roles", ())
    return who.name in names or any(role in roles for role in who.roles)


def change_password(session: Session, who: Identity, new: str) -> None:
    """Give our own account another password.

    A server that has only just started may go by the old one for a few seconds.

    Raises:
        PoolUnreachable: No answer: the password may be the old or the new one.
        Forbidden: Users of this server may not; the text says what to ask for.
        Refused: We are an administrator of the server's own configuration.
    """
    name = who.name or ""
    if who.admin and _is_configured(session, name):
        raise Refused(_configured(session, name))
    path = f"/_users/{quote(_USER + name, safe='')}"
    try:
        doc = _get(session, "reading the own account", path)
        body = {**doc, "password": new}
        session.json("changing the password", "PUT", path, body=body, timeout=ASK_SECONDS)
    except NotFound as error:
        raise Refused(_configured(session, name)) from error
    except (Forbidden, Unauthorized) as error:
        raise Forbidden(
            f"{session.base} does not let users change their own password (only administrators "
            f"may use its _users database); ask the administrator to set a new one for {name!r} "
            f"in the document _users/{_USER}{name}, or to let users in by the setting [couchdb] "
            'users_db_security_editable = true and by emptying "members" in /_users/_security'
        ) from error


def _configured(session: Session, name: str) -> str:
    return (
        f"{name!r} is an administrator from the configuration of {session.base}, not an account in "
        "its _users database; change that password there ([admins] in local.ini, or Fauxton's "
        "page 'Your Account')"
    )


def _is_configured(session: Session, name: str) -> bool:
    """Look whether the server's configuration names this administrator; False if it won't tell."""
    try:
        _get(
            session,
            "reading the administrators",
            f"/_node/_local/_config/admins/{quote(name, safe='')}",
        )
    except PoolError:
        return False
    return True


def _get(session: Session, operation: str, path: str) -> Any:
    return session.json(operation, "GET", path, read=False, timeout=ASK_SECONDS)
