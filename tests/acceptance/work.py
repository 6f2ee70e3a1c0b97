"""A folder and a pool to run commands on, and a terminal to watch them."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.acceptance.cli import PICAS, clean_environment, home_of, run_picas

from picas import token
from picas.pool import connect
from picas.token import Document
from picas.views import MONITOR


class Work:
    """A folder and a pool for the commands of one test.

    Args:
        folder: Where the commands run.
        url: The pool, with credentials if it needs some.
    """

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        folder.mkdir(exist_ok=True)
        with connect(url, create=True) as pool:
            pool.add_design(MONITOR)

    def push(self, *inputs: Any, **fields: Any) -> None:
        """Add tokens named t0, t1, … with these inputs."""
        docs = [token.new({"input": i, **fields}, f"t{n}") for n, i in enumerate(inputs)]
        with connect(self.url) as pool:
            assert all(pushed.error is None for pushed in pool.push(docs))

    def get(self, token_id: str = "t0") -> Document:
        """A token as the pool has it."""
        with connect(self.url) as pool:
            return pool.get(token_id)

    def log(self, token_id: str = "t0", stream: str = "out") -> bytes:
        """A token's stored log."""
        with connect(self.url) as pool:
            return b"".join(pool.attachment(token_id, token.log_name(token_id, stream)))

    def picas(self, *args: str, check: int | None = 0, **more: Any) -> Any:
        """Run a command on the pool and wait for it."""
        env = {"PICAS_POOL": self.url, **more.pop("env", {})}
        return run_picas(*args, cwd=self.folder, env=env, check=check, **more)

    @contextmanager
    def started(self, *args: str) -> Iterator[subprocess.Popen[str]]:
        """A command that goes on running; killed at the end if it is still there."""
        process = subprocess.Popen(
            [PICAS, *args],
            cwd=self.folder,
            env=clean_environment(home_of(self.folder), {"PICAS_POOL": self.url}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            try:
                yield process
            finally:
                process.kill()


def until(true: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def on_a_terminal(work: Work, *args: str, columns: int = 80) -> str:
    """Run a command on a terminal of its own; returns all that it wrote there."""
    # A shell makes the terminal's size before the command starts.
    line = f"stty cols {columns} rows 40; exec {PICAS} " + " ".join(args)
    env = clean_environment(home_of(work.folder), {"PICAS_POOL": work.url, "TERM": "xterm"})
    pid, terminal = os.forkpty()
    if pid == 0:
        os.chdir(work.folder)
        os.execve("/bin/sh", ["sh", "-c", line], env)
    written = b""
    with os.fdopen(terminal, "rb", buffering=0) as reader:
        while True:
            try:
                piece = reader.read(4096)
            except OSError:  # Linux' way to say that nobody has the terminal any more
                break
            if not piece:
                break
            written += piece
    os.waitpid(pid, 0)
    return written.decode()


@contextmanager
def watched(work: Work, *args: str, rows: int = 24) -> Iterator[Callable[[], str]]:
    """A command that goes on on a terminal of its own; Ctrl-C at the end, which must end it well.

    Yields:
        What it wrote there so far.
    """
    file = work.folder / "screen"
    line = f"stty cols 80 rows {rows}; exec {PICAS} " + " ".join(args)
    env = clean_environment(home_of(work.folder), {"PICAS_POOL": work.url, "TERM": "xterm"})
    command = ["script", "-qefc", line, str(file)]
    with subprocess.Popen(
        command, cwd=work.folder, env=env, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as process:
        try:
            yield lambda: file.read_text() if file.exists() else ""
            assert process.stdin is not None
            process.stdin.write(b"\x03")
            process.stdin.flush()
            assert process.wait(timeout=20) == 0
        finally:
            process.kill()
    assert "Traceback" not in file.read_text()
