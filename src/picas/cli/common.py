"""What the commands share: the pool option, ways to say things."""

import difflib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from picas import config
from picas.cli.exits import FAILED
from picas.errors import ConfigError, ViewMissing
from picas.pool import Pool
from picas.pool.connect import open_pool
from picas.views import OVERVIEW, TODO

if TYPE_CHECKING:
    from rich.console import Console

Command = TypeVar("Command", bound=Callable[..., Any])

pool_option = click.option(
    "--pool", "pool_url", metavar="URL", help="The pool (goes before PICAS_POOL)."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
yes_option = click.option("--yes", is_flag=True, help="Do not ask.")

_NO_VIEW = re.compile(r"no view '([^/']+)/([^']+)'")

VISIBLE_PASSWORD = (
    "a password in a command line can be seen by everyone on this host; use PICAS_PASSWORD, "
    "or 'picas init --password-stdin'"
)


def settings(pool_url: str | None) -> config.Settings:
    """The settings for a command: its own ``--pool``, else the one before the command."""
    found = config.load(pool_url or click.get_current_context().find_object(str))
    for warning in warnings(found):
        note(f"warning: {warning}")
    if other := _other_pool(found):
        note(f"note: {other}")
    return found


def warnings(found: config.Settings) -> list[str]:
    """What a person should see about the settings, one line each."""
    where = found.sources
    visible = where["pool"] == "argument" and where.get("password") == "pool URL"
    return [*found.warnings, VISIBLE_PASSWORD] if visible else [*found.warnings]


def _other_pool(found: config.Settings) -> str:
    """What to say where the folder has a pool that the configuration file passes over."""
    source, here = found.sources["pool"], Path(config.DEFAULT_POOL.rpartition("/")[2])
    if not source.startswith("file ") or not here.is_file():
        return ""
    location = found.pool
    if isinstance(location, config.SqliteLocation):
        path = location.path
        if path.exists() and os.path.samefile(path, here):  # noqa: PTH121 - two plain paths
            return ""
    where = f"the pool is {location.url} (from {source.removeprefix('file ')})"
    return f"{where}; the {here} here is another: --pool {here}"


@contextmanager
def pool(pool_url: str | None, *, create: bool = False) -> Iterator[Pool]:
    """The pool of a command, closed afterwards.

    Args:
        pool_url: The command's ``--pool``.
        create: Make an embedded pool that is missing.
    """
    found = settings(pool_url)
    embedded = isinstance(found.pool, config.SqliteLocation)
    with open_pool(found, create=create and embedded) as opened:
        try:
            yield opened
        except ViewMissing as error:
            if hint := _view_hint(str(error), opened):
                raise ViewMissing(f"{error}; {hint}") from error
            raise


def _view_hint(said: str, opened: Pool) -> str:
    """What the user may have meant where there is no such view."""
    missing = _NO_VIEW.match(said)
    if missing is None:
        return ""
    design, view = missing.groups()
    there = {name: found.views for name, found in opened.designs().items()}
    if design in there and view in there:
        return f"{view} is a group of views: say {view}/{TODO}, or {view}/{OVERVIEW} for all"
    if close := difflib.get_close_matches(view, there.get(design, ()), n=1):
        return f"did you mean {design}/{close[0]}?"
    if design not in there and (close := difflib.get_close_matches(design, there, n=1)):
        return f"did you mean the design {close[0]}?"
    return ""


def console() -> "Console":
    """Standard output: colours and live parts on a terminal, plain lines otherwise."""
    from rich.console import Console  # a pilot says little and should not pay for it

    return Console(highlight=False, soft_wrap=not sys.stdout.isatty())


def note(text: str) -> None:
    """One line for a person, on standard error."""
    click.echo(f"picas: {text}", err=True)


def print_json(value: object) -> None:
    """Facts for a program, on standard output."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None))


class Report:
    """What a command did: lines for a person as it goes on, or one JSON object at its end.

    Args:
        as_json: Print the object, and no lines.
    """

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._facts: dict[str, object] = {}

    def say(self, line: str, **facts: object) -> None:
        """Print a line, and note what it tells for a program."""
        self._facts |= facts
        if not self._as_json:
            click.echo(line)

    def end(self) -> None:
        """Print the object, if it was asked for."""
        if self._as_json:
            print_json(self._facts)


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something that cannot be undone; leaves the command unless agreed.

    Raises:
        click.exceptions.Exit: No.
        ConfigError: There is nobody to ask.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise ConfigError(f"{question} There is no terminal to ask; add --yes")
    if not click.confirm(question, err=True):
        note("nothing was done")
        raise click.exceptions.Exit(FAILED)


def counted(number: int, noun: str) -> str:
    """A number with its noun: ``1 token``, ``1,000 tokens``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
