"""Logs: files on disk while a task runs, of which head and tail go into the token."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from picas.errors import TaskError


@dataclass(frozen=True, slots=True)
class Excerpt:
    """What of a log goes into the token; read when it is recorded, not before.

    Attributes:
        path: The log.
        limit: Bytes to keep.
    """

    path: Path
    limit: int

    @property
    def size(self) -> int:
        """Bytes that are kept."""
        try:
            return min(self.path.stat().st_size, self.limit)
        except OSError:
            return 0

    def read_bytes(self) -> bytes:
        """The log's head and tail; see `head_and_tail`."""
        return head_and_tail(self.path, self.limit)


def head_and_tail(path: Path, limit: int) -> bytes:
    """A log, or its beginning and its end where it is longer than `limit` bytes.

    In place of what is left out stands one line that says how much that is and where the whole
    file is; that line comes on top of the limit. The cuts are at line ends unless the lines are
    too long for that.

    A log that is gone is shown as one line that says so: a task that tidies up too much has not
    failed for that.

    Raises:
        TaskError: The file cannot be read.
    """
    try:
        with path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            if size <= limit:
                return _read_up_to(file.read, limit)
            half = max(0, limit) // 2
            head = _read_up_to(file.read, half)
            tail_size = max(0, limit) - half
            file.seek(size - tail_size)
            tail = _read_up_to(file.read, tail_size)
    except (FileNotFoundError, NotADirectoryError):
        return _note(f"the log {_where(path)} is gone: the task (or somebody) removed it")
    except OSError as problem:
        raise TaskError(f"cannot read the log {path}: {problem.strerror}") from problem
    # A line end is taken if that gives up less than half of a part.
    head = head[:cut] if (cut := head.rfind(b"\n") + 1) > len(head) // 2 else head
    tail = tail[cut:] if 0 < (cut := tail.find(b"\n") + 1) <= len(tail) // 2 else tail
    new_line = b"\n" if head and not head.endswith(b"\n") else b""
    dropped = size - len(head) - len(tail)
    note = _note(f"{dropped} bytes are left out here; the whole log is {_where(path)}")
    return head + new_line + note + tail


def _note(text: str) -> bytes:
    return os.fsencode(f"[PiCaS: {text}]\n")


def _where(path: Path) -> str:
    return f"{os.uname().nodename}:{path.absolute()}"


def _read_up_to(read: Callable[[int], bytes | None], size: int) -> bytes:
    """Read `size` bytes, or what there is; a single read may give less."""
    pieces = []
    while size > 0 and (piece := read(size)):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)
