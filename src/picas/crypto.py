"""The encrypted password of classic configurations: ``from picas.crypto import decrypt_password``.

The key lies beside what it encrypts, in ``~/.config/picas/key.dat``: this keeps a password from
being seen at a glance, and from nobody who can read the user's files. New configurations keep
passwords in a private file or the keyring instead (``picas config migrate``).
"""

import os
from pathlib import Path
from typing import Any

from picas.credentials import write_private
from picas.errors import ConfigError

# Not by pathlib, which fails where a user has no home, as on some worker nodes.
CRYPTO_KEY_PATH = os.path.expanduser("~/.config/picas/key.dat")  # noqa: PTH111
"""Where the classic client keeps its key."""

EXTRA = "it needs the extra 'classic': pip install 'picas[classic]' (from where PiCaS came)"


def generate_and_save_key(key_path: str = CRYPTO_KEY_PATH, skip_if_exists: bool = True) -> None:
    """Make a key, in a file that only its owner can read.

    Args:
        key_path: The file.
        skip_if_exists: Leave a key that is there alone.

    Raises:
        ConfigError: There is a key, and it was not to be left alone: with another key the passwords
            that it encrypted could not be read any more. Or the file cannot be written.
    """
    path = Path(key_path).expanduser()
    if path.exists():
        if skip_if_exists:
            return
        raise ConfigError(f"{path} is there already; move it away to make another key")
    try:
        write_private(path, _fernet().generate_key())
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from error


def read_key(key_path: str | None = None) -> bytes:
    """The key; raises `ConfigError` if it cannot be read."""
    path = Path(key_path or CRYPTO_KEY_PATH).expanduser()
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read the key {os.fspath(path)}: {error.strerror}") from error


def encrypt_password(password: str | bytes, key: bytes | None = None) -> bytes:
    """Encrypt a password, by default with the key in the usual place.

    Raises:
        ConfigError: The key cannot be read, or is none.
    """
    text = password.encode() if isinstance(password, str) else password
    return bytes(_locksmith(key).encrypt(text))


def decrypt_password(encrypted: str | bytes, key: bytes | None = None) -> bytes:
    """Decrypt a password, by default with the key in the usual place.

    Raises:
        ConfigError: The key cannot be read, is none, or is another one.
    """
    locksmith = _locksmith(key)
    from cryptography.fernet import InvalidToken

    try:
        return bytes(locksmith.decrypt(encrypted))
    except (InvalidToken, TypeError):
        # Not kept as the cause: its traceback would show what was given.
        raise ConfigError(
            "the password was not encrypted with this key; is key.dat another one than it was?"
        ) from None


def _locksmith(key: bytes | None) -> Any:
    fernet = _fernet()
    try:
        return fernet(read_key() if key is None else key)
    except ValueError:
        raise ConfigError("the key of the encrypted password is none: key.dat is damaged") from None


def _fernet() -> Any:
    try:
        from cryptography.fernet import Fernet
    except ImportError as error:
        raise ConfigError(f"an encrypted password cannot be read; {EXTRA}") from error
    return Fernet
