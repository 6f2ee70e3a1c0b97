"""``picas submit``: pilots as batch jobs, or in the background of this machine."""

import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from picas import config, schedulers
from picas.cli.common import Command, Report, counted, json_option, pool_option
from picas.cli.params import Duration, Size
from picas.cli.run import run_command
from picas.config import PoolLocation, SqliteLocation
from picas.errors import ConfigError
from picas.schedulers import Batch, Scheduler, Shape


@click.group("submit")
def submit_command() -> None:
    """Submit pilots to a batch system, or start them in the background."""


def _options(*options: Callable[[Any], Any]) -> Callable[[Command], Command]:
    """Several options as one decorator, in the order in which the help shows them."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


cores_option = click.option(
    "--cores", type=click.IntRange(1, 4096), default=1, show_default=True, help="Cores of each."
)
time_option = click.option("--time", type=Duration(), help="Wall-clock time of each: 2h, 90m.")
sbatch_option = click.option(
    "--sbatch",
    "options",
    multiple=True,
    metavar="OPTION",
    help="One more option for sbatch: --sbatch=--account=x. Can be given again.",
)
script_option = click.option(
    "--script",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Lines of shell to go before the pilot: modules, an environment, #SBATCH lines.",
)
shape_options = _options(
    cores_option,
    click.option("--memory", type=Size(), help="Memory of each: 8G."),
    click.option("--gpus", type=click.IntRange(0, 64), default=0, help="GPUs of each."),
    time_option,
    click.option("--partition", metavar="NAME", help="Where."),
    sbatch_option,
    script_option,
)
_pilots_option = click.option(
    "--pilots", type=click.IntRange(1, 100_000), default=1, show_default=True, help="How many."
)
_end_options = _options(
    click.option("--dry-run", is_flag=True, help="Print the script, and submit nothing."),
    json_option,
    pool_option,
    click.argument(
        "run_options", nargs=-1, type=click.UNPROCESSED, metavar="[RUN OPTIONS] [COMMAND]…"
    ),
)
_SETTINGS = {"ignore_unknown_options": True, "allow_interspersed_args": True}


@dataclass(frozen=True, slots=True)
class _Wish:
    """What a person asks for, whatever the scheduler."""

    pilots: int
    run_options: Sequence[str]
    pool_url: str | None
    dry_run: bool
    as_json: bool


@submit_command.command("slurm", context_settings=_SETTINGS)
@_pilots_option
@shape_options
@_end_options
def slurm(**given: Any) -> None:
    """Submit pilots to Slurm: a job array, each job of which is 'picas run'.

    What follows is handed to 'picas run': its options, and a command.

        picas submit slurm --pilots 6 --cores 4 --time 2h --max-scrub 2
    """
    wish = _wish(given)
    _submit(schedulers.named("slurm"), shape(given), wish)


@submit_command.command("local", context_settings=_SETTINGS)
@_pilots_option
@cores_option
@time_option
@script_option
@_end_options
def local(**given: Any) -> None:
    """Start pilots in the background of this machine, each of which is 'picas run'.

    They go on when you log out. What follows is handed to 'picas run': its options, and a command.

        picas submit local --pilots 2 --cores 4 --max-scrub 2
    """
    wish = _wish(given)
    _submit(schedulers.named("local"), shape(given), wish)


def _wish(given: dict[str, Any]) -> _Wish:
    """Take out of the options what is not of the jobs' shape."""
    return _Wish(**{name: given.pop(name) for name in _Wish.__slots__})


def shape(given: dict[str, Any]) -> Shape:
    """What the options ask of each job."""
    return Shape(setup=setup_of(given.pop("script")), **given)


def setup_of(script: Path | None) -> str:
    """The lines of ``--script``; none without it."""
    try:
        return script.read_text(encoding="utf-8") if script else ""
    except (OSError, ValueError) as error:
        raise ConfigError(f"--script {script} cannot be read: {error}") from error


def check_run_options(options: Sequence[str]) -> None:
    """Tell a slip in the options of 'picas run' now, not by each of the jobs."""
    with run_command.make_context("picas run", list(options)):
        pass


def address_for(scheduler: Scheduler, location: PoolLocation) -> str:
    """How pilots reach the pool.

    Raises:
        ConfigError: They cannot.
    """
    if scheduler.elsewhere and isinstance(location, SqliteLocation):
        raise ConfigError(
            f"the pool {location.url} is a file on this machine, which jobs on other nodes "
            "cannot use; 'picas init https://HOST/DATABASE' makes one for all"
        )
    return location.address


def own_command() -> str:
    """The command as jobs have to call it: their PATH may be another."""
    beside = Path(sys.argv[0])
    found = shutil.which("picas") if beside.name != "picas" else str(beside.absolute())
    return found or str(Path(sys.executable).with_name("picas"))


def _submit(scheduler: Scheduler, asked: Shape, wish: _Wish) -> None:
    check_run_options(wish.run_options)
    settings = config.load(wish.pool_url or click.get_current_context().find_object(str))
    batch = Batch(
        [own_command(), "run", *wish.run_options],
        {"PICAS_POOL": address_for(scheduler, settings.pool)},
        wish.pilots,
        asked,
    )
    if wish.dry_run:
        click.echo(scheduler.script(batch), nl=False)
        return
    report = Report(as_json=wish.as_json)
    jobs = []
    for job, number in scheduler.submit(batch):
        jobs.append({"job": job, "pilots": number})
        report.say(f"submitted {counted(number, 'pilot')} as the job {job}", jobs=jobs)
    report.end()
