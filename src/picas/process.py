"""Run one command as a task: its logs in two files, a time limit, and nothing of it left behind.

A slot that runs commands is free when `Task.run` returns: every process of the task is gone,
children that left its process group and daemons included (see `picas.proctree`).
"""

import contextlib
import enum
import errno
import functools
import math
import os
import resource
import select
import signal
import sys
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Final

from picas import cgroup, proctree
from picas.errors import TaskError
from picas.proctree import adopt_orphans
from picas.spawn import spawn
from picas.token import TIME_LIMIT_EXIT_CODE

__all__ = ["EndedBy", "Finished", "Task", "adopt_orphans"]

CANNOT_EXECUTE: Final = 126
"""Exit code of a command that is there but cannot be executed, as a shell has it."""

NOT_FOUND: Final = 127
"""Exit code of a command that does not exist, as a shell has it."""

_FIRST_SAMPLE: Final = 0.05
_LONGEST_SAMPLE_INTERVAL: Final = 5.0
_OUT_OF_RESOURCES: Final = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
_MAXRSS_UNIT: Final = 1 if sys.platform == "darwin" else 1024


class EndedBy(enum.Enum):
    """What brought a task to its end."""

    ITSELF = "itself"
    TIME_LIMIT = "time limit"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Finished:
    """How a task's command ended and what it used.

    Attributes:
        exit_code: Its exit code; 128+n for signal n, 124 if its time limit ended it.
        start: Epoch seconds, this host's clock.
        end: Epoch seconds, this host's clock.
        wall: Wall-clock seconds of the command.
        cpu: CPU seconds, user and system, of the command and its descendants, except those that
            it never waited for and that outlived it unseen.
        memory: Peak resident bytes of its largest process; None if that is not known.
        ended_by: Itself, its time limit, or `Task.stop`.
        out_of_memory: The kernel killed it for want of memory.
    """

    exit_code: int
    start: float
    end: float
    wall: float
    cpu: float
    memory: int | None
    ended_by: EndedBy
    out_of_memory: bool = False


