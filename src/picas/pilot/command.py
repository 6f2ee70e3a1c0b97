"""Runs a token's command: fills in the template, sets the scene, brings back logs and files."""

import contextlib
import glob
import json
import os
import re
import secrets
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from picas import token
from picas.errors import ConfigError, InputError, TaskError
from picas.logs import Excerpt
from picas.pilot.checkpoint import Checkpoints
from picas.pilot.filename import file_name
from picas.pilot.places import Place
from picas.pilot.runner import Files, Result
from picas.process import EndedBy, Finished, Task
from picas.token import Document, Outcome

LOG_LIMIT = 1 << 20
"""Bytes of each log that go into the token; past that its head and tail."""

MOMENT = 0.5
"""Seconds after the end of a command in which its pilot may be told to stop by the same signal."""

DOUBT = 0.02
"""In a batch job that is waited for after each command, for this part of its running time."""

_REQUESTS = frozenset(
    (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)
)
"""Signals by which a process is asked to end."""

SECRET_VARIABLES = ("PICAS_PASSWORD",)
_ROOM = 4096  # bytes without which not even an error message can be written

_PLACE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")

# Words without a meaning to the shell, the first one a path: no builtin, keyword or assignment.
_PLAIN = re.compile(r"[\w.+@%,:/-]*/[\w.+@%,:/-]*( +[\w.+@%,:=/-]+)*", re.ASCII)


