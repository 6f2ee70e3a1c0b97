"""The configuration of the classic client, ``~/.config/picas/conf.yml``, as it is."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from picas import crypto
from picas.credentials import Secret
from picas.errors import ConfigError

KEYS = ("host_url", "database", "username", "encrypted_password")


def default_path(home: Path) -> Path:
    """Where the classic client keeps it."""
    return home / ".config" / "picas" / "conf.yml"


def is_there(home: Path) -> bool:
    """Tell whether there is one that this user can see."""
    try:
        return default_path(home).exists()
    except OSError:
        return False


def read(path: Path) -> dict[str, Any]:
    """Read the file; see `check` for what it has to hold.

    Raises:
        ConfigError: It cannot be read, or is no such configuration.
    """
    try:
        import yaml
    except ImportError as error:
        raise ConfigError(f"{path} cannot be read; {crypto.EXTRA}") from error
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError):
        # Its words would quote the line, which may be the password's.
        raise ConfigError(f"{path} is no YAML") from None
    try:
        check(found)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    return dict(found)


def check(values: object) -> None:
    """Raise `ConfigError` unless these are the four texts of a classic configuration."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"it has to have the lines {', '.join(KEYS)}")
    for name in KEYS:
        if name not in values:
            raise ConfigError(f"the line {name!r} is missing")
        if not isinstance(values[name], str):
            raise ConfigError(f"{name!r} is no text")
    unknown = sorted(str(name) for name in values.keys() - set(KEYS))
    if unknown:
        raise ConfigError(f"there is no setting {unknown[0]!r}; there are {', '.join(KEYS)}")


def settings(path: Path) -> dict[str, str]:
    """What the file says, under the names of our own configuration; the password is plain.

    Raises:
        ConfigError: It cannot be read, or its password not be decrypted.
    """
    found = read(path)
    key = crypto.read_key(str(path.with_name("key.dat")))
    try:
        password = Secret(crypto.decrypt_password(found["encrypted_password"], key).decode())
    except UnicodeDecodeError:
        # Not kept as the cause: it carries the password.
        raise ConfigError(f"{path}: the password is no UTF-8 text") from None
    pool = f"{_without_login(found['host_url']).rstrip('/')}/{quote(found['database'], safe='')}"
    return {"pool": pool, "username": found["username"], "password": password.reveal()}


def _without_login(url: str) -> str:
    """The server's URL: the classic client logs in as ``username``, whoever the URL names."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}" if separator else url
