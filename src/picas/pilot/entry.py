"""A result as a JSON document on disk: what an entry of the spool holds."""

import base64
import contextlib
import errno
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from picas.errors import InputError
from picas.logs import Excerpt
from picas.pool import Settlement
from picas.token import Again, Document, Outcome

FORMAT = 1
"""Number of the entries' form; a reader leaves alone what has a higher one."""

Files = Mapping[str, bytes | Path | Excerpt]


@dataclass(frozen=True, slots=True)
class Entry:
    """One result that is kept.

    Attributes:
        path: Its file.
        pool: Address of the pool it is for.
        settlement: What is to be recorded.
        scratch: Logs to delete once it is.
    """

    path: Path
    pool: str
    settlement: Settlement
    scratch: tuple[Path, ...]

    def delete_logs(self) -> None:
        """Delete the logs that are of no use once they are in the token."""
        for path in self.scratch:
            with contextlib.suppress(OSError):
                path.unlink()


def encode(
    settlement: Settlement, files: Files, scratch: Sequence[Path], pool: str, logs: Path
) -> bytes:
    """An entry as it is written.

    Args:
        settlement: The result.
        files: Its files; a path is one beside the entry, a log one inside `logs`.
        scratch: Logs to delete once the result is recorded.
        pool: Address of its pool.
        logs: Folder of the logs: what lies there is named relative to it.
    """
    outcome = asdict(replace(settlement.outcome, fields={}))
    entry = {
        "format": FORMAT,
        "pool": pool,
        "logs": str(logs),
        "token": settlement.token,
        "outcome": {**outcome, "fields": dict(settlement.outcome.fields)},
        "again": None if settlement.again is None else asdict(settlement.again),
        "bare": settlement.is_bare,
        "files": {name: _reference(content, logs) for name, content in files.items()},
        "scratch": [str(path.relative_to(logs)) for path in scratch if is_inside(path, logs)],
    }
    return json.dumps(entry, indent=1).encode()


def read(path: Path, logs: Path) -> Entry:
    """Read an entry.

    Whoever can write into a folder could have others attach or delete their own files by it. So an
    entry counts for its owner only, and names nothing outside the folder of the logs.

    Args:
        path: Its file, named after the lease.
        logs: Folder of the logs, wherever it is now.

    Raises:
        InputError: The file cannot be read, is another user's, is no entry, names a file outside,
            or is of a later form; the text names it.
    """
    try:
        data = json.loads(_load(path))
    except OSError as error:
        why = "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror
        raise InputError(f"cannot read {path}: {why}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged: it is no JSON") from error
    number = data.get("format") if isinstance(data, dict) else None
    if not isinstance(number, int) or number < 1:
        raise InputError(f"{path} is no result that a pilot kept")
    if number > FORMAT:
        raise InputError(f"{path} is of a later version of PiCaS: 'picas recover' of that reads it")
    try:
        doc = _token(data["token"], path.stem)
        files = {name: _content(found, path, logs) for name, found in data["files"].items()}
        again = None if data["again"] is None else Again(**data["again"])
        settlement = Settlement(doc, _outcome(data["outcome"]), again, files, data["bare"] is True)
        scratch = tuple(_inside(logs, name, logs) for name in data["scratch"])
        return Entry(path, str(data["pool"]), settlement, scratch)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        why = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{path} is damaged: {why}") from error


def is_inside(path: Path, folder: Path) -> bool:
    """Tell whether a path leads into a folder, by its name and by its symbolic links."""
    if not path.is_relative_to(folder) or ".." in path.relative_to(folder).parts:
        return False
    try:
        return path.resolve().is_relative_to(folder.resolve())
    # RuntimeError: how Python 3.11 and 3.12 report a loop of symbolic links.
    except (OSError, RuntimeError):
        return False


def _load(path: Path) -> bytes:
    """The bytes of an entry of this user."""
    with open(path, "rb", opener=_open_itself) as file:
        owner = os.fstat(file.fileno()).st_uid
        # Root is no exception: it could attach whatever is on the host.
        if owner != os.geteuid():
            raise InputError(f"{path} belongs to another user (uid {owner}), who may recover it")
        return file.read()


def _open_itself(path: str, flags: int) -> int:
    """Open a file, not what a link leads to, and without waiting if it is a pipe."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _reference(content: bytes | Path | Excerpt, logs: Path) -> dict[str, Any]:
    """How an entry names a file."""
    if isinstance(content, bytes):
        return {"bytes": base64.b64encode(content).decode()}
    if isinstance(content, Path):
        return {"copy": content.name}
    return {"log": str(content.path.relative_to(logs)), "limit": content.limit}


def _content(reference: Any, path: Path, logs: Path) -> bytes | Path | Excerpt:
    if "bytes" in reference:
        return base64.b64decode(reference["bytes"], validate=True)
    if "copy" in reference:
        return _inside(path.with_suffix(".files"), reference["copy"], logs)
    return Excerpt(_inside(logs, reference["log"], logs), int(reference["limit"]))


def _inside(folder: Path, name: str, logs: Path) -> Path:
    """What an entry names in a folder, unless it leads out of that, or a link out of the logs."""
    path = folder / name
    if not (path.is_relative_to(folder) and is_inside(path, logs)):
        raise ValueError(f"{name} is outside its folder")
    return path


def _token(doc: Any, lease: str) -> Document:
    texts = all(isinstance(doc[name], str) for name in ("_id", "_rev", "lease"))
    if not texts or not isinstance(doc["lock"], int):
        raise ValueError("its token was not claimed")
    if doc["lease"] != lease:
        raise ValueError(f"its lease is {doc['lease']}")
    return dict(doc)


def _outcome(data: Any) -> Outcome:
    outcome = Outcome(**data)
    times = (outcome.start, outcome.end, outcome.wall, outcome.cpu or 0)
    numbers = all(isinstance(time, int | float) for time in times)
    texts = isinstance(outcome.reason, str) and isinstance(outcome.error, str | None)
    if not numbers or not texts or not isinstance(outcome.fields, dict):
        raise ValueError("its outcome is none")
    return outcome
