"""Starting a command in a session of its own, while other threads go on.

`subprocess` holds the interpreter's lock until the new process has called exec: the slots of a
pilot would start their commands one at a time. A call by way of ctypes lets it go. Where the C
library cannot do it (no Linux, glibc before 2.34), `subprocess` does.
"""

import contextlib
import ctypes
import errno
import functools
import os
import signal
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

_SETSIGDEF: Final = 0x04
_SETSID: Final = 0x80
"""Source: glibc's ``spawn.h``."""

_ROOM: Final = 1024
"""More bytes than any of the C library's structures below has."""

_RESTORED: Final = (signal.SIGPIPE, signal.SIGXFSZ)
"""Signals that Python ignores, and commands expect to have their default effect."""


def spawn(
    argv: Sequence[str],
    env: Mapping[str, str],
    streams: tuple[int, int, int],
    cwd: Path | None = None,
    cpus: Collection[int] = (),
) -> int:
    """Start a command; returns its process id. Its other descriptors are closed.

    Args:
        argv: The program and its arguments; the program is looked up in ``PATH`` of `env`.
        env: The whole environment.
        streams: Descriptors of its standard input, output and error.
        cwd: Its working directory; that of this process by default.
        cpus: The CPUs it may run on; by default those of this process.

    Raises:
        OSError: It cannot be started.
        ValueError: An argument or a variable has a NUL character.
    """
    with _bound(cpus):
        if _library() is None:
            return _by_subprocess(argv, env, streams, cwd)
        return _by_library(argv, env, streams, cwd)


@contextlib.contextmanager
def _bound(cpus: Collection[int]) -> Iterator[None]:
    """Bind this thread for a while: what it starts then inherits that, and stays bound."""
    if not cpus:
        yield
        return
    before = os.sched_getaffinity(0)
    with contextlib.suppress(OSError):  # the scheduler took them away: a task runs unbound, too
        os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, before)


def _by_library(
    argv: Sequence[str], env: Mapping[str, str], streams: tuple[int, int, int], cwd: Path | None
) -> int:
    library = _library()
    arguments = [os.fsencode(argument) for argument in argv]
    variables = [os.fsencode(f"{name}={value}") for name, value in env.items()]
    if any(b"\0" in text for text in (*arguments, *variables)):
        raise ValueError("embedded null byte")
    program = _found(arguments[0], env)
    actions, pid = ctypes.create_string_buffer(_ROOM), ctypes.c_int()
    library.posix_spawn_file_actions_init(actions)
    try:
        if cwd is not None:
            library.posix_spawn_file_actions_addchdir_np(actions, os.fsencode(cwd))
        for target, descriptor in enumerate(streams):
            library.posix_spawn_file_actions_adddup2(actions, descriptor, target)
        library.posix_spawn_file_actions_addclosefrom_np(actions, 3)
        problem = library.posix_spawn(
            ctypes.byref(pid),
            program,
            actions,
            _attributes(),
            _pointers(arguments),
            _pointers(variables),
        )
    finally:
        library.posix_spawn_file_actions_destroy(actions)
    if problem:
        raise OSError(problem, os.strerror(problem), os.fsdecode(program))
    return pid.value


def _by_subprocess(
    argv: Sequence[str], env: Mapping[str, str], streams: tuple[int, int, int], cwd: Path | None
) -> int:
    stdin, stdout, stderr = streams
    # No preexec_fn: with it, the interpreter could not use vfork.
    child = subprocess.Popen(
        argv,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        cwd=cwd,
        env=env,
        start_new_session=True,
    )
    child.returncode = 0  # who asked for it waits for its end
    return child.pid


@functools.cache
def _library() -> Any:
    """The C library, if it has all that is needed."""
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    names = ("posix_spawn", "posix_spawn_file_actions_addclosefrom_np")
    return library if all(hasattr(library, name) for name in names) else None


@functools.cache
def _attributes() -> Any:
    """What is the same for all: a session of their own, and signals as they ought to be."""
    library, attributes = _library(), ctypes.create_string_buffer(_ROOM)
    signals = ctypes.create_string_buffer(_ROOM)
    library.sigemptyset(signals)
    for number in _RESTORED:
        library.sigaddset(signals, int(number))
    library.posix_spawnattr_init(attributes)
    library.posix_spawnattr_setsigdefault(attributes, signals)
    library.posix_spawnattr_setflags(attributes, ctypes.c_short(_SETSID | _SETSIGDEF))
    return attributes


def _found(program: bytes, env: Mapping[str, str]) -> bytes:
    """The program's path; looked for in the ``PATH`` of its environment if it has no slash."""
    if b"/" in program:
        return program
    for folder in os.get_exec_path(dict(env)):
        path = Path(folder, os.fsdecode(program))
        if os.access(path, os.X_OK) and path.is_file():
            return os.fsencode(path)
    raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), os.fsdecode(program))


def _pointers(texts: Sequence[bytes]) -> Any:
    """Texts as C has lists of them: an array of pointers, the last one null."""
    return (ctypes.c_char_p * (len(texts) + 1))(*texts, None)
