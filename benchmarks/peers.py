"""Peers: installed into an environment of their own, and run there."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from benchmarks.bench import ROOT
from benchmarks.report import Skipped, WrongCount

ENVIRONMENT = ROOT / ".bench"
PYTHON = ENVIRONMENT / "bin" / "python"
SCRIPTS = ROOT / "benchmarks" / "scripts"

HUEY = "huey==3.5.4"
HYPERQUEUE = "hyperqueue==0.27.0"
PARSL = "parsl==2026.10.26"
PARALLEL = "parallel"

_SECONDS = 600


@cache
def install(package: str) -> str:
    """Install a Python package for peers, unless it is; returns its version.

    Raises:
        Skipped: It cannot be had.
    """
    version = package.partition("==")[2]
    ready = ENVIRONMENT / f"ready-{package}"
    if ready.exists():
        return version
    try:
        if not PYTHON.exists():
            _run([sys.executable, "-m", "venv", "--clear", str(ENVIRONMENT)])
        _run([str(PYTHON), "-m", "pip", "install", "--quiet", package])
    except (OSError, subprocess.SubprocessError) as error:
        raise Skipped(f"{package} could not be installed") from error
    ready.touch()
    return version


@cache
def install_parallel() -> str:
    """GNU parallel's version; installed where it is missing and this is root on Debian or Ubuntu.

    Raises:
        Skipped: It cannot be had.
    """
    if not _is_gnu_parallel() and os.geteuid() == 0 and shutil.which("apt-get"):
        for command in (["update"], ["install", "-y", "--no-install-recommends", PARALLEL]):
            subprocess.run(["apt-get", "-qq", *command], check=False, stdout=subprocess.DEVNULL)
    if not _is_gnu_parallel():
        raise Skipped("GNU parallel is not installed, and could not be installed")
    return _run(["parallel", "--version"]).split("\n")[0].removeprefix("GNU parallel ")


def run_script(name: str, *arguments: object, cwd: Path, python: Path = PYTHON) -> float:
    """Run one of the scripts in the peers' environment.

    Returns:
        The tokens a second that it printed.

    Raises:
        WrongCount: It failed.
    """
    command = [str(python), str(SCRIPTS / name), *map(str, arguments)]
    log = cwd / f"{name}.log"
    with log.open("w") as errors:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=_environ(),
            stdout=subprocess.PIPE,
            stderr=errors,
            timeout=_SECONDS,
            check=False,
        )
    if done.returncode != 0:
        tail = log.read_text(errors="replace").strip().rpartition("\n")[2]
        raise WrongCount(f"{name} ended with status {done.returncode}: {tail}")
    facts = json.loads(done.stdout.splitlines()[-1])
    return float(facts["tokens"] / facts["seconds"])


def _is_gnu_parallel() -> bool:
    """Tell it from the other program of that name, which knows no such option."""
    try:
        return "GNU parallel" in _run(["parallel", "--version"])
    except (OSError, subprocess.SubprocessError):
        return False


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_SECONDS)
    return done.stdout


def _environ() -> dict[str, str]:
    """What peers run in: some of them start commands of their own by name."""
    path = os.pathsep.join([str(PYTHON.parent), os.environ.get("PATH", os.defpath)])
    return os.environ | {"PATH": path}
