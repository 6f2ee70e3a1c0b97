"""The processes of one task: which they are, and how to end all of them.

A task's command may leave its process group, start a session of its own or fork twice. Its
processes are found by the session it started in, by descent, and by a mark that is different for
every task. `adopt_orphans` makes this process the one to which the kernel gives processes that
lost their parent, so that none of them gets out of sight. One without a mark is ended by the last
of the tasks that may have started it.

Without ``/proc`` (macOS) only the process group is known, and ended.
"""

import ctypes
import logging
import os
import resource
import signal
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from picas.dice import dice

MARK: Final = "PICAS_TASK"
"""Environment variable by which the processes of a task are told from all others."""

KILL_SECONDS: Final = 5.0
"""How long processes are killed again and again, while there are any, before giving up on them."""

_MAX_SAMPLED: Final = 256
_ENVIRON_TRIES: Final = 5
_PAGE: Final = 4096
_MAX_PASSES: Final = 1000
_PR_SET_CHILD_SUBREAPER: Final = 36
_RLIMIT_LOCKS: Final = 10
_NOBODY: Final = -2  # -1 is what a process shows while it is being reaped
_KIBIBYTE: Final = 1 if sys.platform == "darwin" else 1024

_log = logging.getLogger("picas.process")
_have_proc = Path("/proc/self/stat").exists()
_ticks_per_second = os.sysconf("SC_CLK_TCK")


def _pidfd_works() -> bool:
    """Old kernels (before 5.3) and some sandboxes have no process file descriptors."""
    if not (hasattr(os, "pidfd_open") and hasattr(signal, "pidfd_send_signal")):
        return False
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:
        return False
    return True


have_pidfd = _have_proc and _pidfd_works()


@dataclass(frozen=True, slots=True)
class Process:
    """A process as ``/proc`` shows it.

    Attributes:
        pid: Its number.
        alive: False for a zombie.
        parent: The parent's number.
        group: Its process group.
        session: Its session.
        start: Clock ticks since boot; with the number it names a process for good.
    """

    pid: int
    alive: bool
    parent: int
    group: int
    session: int
    start: int


def look(pid: int) -> Process | None:
    """What ``/proc`` says about a process; None if it is gone."""
    # The name, in parentheses, may hold anything, blanks and parentheses included.
    stat = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    if len(stat) < 20:
        return None
    # A zombie whose other threads go on running has merely lost its first thread.
    alive = stat[0] not in (b"Z", b"X") or int(stat[17]) > 1
    return Process(pid, alive, int(stat[1]), int(stat[2]), int(stat[3]), int(stat[19]))


class _Adoption:
    """Which children of this process are orphans that the kernel gave to it.

    Orphans become children of the main thread, so its list of children is a short one to read:
    a command belongs to the thread that started it.
    """

    def __init__(self) -> None:
        self.spawning = False
        self.trees: set[Tree] = set()
        self.given_up: set[tuple[int, int]] = set()
        # By the kernel's numbering, the main thread has the number of the process.
        self._children = f"/proc/self/task/{os.getpid()}/children"
        self._list: int | None = None

    def start(self) -> None:
        if self.active or not Path(self._children).exists():
            return
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0:
            self._list = os.open(self._children, os.O_RDONLY | os.O_CLOEXEC)
        else:
            _log.warning("orphans cannot be adopted: %s", os.strerror(ctypes.get_errno()))

    @property
    def active(self) -> bool:
        return self._list is not None

    def orphans(self) -> list[Process]:
        """Living children of the main thread; the dead ones that were adopted are reaped.

        A process that died just now may have left a child that was not in the list yet: the list is
        read again until nobody in it is newly dead.
        """
        if self._list is None:
            return []
        for _ in range(_MAX_PASSES):
            children = [child for pid in self._listed() if (child := look(pid)) is not None]
            reaped = [self._reap(child) for child in children if not child.alive]
            if not any(reaped):
                break
        return [child for child in children if child.alive]

    def _listed(self) -> list[int]:
        # At the end of each task: one call. The kernel gives a page at a time; a list that may not
        # fit is read from a descriptor of its own, as another thread's read would tear it.
        listed = b"" if self._list is None else os.pread(self._list, _PAGE, 0)
        if len(listed) > _PAGE // 2:
            listed = _read(self._children)
        return [int(pid) for pid in listed.split()]

    def _reap(self, child: Process) -> bool:
        """Reap an adopted zombie, and nothing that another piece of code is waiting for.

        That other code's children are in our own session, or lead a task (`trees`), or are about
        to (`spawning`).
        """
        if self.spawning or child.session == os.getsid(0):
            return False
        trees = list(self.trees)  # after `spawning`: what was started by then is in it
        if any(tree.leads(child.pid) for tree in trees):
            return False
        try:
            pid, _, usage = os.wait4(child.pid, os.WNOHANG)
        except ChildProcessError:
            return True  # another thread was faster
        for tree in trees if pid else ():
            if tree.knows(child):
                tree.account(usage)
        return pid != 0


