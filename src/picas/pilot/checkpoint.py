"""Checkpoints: what a task leaves when it is ended early, and finds when it is tried again.

A task writes its checkpoint into a folder of its own. Between two attempts that is attached to the
token, so that it is there on any host; or it stays in a folder that all hosts share.
"""

import contextlib
import errno
import hashlib
import logging
import os
import shutil
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from picas import token
from picas.backoff import delays
from picas.errors import PoolError, PoolUnreachable, ServerError, TaskError, TokenMissing
from picas.pilot.archive import TooLong, pack, unpack
from picas.pilot.filename import file_name
from picas.pilot.runner import Files
from picas.pool import Pool
from picas.pool.base import INLINE_LIMIT
from picas.token import Document

LIMIT = 64 << 20
"""Bytes of a checkpoint that are attached at most."""

SEND_SECONDS = 10.0
"""How long a checkpoint may take to be sent: with the grace period this has to fit into the half
minute that schedulers leave a job that they end."""

STALL_SECONDS = 10.0
"""How long one answer may take: a pilot that has to end cannot wait for it longer."""

FETCH_SECONDS = 3600.0
"""How long an attempt waits for its checkpoint while the pool does not answer."""

_FULL = (errno.ENOSPC, errno.EDQUOT)

log = logging.getLogger("picas.pilot")


class Checkpoint:
    """One attempt's checkpoint; this one is not kept.

    Attributes:
        path: Its folder, which is there when the task starts.
    """

    def __init__(self, path: str = "") -> None:
        self.path = path

    def restore(self, is_over: Callable[[], bool]) -> None:
        """Bring back what the attempt before has left; before the task starts.

        Args:
            is_over: Tells whether the task is not to be started any more.

        Raises:
            TaskError: This host cannot take it.
        """

    def is_left(self) -> bool:
        """Tell whether there is anything in the folder."""
        try:
            return bool(os.listdir(self.path)) if self.path else False
        except OSError:
            return False

    def keep(self) -> Files:
        """Keep what is there for the next attempt; gives what is to be attached to the token."""
        return {}

    def close(self, *, done: bool) -> Sequence[Path]:  # noqa: ARG002
        """Tidy up.

        Args:
            done: There is no next attempt, once this one is recorded.

        Returns:
            What is to be deleted then.
        """
        return ()


class Checkpoints:
    """Where checkpoints are between attempts; here none is kept."""

    def of(self, doc: Document) -> Checkpoint:  # noqa: ARG002
        """The checkpoint of a claimed token; makes its folder.

        Raises:
            TaskError: It cannot be made.
        """
        return Checkpoint()

    def close(self) -> None:
        """Clean up when the pilot ends."""


class Attached(Checkpoints):
    """Checkpoints that are attached to their tokens.

    Args:
        pool: The pool.
        limit: Bytes of one checkpoint; what is longer is not kept. 0: none is.
    """

    def __init__(self, pool: Pool, limit: int = LIMIT) -> None:
        self.pool = pool
        self.limit = limit
        self.scratch = Path(tempfile.mkdtemp(prefix="picas-checkpoints-"))
        # Most tasks leave nothing, so that the next one can have the folder: to make and delete
        # one for each would take a tenth of the time of a short task.
        self._empty: list[str] = []

    def of(self, doc: Document) -> Checkpoint:
        """The checkpoint of a claimed token; its folder is empty until it is restored."""
        with contextlib.suppress(IndexError):
            return _AttachedCheckpoint(self, doc, self._empty.pop())
        try:
            return _AttachedCheckpoint(self, doc, tempfile.mkdtemp(prefix="", dir=self.scratch))
        except OSError as error:
            raise _unusable(self.scratch, error) from error

    def take_back(self, path: str) -> None:
        """Take a folder that is not used any more."""
        try:
            if os.listdir(path):
                shutil.rmtree(path)
            else:
                self._empty.append(path)
        except OSError:  # the task removed it, or made it unreadable: the next one gets another
            shutil.rmtree(path, ignore_errors=True)

    def close(self) -> None:
        """Delete the folders."""
        shutil.rmtree(self.scratch, ignore_errors=True)


