"""Files that are used again."""

import sys
from pathlib import Path

import pytest

from picas.pilot.spares import Spares

needs_leases = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who has a file")


@needs_leases
def test_a_file_is_used_again(tmp_path: Path) -> None:
    """The same inode gets the next name."""
    spares = Spares(str(tmp_path))
    first = tmp_path / "first"
    first.touch()
    inode = first.stat().st_ino
    spares.take(str(first))
    assert not first.exists()
    spares.give(str(tmp_path / "second"))
    assert (tmp_path / "second").stat().st_ino == inode


@pytest.mark.parametrize("mode", ["ab", "rb"])
def test_a_file_that_somebody_has_open_is_not_used_again(tmp_path: Path, mode: str) -> None:
    """What a process left behind still writes must not get into another token's log."""
    spares = Spares(str(tmp_path))
    first = tmp_path / "first"
    first.touch()
    with first.open(mode):
        spares.take(str(first))
    assert not first.exists()
    spares.give(str(tmp_path / "second"))
    assert list(tmp_path.iterdir()) == []


def test_without_spares_nothing_is_put_there(tmp_path: Path) -> None:
    """Whoever opens the file makes it."""
    Spares(str(tmp_path)).give(str(tmp_path / "file"))
    assert list(tmp_path.iterdir()) == []


def test_folder_that_was_removed_meanwhile(tmp_path: Path) -> None:
    """Spares that are gone, and files that are gone, are no error."""
    folder = tmp_path / "logs"
    folder.mkdir()
    spares = Spares(str(folder))
    (folder / "first").touch()
    spares.take(str(folder / "first"))
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    spares.give(str(folder / "second"))
    spares.take(str(folder / "second"))
    spares.close()
    assert not folder.exists()


def test_spares_are_deleted_in_the_end(tmp_path: Path) -> None:
    """Nothing is left in the folder."""
    spares = Spares(str(tmp_path))
    for name in ("a", "b"):
        (tmp_path / name).touch()
        spares.take(str(tmp_path / name))
    spares.close()
    assert list(tmp_path.iterdir()) == []
