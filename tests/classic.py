"""The classic PiCaS client, as a peer, in an environment of its own; and scripts of its API."""

import fcntl
import subprocess
import sys
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

ENVIRONMENT = Path(__file__).parents[1] / ".venv-classic"
_PYTHON = ENVIRONMENT / "bin" / "python"
PACKAGES = ("picas==1.1.2", "couchdb==1.2", "setuptools<81")


@cache
def classic_python() -> str | None:
    """The Python that has the classic client; None where it cannot be installed."""
    ready = ENVIRONMENT / "ready"
    # Workers that need it at the same time: the first makes it, the others wait.
    with ENVIRONMENT.with_name(f"{ENVIRONMENT.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ready.exists():
            try:
                _install()
            except (OSError, subprocess.SubprocessError):
                return None
            ready.touch()
    return str(_PYTHON)


def _install() -> None:
    """Make the environment."""
    make = [sys.executable, "-m", "venv", "--clear", str(ENVIRONMENT)]
    subprocess.run(make, check=True, timeout=120)
    install = [str(_PYTHON), "-m", "pip", "install", "--quiet", *PACKAGES]
    subprocess.run(install, check=True, timeout=300)


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
