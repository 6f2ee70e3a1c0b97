"""A folder as one archive: what goes in comes out, and nothing gets out of the folder."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from picas.pilot.archive import TooLong, pack, unpack


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """An empty folder."""
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Another one."""
    folder = tmp_path / "target"
    folder.mkdir()
    return folder


def names(folder: Path) -> list[str]:
    """What is in a folder."""
    return sorted(path.name for path in folder.iterdir())


def carry(source: Path, target: Path) -> list[str]:
    """Pack one folder and unpack it into another; returns what was left out."""
    archive = source.with_name("a.tar")
    left_out = pack(source, archive, 1 << 20)
    with archive.open("rb") as file:
        unpack(file, target)
    return left_out


def test_files_come_back(source: Path, target: Path) -> None:
    """Contents, folders, odd names and links among them."""
    (source / "sub").mkdir()
    (source / "sub" / "ünï two").write_bytes(b"\0\xff")
    (source / ".hidden").write_text("h")
    (source / "latest").symlink_to("sub/ünï two")
    Path(os.fsdecode(os.fsencode(source) + b"/\xff")).write_text("no text")
    left_out = [] if hasattr(tarfile, "data_filter") else ["latest"]
    assert carry(source, target) == left_out
    assert names(target) == [name for name in names(source) if name not in left_out]
    assert (target / "sub" / "ünï two").read_bytes() == b"\0\xff"
    assert left_out or (target / "latest").read_bytes() == b"\0\xff"


def test_what_cannot_be_unpacked_is_left_out(source: Path, target: Path) -> None:
    """A link that leads out and a pipe are told of; the rest is kept."""
    (source / "kept").write_text("k")
    (source / "out").symlink_to("/etc/passwd")
    (source / "up").symlink_to("../x")
    os.mkfifo(source / "pipe")
    assert carry(source, target) == ["out", "pipe", "up"]
    assert names(target) == ["kept"]


def test_too_long(source: Path) -> None:
    """What exceeds the limit is told before all of it is copied."""
    (source / "a").write_bytes(bytes(600))
    (source / "b").write_bytes(bytes(600))
    with pytest.raises(TooLong):
        pack(source, source.with_name("a.tar"), 1500)


@pytest.mark.parametrize("name", ["../evil", "/tmp/picas-evil", "sub/../../evil"])
def test_nothing_is_written_outside(target: Path, name: str) -> None:
    """An archive whose members lead out of the folder is refused, or they land inside it."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.addfile(tarfile.TarInfo(name))
    archive.seek(0)
    try:
        unpack(archive, target)
    except tarfile.TarError:
        assert names(target) == []
    assert not (target.parent / "evil").exists()
    assert not Path("/tmp/picas-evil").exists()


@pytest.mark.parametrize("data", [b"", b"no archive", bytes(511)])
def test_damaged(target: Path, data: bytes) -> None:
    """What is no archive is an error of its own kind."""
    with pytest.raises(tarfile.TarError):
        unpack(io.BytesIO(data), target)


def test_without_the_filter(source: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python before 3.11.4 carries files and folders, and no links."""
    monkeypatch.delattr(tarfile, "data_filter", raising=False)
    (source / "sub").mkdir()
    (source / "sub" / "file").write_text("f")
    (source / "link").symlink_to("sub")
    assert carry(source, target) == ["link"]
    assert (target / "sub" / "file").read_text() == "f"
