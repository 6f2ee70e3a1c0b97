"""The commands in a page of the documentation, and how to run them as a reader would.

The commands are the ``console`` blocks: ``$ `` begins a command, ``> `` continues it, and other
lines are what it prints (``…`` for anything; a command without such lines may print what it likes).
It must end with status 0, or with N where it says ``# exits with N``. A ``code-block`` with a
``:caption:`` is a file that the reader makes. Other blocks (``sh``, ``text``) are not run.

The commands of a page run in its order, in one shell, in an empty folder with a copy of
``examples``. A page that names the server ``http://localhost:5984`` is given another in its place.
"""

import re
import secrets
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tests.acceptance.cli import clean_environment, home_of
from tests.couchdb.server import CouchServer

ROOT = Path(__file__).parents[2]
SERVER = "http://localhost:5984"
"""The CouchDB of the documentation."""

DATABASE = "mypool"

SMALLER = ("d=256,512", "d=64,128")
"""The fractals of the documentation, and those of a test."""

_BLOCK = re.compile(r"^(?P<fence>```+)(?P<info>[^\n`]*)\n(?P<body>.*?)^(?P=fence)$", re.M | re.S)
_CAPTION = re.compile(r"\A:caption: (?P<file>\S+)\n\n")
_STATUS = re.compile(r"# exits with (\d+)$")
_MARK = "\x1e"
"""Around each command's status, in what the shell prints."""

_UNTIDY = shutil.ignore_patterns("__pycache__", "*.ppm", "*.png", "picas.db*", "picas-logs")


@dataclass(frozen=True)
class Command:
    """One command of a page.

    Attributes:
        text: What the reader types.
        output: The lines shown below it; empty if none are shown.
    """

    text: str
    output: str = ""

    @property
    def status(self) -> int:
        """The exit status that the page promises."""
        match = _STATUS.search(self.text)
        return int(match[1]) if match else 0


@dataclass(frozen=True)
class File:
    """A file of a page that the reader is to make."""

    name: str
    text: str


def pages() -> list[Path]:
    """All pages of the documentation with something to run, the README apart."""
    found = [*(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("README.md")]
    return sorted(p for p in found if "_build" not in p.parts and steps(p.read_text()))


def steps(text: str) -> list[Command | File]:
    """The commands and files of a page, in order."""
    found: list[Command | File] = []
    for block in _BLOCK.finditer(text):
        if block["info"].strip() == "console":
            found += _commands(block["body"])
        elif caption := _CAPTION.match(block["body"]):
            found.append(File(caption["file"], block["body"][caption.end() :]))
    return found


def _commands(body: str) -> list[Command]:
    commands: list[Command] = []
    for line in body.splitlines():
        if line.startswith("$ "):
            commands.append(Command(line[2:]))
            continue
        assert commands, f"a console block must begin with '$ ', not with {line!r}"
        last = commands[-1]
        if line.startswith("> ") and not last.output:
            commands[-1] = Command(f"{last.text}\n{line[2:]}")
        else:
            commands[-1] = Command(last.text, f"{last.output}{line}\n")
    return commands


def as_run(page: Path) -> str:
    """A page as it is run: small pictures, and beside an example in its folder."""
    text = page.read_text().replace(*SMALLER)
    if ROOT / "examples" not in page.parents:
        return text
    return f"```console\n$ cd examples/{page.parent.name}\n```\n{text}"


def run_page(text: str, folder: Path, variables: Mapping[str, str] | None = None) -> None:
    """Run a page, and check what it says about its commands.

    Args:
        text: The page.
        folder: An empty folder to run it in.
        variables: Environment beside the usual one.

    Raises:
        AssertionError: A command ended or printed otherwise than the page says.
    """
    folder.mkdir(exist_ok=True)
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=_UNTIDY)
    page = steps(text)
    commands = [step for step in page if isinstance(step, Command)]
    ran = subprocess.run(
        ["bash", "-c", _script(page)],
        cwd=folder,
        env=clean_environment(home_of(folder), variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    *answers, rest = ran.stdout.split(_MARK)
    for command, output, status in zip(commands, answers[::2], answers[1::2], strict=False):
        _check(command, output, int(status))
    assert len(answers) == 2 * len(commands), f"the page ended early:\n{rest}"


def run_couchdb_page(
    text: str, folder: Path, server: CouchServer, variables: Mapping[str, str] | None = None
) -> None:
    """Run a page that names `SERVER`: on this server, and in a database that is removed then.

    Args:
        text: The page.
        folder: An empty folder to run it in.
        server: The CouchDB to use.
        variables: Environment beside the usual one.

    Raises:
        AssertionError: As `run_page`.
    """
    parts = urlsplit(server.url)
    user = {"PICAS_USERNAME": parts.username or "", "PICAS_PASSWORD": unquote(parts.password or "")}
    database = f"{DATABASE}-{secrets.token_hex(4)}"
    try:
        address = f"{parts.scheme}://{parts.hostname}:{parts.port}"
        page = text.replace(SERVER, address).replace(DATABASE, database)
        run_page(page, folder, user | dict(variables or {}))
    finally:
        server.delete_database(database)


def _script(page: list[Command | File]) -> str:
    """A shell script that tells each command's output and status."""
    lines = []
    for step in page:
        if isinstance(step, Command):
            lines.append(f"{step.text}\nprintf '\\036%s\\036' $?")
        else:
            lines.append(f"cat > {step.name} <<'END OF FILE'\n{step.text}END OF FILE")
    return "\n".join(lines)


def _check(command: Command, output: str, status: int) -> None:
    told = f"$ {command.text}\n{output}"
    assert status == command.status, f"status {status}, not {command.status}:\n{told}"
    if command.output:
        wanted = "(?s:.*)".join(map(re.escape, command.output.split("…")))
        assert re.fullmatch(wanted, output), f"the page shows other output:\n{told}"
