"""Files on Grid storage: which tool is called, and how, by small stand-ins on PATH."""

import os
import queue
import re
import shutil
from pathlib import Path

import pytest
from tests.components import skipped_component

from picas import srm, srmclient, transfer
from picas.errors import ConfigError
from picas.srm import Downloader, SRMClient
from picas.transfer import TransferError

STAND_IN = """#!/bin/sh
echo "$(basename "$0") $*" >> "$LEDGER"
case "$0 $*" in
    *broken*) echo "no such host" >&2; exit 70;;
    *stat*|*lsf*) case "$*" in *here*) echo "here";; *) exit 2;; esac;;
    *-copy*|*xrdcp*|*copyto*)
        for last in "$@"; do :; done
        case "$last" in
            file://*) echo data > "${last#file://}";;
            *:*) ;;
            *) echo data > "$last";;
        esac;;
esac
"""


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the stand-ins write how they were called; no other tool is found."""
    for name in ("sh", "basename"):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).symlink_to(shutil.which(name) or "/bin/sh")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("LEDGER", str(tmp_path / "ledger"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(transfer, "TRIES", 2)
    monkeypatch.setattr(transfer.time, "sleep", lambda _: None)  # type: ignore[attr-defined]
    return tmp_path / "ledger"


def install(folder: Path, *names: str) -> None:
    """Put stand-ins for tools on PATH."""
    for name in names:
        file = folder / "bin" / name
        file.write_text(STAND_IN)
        file.chmod(0o755)


def calls(ledger: Path) -> list[str]:
    """How the tools were called, with the folder of the test as DIR."""
    text = ledger.read_text() if ledger.exists() else ""
    text = text.replace(os.getcwd(), "DIR")  # noqa: PTH109
    return re.sub(r"\.\d+-\d+\.part", ".ID.part", text).splitlines()


def test_gfal(ledger: Path, tmp_path: Path) -> None:
    """It copies, looks and deletes by its own programs, whatever the protocol."""
    install(tmp_path, "gfal-copy", "gfal-stat", "gfal-rm")
    (tmp_path / "in.txt").write_text("x")
    client = SRMClient(host="srm://host/")
    assert client.upload("in.txt", "dir") == "srm://host/dir/in.txt"
    assert client.download("dir/out.txt") == "./out.txt"
    assert (tmp_path / "out.txt").read_text() == "data\n"
    assert client.remote_exists("dir/here")
    assert not client.remote_exists("dir/gone")
    assert client.remove("dir/here")
    assert calls(ledger) == [
        "gfal-copy --parent --force file://DIR/in.txt srm://host/dir/in.txt",
        "gfal-copy --parent --force srm://host/dir/out.txt file://DIR/.out.txt.ID.part",
        "gfal-stat srm://host/dir/here",
        "gfal-stat srm://host/dir/gone",
        "gfal-rm srm://host/dir/here",
    ]


def test_xrootd(ledger: Path, tmp_path: Path) -> None:
    """Without gfal, its URLs are copied by xrdcp."""
    install(tmp_path, "xrdcp", "xrdfs")
    client = SRMClient(host="root://host:1094//data/")
    (tmp_path / "sub").mkdir()
    client.download("out.txt", "sub")
    assert (tmp_path / "sub" / "out.txt").exists()
    client.remove("here")
    assert calls(ledger) == [
        "xrdcp --force --nopbar root://host:1094//data/out.txt DIR/sub/.out.txt.ID.part",
        "xrdfs host:1094 rm /data/here",
    ]


def test_rclone(ledger: Path, tmp_path: Path) -> None:
    """A remote of rclone's is no URL."""
    install(tmp_path, "rclone", "gfal-copy")
    SRMClient(host="archive:").download("dir/out.txt")
    assert SRMClient(host="archive:").remote_exists("here")
    assert calls(ledger) == [
        "rclone copyto archive:dir/out.txt DIR/.out.txt.ID.part",
        "rclone lsf archive:here",
    ]


def test_no_tool(ledger: Path) -> None:
    """Which would do is told, and what cannot be a place of storage."""
    with pytest.raises(ConfigError, match="gfal-copy or xrdcp"):
        transfer.exists("root://host/x")
    with pytest.raises(ConfigError, match="scheme://host/path"):
        transfer.exists("just/a/path")


