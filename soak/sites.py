"""Where a round takes place: the two stores, small disks, and what can be done to them."""

import base64
import contextlib
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol

from tests.couchdb.server import CouchServer, InstalledCouch, real_server

from picas.pool import connect
from picas.token import Document
from soak.proxy import Proxy

ROOT = Path(__file__).resolve().parents[1]
FILL_PIECE = 1 << 16
WRITER_SECONDS = 3.0
DOCUMENTS = 100
"""Documents that are read at once with all that is attached to them."""

Attachment = tuple[str, str, bytes]
"""The token, the attachment's name, and its content."""


class SmallDisk:
    """A file system of a few MiB in memory, that can be filled up.

    Args:
        folder: Where it is mounted.
        megabytes: Its size.

    Raises:
        OSError: It cannot be mounted here.
    """

    def __init__(self, folder: Path, megabytes: int) -> None:
        self.folder = folder
        self._filler = folder / "filler"
        folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            folder.rmdir()
            raise OSError(done.stderr.strip() or "mount failed")

    def fill(self) -> None:
        """Leave no room."""
        with contextlib.suppress(OSError), self._filler.open("ab", buffering=0) as file:
            while file.write(bytes(FILL_PIECE)):
                pass
        with contextlib.suppress(OSError), self._filler.open("ab", buffering=0) as file:
            while file.write(bytes(512)):
                pass

    def empty(self) -> None:
        """Give the room back."""
        self._filler.unlink(missing_ok=True)

    def close(self, keep_in: Path | None = None) -> None:
        """Unmount it; what is on it is copied to `keep_in` before."""
        self.empty()
        if keep_in is not None:
            shutil.copytree(self.folder, keep_in, dirs_exist_ok=True)
        subprocess.run(["umount", "--lazy", str(self.folder)], check=False)
        with contextlib.suppress(OSError):
            self.folder.rmdir()


class Site(Protocol):
    """A pool, and the faults that only its store has.

    Attributes:
        store: ``sqlite`` or ``couchdb``.
        direct: The pool's URL for the harness.
        faulty: The pool's URL for pilots: what is between it and them may fail.
    """

    store: str
    direct: str
    faulty: str

    def begin(self, kind: str) -> bool:
        """Begin a fault of the store; False if it could not be had right now."""

    def end(self, kind: str, more: float) -> None:
        """End it; `more` from 0 to 1 decides how."""

    def attachments(self, docs: Iterable[Document]) -> Iterator[Attachment]:
        """All that is attached to tokens."""

    def close(self, keep_in: Path | None = None) -> None:
        """Stop it, and remove what it made; what shows what happened is kept in a folder."""


class SqliteSite:
    """An embedded pool.

    Args:
        folder: Where the file is.
        disk: The small disk that the file is on, if it is.
    """

    store = "sqlite"

    def __init__(self, folder: Path, disk: SmallDisk | None) -> None:
        self._disk = disk
        self.path = (disk.folder if disk else folder) / "picas.db"
        self.direct = self.faulty = f"sqlite:///{self.path}"
        self._holder: subprocess.Popen[bytes] | None = None

    def begin(self, kind: str) -> bool:
        """Begin a fault of the store; False if it could not be had right now."""
        if kind == "disk_pool":
            if self._disk is not None:
                self._disk.fill()
            return True
        if self._holder is not None:
            return False
        writer = _start_writer(self.path, "hold" if kind == "lock_held" else "scribble")
        if writer is None:
            return False
        if kind == "lock_held":
            self._holder = writer
        else:
            _kill(writer)
        return True

    def end(self, kind: str, more: float) -> None:  # noqa: ARG002 - there is one way only
        """End it."""
        if kind == "disk_pool" and self._disk is not None:
            self._disk.empty()
        elif kind == "lock_held":
            self._stop()

    def attachments(self, docs: Iterable[Document]) -> Iterator[Attachment]:
        """All that is attached to tokens."""
        with connect(self.direct) as pool:
            for doc in docs:
                for name in doc.get("_attachments", {}):
                    yield doc["_id"], name, b"".join(pool.attachment(doc["_id"], name))

    def close(self, keep_in: Path | None = None) -> None:
        """Stop it."""
        self._stop()
        if self._disk is not None:
            self._disk.close(keep_in)

    def _stop(self) -> None:
        holder, self._holder = self._holder, None
        if holder is not None:
            _kill(holder)


