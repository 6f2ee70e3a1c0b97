"""The classic PiCaS client, as a peer, in an environment of its own; and scripts of its API."""

import subprocess
import sys
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

ENVIRONMENT = Path(__file__).parents[1] / ".venv-classic"
PACKAGES = ("picas==1.1.2", "couchdb==1.2", "setuptools<81")


@cache
def classic_python() -> str | None:
    """The Python that has the classic client; None where it cannot be installed."""
    python = ENVIRONMENT / "bin" / "python"
    ready = ENVIRONMENT / "ready"
    if not ready.exists():
        try:
            subprocess.run(
                [sys.executable, "-m", "venv", "--clear", str(ENVIRONMENT)], check=True, timeout=120
            )
            install = [str(python), "-m", "pip", "install", "--quiet", *PACKAGES]
            subprocess.run(install, check=True, timeout=300)
        except (OSError, subprocess.SubprocessError):
            return None
        ready.touch()
    return str(python)


def address(url: str) -> list[str]:
    """A pool's URL as classic scripts have it: server, database, user name and password."""
    if url.startswith("sqlite:"):
        return [url, "", "", ""]
    parts = urlsplit(url)
    server = f"{parts.scheme}://{parts.hostname}:{parts.port}"
    return [
        server,
        unquote(parts.path.strip("/")),
        parts.username or "",
        unquote(parts.password or ""),
    ]
