"""The command itself: its groups, loaded when they are used, and how it ends."""

import importlib
import os
import sys
from collections.abc import Sequence

import click

from picas import __version__
from picas.cli.exits import INTERRUPTED, PIPE_CLOSED, status_of
from picas.errors import PicasError

COMMANDS = {
    "config": "picas.cli.setup",
    "delete": "picas.cli.change",
    "demo": "picas.cli.demo",
    "doctor": "picas.cli.doctor",
    "export": "picas.cli.export",
    "get": "picas.cli.look",
    "init": "picas.cli.setup",
    "list": "picas.cli.look",
    "logs": "picas.cli.look",
    "passwd": "picas.cli.setup",
    "push": "picas.cli.push",
    "reset": "picas.cli.change",
    "run": "picas.cli.run",
    "show": "picas.cli.look",
    "status": "picas.cli.status",
    "views": "picas.cli.views",
}
"""Each command and the module that has it, as an attribute named after it with ``_command``."""


class Commands(click.Group):
    """Commands that are imported when they are used: ``picas run`` starts without the others."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """All commands, by name."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import one command."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(COMMANDS[cmd_name])
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Run a command; ends quietly with a status of its own if the output's reader is gone."""
        try:
            result: object = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            raise click.exceptions.Exit(PIPE_CLOSED) from None
        return result


@click.group(
    cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.option(
    "--pool",
    metavar="URL",
    help="The pool: sqlite:///FILE or http(s)://HOST:PORT/DATABASE.  [env: PICAS_POOL; default: "
    "the configuration's, else picas.db in this folder]",
)
@click.version_option(__version__, prog_name="picas")
@click.pass_context
def picas(ctx: click.Context, pool: str | None) -> None:
    """Describe many independent tasks once, and run them wherever you have hours."""
    ctx.obj = pool


def main(args: Sequence[str] | None = None) -> None:
    """Run the command and end the process with a documented status."""
    status = _run(args)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            # Its reader is gone: say no more, also not when the interpreter flushes.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(status)


def _run(args: Sequence[str] | None) -> int:
    try:
        status = picas.main(args, prog_name="picas", standalone_mode=False)
        return status if isinstance(status, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except PicasError as error:
        click.echo(f"picas: {error}", err=True)
        return status_of(error)
