"""What the commands share: the pool option, ways to say things."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from picas import config
from picas.pool import Pool
from picas.pool.connect import open_pool

if TYPE_CHECKING:
    from rich.console import Console

Command = TypeVar("Command", bound=Callable[..., Any])

pool_option = click.option(
    "--pool", "pool_url", metavar="URL", help="The pool (goes before PICAS_POOL)."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
yes_option = click.option("--yes", is_flag=True, help="Do not ask.")


def settings(pool_url: str | None) -> config.Settings:
    """The settings for a command: its own ``--pool``, else the one before the command."""
    found = config.load(pool_url or click.get_current_context().find_object(str))
    for warning in found.warnings:
        note(f"warning: {warning}")
    return found


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
        yield opened


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


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something that cannot be undone; leaves the command unless agreed.

    Raises:
        click.Abort: No.
        click.UsageError: There is nobody to ask.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(f"{question} There is no terminal to ask; add --yes.")
    click.confirm(question, abort=True)


def counted(number: int, noun: str) -> str:
    """A number with its noun: ``1 token``, ``1,000 tokens``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
