"""Is this file on a disk of this machine? SQLite's locks and its shared memory need one."""

import os
from pathlib import Path

from picas.errors import Unsupported

NETWORK_TYPES = frozenset(
    "9p afs beegfs beegfs_nodev ceph cifs coda dfs fhgfs ftpfs gfs gfs2 glusterfs gpfs lustre "
    "ncpfs nfs nfs3 nfs4 ocfs2 orangefs panfs pvfs2 smb2 smb3 smbfs wekafs".split()
)
_NETWORK_FUSE = (
    "ssh",
    "gluster",
    "ceph",
    "s3",
    "rclone",
    "davfs",
    "gcs",
    "goofys",
    "juicefs",
    "nfs",
)

MOUNTS = Path("/proc/self/mountinfo")


def refuse_network(path: Path, mounts: Path = MOUNTS) -> None:
    """Raise `Unsupported` if `path` is (or would be) on a network file system.

    Args:
        path: The database file; it need not exist.
        mounts: The kernel's table of mounts (proc(5), ``/proc/[pid]/mountinfo``); where there is
            none (not Linux), nothing is checked.
    """
    try:
        table = mounts.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return
    mount, kind = mount_of(path, table)
    if is_network(kind):
        raise Unsupported(
            f"{path} is on a network file system ({kind}, mounted at {mount}), where SQLite can "
            "lose data when several hosts write; use a CouchDB pool (--pool "
            "https://host:6984/database), or put the file on a local disk "
            "(--pool sqlite:////tmp/picas.db)"
        )


def is_network(kind: str) -> bool:
    """Tell whether a file system type reaches over a network."""
    if kind.startswith("fuse."):
        return any(name in kind for name in _NETWORK_FUSE)
    return kind in NETWORK_TYPES


def mount_of(path: Path, table: str) -> tuple[str, str]:
    """Mount point and type of the file system that holds `path`, by a mountinfo table."""
    target = os.path.realpath(path)
    found = ("/", "unknown")
    for line in table.splitlines():
        left, separator, right = line.partition(" - ")
        fields = left.split(" ")
        if not separator or len(fields) < 5:
            continue
        mount = _unescape(fields[4])
        inside = target == mount or target.startswith(mount.rstrip("/") + "/")
        # The later of two equal mount points hides the earlier one.
        if inside and len(mount) >= len(found[0]):
            found = (mount, right.split(" ", 1)[0])
    return found


def _unescape(text: str) -> str:
    """Undo mountinfo's octal escapes of space, tab, newline and backslash."""
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, char)
    return text
