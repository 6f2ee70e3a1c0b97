"""``picas autopilot schedule``: how a cluster is made to run the autopilot again and again."""

import shlex
import shutil
from pathlib import Path

import click

from picas import autopilot, config, schedulers
from picas.autopilot.ledger import mark
from picas.cli.common import pool_option
from picas.cli.params import Duration
from picas.cli.submit import own_command
from picas.errors import ConfigError
from picas.schedulers import Batch, JobState, Shape

_NAME = "picas_autopilot"

_UNIT = """\
# Put this into ~/.config/systemd/user/picas-autopilot.service, then:
#   systemctl --user enable --now picas-autopilot; loginctl enable-linger
[Unit]
Description=PiCaS autopilot
After=network-online.target

[Service]
ExecStart={command}
Restart=always
RestartSec=30
# Pilots of the scheduler local go on when the autopilot is stopped.
KillMode=process

[Install]
WantedBy=default.target
"""

_AGAIN = """\
for try in 1 2 3 4 5; do
  squeue --noheader --me --states=PENDING --name={name} | grep -q . && break
  sbatch --quiet {begin} --dependency=singleton "$0" && break
  sleep 20
done
"""
"""How a job submits the next one: Slurm may be busy, and may have done what it did not confirm."""


@click.command("schedule")
@click.option(
    "--config",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default="pilots.toml",
    show_default=True,
    help="What the autopilot looks after.",
)
@click.option(
    "--every", type=Duration(), default=600.0, show_default="10m", help="Time between two rounds."
)
@click.option("--systemd", is_flag=True, help="Print a unit for systemd instead: a daemon.")
@click.option("--submit", is_flag=True, help="Submit a job to Slurm that submits itself again.")
@pool_option
def schedule_command(
    file: Path, every: float, systemd: bool, submit: bool, pool_url: str | None
) -> None:
    """Tell how to have 'picas autopilot --once' run again and again.

    Prints the lines for scrontab where Slurm has it, else those for cron.
    """
    address = _address(file, pool_url)
    command = [own_command(), "autopilot", "--config", str(file.absolute()), "--pool", address]
    if systemd:
        line = shlex.join([*command, "--every", f"{every:g}s"])
        click.echo(_UNIT.format(command=line.replace("%", "%%")), nl=False)
    elif submit:
        _submit([*command, "--once"], every, address)
    else:
        _print_table([*command, "--once"], every)


def _address(file: Path, pool_url: str | None) -> str:
    """The pool that the autopilot would use from here, for any folder; without a login in it."""
    wanted = pool_url or autopilot.read(file).pool
    return config.load(wanted or click.get_current_context().find_object(str)).pool.address


def _print_table(command: list[str], every: float) -> None:
    """The lines for scrontab or cron."""
    # In both tables a % ends the command.
    line = f"{_times(every)} {shlex.join(command)}".replace("%", r"\%")
    if shutil.which("scrontab"):
        click.echo("# Put these lines into 'scrontab -e':")
        click.echo(f"#SCRON --job-name={_NAME}")
        click.echo("#SCRON --time=00:10:00")
        click.echo(line)
    else:
        click.echo("# This host has no scrontab. Put this line into 'crontab -e', on a host where")
        click.echo("# jobs are submitted from; or let a job do it, by --submit:")
        click.echo(line)


def _times(every: float) -> str:
    """When, as cron has it: some minutes that an hour is a multiple of, or some hours of a day."""
    minutes = round(every / 60)
    if minutes > 0 and minutes < 60 and 60 % minutes == 0:
        return f"*/{minutes} * * * *" if minutes > 1 else "* * * * *"
    hours, rest = divmod(minutes, 60)
    if rest == 0 and 0 < hours <= 24 and 24 % hours == 0:
        return f"0 */{hours} * * *" if hours < 24 else "0 0 * * *"
    raise ConfigError(
        "--every: cron can do minutes that divide an hour, and hours that divide a day: 10m, 2h"
    )


def _submit(command: list[str], every: float, address: str) -> None:
    """A job that submits itself again, and then runs the command."""
    slurm = schedulers.named("slurm")
    name = f"{_NAME}-{mark(address)}"
    there = [job.id for job in slurm.jobs(name) if job.state is not JobState.ENDED]
    if there:
        raise ConfigError(f"it is there, as the job {there[0]}; 'scancel --name={name}' ends it")
    begin = f"--begin=now+{max(1, round(every))}"
    # One at a time: a job waits until the one of its name that submitted it has ended.
    again = _AGAIN.format(name=name, begin=begin)
    # One that is requeued would submit the next one twice.
    shape = Shape(time=600.0, options=("--no-requeue",), setup=again)
    batch = Batch(command, {"PICAS_POOL": address}, 1, shape, name)
    for job, _ in slurm.submit(batch):
        click.echo(f"submitted as the job {job}; 'scancel --name={name}' ends it")
