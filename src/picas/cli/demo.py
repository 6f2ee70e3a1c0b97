"""``picas demo``: the quick example, from three lines of text to three results."""

import os
import shlex
import tempfile
from pathlib import Path

import click

from picas import config
from picas.cli import common
from picas.errors import InputError

LINES = """\
echo 'this is token A'
echo 'this is token B'
echo 'this is token C'
"""

_FILE = "quick.txt"
_POOL = config.DEFAULT_POOL


@click.command("demo")
@click.option("--folder", metavar="DIR", help="Work here: a new folder, or an empty one.")
@click.pass_context
def demo_command(ctx: click.Context, folder: str | None) -> None:
    """Show PiCaS at work: push three tokens, run them, look at the results.

    Each command is shown before it runs, so that you can do the same by hand. All of it happens in
    a folder of its own, with an embedded pool; your own pool is left alone.
    """
    place = _folder(folder)
    elsewhere = config.load(ctx.find_object(str)).sources["pool"] != "default"
    os.chdir(place)
    os.environ["PICAS_POOL"] = ctx.obj = _POOL
    _say(f"Work to do is a file with a command a line. This is {_FILE} in a new folder:")
    click.echo(f"$ cd {shlex.quote(str(place))}")
    if elsewhere:
        click.echo(f"$ export PICAS_POOL={_POOL}")
    Path(_FILE).write_text(LINES, encoding="utf-8")
    click.echo(f"$ cat {_FILE}\n{LINES}", nl=False)
    _say("Each line becomes a token in the pool, here an embedded one: the file picas.db.")
    _run(ctx, "push", _FILE)
    _say("A pilot claims tokens and runs them, two at a time, until none is left.")
    _run(ctx, "run", "--slots", "2", "--verbose")
    _say("What became of them:")
    _run(ctx, "status")
    _say("What a command printed is kept with its token:")
    with common.pool(_POOL) as pool:
        first = next(pool.find("Monitor/done"))["_id"]
    _run(ctx, "logs", first)
    _say(f"That is all. The folder stays, for a closer look: {place}")


def _folder(folder: str | None) -> Path:
    """The folder to work in, made if it is missing."""
    if folder is None:
        return Path(tempfile.mkdtemp(prefix="picas-demo-"))
    place = Path(folder).absolute()
    try:
        place.mkdir(parents=True, exist_ok=True)
        empty = next(place.iterdir(), None) is None
    except OSError as error:
        raise InputError(f"cannot use the folder {folder}: {error.strerror}") from error
    if not empty:
        raise InputError(f"the folder {folder} is not empty; name a new one for the demo")
    return place


def _say(text: str) -> None:
    click.secho(f"\n# {text}", bold=True)


def _run(ctx: click.Context, name: str, *args: str) -> None:
    """Show a command and run it, with these very arguments."""
    click.echo(f"$ picas {shlex.join([name, *args])}")
    group = ctx.find_root().command
    command = group.get_command(ctx, name) if isinstance(group, click.Group) else None
    if command is None:
        raise click.UsageError(f"there is no command {name!r}")
    with command.make_context(name, list(args), parent=ctx) as inner:
        command.invoke(inner)
