"""Noticing that a file is written to."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from picas import token
from picas.pool import Pool
from picas.pool.sqlite import SqliteStore
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


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    """An embedded pool."""
    store = SqliteStore(tmp_path / "pool.db")
    store.create()
    with Pool(store) as made:
        yield made


def test_a_sign_that_comes_before_the_write_counts(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not there yet when the file was written to is found a moment later, by itself."""
    signs = iter([True])
    monkeypatch.setattr(FileWatch, "wait", lambda *_: next(signs))
    since = pool.changes(None, timeout=0).seq
    monkeypatch.setattr("time.sleep", lambda _: list(pool.push([token.new({}, "t1")])))
    assert pool.changes(since, timeout=LONG).ids == ["t1"]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks at open descriptors")
def test_one_watch_serves_a_thread(pool: Pool) -> None:
    """Waiting again and again takes no more descriptors, and closing the pool gives back all."""

    def watches() -> int:
        links = (path.readlink() for path in Path("/proc/self/fd").glob("*") if path.is_symlink())
        return sum("inotify" in str(link) for link in links)

    before = watches()
    since = pool.changes(None, timeout=0).seq
    for _ in range(3):
        pool.changes(since, timeout=0.01)
    assert watches() <= before + 1
    pool.close()
    assert watches() == before