def test_a_failed_copy_leaves_nothing(ledger: Path, tmp_path: Path) -> None:
    """It is tried again; then the tool's own words are told, and the old file is still there."""
    install(tmp_path, "gfal-copy")
    (tmp_path / "file").write_text("old")
    with pytest.raises(TransferError, match="no such host") as caught:
        SRMClient(host="srm://broken/").download("file")
    assert isinstance(caught.value, OSError)
    assert len(calls(ledger)) == 2
    assert (tmp_path / "file").read_text() == "old"
    assert not list(tmp_path.glob("*.part")) + list(tmp_path.glob(".*.part"))


def test_two_at_once_do_not_share_a_half_file(ledger: Path, tmp_path: Path) -> None:
    """The same file for two threads in one folder: each copies to a name of its own."""
    install(tmp_path, "gfal-copy")
    srm.download_many(["same", "same"], poolsize=2, host="srm://host/")
    assert (tmp_path / "same").read_text() == "data\n"
    targets = {line.split()[-1] for line in ledger.read_text().splitlines()}
    assert len(targets) == len(calls(ledger)) == 2


def test_secrets_of_a_url_are_not_shown(ledger: Path, tmp_path: Path) -> None:
    """Neither a password, nor a token behind the ``?``, when a tool fails or is not there."""
    with pytest.raises(ConfigError) as missing:
        transfer.exists("davs://anna:geheim@host/x?authz=TOKEN")
    install(tmp_path, "gfal-copy", "gfal-rm")
    with pytest.raises(TransferError) as failed:
        transfer.download("davs://anna:geheim@broken/x?authz=TOKEN", tmp_path / "x")
    for text in (str(missing.value), str(failed.value)):
        assert "geheim" not in text
        assert "TOKEN" not in text
        assert "/x?***" in text


def test_looking_first(ledger: Path, tmp_path: Path) -> None:
    """With `check`, missing files and those that are there already are told before."""
    install(tmp_path, "gfal-copy", "gfal-stat")
    client = SRMClient(host="srm://host/")
    with pytest.raises(FileNotFoundError):
        client.upload("nothing", "dir", check=True)
    (tmp_path / "here").write_text("x")
    with pytest.raises(FileExistsError):
        client.upload("here", "dir", check=True)
    with pytest.raises(FileNotFoundError):
        client.download("gone", check=True)


def test_many_files(ledger: Path, tmp_path: Path) -> None:
    """Several at once; those that fail are named, and the others are there."""
    install(tmp_path, "gfal-copy")
    srm.download_many(["a", "b", "c"], poolsize=2, host="srm://host/")
    srmclient.download({1: "d"}, host="srm://host/")
    assert all((tmp_path / name).exists() for name in "abcd")
    with pytest.raises(TransferError, match=r"1 of 2 files failed: broken"):
        srm.download_many(["e", "broken"], host="srm://host/")
    assert (tmp_path / "e").exists()
    assert srm.upload_many(["a", "b"], "dir", host="srm://host/") == [
        "srm://host/dir/a",
        "srm://host/dir/b",
    ]
    assert srm.download("f", host="srm://host/") == "./f"
    assert srm.upload("a", host="srm://host/") == "srm://host/a"
    srm.download_many([], host="srm://host/")
    waiting: queue.Queue[str] = queue.Queue()
    worker = Downloader(waiting)
    worker.start()
    worker.join()
    assert worker.failed == []


def test_a_real_rclone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands are those that rclone takes, on its backend for local folders."""
    if shutil.which("rclone") is None:
        skipped_component("rclone", "it is not installed")
        pytest.skip("rclone: not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RCLONE_CONFIG_STORE_TYPE", "alias")
    monkeypatch.setenv("RCLONE_CONFIG_STORE_REMOTE", str(tmp_path / "remote"))
    (tmp_path / "file.txt").write_text("words")
    client = SRMClient(host="store:")
    assert client.upload("file.txt", "deep/dir") == "store:deep/dir/file.txt"
    assert client.remote_exists("deep/dir/file.txt")
    (tmp_path / "file.txt").unlink()
    assert client.download("deep/dir/file.txt", check=True) == "./file.txt"
    assert (tmp_path / "file.txt").read_text() == "words"
    assert client.remove("deep/dir/file.txt")
    assert not client.remote_exists("deep/dir/file.txt")
    with pytest.raises(TransferError):
        client.download("deep/dir/file.txt")
