"""Noticing that a file is written to."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from picas.pool.sqlite import watch as sqlite_watch
from picas.pool.sqlite.watch import FileWatch

LONG = 20.0


@pytest.fixture(params=["kernel", "polling"])
def watched(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Path, FileWatch]]:
    """A file and a watch on it, by the kernel's word or by looking."""
    if request.param == "polling":
        monkeypatch.setattr(sqlite_watch, "_inotify", lambda path: -1)
    path = tmp_path / "log"
    path.write_bytes(b"old")
    with closing(FileWatch(path)) as watch:
        yield path, watch


@contextmanager
def soon(action: threading.Timer) -> Iterator[None]:
    """A span in which something happens a moment later."""
    action.start()
    yield
    action.join()


def test_a_write_ends_the_wait(watched: tuple[Path, FileWatch]) -> None:
    """Who waits goes on when somebody writes, long before the time is up."""
    path, watch = watched
    began = time.monotonic()
    with soon(threading.Timer(0.05, path.write_bytes, [b"new and longer"])):
        watch.wait(LONG)
    assert time.monotonic() - began < LONG / 2


def test_a_write_before_the_wait_is_not_missed(watched: tuple[Path, FileWatch]) -> None:
    """What was written since the watch began counts."""
    path, watch = watched
    path.write_bytes(b"new and longer")
    began = time.monotonic()
    watch.wait(LONG)
    assert time.monotonic() - began < LONG / 2


def test_the_wait_has_an_end(watched: tuple[Path, FileWatch]) -> None:
    """Where nobody writes, it ends when the time is up; each write wakes once."""
    path, watch = watched
    path.write_bytes(b"new and longer")
    watch.wait(LONG)
    began = time.monotonic()
    watch.wait(0.1)
    assert 0.09 < time.monotonic() - began < LONG / 2


def test_file_that_is_not_there_yet(tmp_path: Path) -> None:
    """A file that appears later is noticed, too."""
    path = tmp_path / "log"
    with closing(FileWatch(path)) as watch, soon(threading.Timer(0.05, path.touch)):
        began = time.monotonic()
        watch.wait(LONG)
    assert time.monotonic() - began < LONG / 2
