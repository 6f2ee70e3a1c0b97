"""`picas` as a process of its own, and what Linux tells of it."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.report import WrongCount

PICAS = str(Path(sys.executable).with_name("picas"))
LOG = "process.log"
LOOK_SECONDS = 0.02
_TICKS = os.sysconf("SC_CLK_TCK")


def environ(url: str, home: Path) -> dict[str, str]:
    """The variables of a user who has no configuration."""
    path = os.environ.get("PATH", os.defpath)
    return {"PATH": path, "HOME": str(home), "LANG": "C.UTF-8", "PICAS_POOL": url}


@contextmanager
def started(
    command: Sequence[str], url: str, folder: Path, cwd: Path | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """Start a process on a pool; it is ended at the end of the ``with``, if it runs still.

    Args:
        command: What to start.
        url: The pool, which it finds in its environment.
        folder: Its home, and where its log is.
        cwd: Where it works; in `folder` by default.
    """
    with (folder / LOG).open("ab") as log:
        process = subprocess.Popen(
            command,
            cwd=cwd or folder,
            env=environ(url, folder),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def watch(process: "subprocess.Popen[bytes]", folder: Path) -> float:
    """Wait until a process ends; returns its peak memory in MB.

    Raises:
        WrongCount: It failed.
    """
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, peak_memory(process.pid))
        time.sleep(LOOK_SECONDS)
    if process.returncode != 0:
        log = (folder / LOG).read_text(errors="replace").strip().rpartition("\n")[2]
        raise WrongCount(f"{process.args!r} ended with status {process.returncode}: {log}")
    return peak


def peak_memory(pid: int) -> float:
    """The most memory that a running process ever had resident, in MB; 0 if it is gone.

    What ``wait4`` tells is no use: a child's count begins with the size of who started it.
    """
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return (
        max((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), default=0) / 1e3
    )


def cpu_seconds(pid: int) -> float:
    """User and system time of a running process with all its threads."""
    # The name of the command, in brackets, may hold anything.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