class _Refused(Exception):
    """A command that cannot be started, by a fault of its own."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class _Asked(enum.IntEnum):
    """What `Task.stop` was called for; it only ever rises."""

    NOTHING = 0
    STOP = 1
    KILL = 2


class Task:
    """One command, run once.

    Args:
        argv: The program and its arguments; the program is looked up in ``PATH`` of `env`.
        out: File for standard output; made or emptied, its folder made if it is missing.
        err: File for standard error; the same.
        env: The whole environment; a mark is added (see `picas.proctree.MARK`).
        cwd: Working directory; this process's own by default.
        time_limit: Seconds of wall-clock time; none by default.
        grace: Seconds between TERM and KILL.
        instead: What to run if `argv` cannot be executed.
        stop_signal: What ends it, in place of TERM, when it is stopped or its time is up.
        cpus: The CPUs it may run on; by default those of this process.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        out: Path | str,
        err: Path | str,
        env: Mapping[str, str],
        cwd: Path | None = None,
        time_limit: float | None = None,
        grace: float = 10.0,
        instead: Sequence[str] = (),
        stop_signal: signal.Signals = signal.SIGTERM,
        cpus: Collection[int] = (),
    ) -> None:
        self._stop_signal = stop_signal
        self._argv, self._instead = list(argv), list(instead)
        self._out, self._err = out, err
        self._mark = proctree.Mark()
        self._env = self._mark.into(env)
        self._cwd = cwd
        self._time_limit = time_limit
        self._grace = grace
        self._cpus = cpus
        self._asked = _Asked.NOTHING
        self._bell: _Bell | None = None
        # Re-entrant: a signal handler may call `stop` in the thread that is inside `run`.
        self._lock = threading.RLock()

    def run(self) -> Finished:
        """Run the command and wait until it and everything it started is gone.

        A command that does not exist or cannot be executed is a failed task (exit codes 127 and
        126, the reason in its error log).

        Raises:
            TaskError: The fault is this host's: a log cannot be written, the working directory is
                missing, no more processes can be started.
        """
        watch = _Watch()
        try:
            bell = self._bell = _Bell.take()
            try:
                return self._run(watch, bell)
            finally:
                with self._lock:
                    self._bell = None
                bell.give_back()
        except OSError as problem:
            raise TaskError(
                f"cannot run {self._argv[:1]} here: {problem}; "
                "look at the limits on processes and open files of this host"
            ) from problem

    def stop(self, *, now: bool = False) -> None:
        """End the task: its stop signal, the grace period, KILL.

        Callable from any thread or a signal handler. It returns at once; `run` returns when the
        task has ended. Before `run`, it keeps the command from being started.

        Args:
            now: KILL at once; also cuts short the grace of an earlier call.
        """
        with self._lock:
            wanted = _Asked.KILL if now else _Asked.STOP
            if wanted > self._asked:
                self._asked = wanted
                if self._bell is not None:
                    self._bell.ring()

    def _run(self, watch: "_Watch", bell: "_Bell") -> Finished:
        tree = proctree.Tree(self._mark)
        try:
            with proctree.spawning():
                child = self._start(watch)
                if isinstance(child, Finished):
                    return child
                tree.started(child)
            try:
                return self._attend(watch, child, tree, bell)
            except BaseException:
                tree.end(0, bell.wait)
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(child, os.WNOHANG)
                raise
        finally:
            tree.close()

    def _attend(self, watch: "_Watch", child: int, tree: proctree.Tree, bell: "_Bell") -> Finished:
        """Wait for the command, end what must be ended, and account for it."""
        ended_by = self._wait(watch, tree, bell, child)
        left = () if ended_by is EndedBy.ITSELF else self._end(tree, bell, self._stop_signal)
        immortal = any(process.pid == child for process in left)
        reaped, status, usage = os.wait4(child, os.WNOHANG if immortal else 0)
        watch.stop()
        if reaped:
            tree.leader_reaped()
        if ended_by is EndedBy.ITSELF and tree.leftovers():
            self._end(tree, bell, signal.SIGTERM)
        code = _exit_code(status) if reaped else 128 + signal.SIGKILL
        code = TIME_LIMIT_EXIT_CODE if ended_by is EndedBy.TIME_LIMIT else code
        cpu = tree.cpu + usage.ru_utime + usage.ru_stime
        finished = watch.finished(code, ended_by, cpu, _peak_memory(usage, tree))
        killed = ended_by is EndedBy.ITSELF and code == 128 + signal.SIGKILL
        return (
            replace(finished, out_of_memory=True) if killed and watch.lacked_memory() else finished
        )

    def _end(
        self, tree: proctree.Tree, bell: "_Bell", first: signal.Signals
    ) -> Sequence[proctree.Process]:
        """End all processes, with the grace that `stop` leaves them; gives those that won't die."""

        def pause(seconds: float) -> bool:
            bell.wait(seconds)
            return self._asked is _Asked.KILL

        return tree.end(0 if self._asked is _Asked.KILL else self._grace, pause, first)

    def _start(self, watch: "_Watch") -> int | Finished:
        """Make the logs and start the command, if it is to be started and can be; its number."""
        out = _open_log(self._out)
        try:
            err = _open_log(self._err)
            try:
                if self._asked:
                    number = signal.SIGKILL if self._asked is _Asked.KILL else signal.SIGTERM
                    return watch.finished(128 + number, EndedBy.STOPPED)
                return self._spawn(out, err)
            except _Refused as refused:
                return watch.finished(refused.code, EndedBy.ITSELF)
            finally:
                os.close(err)
        finally:
            os.close(out)

    def _spawn(self, out: int, err: int) -> int:
        """Start the command; raises `_Refused` if it is its own fault that it can't be."""
        program = self._argv[0] if self._argv else ""
        if not program:
            raise self._refuse(err, NOT_FOUND, "the command is empty")
        try:
            return spawn(self._argv, self._env, (_dev_null(), out, err), self._cwd, self._cpus)
        except ValueError as problem:
            raise self._refuse(
                err, CANNOT_EXECUTE, f"cannot run {program!r}: {problem}"
            ) from problem
        except OSError as problem:
            if problem.errno in _OUT_OF_RESOURCES:
                raise
            self._check_cwd(problem)
            if self._instead:
                self._argv, self._instead = self._instead, []
                return self._spawn(out, err)
            code = NOT_FOUND if problem.errno == errno.ENOENT else CANNOT_EXECUTE
            reason = f"cannot run {program!r}: {_why(problem, program)}"
            raise self._refuse(err, code, reason) from problem

    def _refuse(self, err: int, code: int, reason: str) -> "_Refused":
        """Say in the error log why the command is not started."""
        try:
            os.write(err, f"PiCaS: {reason}\n".encode("utf-8", "backslashreplace"))
        except OSError as problem:
            raise _log_error(self._err, problem) from problem
        return _Refused(code)

    def _check_cwd(self, problem: OSError) -> None:
        if self._cwd is not None and not (self._cwd.is_dir() and os.access(self._cwd, os.X_OK)):
            raise TaskError(
                f"cannot run a task in the directory {self._cwd}: it is missing, is no directory "
                "or may not be entered; create it, or give another"
            ) from problem

    def _wait(self, watch: "_Watch", tree: proctree.Tree, bell: "_Bell", leader: int) -> EndedBy:
        """Wait until the command ended, is asked to stop, or has used up its time."""
        limit = math.inf if self._time_limit is None else self._time_limit
        interval = sample_at = _FIRST_SAMPLE
        ended = _exit_fd(leader)
        try:
            waiting = select.poll()
            waiting.register(ended, select.POLLIN)
            waiting.register(bell.fd, select.POLLIN)
            while True:
                timeout = max(0.0, min(limit, sample_at) - watch.elapsed())
                ready = [fd for fd, _ in waiting.poll(timeout * 1000)]
                if ended in ready:
                    return EndedBy.ITSELF
                if self._asked:
                    return EndedBy.STOPPED
                if watch.elapsed() >= limit:
                    return EndedBy.TIME_LIMIT
                if watch.elapsed() >= sample_at:
                    tree.sample()
                    interval = min(2 * interval, _LONGEST_SAMPLE_INTERVAL)
                    sample_at = watch.elapsed() + interval
        finally:
            os.close(ended)