_adoption = _Adoption()


def adopt_orphans() -> None:
    """Have the kernel give this process every descendant that loses its parent.

    Called once by the pilot, in a process whose other children stay in its own session: what
    appears among the main thread's children in a foreign session while tasks run is taken for
    theirs, and ended or reaped. Where the system cannot do it (no Linux, no list of children in
    ``/proc``), nothing changes.
    """
    _adoption.start()


@contextmanager
def spawning() -> Iterator[None]:
    """A span in which the caller starts a command and tells its `Tree`.

    Between the two, a child of the main thread looks like an orphan: nothing is reaped meanwhile.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _adoption.spawning = True
    try:
        yield
    finally:
        _adoption.spawning = False


class Mark:
    """A task's mark on its processes: in their environment, and in their limits.

    The environment is easily lost (``env -i``, daemons that write their title over it). The limit
    on file locks is not: children inherit it whatever they exec, and Linux has ignored it since
    2.4.25. It is set once the command runs (by way of our own limits, slots would have to start
    their commands one at a time): what starts before that is told by exclusion.

    Attributes:
        made: Clock ticks since boot; none of the task's processes is older.
    """

    def __init__(self) -> None:
        # Always 19 digits in decimal, so that it is not found inside another number.
        self._limit = (1 << 61) | dice.getrandbits(61)
        self._nonce = f"{os.getpid():x}-{self._limit:016x}"
        self.made = _ticks()

    def into(self, env: Mapping[str, str]) -> dict[str, str]:
        """The environment with the mark in it, behind the mark of a task around this one."""
        outer = env.get(MARK)
        return {**env, MARK: f"{outer}.{self._nonce}" if outer else self._nonce}

    def onto(self, pid: int) -> None:
        """Mark the limits of a command, of which its children inherit it."""
        if sys.platform == "linux":
            # Refused where the limit was lowered for good, and for another user's command.
            with suppress(OSError, ValueError):
                resource.prlimit(pid, _RLIMIT_LOCKS, (self._limit, resource.RLIM_INFINITY))

    def on(self, process: Process) -> bool:
        """Tell whether a process carries the mark."""
        if str(self._limit).encode() in _read(f"/proc/{process.pid}/limits"):
            return True
        prefix, nonce = f"{MARK}=".encode(), self._nonce.encode()
        entries = _environ(process).split(b"\0")
        return any(entry.startswith(prefix) and nonce in entry for entry in entries)


class Tree:
    """All processes of a task; made before its first one, lest that be taken for another's.

    Attributes:
        cpu: CPU seconds of its processes that lost their parent and were reaped here.
        memory: Bytes; the largest peak seen by `sample` or reported of a process reaped here.
    """

    def __init__(self, mark: Mark) -> None:
        self.cpu = 0.0
        self.memory = 0
        self._leader = _NOBODY
        self._mark = mark
        self._known: dict[int, int] = {}
        self._reaped_at: int | None = None
        _adoption.trees.add(self)

    def started(self, leader: int) -> None:
        """The task's first process runs."""
        self._leader = leader
        self._mark.onto(leader)

    def close(self) -> None:
        """The task is over."""
        _adoption.trees.discard(self)

    def leader_reaped(self) -> None:
        """The leader's number is free again once nothing is left in its session."""
        self._reaped_at = _ticks()

    def leads(self, pid: int) -> bool:
        """Tell whether that is the task's first process, not yet reaped."""
        return pid == self._leader and self._reaped_at is None

    def knows(self, process: Process) -> bool:
        """Tell whether a process is of this task, by its session or as seen in it before."""
        return self._in_session(process) or self._known.get(process.pid) == process.start

    def account(self, usage: resource.struct_rusage) -> None:
        """Add what an orphan used; its parents were in this tree, so its peak is honest."""
        self.cpu += usage.ru_utime + usage.ru_stime
        self.memory = max(self.memory, usage.ru_maxrss * _KIBIBYTE)

    def sample(self) -> None:
        """Note the peak memory of the leader and its descendants; reap adopted zombies.

        A task that lasts and sheds orphans all the while would fill the process table otherwise.
        """
        pids = [self._leader]
        for pid in pids:
            _, _, peak = _read(f"/proc/{pid}/status").partition(b"VmHWM:")
            if peak:
                self.memory = max(self.memory, int(peak.split(None, 1)[0]) * 1024)
            if len(pids) < _MAX_SAMPLED:
                pids.extend(map(int, _read(f"/proc/{pid}/task/{pid}/children").split()))
        reap_orphans()

    def leftovers(self) -> bool:
        """Tell, cheaply, whether processes are left after the leader was reaped."""
        return bool(self._orphans()) or self._group_exists()

    def _orphans(self) -> list[Process]:
        """The adopted processes that are this task's, by exclusion or by its mark."""
        return [o for o in _adoption.orphans() if self._by_exclusion(o) or self._mark.on(o)]

    def _by_exclusion(self, orphan: Process) -> bool:
        """Tell whether no other running task can have started an orphan.

        A leftover that another task may have started is left to that one: the last of those that
        ran when it appeared ends it. Children of other code are in our own session; what an
        earlier task could not end is not tried again by all that follow.
        """
        if orphan.session == os.getsid(0) or (orphan.pid, orphan.start) in _adoption.given_up:
            return False
        return [tree for tree in list(_adoption.trees) if tree.may_own(orphan)] == [self]

    def may_own(self, orphan: Process) -> bool:
        """Tell whether a process is young enough to be of this task."""
        return orphan.start >= self._mark.made

    def living(self) -> list[Process]:
        """The task's processes that are alive, oldest first; reads all of ``/proc``."""
        if not _have_proc:
            stand_in = Process(self._leader, True, 0, self._leader, self._leader, 0)
            return [stand_in] if self._group_exists() else []
        table = _processes()
        children: dict[int, list[Process]] = defaultdict(list)
        for process in table.values():
            children[process.parent].append(process)
        queue = [process for process in table.values() if self._belongs(process, table)]
        # A chain of processes that fork and exit gets past a table, but not past the list.
        queue += self._orphans()
        found: dict[int, Process] = {}
        while queue:
            process = queue.pop()
            if process.pid not in found and process.pid not in (1, os.getpid()):
                found[process.pid] = process
                queue.extend(children[process.pid])
        # Remembered, so that those are found too that change their session and lose the mark.
        self._known.update((process.pid, process.start) for process in found.values())
        return sorted((p for p in found.values() if p.alive), key=lambda p: (p.start, p.pid))

    def end(
        self,
        grace: float,
        pause: Callable[[float], bool],
        first: signal.Signals = signal.SIGTERM,
    ) -> list[Process]:
        """End all processes: TERM, some time for them to go, then KILL until none is left.

        Args:
            grace: Seconds between the two; 0 kills at once.
            pause: Waits that many seconds at most; True says not to grant more time.
            first: Another signal than TERM.

        Returns:
            Processes that would not die: in an uninterruptible wait, or another user's.
        """
        if grace > 0:
            self._ask_to_end(first, time.monotonic() + grace, pause)
        give_up = time.monotonic() + KILL_SECONDS
        while left := self.living():
            if time.monotonic() > give_up:
                names = ", ".join(str(process.pid) for process in left)
                _log.warning("cannot end the processes %s of a task; they are left running", names)
                _adoption.given_up.update((process.pid, process.start) for process in left)
                break
            self._signal_all(left, signal.SIGKILL)
            self._await_end(left, min(give_up, time.monotonic() + 0.2), _sleep)
        reap_orphans()
        return left

    def _ask_to_end(
        self, number: signal.Signals, until: float, pause: Callable[[float], bool]
    ) -> None:
        """Signal all; then those that appear after all that were asked have gone."""
        while left := self.living():
            self._signal_all(left, number)
            self._signal_all(left, signal.SIGCONT)  # a stopped process acts on nothing but KILL
            if not self._await_end(left, until, pause):
                return

    def _await_end(
        self, processes: Sequence[Process], until: float, pause: Callable[[float], bool]
    ) -> bool:
        """Wait for processes to end; False if time ran out or `pause` said so."""
        interval = 0.001
        while processes := [process for process in processes if self._lives(process)]:
            remaining = until - time.monotonic()
            if remaining <= 0 or pause(min(interval, remaining)):
                return False
            interval = min(2 * interval, 0.1)
        return True

    def _signal_all(self, processes: Sequence[Process], number: int) -> None:
        """Signal the group in one go (no fork gets past that), then those outside it."""
        group = None
        if self._reaped_at is None or any(p.group == self._leader for p in processes):
            group = self._leader
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(group, number)
        for process in processes:
            _signal(process, number, group)

    def _belongs(self, process: Process, table: Mapping[int, Process]) -> bool:
        if self.knows(process):
            return True
        # With orphans adopted here, a marked process elsewhere was sent there on purpose (a batch
        # job that the task submitted and that landed on this host): it is not ours to end.
        near = not _adoption.active or _descends(process, table, os.getpid())
        return near and process.alive and self._mark.on(process)

    def _in_session(self, process: Process) -> bool:
        if self._leader not in (process.session, process.group):
            return False
        # Later ones may be strangers under a number used again; ours are found by other means.
        return self._reaped_at is None or process.start <= self._reaped_at

    def _lives(self, process: Process) -> bool:
        if not _have_proc:
            return self._group_exists()
        now = look(process.pid)
        return now is not None and now.alive and now.start == process.start

    def _group_exists(self) -> bool:
        try:
            os.killpg(self._leader, 0)
        except (ProcessLookupError, PermissionError):
            return False
        return True


