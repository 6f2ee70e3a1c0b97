"""Secrets: keeping them out of sight, and finding the ones that belong to a server.

A password is looked for in the pool's URL, the environment, the configuration file (`picas.config`
collects these), then in ``~/.netrc`` and the keyring. It is only ever offered to the server and the
user that it was kept for.
"""

import ipaddress
import logging
import netrc
import os
import re
import secrets
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, NoReturn, Self, SupportsIndex

log = logging.getLogger("picas.credentials")

KEYRING_SERVICE = "picas"
"""The service under which passwords are kept in the keyring; see `keyring_account`."""

DEFAULT_PORTS = {"http": 80, "https": 443}

_WORD = re.compile(r"\S+")
_NEXT_URL = re.compile(r"(?=\W[a-z][a-z0-9+.-]{0,15}://)", re.IGNORECASE)


class Secret:
    """A text that is only shown on purpose: ``repr`` and ``str`` give ``***``, pickling fails."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The text itself, for the one place that sends it."""
        return self._value

    def __repr__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return self._value == other._value if isinstance(other, Secret) else NotImplemented

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("a secret is not pickled; hand it on by the environment or a 0600 file")


class Server(NamedTuple):
    """What a password belongs to.

    Attributes:
        scheme: ``http`` or ``https``.
        host: In lower case, an IPv6 address without brackets.
        port: Always a number, the scheme's own where the URL has none.
    """

    scheme: str
    host: str
    port: int

    @property
    def is_private(self) -> bool:
        """True if nobody on the way can read along: encrypted, or on this host."""
        if self.scheme == "https":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost" or self.host.endswith(".localhost")

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == DEFAULT_PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}"


@dataclass(frozen=True, slots=True)
class Login:
    """A user name, a password or both, as one source has them.

    Attributes:
        source: Where they are from, for a person: ``environment``, ``file …``.
        username: None if the source has none.
        password: None if the source has none.
        server: The only server they are for.
        anywhere: They are for whatever server is asked for.
    """

    source: str
    username: str | None = None
    password: Secret | None = None
    server: Server | None = None
    anywhere: bool = False


@dataclass(slots=True)
class Found:
    """Who we are to a server.

    Attributes:
        username: None if no source has one.
        password: None if no source has one for this user.
        sources: Where ``username`` and ``password`` came from.
        reasons: Why a source that was looked at was not used, one line each.
    """

    username: str | None = None
    password: Secret | None = None
    sources: dict[str, str] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)

    def warnings(self, server: Server) -> list[str]:
        """Lines that a person should see before this is used on a server."""
        if self.password is None:
            return self.reasons
        lines = []
        if self.username is None:
            source = self.sources["password"]
            lines.append(f"there is a password ({source}) but no user name: set PICAS_USERNAME")
        if not server.is_private:
            lines.append(f"the password for {server} travels unencrypted: use https://")
        return lines


def redact(text: str) -> str:
    """Put ``***`` in place of the password of every URL in a text."""
    return _WORD.sub(lambda word: "".join(map(_redact_url, _NEXT_URL.split(word[0]))), text)


def open_to_others(mode: int) -> bool:
    """Tell whether a file's mode gives group or others any right."""
    return bool(mode & 0o077)


def chmod_advice(path: Path) -> str:
    """The command that closes a file to others, ready for a shell."""
    return f"chmod 600 {shlex.quote(str(path))}"


def write_private(path: Path, content: bytes) -> None:
    """Write a file for its owner only (0600), whole or not at all; missing directories too (0700).

    Source: the XDG base directory specification asks for 0700.
    """
    missing = [d for d in path.parents if not d.exists()]
    for directory in reversed(missing):
        directory.mkdir(mode=0o700, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(descriptor)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def keyring_account(server: Server, username: str) -> str:
    """The account a password is kept under in the keyring: ``alice@https://couch.example``."""
    return f"{username}@{server}"


def find(server: Server, logins: Iterable[Login], netrc_file: Path) -> Found:
    """Find user name and password for a server.

    A login of another server is left alone, and a password goes with the user name beside it: it is
    not taken for another user.

    Args:
        server: The server they are for.
        logins: What there is, the strongest source first.
        netrc_file: Asked when these have no password; the keyring is asked last.
    """
    found = Found()
    logins = [login for login in logins if _is_for(server, login, found)]
    for login in logins:
        if login.username is not None:
            found.username = login.username
            found.sources["username"] = login.source
            break
    for login in logins:
        if _take(found, login):
            return found
    if (login_there := _in_netrc(server, netrc_file, found)) and _take(found, login_there):
        return found
    if found.username is not None:
        _take(found, Login("keyring", None, _in_keyring(server, found.username)))
    return found


def _redact_url(text: str) -> str:
    """Hide all up to the last ``@``.

    A password may hold an ``@``, ``/`` or ``#`` that should have been encoded, and too much hidden
    is better than half a password shown.
    """
    scheme, separator, rest = text.partition("://")
    user, colon, rest = rest.partition(":")
    _, at, host = rest.rpartition("@")
    return f"{scheme}://{user}:***@{host}" if separator and colon and at else text


def _is_for(server: Server, login: Login, found: Found) -> bool:
    """Tell whether a login has anything for this server; note the reason if it is for another."""
    if login.username is None and login.password is None:
        return False
    if login.anywhere or login.server == server:
        return True
    if login.server is None:
        why = "its 'pool' names no server that they would be for"
    else:
        why = f"they are for {login.server}, not for {server}"
    line = f"user name and password in {login.source} are not used: {why}"
    if line not in found.reasons:
        found.reasons.append(line)
    return False


def _take(found: Found, login: Login) -> bool:
    """Use a login's password if it is for the user found so far, or nobody is known yet."""
    if login.password is None:
        return False
    if None not in (login.username, found.username) and login.username != found.username:
        found.reasons.append(
            f"the password in {login.source} is not used: it is for the user "
            f"{login.username!r}, not for {found.username!r}"
        )
        return False
    if found.username is None and login.username is not None:
        found.username = login.username
        found.sources["username"] = login.source
    found.password = login.password
    found.sources["password"] = login.source
    return True


def _in_netrc(server: Server, path: Path, found: Found) -> Login | None:
    """The entry for exactly this host; a ``default`` entry is for no server in particular.

    The library's own error is not kept: it may quote the part of the file that holds a password.
    """
    try:
        mode = path.stat().st_mode
        hosts = netrc.netrc(str(path)).hosts
    except (FileNotFoundError, NotADirectoryError):
        return None
    except netrc.NetrcParseError as error:
        found.reasons.append(f"{path} is not used: line {error.lineno} cannot be understood")
        return None
    except (OSError, UnicodeError) as error:
        found.reasons.append(f"{path} is not used: it cannot be read ({type(error).__name__})")
        return None
    entry = next((e for h, e in hosts.items() if h.lower() == server.host and h != "default"), None)
    if entry is None or not entry[2]:
        return None
    if open_to_others(mode):
        found.reasons.append(
            f"the password in {path} is not used: others may read the file; {chmod_advice(path)}"
        )
        return None
    return Login(f"netrc {path}", entry[0] or None, Secret(entry[2]))


def _in_keyring(server: Server, username: str) -> Secret | None:
    """What the keyring has, if there is one that works.

    Its backends fail in ways of their own (no D-Bus, locked, no display): all of them mean none.
    """
    try:
        import keyring

        password = keyring.get_password(KEYRING_SERVICE, keyring_account(server, username))
    except Exception as error:  # noqa: BLE001
        log.debug("no password from the keyring: %s", type(error).__name__)
        return None
    return Secret(password) if password else None
