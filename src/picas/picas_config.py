"""The configuration of the classic API: ``from picas.picas_config import PicasConfig``."""

from pathlib import Path
from typing import Any

from picas import classic_config
from picas.errors import ConfigError

_MOVED = "classic configurations are only read; 'picas init' or 'picas config migrate' writes one"
_PASSWD = "'picas passwd' changes a password, on the server and in the configuration"


class PicasConfigSchemaError(ConfigError):
    """The file is no classic configuration.

    Attributes:
        message: What is wrong with it.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class PicasConfig:
    """A classic configuration file.

    Args:
        config_path: The file; by default ``~/.config/picas/conf.yml``.
        load: Read it now.

    Attributes:
        config: ``host_url``, ``database``, ``username`` and ``encrypted_password``.
        config_path: The file.

    Raises:
        FileNotFoundError: It is not there.
        PicasConfigSchemaError: It is no such configuration.
        ConfigError: It cannot be read.
    """

    def __init__(self, config_path: str | None = None, load: bool = True) -> None:
        self.config_path = str(config_path or "~/.config/picas/conf.yml")
        self.config: dict[str, Any] = {}
        if load:
            self.load_config()

    def __str__(self) -> str:
        """The settings, the password masked."""
        if not self.config:
            return "PicasConfig: No configuration loaded"
        shown = {k: "***" if "password" in k else v for k, v in self.config.items()}
        lines = (f"{name}: {value}" for name, value in sorted(shown.items()))
        return "PicasConfig:\n" + "\n".join(lines)

    __repr__ = __str__

    def load_config(self) -> None:
        """Read the file."""
        path = Path(self.config_path).expanduser()
        if not path.exists():
            raise FileNotFoundError(
                f"there is no {self.config_path}; 'picas init' makes a new configuration"
            )
        try:
            self.config = classic_config.read(path)
        except ConfigError as error:
            raise PicasConfigSchemaError(str(error)) from error

    def validate_config(self, config: dict[str, Any] | None = None) -> None:
        """Raise `PicasConfigSchemaError` if settings (by default these) cannot be used."""
        try:
            classic_config.check(config or self.config)
        except ConfigError as error:
            raise PicasConfigSchemaError(str(error)) from error

    def save_config(self, args: object) -> None:
        """Not offered any more: `ConfigError` tells what is."""
        raise ConfigError(_MOVED)

    def write_config(self, config: object) -> None:
        """Not offered any more: `ConfigError` tells what is."""
        raise ConfigError(_MOVED)

    def change_password(self, args: object) -> None:
        """Not offered any more: `ConfigError` tells what is."""
        raise ConfigError(_PASSWD)

    def change_couchdb_password(self, *args: object, **kwargs: object) -> None:
        """Not offered any more: `ConfigError` tells what is."""
        raise ConfigError(_PASSWD)
