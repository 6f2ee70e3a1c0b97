"""Many files from Grid storage, in the classic API: ``from picas import srmclient``."""

from collections.abc import Mapping

from picas.srm import SRM_HOST, Downloader, download_many

__all__ = ["Downloader", "download"]


def download(files: Mapping[object, str], threads: int = 10, host: str = SRM_HOST) -> None:
    """Download files into this folder, several at once.

    Args:
        files: Paths on the storage, as the values of a dict.
        threads: How many at once.
        host: What stands before the paths.

    Raises:
        OSError: Some could not be; the others are there.
    """
    download_many(list(files.values()), threads, host=host)
