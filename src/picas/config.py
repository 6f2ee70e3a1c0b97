"""Where the pool is and who we are: command line, environment, configuration file.

The file is ``$PICAS_CONFIG``, else ``$XDG_CONFIG_HOME/picas/config.toml``, else
``~/.config/picas/config.toml``. Its keys are those of `KEYS`. No message and no ``repr`` made here
holds a password.
"""

import contextlib
import difflib
import ipaddress
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, unquote_to_bytes

from picas import classic_config
from picas.credentials import (
    DEFAULT_PORTS,
    Login,
    Secret,
    Server,
    chmod_advice,
    find,
    open_to_others,
    redact,
    write_private,
)
from picas.errors import ConfigError

KEYS = ("pool", "username", "password", "ca_file")
"""What a configuration file may hold; every value is a text."""

DEFAULT_POOL = "sqlite:///picas.db"

_FORMS = "sqlite:///FILE.db, http(s)://HOST[:PORT]/DATABASE or a path ending in .db or .sqlite"
_ENCODE = "write a special character in user name or password as %XX ('/' is %2F, '@' is %40)"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_DATABASE = re.compile(r"[a-z][a-z0-9_$()+/-]*")
_HTTP = re.compile(
    r"""(?P<scheme>https?)://
        (?:(?P<userinfo>[^/?#]*)@)?
        (?P<host>\[[^\]\s/?#@]*\]|[^\[\]\s:/?#@\\]*)
        (?::(?P<port>[0-9]{0,5}))?
        (?P<path>/[^\s?#@]*)?""",
    re.VERBOSE | re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class SqliteLocation:
    """An embedded pool: a file on this machine.

    Attributes:
        path: As given: relative to the working directory unless absolute.
    """

    path: Path
    kind: Literal["sqlite"] = field(default="sqlite", init=False)

    @property
    def url(self) -> str:
        """The pool as a person would write it."""
        return f"sqlite:///{self.path}"

    @property
    def address(self) -> str:
        """The same for a process in any folder."""
        return f"sqlite:///{self.path.absolute()}"


@dataclass(frozen=True, slots=True)
class CouchLocation:
    """A database on a CouchDB server.

    Attributes:
        server: Scheme, host and port.
        database: The name, decoded.
        prefix: Path in front of the database, as behind a proxy: empty or ``/couch``.
        username: From the URL.
        password: From the URL.
    """

    server: Server
    database: str
    prefix: str = ""
    username: str | None = None
    password: Secret | None = None
    kind: Literal["couchdb"] = field(default="couchdb", init=False)

    @property
    def base_url(self) -> str:
        """The server's URL with the prefix: no user, no password, no slash at the end."""
        return f"{self.server}{self.prefix}"

    @property
    def url(self) -> str:
        """The pool as a person would write it, without user and password."""
        return f"{self.base_url}/{quote(self.database, safe='$()+')}"

    @property
    def address(self) -> str:
        """The same for a process in any folder: the URL."""
        return self.url


PoolLocation = SqliteLocation | CouchLocation


@dataclass(frozen=True, slots=True)
class Settings:
    """What a command needs to reach its pool.

    Attributes:
        pool: Where it is, without user and password.
        username: None for an embedded pool, or where none was found.
        password: Likewise.
        ca_file: Certificates to trust instead of the system's.
        sources: Where each of these came from: ``argument``, ``environment``, ``file …``,
            ``pool URL``, ``netrc …``, ``keyring``, ``default``; nothing for what was not found.
        warnings: Lines that a person should see.
    """

    pool: PoolLocation
    username: str | None = None
    password: Secret | None = None
    ca_file: Path | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def config_path(environ: Mapping[str, str], home: Path | None = None) -> Path:
    """Where the configuration file is, or would be."""
    home = _home(environ, home)
    if named := environ.get("PICAS_CONFIG"):
        return _expand(named, home)
    base = Path(environ.get("XDG_CONFIG_HOME", ""))
    # Source: the XDG base directory specification has relative paths ignored.
    return (base if base.is_absolute() else home / ".config") / "picas" / "config.toml"


def load(
    pool: str | None = None, environ: Mapping[str, str] = os.environ, home: Path | None = None
) -> Settings:
    """Settle where the pool is and who we are.

    Args:
        pool: What the user asked for; goes before ``PICAS_POOL``, that before the file.
        environ: The environment.
        home: The home directory, if not the user's own.

    Raises:
        ConfigError: The file, or the pool's URL, cannot be used.
    """
    home = _home(environ, home)
    path = config_path(environ, home)
    warnings: list[str] = []
    in_file, path = _read_any(path, environ, home, warnings)
    if environ.get("PICAS_CONFIG") and not path.exists():
        warnings.append(f"PICAS_CONFIG names {path}, which does not exist")
    location, source = _choose_pool(pool, environ, in_file, path, home)
    sources = {"pool": source}
    ca_file = None
    if "ca_file" in in_file:
        ca_file = path.parent / _expand(in_file["ca_file"], home)
        sources["ca_file"] = f"file {path}"
    if isinstance(location, SqliteLocation):
        return Settings(location, None, None, ca_file, sources, tuple(warnings))
    netrc_file = _expand(environ.get("NETRC") or "~/.netrc", home)
    found = find(location.server, _logins(location, environ, in_file, path), netrc_file)
    sources |= found.sources
    warnings += found.warnings(location.server)
    bare = replace(location, username=None, password=None)
    return Settings(bare, found.username, found.password, ca_file, sources, tuple(warnings))


def parse_pool(url: str, home: Path | None = None) -> PoolLocation:
    """Understand a pool's URL, or the path of an embedded pool.

    Args:
        url: ``sqlite:///relative.db``, ``sqlite:////absolute.db``, ``sqlite:path``, a path that
            ends in ``.db`` or ``.sqlite``, or ``http(s)://[user[:password]@]host[:port]/database``
            whose last part is the database.
        home: What ``~`` stands for in a path.

    Raises:
        ConfigError: It is none of these; the text never quotes what may be a password.
    """
    scheme = _SCHEME.match(url)
    if scheme is None:
        if url.endswith((".db", ".sqlite")) and "://" not in url:
            return _sqlite(url, home)
        raise ConfigError(f"{_shown(url)!r} is not a pool: use {_FORMS}")
    match scheme[1].lower():
        case "sqlite":
            return _sqlite(_sqlite_path(url[scheme.end() :]), home)
        case "http" | "https":
            return _couch(url)
        case _:
            raise ConfigError(f"a pool's URL cannot begin with '{scheme[1]}:'; use {_FORMS}")


def save(path: Path, values: Mapping[str, Any]) -> None:
    """Write a configuration file, readable by its owner only; what it held before is replaced.

    The file is either the old or the new one, whole, at any time. A symbolic link stays, and the
    file it points to is written.

    Args:
        path: The file; missing directories are made, for the owner only.
        values: Texts (or secrets) by key.

    Raises:
        ConfigError: A key or value that `load` would refuse, or the file cannot be written.
    """
    plain = {k: v.reveal() if isinstance(v, Secret) else v for k, v in values.items()}
    content = to_toml(_checked(plain, "the configuration")).encode()
    try:
        target = path.resolve()
        if target.exists() and not target.is_file():
            raise ConfigError(f"cannot write {path}: it is not a regular file")
        write_private(target, content)
    # RuntimeError: how Python 3.11 and 3.12 report a loop of symbolic links.
    except (OSError, RuntimeError) as error:
        why = error.strerror if isinstance(error, OSError) else "a loop of symbolic links"
        raise ConfigError(f"cannot write {path}: {why}") from error


def to_toml(values: Mapping[str, str | int | bool]) -> str:
    """TOML text of a flat table.

    Raises:
        ConfigError: A value is of another type, or no valid Unicode.
    """
    return "".join(f"{_toml_key(name)} = {_toml_value(name, v)}\n" for name, v in values.items())


def _read_any(
    path: Path, environ: Mapping[str, str], home: Path, warnings: list[str]
) -> tuple[Mapping[str, str], Path]:
    """The configuration file, else that of the classic client; and where it is."""
    if environ.get("PICAS_CONFIG") or not classic_config.is_there(home) or path.exists():
        return _read(path), path
    classic = classic_config.default_path(home)
    try:
        return classic_config.settings(classic), classic
    except ConfigError as error:
        warnings.append(f"the configuration of the classic client is passed over: {error}")
        return {}, path


def _choose_pool(
    pool: str | None, environ: Mapping[str, str], in_file: Mapping[str, str], path: Path, home: Path
) -> tuple[PoolLocation, str]:
    """The pool of the strongest source, and that source."""
    if pool is not None:
        return parse_pool(pool, home), "argument"
    if text := environ.get("PICAS_POOL"):
        where, source = "PICAS_POOL", "environment"
    elif text := in_file.get("pool"):
        where, source = f"pool in {path}", f"file {path}"
    else:
        return parse_pool(DEFAULT_POOL, home), "default"
    try:
        return parse_pool(text, home), source
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _logins(
    location: CouchLocation, environ: Mapping[str, str], in_file: Mapping[str, str], path: Path
) -> list[Login]:
    """What URL, environment and file have, with the server of the pool that stands beside it."""
    logins = [Login("pool URL", location.username, location.password, location.server)]
    in_environment = {key: environ.get(f"PICAS_{key.upper()}") for key in KEYS}
    for source, values in (("environment", in_environment), (f"file {path}", in_file)):
        own = _couch_or_none(values.get("pool"))
        anywhere = own is None and values is in_environment
        server = own.server if own else None
        username = values.get("username") or (own.username if own else None)
        password = values.get("password")
        secret = Secret(password) if password else None
        logins.append(Login(source, username, secret, server, anywhere))
        if own and own.password:
            logins.append(Login(source, own.username, own.password, server))
    return logins


def _couch_or_none(url: str | None) -> CouchLocation | None:
    """The server a source's own pool is on, if that can be told."""
    try:
        location = parse_pool(url or DEFAULT_POOL)
    except ConfigError:
        return None
    return location if isinstance(location, CouchLocation) else None


def _sqlite_path(rest: str) -> str:
    """The path in what follows ``sqlite:``."""
    if not rest.startswith("//"):
        return rest
    if not rest.startswith("///"):
        raise ConfigError(
            "a pool's URL 'sqlite://…' needs three slashes before a relative path, four before an "
            "absolute one"
        )
    return rest[3:]


def _sqlite(path: str, home: Path | None) -> SqliteLocation:
    if not path or path.endswith("/"):
        raise ConfigError("the pool's URL names no file; use sqlite:///FILE.db")
    if path == ":memory:":
        raise ConfigError("a pool in memory would be empty for every pilot; use sqlite:///FILE.db")
    return SqliteLocation(_expand(path, home or _home(os.environ, None)))


def _couch(url: str) -> CouchLocation:
    """Take an http URL apart; anything odd may be a part of a password and is not quoted."""
    parts = _HTTP.fullmatch(url)
    if parts is None:
        raise ConfigError(
            "the pool's URL cannot be understood: use http(s)://HOST[:PORT]/DATABASE, and "
            f"{_ENCODE}"
        )
    server = _server(parts["scheme"].lower(), parts["host"].lower(), parts["port"])
    prefix, _, last = (parts["path"] or "").rstrip("/").rpartition("/")
    if not last:
        raise ConfigError(f"the pool's URL names no database: use {server}/DATABASE")
    database = _decode(last)
    if not _DATABASE.fullmatch(database):
        raise ConfigError(
            f"{database!r} cannot be a database: the name begins with a lower-case letter, then "
            "lower-case letters, digits and _ $ ( ) + - / (in a URL %2F)"
        )
    username, _, password = (parts["userinfo"] or "").partition(":")
    secret = Secret(_decode(password)) if password else None
    return CouchLocation(server, database, prefix, _decode(username) or None, secret)


def _server(scheme: str, host: str, port: str | None) -> Server:
    if not host:
        raise ConfigError(f"the pool's URL names no host: use {scheme}://HOST[:PORT]/DATABASE")
    if host.startswith("["):
        host = host[1:-1]
        try:
            ipaddress.IPv6Address(host)
        except ValueError as error:
            raise ConfigError(f"the host [{host}] in the pool's URL is no IPv6 address") from error
    number = int(port) if port else DEFAULT_PORTS[scheme]
    if not 0 < number < 65536:
        raise ConfigError("the port in the pool's URL must be between 1 and 65535")
    return Server(scheme, host, number)


def _decode(text: str) -> str:
    """Percent-decoding; the library's error would hold the text, so it is not kept."""
    with contextlib.suppress(UnicodeDecodeError):
        return unquote_to_bytes(text).decode()
    raise ConfigError("a %XX sequence in the pool's URL is not UTF-8")


def _shown(text: str) -> str:
    """A text that may be a URL, without anything that may be a password."""
    _, at, rest = text.rpartition("@")
    return f"***@{rest}" if at else text


def _home(environ: Mapping[str, str], home: Path | None) -> Path:
    """The home directory; batch jobs may have none, and then nothing is found there."""
    if home is not None or environ.get("HOME"):
        return home or Path(environ["HOME"])
    try:
        return Path.home()
    except RuntimeError:
        return Path("/")


def _expand(path: str, home: Path) -> Path:
    return home / path[2:] if path.startswith("~/") else Path(path)


def _read(path: Path) -> dict[str, str]:
    """What the file holds, checked; nothing if there is no file."""
    try:
        with path.open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            data = stream.read()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    values = _checked(_from_toml(data, path), str(path))
    pool = values.get("pool", "")
    if open_to_others(mode) and ("password" in values or redact(pool) != pool):
        raise ConfigError(
            f"{path} holds a password and is open to others (mode {mode & 0o777:04o}): "
            f"{chmod_advice(path)}"
        )
    return values


def _from_toml(data: bytes, path: Path) -> dict[str, Any]:
    """Parsed TOML; the library's error holds the file's text, so only its message is kept."""
    try:
        return tomllib.loads(data.decode())
    except ValueError as error:
        problem = str(error)
    raise ConfigError(f"{path} is not valid TOML: {problem}")


def _checked(values: Mapping[str, Any], where: str) -> dict[str, str]:
    """The values by known key, all of them texts; empty ones count as not given."""
    for name, value in values.items():
        if name not in KEYS:
            close = difflib.get_close_matches(name, KEYS, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise ConfigError(
                f"unknown key {name!r} in {where}: {hint}The known ones are {', '.join(KEYS)}"
            )
        if not isinstance(value, str):
            raise ConfigError(f"{name!r} in {where} must be a text, not {type(value).__name__}")
    return {name: value for name, value in values.items() if value}


def _toml_key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _toml_text(name, name)


def _toml_value(name: str, value: str | int | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return _toml_text(name, value)
    raise ConfigError(f"{name!r} cannot be written: it is a {type(value).__name__}")


def _toml_text(name: str, text: str) -> str:
    """A basic string: quotes, backslashes and control characters escaped."""
    if any("\ud800" <= c <= "\udfff" for c in text):
        raise ConfigError(f"{name!r} cannot be written: it holds bytes that are not UTF-8")
    return '"' + re.sub(r'["\\\x00-\x1f\x7f]', lambda m: f"\\u{ord(m[0]):04x}", text) + '"'
