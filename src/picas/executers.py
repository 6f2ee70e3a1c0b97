"""Running programs from an actor: ``from picas.executers import execute``."""

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from picas.logs import head_and_tail

OUTPUT_LIMIT = 16 << 20
"""Bytes of standard output, and of standard error, that `execute` returns at most."""

Executed = tuple["subprocess.Popen[bytes]", int, bytes, bytes]
"""The process that was, its exit code, its standard output and its standard error."""


def execute(
    args: str | Sequence[str], shell: bool = False, *, limit: int = OUTPUT_LIMIT
) -> Executed:
    """Run a program to its end.

    What it prints goes through files, so that memory stays bounded; of more than `limit` bytes
    head and tail come back, and a line in between says how many are left out.

    Args:
        args: The program and its arguments; with `shell` a command line.
        shell: Run it by ``/bin/sh``.
        limit: Bytes of each stream to return at most.

    Returns:
        The process, its exit code (-n for signal n), standard output, standard error.

    Raises:
        OSError: It cannot be started.
    """
    with tempfile.TemporaryDirectory(prefix="picas-execute-") as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        with (
            out.open("wb") as out_file,
            err.open("wb") as err_file,
            subprocess.Popen(args, stdout=out_file, stderr=err_file, shell=shell) as process,
        ):
            code = process.wait()
        return process, code, head_and_tail(out, limit), head_and_tail(err, limit)


def execute_old(cmd: str) -> int:
    """Run a command line by ``/bin/sh``, its output where ours goes; returns its exit code.

    The exit code is -n for signal n. (The classic function returned the status as ``wait(2)``
    packs it, where 256 is exit code 1.)
    """
    return subprocess.run(cmd, shell=True, check=False).returncode
