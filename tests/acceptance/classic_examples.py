"""A copy of ``examples/classic`` to run scripts in: with our client, or with the classic one."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.acceptance.cli import clean_environment, home_of

from picas.pool import connect
from picas.token import State

FOLDER = Path(__file__).parents[2] / "examples" / "classic"

_CONFIG = """\
PICAS_HOST_URL = {url!r}
PICAS_DATABASE = {database!r}
PICAS_USERNAME = {username!r}
PICAS_PASSWORD = {password!r}
"""


@dataclass(frozen=True)
class Examples:
    """The scripts, in a folder of their own, and the pool that they use.

    Attributes:
        folder: Where they are.
        python: The interpreter that has the client.
        url: The pool, with credentials.
        environment: Variables beside those of `clean_environment`.
    """

    folder: Path
    python: str
    url: str
    environment: Mapping[str, str] = field(default_factory=dict)

    def variables(self) -> dict[str, str]:
        """The environment that a user of the scripts has."""
        clean = clean_environment(home_of(self.folder), self.environment)
        return {**clean, "PATH": f"{Path(self.python).parent}{os.pathsep}{clean['PATH']}"}

    def run(
        self, *command: str, status: int = 0, environment: Mapping[str, str] | None = None
    ) -> str:
        """Run a script, in its folder.

        Args:
            command: The script and its arguments.
            status: What it must end with.
            environment: Variables to add.

        Returns:
            Its standard output.
        """
        script = self.folder / command[0]
        first = [self.python] if script.suffix == ".py" else ["bash"]
        done = subprocess.run(
            [*first, *command],
            cwd=self.folder,
            env={**self.variables(), **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        told = f"{command}: status {done.returncode}\n{done.stdout}\n---\n{done.stderr}"
        assert done.returncode == status, told
        return done.stdout

    def tokens(self) -> dict[str, dict[str, Any]]:
        """The tokens in the pool, by id."""
        with connect(self.url) as pool:
            views = (f"Monitor/{state.value}" for state in State)
            return {doc["_id"]: doc for view in views for doc in pool.find(view)}

    def attachment(self, token_id: str, name: str) -> str:
        """The text of an attachment."""
        with connect(self.url) as pool:
            return b"".join(pool.attachment(token_id, name)).decode()

    def found(self, view: str) -> list[str]:
        """The ids of the tokens in a view."""
        with connect(self.url) as pool:
            return sorted(doc["_id"] for doc in pool.find(view))


def copy_examples(folder: Path) -> None:
    """Copy the scripts as they are in the repository."""
    untidy = shutil.ignore_patterns("__pycache__", "picas.db*", "picas.tar", "bin", "output_*")
    shutil.copytree(FOLDER, folder, ignore=untidy)


def ours(folder: Path, url: str) -> Examples:
    """The scripts with our client; the pool is named in the environment."""
    copy_examples(folder)
    parts = urlsplit(url)
    variables = {"PICAS_POOL": url}
    if parts.scheme != "sqlite":
        bare = f"{parts.scheme}://{parts.hostname}:{parts.port}{parts.path}"
        variables = {
            "PICAS_POOL": bare,
            "PICAS_USERNAME": parts.username or "",
            "PICAS_PASSWORD": unquote(parts.password or ""),
        }
    return Examples(folder, sys.executable, url, variables)


def classic(folder: Path, url: str, python: str) -> Examples:
    """The scripts with the classic client, and the pool written into ``picasconfig.py``."""
    copy_examples(folder)
    parts = urlsplit(url)
    config = _CONFIG.format(
        url=f"{parts.scheme}://{parts.hostname}:{parts.port}",
        database=parts.path.strip("/"),
        username=parts.username or "",
        password=unquote(parts.password or ""),
    )
    (folder / "picasconfig.py").write_text(config)
    return Examples(folder, python, url)
