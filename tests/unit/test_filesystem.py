"""SQLite is kept off network file systems, told by the kernel's table of mounts."""

from pathlib import Path

import pytest

from picas.errors import Unsupported
from picas.pool.filesystem import is_network, mount_of, refuse_network

TABLE = r"""22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:26 / /home rw,relatime shared:2 - nfs4 server:/home rw,vers=4.2
31 30 8:2 / /home/local rw,relatime - xfs /dev/sdb1 rw
32 22 0:27 / /data/two\040words rw - lustre mds:/fs rw
33 22 0:28 / /mnt rw - fuse.sshfs host: rw
34 22 0:29 / /over rw - nfs server:/a rw
35 22 8:3 / /over rw master:3 propagate_from:2 - ext4 /dev/sdc1 rw
36 22 0:30 / /scratch rw - tmpfs tmpfs rw
a line that is no mount
"""


@pytest.fixture
def mounts(tmp_path: Path) -> Path:
    """A table of mounts."""
    file = tmp_path / "mountinfo"
    file.write_text(TABLE)
    return file


@pytest.mark.parametrize(
    ("path", "mount", "kind"),
    [
        ("/home/anna/pool.db", "/home", "nfs4"),
        ("/home", "/home", "nfs4"),
        ("/data/two words/pool.db", "/data/two words", "lustre"),
        ("/mnt/pool.db", "/mnt", "fuse.sshfs"),
    ],
)
def test_network_is_refused(mounts: Path, path: str, mount: str, kind: str) -> None:
    """A file on a network file system is refused with the mount and what to do instead."""
    with pytest.raises(Unsupported, match="CouchDB pool") as caught:
        refuse_network(Path(path), mounts)
    assert f"({kind}, mounted at {mount})" in str(caught.value)


@pytest.mark.parametrize(
    "path", ["/pool.db", "/home/local/pool.db", "/homework/x.db", "/over/x.db", "/scratch/x.db"]
)
def test_local_disk_is_fine(mounts: Path, path: str) -> None:
    """The innermost and latest mount counts, and only whole names of folders."""
    refuse_network(Path(path), mounts)


def test_links_are_followed(mounts: Path, tmp_path: Path) -> None:
    """A link on the local disk to a file on the network is on the network."""
    (tmp_path / "link").symlink_to("/home/anna")
    with pytest.raises(Unsupported):
        refuse_network(tmp_path / "link" / "pool.db", mounts)


def test_without_a_table_nothing_is_checked(tmp_path: Path) -> None:
    """Where the kernel tells no mounts, the user is trusted."""
    refuse_network(Path("/home/pool.db"), tmp_path / "none")


def test_table_without_a_root() -> None:
    """A table that does not cover the path says so rather than guess."""
    assert mount_of(Path("/x"), "") == ("/", "unknown")


@pytest.mark.parametrize("kind", ["nfs", "cifs", "lustre", "ceph", "fuse.glusterfs", "9p"])
def test_network_types(kind: str) -> None:
    """The file systems of clusters and offices are known."""
    assert is_network(kind)


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "tmpfs", "overlay", "fuse.ntfs-3g"])
def test_local_types(kind: str) -> None:
    """Disks of this machine are not taken for the network."""
    assert not is_network(kind)
