"""What the control groups around this process say of memory: its limit, and kills for want of it.

Source: the kernel's documentation of control groups, version 2 (``memory.max``,
``memory.events``) and version 1 (``memory.limit_in_bytes``, ``memory.oom_control``).
"""

import functools
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_MACHINE = Path("/proc/vmstat")


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
def _counter() -> Path | None:
    """The file that counts."""
    files = [*_files("memory.events", "memory.oom_control"), _MACHINE]
    return next((file for file in files if _count(file) is not None), None)


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


def _count(file: Path) -> int | None:
    with suppress(OSError, ValueError):
        for line in file.read_bytes().splitlines():
            name, _, count = line.partition(b" ")
            if name == b"oom_kill":
                return int(count)
    return None
