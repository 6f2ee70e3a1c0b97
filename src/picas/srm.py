"""Files on Grid storage, in the classic API: ``from picas.srm import SRMClient``.

The tools are those of today (see `picas.transfer`), and the storage need not be an SRM: the host is
anything that a file's path can be put behind, ``https://dcache.example.org:2880/`` or an rclone
remote, ``archive:``.
"""

import errno
import logging
import posixpath
import queue
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

from picas import transfer
from picas.picaslogger import picaslogger
from picas.transfer import TransferError

SRM_HOST = "srm://srm.grid.sara.nl/"


class SRMClient:
    """Copies files to and from one storage.

    Args:
        logger: Told what is copied; by default that of the classic API.
        host: What stands before every path.
    """

    def __init__(self, logger: logging.Logger | None = None, host: str = SRM_HOST) -> None:
        self.logger = logger or picaslogger
        self.srm_host = host

    def remote_exists(self, loc: str) -> bool:
        """Tell whether a file is there, by its path on the storage."""
        return transfer.exists(self._url(loc))

    def upload(self, local_file: str, srm_dir: str, check: bool = False) -> str:
        """Copy a file into a folder of the storage.

        Args:
            local_file: The file.
            srm_dir: The folder's path on the storage.
            check: Look before whether the one is there and the other is not.

        Returns:
            The file's URL.

        Raises:
            OSError: It could not be copied, is missing, or is there already.
        """
        name = posixpath.join(srm_dir, Path(local_file).name)
        if check and not Path(local_file).is_file():
            raise FileNotFoundError(errno.ENOENT, "there is no such file", local_file)
        if check and self.remote_exists(name):
            raise FileExistsError(errno.EEXIST, "the storage has it already", self._url(name))
        self.logger.info("Uploading: %s", local_file)
        transfer.upload(Path(local_file), self._url(name))
        return self._url(name)

    def download(self, srm_file: str, local_dir: str = "./", check: bool = False) -> str:
        """Copy a file of the storage into a folder.

        Args:
            srm_file: The file's path on the storage.
            local_dir: The folder.
            check: Look before whether it is there.

        Returns:
            The path of the copy, which is there whole or not at all.

        Raises:
            OSError: It could not be copied, or is missing.
        """
        target = posixpath.join(local_dir, posixpath.basename(srm_file))
        if check and not self.remote_exists(srm_file):
            raise FileNotFoundError(errno.ENOENT, "there is no such file", self._url(srm_file))
        self.logger.info("Downloading: %s", srm_file)
        transfer.download(self._url(srm_file), Path(target))
        return target

    def remove(self, srm_file: str) -> bool:
        """Delete a file of the storage; True if it is gone, `OSError` if it could not be."""
        transfer.remove(self._url(srm_file))
        return True

    def _url(self, loc: str) -> str:
        return self.srm_host + loc


class Downloader(threading.Thread):
    """A thread that downloads what is in a queue.

    Args:
        q: Paths on the storage.
        logger: For the client.
        host: What stands before the paths.

    Attributes:
        failed: Paths that could not be downloaded.
    """

    def __init__(
        self,
        q: "queue.Queue[str]",
        logger: logging.Logger | None = None,
        host: str = SRM_HOST,
    ) -> None:
        super().__init__(daemon=False)
        self.q = q
        self.logger = logger or picaslogger
        self.srm = SRMClient(self.logger, host)
        self.failed: list[str] = []

    def run(self) -> None:
        """Download until the queue is empty."""
        while True:
            try:
                path = self.q.get_nowait()
            except queue.Empty:
                return
            try:
                self.srm.download(path)
            except Exception as error:  # noqa: BLE001 - the others are still to be downloaded
                self.failed.append(path)
                self.logger.warning("Download of %s failed: %s", path, error)
            finally:
                self.q.task_done()


def download_many(
    files: Sequence[str],
    poolsize: int = 10,
    logger: logging.Logger | None = None,
    host: str = SRM_HOST,
) -> None:
    """Download files into this folder, several at once.

    Args:
        files: Their paths on the storage.
        poolsize: How many at once.
        logger: Told what is copied.
        host: What stands before the paths.

    Raises:
        OSError: Some could not be; the others are there.
    """
    waiting: queue.Queue[str] = queue.Queue()
    for path in files:
        waiting.put(path)
    threads = [Downloader(waiting, logger, host) for _ in range(min(poolsize, len(files)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    failed = [path for thread in threads for path in thread.failed]
    if failed:
        raise TransferError(f"{len(failed)} of {len(files)} files failed: {', '.join(failed[:5])}")


def upload_many(files: Iterable[str], srm_dir: str, host: str = SRM_HOST) -> list[str]:
    """Upload files into a folder of the storage, one after another; returns their URLs."""
    client = SRMClient(host=host)
    return [client.upload(file, srm_dir) for file in files]


def download(remotefile: str, host: str = SRM_HOST) -> str:
    """Download a file into this folder; returns its path."""
    return SRMClient(host=host).download(remotefile)


def upload(localfile: str, srm_dir: str = "", host: str = SRM_HOST) -> str:
    """Upload a file; returns its URL."""
    return SRMClient(host=host).upload(localfile, srm_dir)
