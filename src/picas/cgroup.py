"""What the control groups around this process say of memory: its limit, and kills for want of it.

Source: the kernel's documentation of control groups, version 2 (``memory.max``,
``memory.events``) and version 1 (``memory.limit_in_bytes``, ``memory.oom_control``).
"""

import functools
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_MACHINE = Path("/proc/vmstat")
_KILLS = re.compile(rb"^oom_kill (\d+)\n", re.MULTILINE)
_PIECE = 65536


def memory_limit() -> int | None:
    """Bytes that this process may use: the least of all groups around it; None without a limit."""
    limits = []
    for file in _files("memory.max", "memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # "max" is no limit
            limits.append(int(file.read_text(encoding="ascii")))
    return min(limits, default=None)


def memory_kills() -> int:
    """How often the kernel killed for want of memory around this process; compare two calls.

    Counted by the process's own group, or by the whole machine where that does not count.
    """
    counter = _counter()
    return 0 if counter is None else _count(counter) or 0


@functools.cache
def _counter() -> int | None:
    """The file that counts, opened once: it is read for every task."""
    for file in (*_files("memory.events", "memory.oom_control"), _MACHINE):
        with suppress(OSError):
            counter = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
            if _count(counter) is not None:
                return counter
            os.close(counter)
    return None


def _files(version2: str, version1: str) -> Iterator[Path]:
    """A file of this process's group and of all around it, the closest first."""
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            group = Path(path.lstrip("/"))
            if not controllers:
                yield from (_ROOT / level / version2 for level in (group, *group.parents))
            elif "memory" in controllers.split(","):
                root = _ROOT / "memory"
                yield from (root / level / version1 for level in (group, *group.parents))


def _count(file: int) -> int | None:
    content = b""
    with suppress(OSError):
        while piece := os.pread(file, _PIECE, len(content)):
            content += piece
            if found := _KILLS.search(content):
                return int(found[1])
    return None
