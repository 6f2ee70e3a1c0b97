"""``picas cancel``: pilots asked to end, wherever they run."""

import re
import shutil
from collections.abc import Sequence

import click

from picas import figures, schedulers
from picas.cli.common import (
    Report,
    confirm,
    counted,
    json_option,
    note,
    pool,
    pool_option,
    yes_option,
)
from picas.errors import NotFound, TaskError
from picas.jobid import recorded_job
from picas.pilot.document import Ask, ask
from picas.pilot.lease import LeaseTimes
from picas.schedulers import Job, JobState
from picas.schedulers.base import NAME
from picas.token import Document

_JOB = re.compile(r"\d+(_\d+)?")


@click.command("cancel")
@click.argument("pilots", nargs=-1)
@click.option("--all", "everyone", is_flag=True, help="All pilots of the pool that are at work.")
@click.option("--drain", is_flag=True, help="Let them finish what runs; they take nothing new.")
@yes_option
@json_option
@pool_option
def cancel_command(
    pilots: tuple[str, ...],
    everyone: bool,
    drain: bool,
    yes: bool,
    as_json: bool,
    pool_url: str | None,
) -> None:
    """Ask PILOTS to end, wherever they run: by the pool, which they ask at each heartbeat.

    A pilot is named as 'picas pilots' shows it, or by its job. It ends what runs and gives those
    tokens back, which costs them no try; with --drain it finishes them first. Jobs of these names
    that wait in this host's Slurm are taken out of the queue.
    """
    if bool(pilots) == everyone:
        raise click.UsageError("Name pilots, or say --all.")
    waiting = _waiting(pilots)
    with pool(pool_url) as opened:
        living = [doc for doc in opened.pilots(past=False) if doc.get("state") == "running"]
        wanted = living if everyone else _named(living, pilots, waiting)
        if everyone and wanted:
            confirm(f"End {counted(len(wanted), 'pilot')} of {opened.url}?", yes=yes)
        asked = ask(opened, wanted, Ask.DRAIN if drain else Ask.STOP)
        beat = LeaseTimes.of(opened.settings()).heartbeat
    report = Report(as_json=as_json)
    end = "drain" if drain else "stop"
    hears = f"; they hear of it within {figures.duration(beat)}" if asked else ""
    report.say(f"asked {counted(len(asked), 'pilot')} to {end}{hears}", asked=asked)
    if waiting:
        # One that has started meanwhile is ended, too: it could not be asked by way of the pool.
        schedulers.named("slurm").cancel([job.id for job in waiting], pending_only=drain)
        jobs = counted(len(waiting), "job")
        report.say(f"took {jobs} out of the queue", jobs=[job.id for job in waiting])
    report.end()


def _waiting(names: Sequence[str]) -> list[Job]:
    """The jobs of pilots that are meant, and have not started; those of Slurm, if this host has it.

    Those of a whole pool cannot be told from those of another one.
    """
    if not any(_JOB.fullmatch(name) for name in names) or shutil.which("squeue") is None:
        return []
    try:
        jobs = schedulers.named("slurm").jobs(NAME)
    except TaskError as error:
        note(f"warning: jobs that have not started are left alone: {error}")
        return []
    return [job for job in jobs if job.state is JobState.PENDING and _ids_of(job.id) & {*names}]


def _named(
    living: Sequence[Document], names: Sequence[str], waiting: Sequence[Job]
) -> list[Document]:
    """The pilots that are meant; `NotFound` if one is none of those at work."""
    found: dict[str, Document] = {}
    for name in names:
        meant = [doc for doc in living if name in _names_of(doc)]
        if not meant and not any(name in _ids_of(job.id) for job in waiting):
            raise NotFound(f"no pilot at work is called {name!r}; 'picas pilots' shows them")
        found |= {doc["_id"]: doc for doc in meant}
    return list(found.values())


def _names_of(doc: Document) -> set[str]:
    """What a pilot may be called: its id, its short name, its job, the array of its job."""
    return {doc["_id"], figures.pilot_name(doc["_id"])} | _ids_of(str(recorded_job(doc) or ""))


def _ids_of(job: str) -> set[str]:
    """What a job may be called: its id, and the id of its array."""
    return {job, job.partition("_")[0]} - {""}
