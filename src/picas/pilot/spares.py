"""Files that are used again instead of being deleted and made anew.

A short task's files can cost more than the task. On ext4 the inode of a deleted file is left alone
for a minute, and whoever makes a file there has to look past all of these (``recently_deleted`` in
the kernel's ``fs/ext4/ialloc.c``): a millisecond for each file was seen, and 40 µs to rename one.
"""

import contextlib
import fcntl
import itertools
import os
import sys


class Spares:
    """Files of a folder that nobody uses at the moment; safe to share among threads.

    Args:
        folder: The folder, which may come and go.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._free: list[str] = []
        self._numbers = itertools.count()

    def give(self, path: str) -> None:
        """Put a file there, if there is a spare one; its content is that of its last user."""
        with contextlib.suppress(IndexError, OSError):
            os.rename(self._free.pop(), path)

    def take(self, path: str) -> None:
        """Keep a file for the next user, or delete it: a process may still write to it."""
        with contextlib.suppress(OSError):
            if _is_unused(path):
                spare = f"{self._folder}/.spare-{next(self._numbers)}"
                os.rename(path, spare)
                self._free.append(spare)
            else:
                os.unlink(path)

    def close(self) -> None:
        """Delete them."""
        while self._free:
            with contextlib.suppress(OSError):
                os.unlink(self._free.pop())


def _is_unused(path: str) -> bool:
    """Tell whether no process has a file open, as far as the kernel says so.

    It grants a lease for writing only if nobody else has the file open. Source: fcntl(2).
    """
    if sys.platform != "linux":
        return False
    file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(file)
