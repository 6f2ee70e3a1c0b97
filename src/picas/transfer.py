"""The tools that copy files to and from storage on the Grid: which there are, and how to call them.

==========  =====================================  ==========================================
tool        for                                    copies by
==========  =====================================  ==========================================
gfal        ``srm gsiftp root davs https …``       ``gfal-copy --parent --force SOURCE TARGET``
xrdcp       ``root xroot``                         ``xrdcp --force --nopbar SOURCE TARGET``
rclone      its own remotes, ``name:path``         ``rclone copyto SOURCE TARGET``
==========  =====================================  ==========================================

Sources: the manuals of gfal2-util, XRootD and rclone.
"""

import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from picas.backoff import delays
from picas.credentials import redact
from picas.errors import ConfigError, TaskError
from picas.executers import execute

TRIES = 3
"""How often a copy is tried."""

_REMOTE = re.compile(r"[\w.+@ -]+:(?!//).*", re.ASCII)
_QUERY = re.compile(r"(\w://[^\s?]*)\?\S*")
_MANY = frozenset(("srm", "gsiftp", "root", "xroot", "davs", "dav", "https", "http", "file"))
_XROOT = frozenset(("root", "xroot", "roots", "xroots"))

Command = list[str]


class TransferError(TaskError, OSError):
    """A tool could not do it; the text has its own words."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that copies.

    Attributes:
        program: Its program, which tells whether it is installed.
        fits: Tells whether a URL is one of its kind.
        copy: The command that copies a source to a target.
        exists: The command that succeeds, and prints something, if a file is there.
        remove: The command that deletes a file.
    """

    program: str
    fits: Callable[[str], bool]
    copy: Callable[[str, str], Command]
    exists: Callable[[str], Command]
    remove: Callable[[str], Command]


def _xrdfs(url: str, verb: str) -> Command:
    parts = urlsplit(url)
    return ["xrdfs", parts.netloc, verb, f"/{parts.path.lstrip('/')}"]


TOOLS: Sequence[Tool] = (
    Tool(
        "gfal-copy",
        lambda url: urlsplit(url).scheme in _MANY,
        lambda source, target: ["gfal-copy", "--parent", "--force", source, target],
        lambda url: ["gfal-stat", url],
        lambda url: ["gfal-rm", url],
    ),
    Tool(
        "xrdcp",
        lambda url: urlsplit(url).scheme in _XROOT,
        lambda source, target: ["xrdcp", "--force", "--nopbar", source, _plain(target)],
        lambda url: _xrdfs(url, "stat"),
        lambda url: _xrdfs(url, "rm"),
    ),
    Tool(
        "rclone",
        lambda url: _REMOTE.fullmatch(url) is not None,
        lambda source, target: ["rclone", "copyto", _plain(source), _plain(target)],
        lambda url: ["rclone", "lsf", url],
        lambda url: ["rclone", "deletefile", url],
    ),
)


def _plain(url: str) -> str:
    """A file of this machine as a path: not every tool takes ``file://``."""
    return url.removeprefix("file://")


def tool_for(url: str) -> Tool:
    """The first tool that is installed and takes a URL.

    Raises:
        ConfigError: There is none.
    """
    fitting = [tool for tool in TOOLS if tool.fits(url)]
    for tool in fitting:
        if shutil.which(tool.program):
            return tool
    wanted = " or ".join(tool.program for tool in fitting)
    if not wanted:
        raise ConfigError(
            f"no tool is known for {_shown(url)!r}; write scheme://host/path or remote:path"
        )
    raise ConfigError(f"{_shown(url)}: this host has no {wanted}; install it, or load its module")


def exists(url: str) -> bool:
    """Tell whether a file is there."""
    _, code, out, _ = execute(tool_for(url).exists(url))
    return code == 0 and bool(out.strip())


def remove(url: str) -> None:
    """Delete a file; raises `TransferError` if the tool could not."""
    _run(tool_for(url).remove(url))


def upload(file: Path, url: str) -> None:
    """Copy a file of this machine to a URL; raises `TransferError` if no try worked."""
    _repeatedly(tool_for(url).copy(f"file://{file.absolute()}", url))


def download(url: str, file: Path) -> None:
    """Copy a URL to a file of this machine, which is there whole or not at all.

    Raises:
        TransferError: No try worked.
    """
    # Each call has its own: another's half file must not become the file.
    part = file.with_name(f".{file.name}.{os.getpid()}-{secrets.randbits(32)}.part")
    try:
        _repeatedly(tool_for(url).copy(url, f"file://{part.absolute()}"))
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def _repeatedly(command: Command) -> None:
    waits = delays(1.0, 30.0)
    for left in reversed(range(TRIES)):
        try:
            _run(command)
        except TransferError:
            if not left:
                raise
        else:
            return
        time.sleep(next(waits))


def _run(command: Command) -> None:
    _, code, _, err = execute(command)
    if code != 0:
        said = err.decode(errors="replace").strip().rpartition("\n")[2]
        raise TransferError(_shown(f"{' '.join(command)}: exit code {code}: {said}"))


def _shown(text: str) -> str:
    """A text without passwords and the tokens that storage takes behind a ``?``."""
    return _QUERY.sub(r"\1?***", redact(text))
