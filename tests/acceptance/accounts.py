"""Users on the CouchDB server, and commands whose output must show no password."""

import secrets
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tests.acceptance.cli import home_of, run_picas
from tests.couchdb.server import CouchServer


@dataclass(frozen=True)
class Account:
    """A user of the server who is no administrator."""

    name: str
    password: str


@contextmanager
def account(server: CouchServer, database: str = "") -> Iterator[Account]:
    """A fresh user, a member of the database (a name) if one is given; removed afterwards."""
    user = Account(f"user-{secrets.token_hex(4)}", secrets.token_hex(8))
    path = f"/_users/org.couchdb.user:{user.name}"
    with server.raw() as raw:
        body = {"name": user.name, "password": user.password, "roles": [], "type": "user"}
        assert raw.put(path, body).status == 201
        if database:
            members = {"members": {"names": [user.name]}, "admins": {"roles": ["_admin"]}}
            assert raw.put(f"/{database}/_security", members).status == 200
    yield user
    with server.raw() as raw:
        raw.delete(f"{path}?rev={raw.get(path).json['_rev']}")


def bare(url: str) -> str:
    """A URL without user and password."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def login(url: str) -> dict[str, str]:
    """The user and password of a URL, as variables of the environment."""
    parts = urlsplit(url)
    return {
        "PICAS_USERNAME": unquote(parts.username or ""),
        "PICAS_PASSWORD": unquote(parts.password or ""),
    }


class Picas:
    """Runs ``picas`` in a folder of its own, and scans all it says for passwords.

    Args:
        folder: Where commands run; HOME is beside it.
        secrets: Texts that no output may hold.
    """

    def __init__(self, folder: Path, *secrets: str) -> None:
        self.folder = folder
        self.secrets = [*secrets]
        self.config = home_of(folder) / ".config/picas/config.toml"

    def __call__(
        self,
        *args: str,
        status: int = 0,
        stdin: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command, which must end with a status."""
        done = run_picas(*args, cwd=self.folder, input=stdin, env=env, check=status)
        said = done.stdout + done.stderr
        assert "Traceback" not in said
        for secret in self.secrets:
            assert secret not in said
        return done