class CommandRunner:
    """Runs commands, each in its own processes.

    Args:
        pool_url: Told to the tasks as ``PICAS_POOL``; holds no password.
        template: The command, with ``{input}``, ``{id}`` and other fields filled in as parts of
            single arguments, without a shell; None runs the token's ``input`` by bash.
        attach: Patterns of files to attach to the token; may hold ``{id}`` and fields.
        logs: Folder for the logs while tasks run; those that do not fit into the token stay.
        keep_logs: Keep them all.
        log_limit: Bytes of each log that go into the token.
        grace: Seconds between TERM and KILL.
        stop_signal: What a task gets in place of TERM.
        checkpoints: Where a task's checkpoint is between its attempts; by default none is kept.
        in_job: This is in a batch job, whose scheduler may end pilot and tasks together.
    """

    def __init__(
        self,
        pool_url: str,
        template: Sequence[str] | None = None,
        *,
        attach: Sequence[str] = (),
        logs: Path,
        keep_logs: bool = False,
        log_limit: int = LOG_LIMIT,
        grace: float = 10.0,
        stop_signal: signal.Signals = signal.SIGTERM,
        checkpoints: Checkpoints | None = None,
        in_job: bool = False,
    ) -> None:
        self.template = template
        self.attach = attach
        self.logs = logs.absolute()
        self.keep_logs = keep_logs
        self.log_limit = log_limit
        self.grace = grace
        self.stop_signal = stop_signal
        self.checkpoints = checkpoints or Checkpoints()
        self.in_job = in_job
        self.scratch = Path(tempfile.mkdtemp(prefix="picas-pilot-"))
        inherited = {k: v for k, v in os.environ.items() if k not in SECRET_VARIABLES}
        self.environ = inherited | {"PICAS_POOL": pool_url}
        self.matched: set[str] = set()
        """Patterns of `attach` that found a file."""
        self.kept: list[Path] = []
        """Logs that stay on disk: they are longer than what goes into the token."""
        self._made: list[Path] = []
        self._ready = False
        self._lock = threading.Lock()

    def start(self, doc: Document, time_limit: float | None, place: Place) -> "CommandTask":
        """Prepare one token.

        Raises:
            TaskError: Its files cannot be written on this host.
        """
        self._make_logs_folder()
        return CommandTask(self, doc, time_limit, place)

    def close(self) -> None:
        """Delete what was made here and is empty: the scratch folder, folders for logs."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.checkpoints.close()
        for folder in self._made:
            with contextlib.suppress(OSError):
                folder.rmdir()

    def _make_logs_folder(self) -> None:
        with self._lock:
            if not self._ready:
                self._made += [f for f in (self.logs, *self.logs.parents) if not f.exists()]
                _make_folder(self.logs)
                self._ready = True


def _make_folder(folder: Path) -> None:
    """Make a folder for logs, and see that there is room in it.

    Raises:
        TaskError: It cannot be written.
    """
    try:
        # Another pilot that ends may delete an empty folder above ours in between.
        for _ in range(5):
            with contextlib.suppress(FileNotFoundError):
                folder.mkdir(parents=True, exist_ok=True)
                break
        probe = folder / f".{secrets.token_hex(4)}"
        try:
            probe.write_bytes(bytes(_ROOM))
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        raise TaskError(
            f"cannot write logs in {folder}: {error.strerror}; choose another folder with --logs"
        ) from error


class CommandTask:
    """One token's command."""

    def __init__(
        self, runner: CommandRunner, doc: Document, time_limit: float | None, place: Place
    ) -> None:
        self._runner = runner
        self._doc = doc
        self._limit = time_limit
        name = file_name(doc["_id"], token.next_attempt(doc))
        # Texts, not paths: making those would take longer than what is done with them.
        self._out = f"{runner.logs}/logs_{name}.out"
        self._err = f"{runner.logs}/logs_{name}.err"
        self._token_file = f"{runner.scratch}/{doc['lease']}.json"
        self._problem: str | None = None
        self._attach: list[str] = []
        self._told = False
        self._checkpoint = runner.checkpoints.of(doc)
        argv: Sequence[str] = ("false",)
        instead: Sequence[str] = ()
        try:
            argv, instead = command(doc, runner.template)
            self._attach = [fill(pattern, doc, escape=glob.escape) for pattern in runner.attach]
        except InputError as error:
            self._problem = str(error)
        self._task = Task(
            argv,
            out=self._out,
            err=self._err,
            env=self._environ(place),
            time_limit=time_limit,
            grace=runner.grace,
            instead=instead,
            stop_signal=runner.stop_signal,
            cpus=place.cpus,
        )

    def stop(self, *, now: bool = False) -> None:
        """End the command with all its processes."""
        self._told = True
        self._task.stop(now=now)

    def run(self) -> Result:
        """Run the command to its end; blocks.

        Raises:
            TaskError: This host cannot run it (disk full, …).
        """
        doc_id = self._doc["_id"]
        if self._problem is not None:
            self._checkpoint.close(done=False)
            now = time.time()
            outcome = Outcome(2, now, now, self._problem, 0.0, error=self._problem)
            message = f"{self._problem}\n".encode()
            return Result(outcome, {token.log_name(doc_id, "err"): message})
        self._checkpoint.restore(lambda: self._told)
        self._write_token_file()
        try:
            finished = self._task.run()
        finally:
            with contextlib.suppress(OSError):
                os.unlink(self._token_file)
        if finished.exit_code != 0 and self._disk_was_full():
            raise TaskError(f"no space left for logs in {self._runner.logs}")
        stopped = self._was_broken_off(finished)
        files, scratch = self._take_logs()
        files = {} if stopped else files | self._attached()
        if stopped or finished.ended_by is EndedBy.TIME_LIMIT:
            files |= self._checkpoint.keep()
        scratch += self._checkpoint.close(done=not stopped and finished.exit_code == 0)
        outcome = Outcome(
            exit_code=finished.exit_code,
            start=finished.start,
            end=finished.end,
            reason=self._reason(finished),
            wall=finished.wall,
            cpu=finished.cpu,
            memory=finished.memory,
            out_of_memory=finished.out_of_memory,
            error=self._reason(finished) if finished.ended_by is EndedBy.TIME_LIMIT else None,
        )
        return Result(outcome, files, stopped=stopped, scratch=scratch)

    def _was_broken_off(self, finished: Finished) -> bool:
        """Tell whether the command was ended because the pilot has to end.

        A scheduler signals all processes of its job one by one: a command may be gone before its
        pilot has heard of it. Even its exit code 0 says little then: a shell goes on to its last
        line if what it waits for is killed first.
        """
        if finished.ended_by is not EndedBy.ITSELF:
            return finished.ended_by is EndedBy.STOPPED
        doubt = finished.wall * DOUBT if self._runner.in_job else 0.0
        if finished.exit_code - 128 in _REQUESTS:
            doubt = MOMENT
        until = time.monotonic() + min(doubt, MOMENT)
        while not self._told and (left := until - time.monotonic()) > 0.001:
            time.sleep(min(left, 0.01))
        return self._told and (finished.exit_code != 0 or self._runner.in_job)

    def _disk_was_full(self) -> bool:
        """Tell whether a failure is the host's: no room for logs, and not by this task's own."""
        out, err = _size(self._out), _size(self._err)
        if out is None or err is None or out + err >= 16 * _ROOM:
            return False
        try:
            disk = os.statvfs(self._runner.logs)
        except OSError:
            return False
        return disk.f_bavail * disk.f_frsize < _ROOM

    def _environ(self, place: Place) -> dict[str, str]:
        inherited = self._runner.environ
        return (
            inherited
            | place.environ(inherited)
            | {
                "PICAS_TOKEN_ID": self._doc["_id"],
                "PICAS_TOKEN_FILE": self._token_file,
                "PICAS_CHECKPOINT_DIR": self._checkpoint.path,
                "PICAS_ATTEMPT": str(token.next_attempt(self._doc)),
            }
        )

    def _write_token_file(self) -> None:
        try:
            _write(self._token_file, json.dumps(self._doc, ensure_ascii=False).encode())
        except OSError as error:
            raise TaskError(f"cannot write {self._token_file}: {error.strerror}") from error

    def _reason(self, finished: Finished) -> str:
        if finished.ended_by is EndedBy.TIME_LIMIT:
            return f"time limit of {self._limit:g} s"
        if finished.out_of_memory:
            return f"out of memory (exit code {finished.exit_code})"
        if finished.exit_code > 128:
            return f"exit code {finished.exit_code} (signal {finished.exit_code - 128})"
        return f"exit code {finished.exit_code}"

    def _take_logs(self) -> tuple[Files, list[Path]]:
        """What of the logs goes into the token, and which of them need not stay after that."""
        files: Files = {}
        scratch: list[Path] = []
        for stream, path in (("out", self._out), ("err", self._err)):
            name = token.log_name(self._doc["_id"], stream)
            size = _size(path)
            if size == 0 and not self._runner.keep_logs:
                # At once: where many files wait to be deleted, making the next one takes longer.
                with contextlib.suppress(OSError):
                    os.unlink(path)
                files[name] = b""
                continue
            files[name] = Excerpt(Path(path), self._runner.log_limit)
            if size is None or self._runner.keep_logs:
                continue
            long = size > self._runner.log_limit
            (self._runner.kept if long else scratch).append(Path(path))
        return files, scratch

    def _attached(self) -> Files:
        """The files that the patterns name, by their base name (by their path, if two share it)."""
        files: Files = {}
        for raw, pattern in zip(self._runner.attach, self._attach, strict=True):
            for found in sorted(glob.glob(pattern)):
                path = Path(found)
                if path.is_file():
                    self._runner.matched.add(raw)
                    name = _attachment_name(path.name)
                    files[_attachment_name(found) if name in files else name] = path
        return files


