"""The command itself: its groups, loaded when they are used, and how it ends."""

import importlib
import sys
from collections.abc import Sequence

import click

from picas.cli import output
from picas.cli.exits import FAILED, INTERRUPTED, PIPE_CLOSED, status_of
from picas.errors import PicasError
from picas.version import __version__

COMMANDS = {
    "autopilot": "picas.cli.autopilot",
    "cancel": "picas.cli.cancel",
    "config": "picas.cli.configuration",
    "delete": "picas.cli.change",
    "demo": "picas.cli.demo",
    "doctor": "picas.cli.doctor",
    "explain": "picas.cli.explain",
    "export": "picas.cli.export",
    "get": "picas.cli.look",
    "init": "picas.cli.setup",
    "list": "picas.cli.look",
    "logs": "picas.cli.look",
    "passwd": "picas.cli.setup",
    "pilots": "picas.cli.pilots",
    "push": "picas.cli.push",
    "reap": "picas.cli.reap",
    "recover": "picas.cli.recover",
    "reset": "picas.cli.change",
    "run": "picas.cli.run",
    "settings": "picas.cli.settings",
    "show": "picas.cli.look",
    "status": "picas.cli.status",
    "submit": "picas.cli.submit",
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
    output.guard()
    try:
        status = _run(args)
        sys.stdout.flush()
    except output.OutputLost as lost:
        status = PIPE_CLOSED
        if not lost.reader_left:
            click.echo(f"picas: cannot write the output: {lost}", err=True)
            status = FAILED
    sys.exit(status)


def _run(args: Sequence[str] | None) -> int:
    try:
        status = picas.main(args, prog_name="picas", standalone_mode=False)
        return status if isinstance(status, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt) as end:
        # Click says the same of Ctrl-C and of Ctrl-D, which is no answer to a question.
        if isinstance(end.__context__, EOFError):
            click.echo("\npicas: nothing was done", err=True)
            return FAILED
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except PicasError as error:
        click.echo(f"picas: {error}", err=True)
        return status_of(error)
