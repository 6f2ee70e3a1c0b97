"""``picas config``: the configuration shown and moved, and the shells' completion."""

import os
from pathlib import Path

import click
from click.shell_completion import get_completion_class

from picas import classic_config, config
from picas.cli import common
from picas.cli.common import json_option, pool_option, yes_option
from picas.credentials import Secret
from picas.errors import ConfigError

SHELLS = ("bash", "zsh", "fish")


@click.group("config")
def config_command() -> None:
    """Show the configuration, where it is from, and the shells' completion."""


@config_command.command("show")
@pool_option
@json_option
def show_config(pool_url: str | None, as_json: bool) -> None:
    """Show the settings and where each came from; a password is shown as ***."""
    found = config.load(pool_url or click.get_current_context().find_object(str))
    path = config.config_path(os.environ)
    values = {
        "pool": found.pool.url,
        "username": found.username,
        "password": str(found.password) if found.password else None,
        "ca_file": str(found.ca_file) if found.ca_file else None,
    }
    if as_json:
        common.print_json(
            {
                **{k: {"value": v, "source": found.sources.get(k)} for k, v in values.items()},
                "config": {"path": str(path), "exists": path.exists()},
                "warnings": common.warnings(found),
            }
        )
        return
    shown = {name: value for name, value in values.items() if value is not None}
    width = max(len(value) for value in shown.values())
    for name, value in shown.items():
        click.echo(f"{name:8}  {value:{width}}  from {found.sources.get(name, '?')}")
    click.echo(f"config    {path}{'' if path.exists() else ' (not there)'}")
    for warning in common.warnings(found):
        click.echo(f"warning   {warning}")


@config_command.command("path")
def config_path() -> None:
    """Print where the configuration file is, or would be."""
    click.echo(config.config_path(os.environ))


@config_command.command("migrate")
@click.option(
    "--from",
    "source",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The classic file; by default ~/.config/picas/conf.yml.",
)
@yes_option
def migrate(source: Path | None, yes: bool) -> None:
    """Make a configuration of that of the classic client, which stays as it is.

    The password is decrypted with the key.dat beside the file, and kept in the new file, which only
    you can read.
    """
    source = source or classic_config.default_path(Path.home())
    if not source.exists():
        raise ConfigError(f"there is no {source}; --from names another file")
    target = config.config_path(os.environ)
    values = classic_config.settings(source)
    try:
        pool = config.parse_pool(values["pool"])
    except ConfigError as error:
        raise ConfigError(f"host_url in {source}: {error}") from error
    if target.exists() and not yes:
        raise ConfigError(f"{target} is there already; --yes replaces it")
    config.save(target, {**values, "password": Secret(values["password"])})
    click.echo(f"wrote {target}, from {source}: {values['username']} at {pool.url}")


@config_command.command("completion")
@click.argument("shell", type=click.Choice(SHELLS), required=False)
@click.pass_context
def completion(ctx: click.Context, shell: str | None) -> None:
    """Print a script that completes picas commands; the shell is $SHELL's by default.

    bash: picas config completion bash >> ~/.bashrc
    """
    shell = shell or Path(os.environ.get("SHELL", "")).name
    kind = get_completion_class(shell) if shell in SHELLS else None
    if kind is None:
        raise click.UsageError(f"Which shell? One of {', '.join(SHELLS)}.")
    root = ctx.find_root().command
    click.echo(kind(root, {}, "picas", "_PICAS_COMPLETE").source())