class _Watch:
    """Measures a task: the clock's time for its ends, monotonic time for what lies between."""

    def __init__(self) -> None:
        self._start, self._begun = time.time(), time.monotonic()
        self._wall: float | None = None
        self._memory_kills = cgroup.memory_kills()

    def elapsed(self) -> float:
        return time.monotonic() - self._begun

    def stop(self) -> None:
        """The command has ended; what follows is not its time."""
        self._wall = self.elapsed()

    def lacked_memory(self) -> bool:
        """Tell whether the kernel killed something for want of memory since the start."""
        return cgroup.memory_kills() > self._memory_kills

    def finished(
        self, code: int, ended_by: EndedBy, cpu: float = 0.0, memory: int | None = None
    ) -> Finished:
        wall = self.elapsed() if self._wall is None else self._wall
        return Finished(code, self._start, time.time(), wall, cpu, memory, ended_by)


class _Bell:
    """Wakes the thread that waits for a task; may be rung by a signal handler.

    Bells are used again: a task that ends in a millisecond should not pay for making one.
    """

    _idle: ClassVar[list["_Bell"]] = []

    def __init__(self) -> None:
        if hasattr(os, "eventfd"):
            self.fd = self._writer = os.eventfd(0)
        else:
            self.fd, self._writer = os.pipe()
        self._rung = False

    @classmethod
    def take(cls) -> "_Bell":
        """An idle bell, or a new one."""
        try:
            return cls._idle.pop()
        except IndexError:
            return cls()

    def give_back(self) -> None:
        """For the next task; nobody else has it any more."""
        if self._rung:
            self.wait(0)
            self._rung = False
        self._idle.append(self)

    def ring(self) -> None:
        self._rung = True
        os.write(self._writer, (1).to_bytes(8, sys.byteorder))

    def wait(self, seconds: float) -> bool:
        """Wait at most that long; True if it rang."""
        waiting = select.poll()
        waiting.register(self.fd, select.POLLIN)
        if not waiting.poll(seconds * 1000):
            return False
        os.read(self.fd, 64)
        return True


def _exit_fd(pid: int) -> int:
    """A descriptor that becomes readable when a child has ended, which is not reaped by it."""
    if proctree.have_pidfd:
        return os.pidfd_open(pid)
    reader, writer = os.pipe()
    threading.Thread(target=_close_at_exit, args=(pid, writer), daemon=True).start()
    return reader


def _close_at_exit(pid: int, writer: int) -> None:
    try:
        if sys.platform == "darwin":
            ends = select.kevent(pid, select.KQ_FILTER_PROC, select.KQ_EV_ADD, select.KQ_NOTE_EXIT)
            with contextlib.closing(select.kqueue()) as queue:
                queue.control([ends], 1)
        else:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    except (ChildProcessError, ProcessLookupError):
        pass  # it ended before
    finally:
        os.close(writer)


@functools.cache
def _dev_null() -> int:
    """Standard input of all commands, opened once."""
    return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)


def _open_log(path: Path | str) -> int:
    """Make or empty a log; appending, so that one file may serve both streams."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
    try:
        try:
            return os.open(path, flags, 0o666)
        except FileNotFoundError:  # a task has cleaned up too much
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            return os.open(path, flags, 0o666)
    except OSError as problem:
        raise _log_error(path, problem) from problem


def _log_error(path: Path | str, problem: OSError) -> TaskError:
    return TaskError(
        f"cannot write the log {path}: {problem.strerror}; "
        "look at the space left, the quota and the permissions of its directory"
    )


def _why(problem: OSError, program: str) -> str:
    """The reason why a program was not started, as a person needs it."""
    match problem.errno:
        case errno.ENOENT if os.path.lexists(program):
            return "its interpreter (in the line '#!') does not exist"
        case errno.ENOEXEC:
            return "exec format error: a script needs a first line like '#!/bin/sh'"
        case errno.E2BIG:
            return "the arguments and the environment are too long; put long lists into a file"
        case _:
            return os.strerror(problem.errno or 0)


def _exit_code(status: int) -> int:
    """A shell's exit code for a wait status."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _peak_memory(usage: resource.struct_rusage, tree: proctree.Tree) -> int | None:
    """Peak resident bytes of the task's largest process, as far as it can be told.

    The kernel starts a child's ``ru_maxrss`` at the size that its parent had when it called exec:
    a small task would be shown with the size of this process. So the figure counts only where it
    is clearly above this process's own peak (kernels count pages loosely: an eighth of margin).
    Otherwise the task's own samples of ``VmHWM``, which starts afresh with exec, are the best
    there is, and a task too short to be sampled has none.
    """
    reported = usage.ru_maxrss * _MAXRSS_UNIT
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_UNIT
    return max(tree.memory, reported if reported > own + own // 8 else 0) or None
