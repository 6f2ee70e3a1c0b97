"""The documentation tells the truth: commands run, links lead somewhere, nothing is left out."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from tests.acceptance.cli import clean_environment
from tests.acceptance.pages import ROOT, SERVER, as_run, pages, run_couchdb_page, run_page
from tests.components import skipped_component

from picas import errors
from picas.cli import exits
from picas.cli.main import picas
from picas.config import KEYS
from picas.jobid import JOB_ID_FIELDS
from picas.pilot import command
from picas.proctree import MARK
from picas.token import CLASSIC_DEFAULTS

REFERENCE = ROOT / "docs/reference"
COMMON = "Options of all commands"

_EVERY_PAGE = [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md"), *ROOT.glob("examples/**/*.md")]
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_HEADING = re.compile(r"^(?P<level>#+) +(?P<title>.+)$", re.M)
_FENCED = re.compile(r"^```.*?^```$", re.M | re.S)


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def _reference(page: str) -> str:
    return (REFERENCE / page).read_text()


@pytest.mark.parametrize("page", pages(), ids=_name)
def test_commands_of_a_page_do_what_it_says(
    page: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Each command ends with the status, and prints the lines, that the page shows."""
    text = as_run(page)
    if "\n$ make\n" in text and not (shutil.which("cc") and shutil.which("make")):
        skipped_component("C compiler", "there is no cc or no make: the fractals are not built")
        pytest.skip("C compiler: there is no cc or no make")
    variables: dict[str, str] = {}
    if re.search(r"^\$ .*\b(sbatch|submit slurm|doctor --slurm|autopilot)\b", text, re.M):
        variables |= request.getfixturevalue("slurm").environment
    if re.search(r"^\$ ssh |^via = .ssh ", text, re.M):
        variables |= {"PATH": _with_ssh(tmp_path / "ssh")}
    if SERVER in text:
        server = request.getfixturevalue("couchdb")
        run_couchdb_page(text, tmp_path / "page", server, variables)
    else:
        run_page(text, tmp_path / "page", variables)


def _with_ssh(folder: Path) -> str:
    """A PATH with a stand-in for ssh: whichever the host, the command runs here."""
    folder.mkdir()
    script = folder / "ssh"
    script.write_text('#!/bin/sh\n[ "$1" = -o ] && shift 2\nshift\nexec sh -c "$*"\n')
    script.chmod(0o755)
    return f"{folder}{os.pathsep}{clean_environment(folder)['PATH']}"


@pytest.mark.parametrize(
    "lines",
    [
        "$ false",
        "$ true # exits with 1",
        "$ echo one\ntwo",
        "$ printf one\none",
        "$ seq 3\n1\n3",
        "$ exit 0\n$ true",
        "$ cat <<END",
    ],
)
def test_a_page_that_is_wrong_is_found_out(lines: str, tmp_path: Path) -> None:
    """Another status, other output and an end before the last command are told."""
    with pytest.raises(AssertionError, match=r"page|status"):
        run_page(f"```console\n{lines}\n```", tmp_path / "page")


@pytest.mark.parametrize(
    "lines",
    ["$ false # exits with 1", "$ echo one\none", "$ seq 3\n1\n…3", "$ cd /\n$ pwd\n/", "$ cat"],
)
def test_a_page_that_is_right_passes(lines: str, tmp_path: Path) -> None:
    """The status that is told, the lines that are shown, one shell for all of a page."""
    run_page(f"```console\n{lines}\n```", tmp_path / "page")


