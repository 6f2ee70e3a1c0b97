"""Noticing that another process wrote to a file, without asking all day."""

import ctypes
import os
import select
import sys
import time
from pathlib import Path
from typing import Final

POLL_SECONDS: Final = 0.08
"""How often the file is looked at where the kernel does not tell."""

_IN_MODIFY: Final = 0x2
"""Source: the manual page inotify(7), and the kernel's ``linux/inotify.h`` for the number."""


class FileWatch:
    """A file that others write to.

    The kernel tells by inotify; where it does not (no Linux, too many watches, no such file), the
    file's time and size are looked at again and again.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._fd = -1
        self._path = path
        self._mark = self._look()
        if sys.platform == "linux":
            self._fd = _inotify(path)

    def wait(self, seconds: float) -> bool:
        """Wait until the file is written to, `seconds` at most; tells whether it was."""
        if self._fd >= 0:
            waiting = select.poll()
            waiting.register(self._fd, select.POLLIN)
            return bool(waiting.poll(seconds * 1000) and os.read(self._fd, 65536))
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            time.sleep(min(POLL_SECONDS, left))
            before, self._mark = self._mark, self._look()
            if self._mark != before:
                return True
        return False

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Let the kernel forget it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _look(self) -> tuple[int, int] | None:
        """Moves when the file is written to; its time is coarse, so that may be missed."""
        try:
            stat = self._path.stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_size


def _inotify(path: Path) -> int:
    """A descriptor that is readable when the file was written to; -1 if there is none to be had."""
    libc = ctypes.CDLL(None)
    fd = int(libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
    if fd >= 0 and libc.inotify_add_watch(fd, os.fsencode(path), _IN_MODIFY) < 0:
        os.close(fd)
        return -1
    return fd