def reap_orphans() -> None:
    """Reap adopted processes that have ended."""
    _adoption.orphans()


def _signal(process: Process, number: int, done: int | None) -> None:
    """Signal exactly that process, unless it is in the group that was signalled just before.

    A descriptor pins it while its start tells it from a successor under the same number.
    """
    pin = None
    with suppress(OSError):
        pin = os.pidfd_open(process.pid) if have_pidfd else None
    try:
        now = look(process.pid)
        if now is None or now.start != process.start or now.group == done:
            return
        if pin is None:
            os.kill(process.pid, number)
        else:
            signal.pidfd_send_signal(pin, number)
    except (ProcessLookupError, PermissionError):
        return
    finally:
        if pin is not None:
            os.close(pin)


def _processes() -> dict[int, Process]:
    found = (look(int(entry.name)) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return {process.pid: process for process in found if process is not None}


def _environ(process: Process) -> bytes:
    """The environment a process was started with.

    For a moment within ``exec`` it reads as empty: a young process is asked again.
    """
    path = f"/proc/{process.pid}/environ"
    young = process.start > _ticks() - _ticks_per_second
    for _ in range(_ENVIRON_TRIES if young and process.parent == os.getpid() else 1):
        if environ := _read(path):
            return environ
        time.sleep(0.001)
    return b""


def _ticks() -> int:
    """Now, as ``/proc`` counts: clock ticks since boot."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * _ticks_per_second) if _have_proc else 0


def _descends(process: Process, table: Mapping[int, Process], ancestor: int) -> bool:
    """Walk up the parents; a parent that ended while the table was read counts as ours."""
    current: Process | None = process
    for _ in table:
        if current is None or current.parent == ancestor:
            return True
        if current.parent == 0:
            return False
        current = table.get(current.parent)
    return True


def _read(path: str) -> bytes:
    """The file's bytes; nothing if it cannot be read (the process is gone or another user's)."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        content = b""
        while piece := os.read(fd, 65536):
            content += piece
    except OSError:
        return b""
    else:
        return content
    finally:
        os.close(fd)


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)
    return False