def _commands(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        assert found is not None
        yield f"{path} {name}", found
        if isinstance(found, click.Group):
            yield from _commands(found, f"{path} {name}")


def _section(text: str, title: str) -> str:
    """What stands below a heading, up to the next one."""
    headings = list(_HEADING.finditer(text))
    for heading, following in zip(headings, [*headings[1:], None], strict=True):
        if heading["title"] == title:
            return text[heading.end() : following.start() if following else None]
    raise AssertionError(f"there is no heading {title!r}")


COMMANDS = dict(_commands(picas, "picas"))


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_and_option_is_in_the_reference(name: str) -> None:
    """Each command has a section of its own, which names all its options."""
    text = _reference("commands.md")
    section = _section(text, COMMON) + _section(text, f"`{name}`")
    for parameter in COMMANDS[name].params:
        if isinstance(parameter, click.Option):
            for option in parameter.opts:
                assert re.search(rf"`{option}[ `]", section), f"{name} {option}"


def test_the_reference_names_no_option_that_is_not_there() -> None:
    """An option that was removed or renamed does not stay in the reference."""
    known = {"--help", "--version", "--"}
    for found in (picas, *COMMANDS.values()):
        known |= {option for p in found.params for option in (*p.opts, *p.secondary_opts)}
    told = set(re.findall(r"`(--[a-z-]+)", _reference("commands.md")))
    assert told <= known


def test_every_exit_status_is_in_the_reference() -> None:
    """Each status that the command can end with is told, and no other."""
    section = _section(_reference("exit-statuses.md"), "Of the `picas` command")
    told = {int(number) for number in re.findall(r"^\| (\d+) \|", section, re.M)}
    assert told == {
        value for name, value in vars(exits).items() if name.isupper() and name[0] != "_"
    }


def test_every_error_is_in_the_reference_with_its_status() -> None:
    """Each class of the error tree is told, with the status that the command ends with."""
    text = _reference("errors.md")
    for kind in _errors(errors.PicasError):
        assert f"| `{kind.__name__}` | {exits.status_of(kind())} |" in text, kind


def _errors(kind: type[errors.PicasError]) -> Iterator[type[errors.PicasError]]:
    """A class of errors, and the classes below it in the tree."""
    yield kind
    for below in kind.__subclasses__():
        if below.__module__ == errors.__name__:
            yield from _errors(below)


def test_every_field_of_a_token_is_in_the_reference() -> None:
    """The fields that PiCaS writes are told, those of the history included."""
    text = _reference("token-document.md")
    written = {"_id", "_rev", "_attachments", "pilot", "lease", "attempts", *JOB_ID_FIELDS}
    entry = {"n", "start", "end", "host", "job", "exit_code", "reason", "wall", "cpu", "memory"}
    for name in {*CLASSIC_DEFAULTS, *written, *entry}:
        assert f"`{name}`" in text, name


def test_every_variable_and_key_is_in_the_reference() -> None:
    """What is read from the environment and the file is told, and what a task is given."""
    text = _reference("configuration.md")
    source = "".join(path.read_text() for path in (ROOT / "src/picas").rglob("*.py"))
    variables = set(re.findall(r"\bPICAS_[A-Z_]+[A-Z]\b", source)) | {MARK}
    assert set(command.SECRET_VARIABLES) < variables
    for name in {*variables, *KEYS}:
        assert f"`{name}`" in text or f"${name}" in text, name


def _anchors(text: str) -> set[str]:
    titles = (heading["title"] for heading in _HEADING.finditer(_FENCED.sub("", text)))
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", [p for p in _EVERY_PAGE if "_build" not in p.parts], ids=_name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    """Each relative link names a file that is there, and a heading in it."""
    for link in _LINK.finditer(_FENCED.sub("", page.read_text())):
        target, _, anchor = link["target"].partition("#")
        if "://" in target:
            continue
        there = page.parent / target if target else page
        assert there.exists(), link[0]
        assert not anchor or anchor in _anchors(there.read_text()), link[0]


def test_every_page_is_in_a_table_of_contents() -> None:
    """A page that nobody can find is not there."""
    docs = ROOT / "docs"
    listed = set()
    for index in (docs / "index.md", docs / "adr/index.md"):
        for block in re.findall(r"^```{toctree}\n(.*?)^```$", index.read_text(), re.M | re.S):
            names = [line for line in block.split() if not line.startswith(":")]
            listed |= {(index.parent / f"{name}.md") for name in names}
    there = {p for p in docs.rglob("*.md") if "_build" not in p.parts}
    assert there - listed == {docs / "index.md"}
