"""The installed ``picas`` command, run as a user runs it: a real process."""

import os
import pty
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from picas.pool import connect
from picas.views import MONITOR

PICAS = str(Path(sys.executable).with_name("picas"))
"""The command that stands beside the Python that runs the tests."""


def clean_environment(home: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """An environment with nothing of the developer's: no configuration, no batch job, no pool.

    Args:
        home: The HOME; made, and empty, where it is missing.
        extra: Variables to add.
    """
    home.mkdir(parents=True, exist_ok=True)
    path = os.pathsep.join([str(Path(PICAS).parent), "/usr/local/bin", "/usr/bin", "/bin"])
    clean = {"HOME": str(home), "PATH": path, "LANG": "C.UTF-8", "USER": "tester"}
    return {**clean, **(extra or {})}


def run_picas(
    *args: str,
    cwd: Path,
    input: str | None = None,
    env: Mapping[str, str] | None = None,
    check: int | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run ``picas`` and wait for its end; neither input nor output is a terminal.

    Args:
        args: What a person would type behind ``picas``.
        cwd: The folder; HOME is an empty one beside it.
        input: Its standard input; empty if None.
        env: Variables beside those of `clean_environment`.
        check: The exit status it must have.

    Raises:
        AssertionError: It had another status; the text shows its output.
    """
    done = subprocess.run(
        [PICAS, *args],
        cwd=cwd,
        env=clean_environment(home_of(cwd), env),
        input=input or "",
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if check is not None and done.returncode != check:
        told = f"--- stdout\n{done.stdout}\n--- stderr\n{done.stderr}"
        raise AssertionError(f"picas {args}: status {done.returncode}, not {check}\n{told}")
    return done


def answer_picas(*args: str, cwd: Path, answer: str = "") -> subprocess.CompletedProcess[str]:
    r"""Run ``picas`` with a terminal as its standard input, on which a person types.

    Args:
        args: What a person would type behind ``picas``.
        cwd: The folder.
        answer: Typed ahead; ``y`` and Enter is ``"y\n"``.
    """
    terminal, stdin = pty.openpty()
    try:
        os.write(terminal, answer.encode())
        return subprocess.run(
            [PICAS, *args],
            cwd=cwd,
            env=clean_environment(home_of(cwd)),
            stdin=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(stdin)
        os.close(terminal)


def fresh_pool(request: pytest.FixtureRequest, kind: str, cwd: Path) -> str:
    """The URL of an empty pool: ``embedded`` in the folder, or ``couchdb``."""
    url = f"sqlite:///{cwd}/picas.db"
    if kind == "couchdb":
        url = request.getfixturevalue("database")
    with connect(url, create=kind == "embedded") as pool:
        pool.add_design(MONITOR)
    return url


def home_of(cwd: Path) -> Path:
    """The HOME of commands run in a folder: beside it, so that it does not show there."""
    return cwd.with_name(f"{cwd.name}.home")
