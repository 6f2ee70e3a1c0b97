"""Standard output and error, guarded: a write that fails ends the command in good order."""

import io
import os
import sys
from typing import Any, TextIO


class OutputLost(Exception):
    """Standard output took no more.

    No OSError, so that nobody on the way takes it for one of theirs: click and rich have ways of
    their own with a reader that went away.

    Args:
        why: The system's error.
    """

    def __init__(self, why: OSError) -> None:
        super().__init__(why.strerror or str(why))
        self.reader_left = isinstance(why, BrokenPipeError)


class _Stream(io.FileIO):
    """A standard stream; after a write that failed it takes all and keeps nothing.

    Args:
        number: Its file descriptor, which stays open.
        loud: Raise `OutputLost` at the first write that fails.
    """

    def __init__(self, number: int, *, loud: bool) -> None:
        super().__init__(number, "wb", closefd=False)
        self._loud = loud
        self._lost = False

    def write(self, data: Any, /) -> int:
        """Write, or take what cannot be written any more."""
        # Click finds out what a stream takes by writing nothing to it.
        if not self._lost and len(data):
            try:
                return super().write(data)
            except OSError as error:
                self._lost = True
                if self._loud:
                    raise OutputLost(error) from error
        return len(data)


def guard() -> None:
    """Guard the streams of this process; those that were closed lead nowhere from now on.

    What cannot be said on standard error is not said; the command goes on.
    """
    # A file opened later must not get the number of a stream: a child would write into it.
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    if sys.stdin is None:
        sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, "rb", closefd=False)))
    sys.stdout = _guarded(sys.stdout, 1, loud=True)
    sys.stderr = _guarded(sys.stderr, 2, loud=False)


def _guarded(stream: TextIO | None, number: int, *, loud: bool) -> TextIO:
    if stream is None:
        return io.TextIOWrapper(io.BufferedWriter(_Stream(number, loud=loud)), encoding="utf-8")
    if not isinstance(stream, io.TextIOWrapper) or stream not in (sys.__stdout__, sys.__stderr__):
        return stream
    raw = _Stream(number, loud=loud)
    # With PYTHONUNBUFFERED there is no buffer in between.
    buffered = isinstance(stream.buffer, io.BufferedWriter)
    return io.TextIOWrapper(
        io.BufferedWriter(raw) if buffered else raw,
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