def command(doc: Document, template: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """What runs a token.

    Args:
        doc: The token.
        template: A command with places to fill in; None: the token's ``input``, by bash.

    Returns:
        The arguments, and those to be tried instead if these cannot be executed.

    Raises:
        InputError: The token lacks a field, or its input is no command line.
    """
    if template is not None:
        return [fill(part, doc) for part in template], []
    line = doc.get("input")
    if not isinstance(line, str) or not line.strip():
        raise InputError(
            "the token's input is not a command line; say what to run: "
            "picas run -- COMMAND {input} …"
        )
    if "\0" in line:
        raise InputError("the token's input holds a NUL character, which no command line can")
    by_shell = ["bash", "-c", line]
    # A plain command needs no shell: starting it directly halves the cost of a short task. If that
    # cannot be, the shell has the better words, and it runs a script without ``#!``.
    return (line.split(), by_shell) if _PLAIN.fullmatch(line) else (by_shell, [])


def fill(part: str, doc: Document, escape: Any = None) -> str:
    """Fill the token's fields into one argument.

    Args:
        part: Text with ``{input}``, ``{id}``, ``{field}`` or ``{field.inner}``; ``{{`` is ``{``.
        doc: The token.
        escape: Applied to each value.

    Raises:
        InputError: The token has no such field.
    """

    def value(match: re.Match[str]) -> str:
        if match[0] in ("{{", "}}"):
            return match[0][0]
        text = _text(_field(match[1], doc))
        return str(escape(text)) if escape else text

    filled = _PLACE.sub(value, part)
    if "\0" in filled:
        raise InputError(f"{part!r} holds a NUL character once filled in, which no command can")
    return filled


def check_template(parts: Sequence[str]) -> None:
    """Raise `InputError` if a template has a brace that fills in nothing."""
    for part in parts:
        rest = _PLACE.sub("", part)
        if "{" in rest or "}" in rest or "{}" in part.replace("{{", "").replace("}}", ""):
            raise InputError(
                f"{part!r}: a single brace; write {{input}}, {{id}} or {{field}}, and '{{{{' "
                "for a brace itself"
            )


def _field(name: str, doc: Mapping[str, Any]) -> Any:
    value: Any = doc
    for step in ("_id" if name == "id" and "id" not in doc else name).split("."):
        if not isinstance(value, Mapping) or step not in value:
            fields = sorted(n for n in doc if not n.startswith("_"))
            raise InputError(f"the token has no field {name!r}; it has: {', '.join(fields)}")
        value = value[step]
    return value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def check_program(template: Sequence[str]) -> None:
    """Raise `ConfigError` if a template names a program that this host does not have."""
    program = template[0]
    if not _PLACE.search(program) and shutil.which(program) is None:
        raise ConfigError(
            f"there is no program {program!r} here; what stands behind the options is the command "
            "to run for each token (a view is named by --view)"
        )


def _write(path: str, data: bytes) -> None:
    """Make a file; raises `OSError`."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    try:
        while data:
            data = data[os.write(file, data) :]
    finally:
        os.close(file)


def _size(path: str) -> int | None:
    """Bytes of a file; None if it is gone."""
    try:
        return os.stat(path).st_size
    except OSError:
        return None


def _attachment_name(path: str) -> str:
    """A file's name as text, whatever its bytes; CouchDB keeps names with ``_`` for itself."""
    name = os.fsencode(path).decode("utf-8", "backslashreplace")
    return f"file{name}" if name.startswith("_") else name
