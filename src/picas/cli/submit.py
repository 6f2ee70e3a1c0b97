"""``picas submit``: pilots as batch jobs."""

import shutil
import sys
from pathlib import Path

import click

from picas import config, schedulers
from picas.cli.common import Report, counted, json_option, pool_option
from picas.cli.params import Duration, Size
from picas.cli.run import run_command
from picas.config import SqliteLocation
from picas.errors import ConfigError
from picas.schedulers import Array


@click.group("submit")
def submit_command() -> None:
    """Submit pilots to a batch system."""


@submit_command.command(
    "slurm", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": True}
)
@click.option(
    "--pilots", type=click.IntRange(1, 100_000), default=1, show_default=True, help="How many."
)
@click.option(
    "--cores", type=click.IntRange(1, 4096), default=1, show_default=True, help="Cores of each."
)
@click.option("--memory", type=Size(), help="Memory of each: 8G.")
@click.option("--gpus", type=click.IntRange(0, 64), default=0, help="GPUs of each.")
@click.option("--time", type=Duration(), help="Wall-clock time of each: 2h, 90m.")
@click.option("--partition", metavar="NAME", help="Where.")
@click.option(
    "--sbatch",
    "options",
    multiple=True,
    metavar="OPTION",
    help="One more option for sbatch: --sbatch=--account=x. Can be given again.",
)
@click.option(
    "--script",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Lines of shell to go before the pilot: modules, an environment, #SBATCH lines.",
)
@click.option("--dry-run", is_flag=True, help="Print the batch script, and submit nothing.")
@json_option
@pool_option
@click.argument("run_options", nargs=-1, type=click.UNPROCESSED, metavar="[RUN OPTIONS] [COMMAND]…")
def slurm(
    pilots: int,
    cores: int,
    memory: int | None,
    gpus: int,
    time: float | None,
    partition: str | None,
    options: tuple[str, ...],
    script: Path | None,
    dry_run: bool,
    as_json: bool,
    pool_url: str | None,
    run_options: tuple[str, ...],
) -> None:
    """Submit pilots to Slurm: a job array, each job of which is 'picas run'.

    What follows is handed to 'picas run': its options, and a command.

        picas submit slurm --pilots 6 --cores 4 --time 2h --max-scrub 2
    """
    with run_command.make_context("picas run", list(run_options)):
        pass  # a slip in them is told now, not by each of the jobs
    settings = config.load(pool_url or click.get_current_context().find_object(str))
    if isinstance(settings.pool, SqliteLocation):
        raise ConfigError(
            f"the pool {settings.pool.url} is a file on this machine, which jobs on other nodes "
            "cannot use; 'picas init https://HOST/DATABASE' makes one for all"
        )
    array = Array(
        command=[_picas(), "run", *run_options],
        environ={"PICAS_POOL": settings.pool.url},
        pilots=pilots,
        cores=cores,
        memory=memory,
        gpus=gpus,
        time=time,
        partition=partition,
        options=options,
        setup=script.read_text() if script else "",
    )
    if dry_run:
        click.echo(array.script(next(array.parts())), nl=False)
        return
    report = Report(as_json=as_json)
    jobs = []
    for job, number in schedulers.submit(array):
        jobs.append({"job": job, "pilots": number})
        report.say(f"submitted {counted(number, 'pilot')} as the job {job}", jobs=jobs)
    report.end()


def _picas() -> str:
    """The command as jobs have to call it: their PATH may be another."""
    beside = Path(sys.argv[0])
    found = shutil.which("picas") if beside.name != "picas" else str(beside.absolute())
    return found or str(Path(sys.executable).with_name("picas"))
