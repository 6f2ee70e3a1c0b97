"""``picas autopilot``: pilots submitted as the work that waits needs them."""

import logging
import shlex
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from picas import autopilot, config, schedulers, views
from picas.autopilot import Autopilot, Cluster, Config, Kind, Site
from picas.cli import schedule
from picas.cli.common import pool, pool_option
from picas.cli.params import Duration
from picas.cli.progress import Screen
from picas.cli.submit import address_for, check_run_options, own_command, shape, shape_options
from picas.errors import ConfigError, PoolUnreachable, ServerError
from picas.pilot.lease import LeaseTimes
from picas.pilot.reaper import Reaper
from picas.pool import Pool

log = logging.getLogger("picas.run.autopilot")


@click.group("autopilot", invoke_without_command=True)
@click.option(
    "--config",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="What to look after: clusters, and kinds of pilots with their limits.",
)
@click.option("--once", is_flag=True, help="One round, then end: for scrontab or cron.")
@click.option("--dry-run", is_flag=True, help="Tell what would be done, and do nothing.")
@click.option(
    "--every",
    type=Duration(),
    default=60.0,
    show_default="60s",
    help="Time between two rounds.",
)
@click.option("--view", metavar="VIEW", help="Without a file: whose tokens the pilots run.")
@click.option(
    "--scheduler",
    metavar="NAME",
    show_default="slurm where there is sbatch, else local",
    help="Without a file: where pilots are submitted.",
)
@shape_options
@click.option("--max", "most", type=click.IntRange(1), help="Without a file: so many pilots.")
@click.option("--run", metavar="OPTIONS", help="Without a file: more options of 'picas run'.")
@click.option("--log-json", is_flag=True, help="Show what happens as JSON lines.")
@pool_option
def autopilot_command(
    file: Path | None,
    once: bool,
    dry_run: bool,
    every: float,
    log_json: bool,
    pool_url: str | None,
    **given: Any,
) -> None:
    """Submit pilots as the work that waits needs them, and cancel those it does not need.

    A round looks how much waits, which pilots run or wait for their start, and how long a token
    takes; then it submits what fits, within the limits, and says why. Stop it and start it again
    whenever you like: what it knows is in the pool.

        picas autopilot --config pilots.toml
        picas autopilot --once --view MultiCore/todo --cores 4
    """
    ctx = click.get_current_context()
    if ctx.invoked_subcommand is not None:
        return
    wanted = _wanted(file, given)
    with pool(pool_url or wanted.pool) as opened:
        sites = _sites(wanted, config.load(pool_url or wanted.pool or ctx.find_object(str)))
        pilot = Autopilot(opened, wanted, sites, act=not dry_run, every=0.0 if once else every)
        with Screen(as_json=log_json, verbose=False):
            if once or dry_run:
                _once(pilot, opened, reap=not dry_run)
            else:
                _go_on(pilot, opened, every)


def _wanted(file: Path | None, given: Mapping[str, Any]) -> Config:
    """What to look after: of the file, or of the options for a single kind."""
    if (file is None) == (given["view"] is None):
        raise click.UsageError("Give --config FILE, or --view VIEW and what its pilots need.")
    if file is None:
        return _of_options(dict(given))
    wanted = autopilot.read(file)
    for kind in wanted.kinds:
        try:
            check_run_options(kind.run)
        except click.UsageError as error:
            text = error.format_message()
            raise ConfigError(f"{file}, [pilots.{kind.name}], run: {text}") from error
    return wanted


def _of_options(given: dict[str, Any]) -> Config:
    view, name, most = given.pop("view"), given.pop("scheduler"), given.pop("most")
    try:
        run = shlex.split(given.pop("run") or "")
    except ValueError as error:
        raise click.UsageError(f"--run: {error}: close the quotes, or escape them") from error
    check_run_options(run)
    name = name or ("slurm" if shutil.which("sbatch") else "local")
    view = views.work_of(view)
    asked = shape(given)
    # Named by what it is, so that the next call finds what this one submitted.
    parts = [views.split(view)[0], str(asked.cores)]
    parts += [f"{asked.gpus}gpu"] if asked.gpus else []
    parts += [f"{asked.memory >> 20}M"] if asked.memory else []
    parts += [asked.partition] if asked.partition else []
    parts += [] if name in ("slurm", "local") else [name]
    kind = Kind("-".join(parts), view, name, asked, run)
    kind = kind if most is None else replace(kind, max=most)
    return Config({name: Cluster(name, name)}, [kind])


def _sites(wanted: Config, settings: config.Settings) -> dict[str, Site]:
    """The clusters, each with its scheduler."""
    sites = {}
    for cluster in wanted.clusters.values():
        try:
            scheduler = schedulers.named(cluster.scheduler, cluster.via)
            address = address_for(scheduler, settings.pool)
        except ConfigError as error:
            raise ConfigError(f"[clusters.{cluster.name}]: {error}") from error
        picas = cluster.picas or ("picas" if cluster.via else own_command())
        sites[cluster.name] = Site(scheduler, picas, address, cluster.ask_every)
    return sites


def _once(pilot: Autopilot, opened: Pool, *, reap: bool) -> None:
    """One round; and then, as it may take long, the usual search for pilots that are gone."""
    try:
        pilot.round()
    finally:
        pilot.leave()
    if reap:
        _search(opened)


def _search(opened: Pool) -> None:
    """Give back what pilots held that are gone; while one may be, watch as long as it takes."""
    reaper = _reaper(opened)
    until = time.monotonic() + reaper.telling
    while reaper.reap(thorough=True).suspects and time.monotonic() < until:
        time.sleep(reaper.wait)


def _go_on(pilot: Autopilot, opened: Pool, every: float) -> None:
    """Round after round, until told to end; in between, the search for pilots that are gone."""
    reaper, due = _reaper(opened), time.monotonic()
    with _end_signals() as ended:
        while not ended.wait(max(0.0, min(due - time.monotonic(), reaper.wait))):
            try:
                if reaper.is_due:
                    reaper.reap()
                if time.monotonic() >= due:
                    due = time.monotonic() + every
                    pilot.round()
            except (PoolUnreachable, ServerError) as error:
                log.warning("%s; the next try is in %.0f s", error, every)
                due = time.monotonic() + every
                ended.wait(min(every, 5.0))
    pilot.leave()


def _reaper(opened: Pool) -> Reaper:
    return Reaper(opened, LeaseTimes.of(opened.settings(lenient=True)).lease)


@contextmanager
def _end_signals() -> Iterator[threading.Event]:
    """An event that TERM and INT set; a second one ends the process as usual."""
    ended = threading.Event()

    def end(number: int, _frame: object) -> None:
        ended.set()
        signal.signal(number, signal.SIG_DFL)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield ended
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


autopilot_command.add_command(schedule.schedule_command)
