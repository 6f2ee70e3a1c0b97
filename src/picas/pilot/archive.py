"""A folder as one archive, and back, on whatever host."""

import tarfile
from pathlib import Path
from typing import IO


class TooLong(Exception):
    """The archive would be longer than it may be."""


def pack(folder: Path, archive: Path, limit: int) -> list[str]:
    """Make an archive of what is in a folder.

    Args:
        folder: The folder.
        archive: The file to be written.
        limit: Bytes that it may have.

    Returns:
        What was left out, because `unpack` would not take it: a link that leads out of the
        folder, a pipe.

    Raises:
        TooLong: It would have more.
        OSError: The folder cannot be read, or the archive not be written.
    """
    size = 0
    left_out: list[str] = []

    def check(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        nonlocal size
        size += tarfile.BLOCKSIZE + member.size
        if size > limit:
            raise TooLong
        if _is_portable(member, folder):
            return member
        left_out.append(member.name)
        return None

    with tarfile.open(archive, "w:") as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, path.name, filter=check)
    return left_out


def unpack(archive: IO[bytes], folder: Path) -> None:
    """Unpack an archive; nothing of it gets out of the folder.

    Raises:
        tarfile.TarError: It is no archive, is damaged, or has what leads out of the folder.
        OSError: It cannot be written.
    """
    with tarfile.open(fileobj=archive, mode="r:") as tar:
        if hasattr(tarfile, "data_filter"):
            tar.extractall(folder, filter="data")
        else:  # Python before 3.11.4
            tar.extractall(folder, [member for member in tar if _is_plain(member)])


def _is_portable(member: tarfile.TarInfo, folder: Path) -> bool:
    """Tell whether a member will be unpacked."""
    if not hasattr(tarfile, "data_filter"):
        return _is_plain(member)
    try:
        tarfile.data_filter(member, str(folder))
    except tarfile.FilterError:
        return False
    return True


def _is_plain(member: tarfile.TarInfo) -> bool:
    """Tell of a file or a folder that it lands where it should."""
    path = Path(member.name)
    return (member.isreg() or member.isdir()) and not path.is_absolute() and ".." not in path.parts