class CouchSite:
    """A database of a real CouchDB, behind a proxy.

    Args:
        server: A server that runs.
        seed: Which requests a fault of the network meets.
        injected: Told of each of them.
    """

    store = "couchdb"

    def __init__(self, server: CouchServer, seed: int, injected: Callable[[str], None]) -> None:
        self._server = server
        self._database = server.new_database("soak")
        self.direct = server.database_url(self._database)
        host, _, port = server.url.rpartition(":")
        self._proxy = Proxy(int(port.split("/")[0]), seed, injected)
        self._proxy.start()
        self.faulty = f"{host}:{self._proxy.port}/{self._database}"

    def begin(self, kind: str) -> bool:
        """Begin a fault of the server or of the network."""
        if kind == "server_kill":
            if isinstance(self._server, InstalledCouch):
                self._server.kill()
        else:
            self._proxy.begin(kind)
        return True

    def end(self, kind: str, more: float) -> None:
        """End it."""
        if kind == "server_kill":
            self._server.start()
        else:
            self._proxy.end(kind, dead=more < 0.5)

    def attachments(self, docs: Iterable[Document]) -> Iterator[Attachment]:
        """All that is attached to tokens, many in one request: there are thousands."""
        path = f"/{self._database}/_all_docs?include_docs=true&attachments=true"
        ids = [doc["_id"] for doc in docs]
        with self._server.raw() as raw:
            for start in range(0, len(ids), DOCUMENTS):
                reply = raw.post(path, {"keys": ids[start : start + DOCUMENTS]})
                for row in reply.json["rows"]:
                    for name, there in row["doc"].get("_attachments", {}).items():
                        yield row["id"], name, base64.b64decode(there["data"])

    def close(self, keep_in: Path | None = None) -> None:  # noqa: ARG002 - the tokens are kept
        """Stop the proxy, and remove the database."""
        self._proxy.close()
        self._server.start()
        self._server.delete_database(self._database)


def _start_writer(path: Path, what: str) -> "subprocess.Popen[bytes] | None":
    """Start a process that is in the middle of writing; None if others would not let it in."""
    process = subprocess.Popen(
        [sys.executable, "-m", "soak.writer", what, str(path)], cwd=ROOT, stdout=subprocess.PIPE
    )
    # No longer: who has the lock may be a frozen pilot, and is thawed by whoever waits here.
    if process.stdout and select.select([process.stdout], [], [], WRITER_SECONDS)[0]:
        return process
    _kill(process)
    return None


def _kill(writer: "subprocess.Popen[bytes]") -> None:
    writer.kill()
    writer.communicate()


def left_out(store: str, *, mounts: bool, clocks: bool) -> dict[str, str]:
    """The kinds of faults that this machine cannot have, with the reason."""
    missing: dict[str, str] = {}
    if not mounts:
        why = "mounting a small file system needs root"
        missing |= {"disk_logs": why} | ({"disk_pool": why} if store == "sqlite" else {})
    if store == "couchdb":
        if not clocks:
            missing["clock"] = "there is no C compiler"
        if not isinstance(real_server(), InstalledCouch):
            missing["server_kill"] = "only an installed server can be killed"
    return missing


def can_mount(folder: Path) -> bool:
    """Try whether small file systems can be mounted here."""
    try:
        SmallDisk(folder / "probe", 1).close()
    except OSError:
        return False
    return os.access(folder, os.W_OK)
