"""``picas cancel``: pilots asked to end, wherever they run."""

from collections.abc import Sequence

import click

from picas import figures
from picas.cli.common import Report, confirm, counted, json_option, pool, pool_option, yes_option
from picas.errors import NotFound
from picas.pilot.document import Ask, ask
from picas.pilot.lease import LeaseTimes
from picas.token import Document


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
    tokens back, which costs them no try; with --drain it finishes them first.
    """
    if bool(pilots) == everyone:
        raise click.UsageError("Name pilots, or say --all.")
    with pool(pool_url) as opened:
        living = [doc for doc in opened.pilots(past=False) if doc.get("state") == "running"]
        wanted = living if everyone else _named(living, pilots)
        if everyone and wanted:
            confirm(f"End {counted(len(wanted), 'pilot')} of {opened.url}?", yes=yes)
        asked = ask(opened, wanted, Ask.DRAIN if drain else Ask.STOP)
        beat = LeaseTimes.of(opened.settings()).heartbeat
    report = Report(as_json=as_json)
    end = "drain" if drain else "stop"
    hears = f"; they hear of it within {figures.duration(beat)}" if asked else ""
    report.say(f"asked {counted(len(asked), 'pilot')} to {end}{hears}", asked=asked)
    report.end()


def _named(living: Sequence[Document], names: Sequence[str]) -> list[Document]:
    """The pilots that are meant; `NotFound` if one is none of those at work."""
    found: dict[str, Document] = {}
    for name in names:
        meant = [doc for doc in living if name in _names_of(doc)]
        if not meant:
            raise NotFound(f"no pilot at work is called {name!r}; 'picas pilots' shows them")
        found |= {doc["_id"]: doc for doc in meant}
    return list(found.values())


def _names_of(doc: Document) -> set[str]:
    """What a pilot may be called: its id, its short name, its job, the array of its job."""
    job = str(doc.get("slurm_job_id", ""))
    return {doc["_id"], figures.pilot_name(doc["_id"]), job, job.partition("_")[0]} - {""}
