"""What rows run in: how large they are, how often both sides run, and pools of their own."""

import contextlib
import logging
import secrets
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Self, TypeVar

from tests.couchdb.server import ENVIRONMENT, CouchServer, real_server

from benchmarks.report import Skipped

ROOT = Path(__file__).resolve().parents[1]
REPETITIONS = 5
STORES = ("embedded", "couchdb")

T = TypeVar("T")
Side = Callable[[], float]
"""Runs one side once, and returns its figure."""


def interleaved(sides: Mapping[str, Side], repetitions: int) -> dict[str, list[float]]:
    """Run all sides in turn, again and again: what else the machine does meets all of them.

    Args:
        sides: By name.
        repetitions: How often.

    Returns:
        The figures of each side, in order.
    """
    figures: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repetitions):
        for name, side in sides.items():
            figures[name].append(side())
    return figures


class Bench:
    """A run of the benchmarks.

    Args:
        quick: Make small runs with one repetition, to try a row.
        repetitions: How often each side of a row is run.
    """

    def __init__(self, *, quick: bool = False, repetitions: int = REPETITIONS) -> None:
        self.quick = quick
        self.repetitions = 1 if quick else repetitions
        self._stack = contextlib.ExitStack()
        self._server: CouchServer | None = None

    def __enter__(self) -> Self:
        """Make the folder of this run."""
        log = logging.getLogger("picas")
        self._stack.callback(log.setLevel, log.level)
        log.setLevel(logging.ERROR)
        folder = tempfile.TemporaryDirectory(prefix="picas-bench-")
        self.folder = Path(self._stack.enter_context(folder))
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the server, if there is one, and remove the folder."""
        self._stack.close()

    def size(self, full: T, quick: T) -> T:
        """How many of something, or of what sizes."""
        return quick if self.quick else full

    def interleaved(self, sides: Mapping[str, Side]) -> dict[str, list[float]]:
        """Run all sides in turn, as often as this run says."""
        return interleaved(sides, self.repetitions)

    def say(self, text: str) -> None:
        """Tell a person who waits what is done right now."""
        print(f"… {text}", file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def new_folder(self) -> Iterator[Path]:
        """A fresh folder, removed afterwards."""
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            yield Path(name)

    @contextlib.contextmanager
    def pool(self, store: str) -> Iterator[str]:
        """The URL of a pool that does not exist yet; removed afterwards.

        Args:
            store: One of `STORES`.

        Raises:
            Skipped: There is no CouchDB.
        """
        if store == "embedded":
            with self.new_folder() as folder:
                yield f"sqlite:///{folder}/picas.db"
            return
        server = self.server()
        name = f"bench-{secrets.token_hex(6)}"
        try:
            yield server.database_url(name)
        finally:
            server.delete_database(name)

    def server(self) -> CouchServer:
        """The CouchDB of this run, started privately when it is first needed.

        Raises:
            Skipped: There is none.
        """
        if self._server is None:
            server = real_server()
            if server is None:
                raise Skipped(f"no CouchDB is installed, and ${ENVIRONMENT} is not set")
            self._server = self._stack.enter_context(server)
        return self._server
