"""Results on disk while the pool does not take them: they outlive the pilot."""

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from picas import token, wellformed
from picas.errors import InputError, TaskError
from picas.logs import Excerpt
from picas.pilot.entry import Entry, Files, encode, is_inside, read
from picas.pilot.filename import file_name
from picas.pilot.slots import Ended
from picas.pool import Settlement

INLINE_BYTES = 64 * 1024
"""Longer contents are files beside the entry."""

_LOCK = "lock"


class Spool:
    """A folder with one entry for each result that waits to be recorded.

    Whenever the process is killed, an entry is there whole or not at all: it is written under
    another name, synced and renamed. Who uses the folder holds a lock on it, which the kernel lets
    go when the process dies: pilots share it (they may share a folder of logs), and who recovers
    results has it alone. Without entries there is no folder.

    Args:
        folder: Its place. The folder above it is that of the logs: what lies there is named
            relative to it in the entries, so that it may be moved.
        pool: Address of the pool for which results are kept, without secrets.
    """

    def __init__(self, folder: Path, pool: str = "") -> None:
        self.folder = folder.absolute()
        self._pool = pool
        self._kept: set[str] = set()
        self._lock: int | None = None

    def __contains__(self, lease: str) -> bool:
        return lease in self._kept

    # --- writing -------------------------------------------------------------------------------

    def keep(self, ended: Ended, settlement: Settlement) -> Ended:
        """Write the entry of a result, if it is not there; it stays until `drop` or `fence`.

        Returns:
            The result with copies of its files in place of those that later tasks may overwrite.

        Raises:
            OSError: It cannot be written; nothing is left of it.
        """
        if settlement.lease in self:
            return ended
        stored = _storable(settlement, self.folder.parent)
        scratch = () if stored.is_bare else ended.result.scratch
        self._open()
        folder = self._files(stored.lease)
        try:
            files = _copied(stored.files, folder)
            entry = encode(stored, files, scratch, self._pool, self.folder.parent)
            _write(self._entry(stored.lease), entry)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._kept.add(stored.lease)
        if stored.is_bare:
            return ended
        return replace(ended, result=replace(ended.result, files=files))

    def drop(self, lease: str, *, leave_files: bool = False) -> None:
        """Delete an entry, if there is one.

        Args:
            lease: The lease of its result.
            leave_files: Only the entry: its files are nowhere else.
        """
        if lease not in self:
            return
        # What cannot be deleted does no harm: the pool knows a result that it has.
        with contextlib.suppress(OSError):
            self._entry(lease).unlink(missing_ok=True)
        if not leave_files:
            shutil.rmtree(self._files(lease), ignore_errors=True)
        self._gone(lease)

    def fence(self, settlement: Settlement) -> Path:
        """Move an entry to the folder of results that nobody will record; returns its file.

        Raises:
            OSError: It cannot be moved.
        """
        lease, doc = settlement.lease, settlement.token
        name = f"{file_name(doc['_id'], token.next_attempt(doc))}.{lease}"
        fenced = self.folder.with_name("fenced")
        fenced.mkdir(exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # it has none, or they were moved before
            self._files(lease).rename(fenced / f"{name}.files")
        path = self._entry(lease).rename(fenced / f"{name}.json")
        _sync(fenced)
        self._gone(lease)
        return path

    def tidy(self) -> None:
        """Remove the folder if there is nothing in it, unless others use it; lets the lock go."""
        if self._lock is not None and _locked(self._lock, fcntl.LOCK_EX):
            with contextlib.suppress(OSError):
                for leftover in self.folder.glob("*.tmp"):
                    _remove(leftover)
                (self.folder / _LOCK).unlink()
                self.folder.rmdir()
        self.close()

    def close(self) -> None:
        """Let the lock go; entries stay."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    # --- reading -------------------------------------------------------------------------------

    def lock(self) -> bool:
        """Have the folder for this process alone; False if another process uses it.

        Raises:
            OSError: The folder cannot be written.
        """
        return self._take(fcntl.LOCK_EX)

    def entries(self, broken: Callable[[InputError], object]) -> Iterator[Entry]:
        """Read what is kept.

        Args:
            broken: Told of each file that is no entry, or of a later form; it is left alone.
        """
        paths = sorted(self.folder.glob("*.json"))
        self._kept = {path.stem for path in paths}
        for path in paths:
            try:
                entry = read(path, self.folder.parent)
            except InputError as problem:
                broken(problem)
            else:
                yield entry

    # --- inside --------------------------------------------------------------------------------

    def _entry(self, lease: str) -> Path:
        return self.folder / f"{lease}.json"

    def _files(self, lease: str) -> Path:
        return self.folder / f"{lease}.files"

    def _open(self) -> None:
        """Make the folder, and hold its lock from now on."""
        if self._lock is not None and _is_at(self._lock, self.folder / _LOCK):
            return
        self.close()
        # Another pilot may remove the folder in between.
        for _ in range(5):
            with contextlib.suppress(FileNotFoundError):
                self.folder.mkdir(parents=True, exist_ok=True)
                _sync(self.folder.parent)
                self._take(fcntl.LOCK_SH)
                return

    def _take(self, how: int) -> bool:
        path = self.folder / _LOCK
        while True:
            # Not inherited by tasks: they may live on when their pilot was killed.
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(path, flags, 0o666)
            if not _locked(descriptor, how):
                os.close(descriptor)
                return False
            if _is_at(descriptor, path):
                self._lock = descriptor
                return True
            os.close(descriptor)  # its holder removed it before we had it

    def _gone(self, lease: str) -> None:
        """Forget an entry; behind the last one, tidy up."""
        self._kept.discard(lease)
        if not self._kept:
            self.tidy()


def _storable(settlement: Settlement, logs: Path) -> Settlement:
    """The result, in its bare form if the pool could not take its fields or files either.

    What of a log elsewhere goes into the token is read now: an entry names logs beside it only.
    """
    try:
        wellformed.check_fields(settlement.token["_id"], settlement.outcome.fields)
        for content in settlement.files.values():
            if isinstance(content, Path):
                content.open("rb").close()
        files = {
            name: content.read_bytes()
            if isinstance(content, Excerpt) and not is_inside(content.path, logs)
            else content
            for name, content in settlement.files.items()
        }
    except (InputError, TaskError, OSError, ValueError, RecursionError) as problem:
        return settlement.bare(str(problem))
    return replace(settlement, files=files)


def _copied(files: Files, folder: Path) -> Files:
    """The files, with copies in a new folder of what is long or may be overwritten."""
    for content in files.values():
        if isinstance(content, Excerpt):
            with contextlib.suppress(OSError):
                _sync(content.path)
    result = dict(files)
    making = folder.with_name(f"{folder.name}.tmp")
    try:
        for number, (name, content) in enumerate(files.items()):
            if isinstance(content, Excerpt) or _is_short(content):
                continue
            making.mkdir(exist_ok=True)
            # The number keeps names apart that are cut; the rest is for a person.
            short = quote(name, safe=" +,=@", errors="backslashreplace")[:100]
            copy = f"{number}_{short}"
            _copy(content, making / copy)
            result[name] = folder / copy
        if making.exists():
            _sync(making)
            making.rename(folder)
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise
    return result


def _is_short(content: bytes | Path) -> bool:
    return isinstance(content, bytes) and len(content) <= INLINE_BYTES


def _copy(content: bytes | Path, target: Path) -> None:
    if isinstance(content, Path):
        shutil.copyfile(content, target)
    else:
        target.write_bytes(content)
    _sync(target)


def _write(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all."""
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        temporary.write_bytes(content)
        _sync(temporary)
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def _sync(path: Path) -> None:
    """Have the disk hold a file's content, or a folder's names."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some file systems cannot do that with a folder
            raise
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def _locked(descriptor: int, how: int) -> bool:
    """Lock an open file; False if somebody else's lock stands against it."""
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        # A file system without locks. They only keep programs out of each other's way: the lease
        # sees to it that a result is recorded once.
        return True
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False