class _AttachedCheckpoint(Checkpoint):
    """One attempt's checkpoint, attached to its token in between."""

    def __init__(self, owner: Attached, doc: Document, path: str) -> None:
        super().__init__(path)
        self._owner = owner
        self._doc = doc
        self._name = token.checkpoint_name(doc["_id"])

    def restore(self, is_over: Callable[[], bool]) -> None:
        """Unpack what is attached; an archive that cannot be read is passed over."""
        if self._name not in (self._doc.get("_attachments") or {}):
            return
        try:
            with tempfile.TemporaryFile(dir=self._owner.scratch) as archive:
                if self._fetch(archive, is_over):
                    archive.seek(0)
                    self._unpack(archive)
        except OSError as error:
            raise _unusable(self._owner.scratch, error) from error

    def keep(self) -> Files:
        """Pack it: a small archive goes along with the token's next write, a large one is sent."""
        if not (self._owner.limit and self.is_left()):
            return {}
        archive = Path(f"{self.path}.tar")
        try:
            for name in pack(Path(self.path), archive, self._owner.limit):
                self._warn(f"{name} is left out: it is no file, or leads out of the folder")
            if archive.stat().st_size <= INLINE_LIMIT:
                return {self._name: archive.read_bytes()}
            self._send(archive)
        except TooLong:
            self._warn(f"it is not kept, as it has more than {self._owner.limit:,} bytes")
        except (OSError, PoolError, tarfile.TarError) as error:
            self._warn(f"it is not kept: {error}")
        finally:
            with contextlib.suppress(OSError):
                archive.unlink()
        return {}

    def close(self, *, done: bool) -> Sequence[Path]:  # noqa: ARG002
        """Give the folder back; the attachment of a token that is done goes as it is settled."""
        self._owner.take_back(self.path)
        return ()

    def _fetch(self, archive: IO[bytes], is_over: Callable[[], bool]) -> bool:
        """Read the attachment into a file; False if there is none, or none to be had.

        While the pool does not answer, the task waits: what it has reached must not be lost.
        """
        until = time.monotonic() + FETCH_SECONDS
        waits = delays(0.2, 10.0)
        while not is_over():
            archive.seek(0)
            archive.truncate()
            try:
                with self._owner.pool.within(STALL_SECONDS):
                    for piece in self._owner.pool.attachment(self._doc["_id"], self._name):
                        archive.write(piece)
            except TokenMissing:
                return False
            except PoolError as error:
                if time.monotonic() > until:
                    self._warn(f"it cannot be had, so the task starts afresh: {error}")
                    return False
                _wait(next(waits), is_over)
            else:
                return True
        return False

    def _unpack(self, archive: IO[bytes]) -> None:
        try:
            unpack(archive, Path(self.path))
        except (tarfile.TarError, ValueError, OSError) as error:
            if isinstance(error, OSError) and error.errno in _FULL:
                raise
            self._warn(f"it cannot be read, so the task starts afresh: {error}")
            shutil.rmtree(self.path, ignore_errors=True)
            Path(self.path).mkdir(mode=0o700, exist_ok=True)

    def _send(self, archive: Path) -> None:
        """Stream an archive into the token; a pool that is away for a moment is asked again."""
        until = time.monotonic() + SEND_SECONDS
        waits = delays(0.2, 2.0)
        while True:
            began = time.monotonic()
            try:
                with self._owner.pool.within(until - began):
                    self._owner.pool.attach(self._doc, self._name, archive)
            except (PoolUnreachable, ServerError):
                wait = next(waits)
                slow = time.monotonic() - began >= 1.0  # it would not be faster the next time
                if slow or time.monotonic() + wait >= until:
                    raise
                time.sleep(wait)
            else:
                return

    def _warn(self, what: str) -> None:
        log.warning("%s: its checkpoint: %s", self._doc["_id"], what)


class Shared(Checkpoints):
    """Checkpoints in a folder that all hosts share: each token has one of its own in it.

    Args:
        folder: The folder; made if it is missing.
        address: Of the pool: others, with the same ids, may use the folder, too.
    """

    def __init__(self, folder: Path, address: str) -> None:
        self.folder = folder.absolute()
        self._pool = hashlib.sha256(address.encode()).hexdigest()[:8]

    def of(self, doc: Document) -> Checkpoint:
        """The checkpoint of a claimed token, as the attempt before has left it."""
        # What was reset starts afresh, and the folder may be out of reach of who resets.
        first = doc.get("lost_from")
        number = first if isinstance(first, int) else ""
        path = self.folder / f"checkpoint{number}_{self._pool}_{file_name(doc['_id'])}"
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unusable(self.folder, error) from error
        return _SharedCheckpoint(str(path))


class _SharedCheckpoint(Checkpoint):
    """One token's checkpoint, which stays where it is."""

    def close(self, *, done: bool) -> Sequence[Path]:
        """An empty folder goes at once, the checkpoint of what is done once that is recorded."""
        with contextlib.suppress(OSError):
            Path(self.path).rmdir()
            return ()
        return [Path(self.path)] if done else ()


def _wait(seconds: float, is_over: Callable[[], bool]) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and not is_over():
        time.sleep(0.05)


def _unusable(folder: Path, error: OSError) -> TaskError:
    return TaskError(
        f"cannot write checkpoints in {folder}: {error.strerror}; look at the space left and the "
        "permissions there"
    )
