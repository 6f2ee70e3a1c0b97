"""``picas pilots``: which pilots live, which are stuck or broken, and what they did."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import click
from rich.text import Text

from picas import figures
from picas.cli import table
from picas.cli.common import console, json_option, pool, pool_option, print_json
from picas.cli.table import Column, value
from picas.figures import PilotState
from picas.jobid import recorded_job
from picas.pilot.lease import LeaseTimes
from picas.pool.reap import may_hold_tokens
from picas.token import Document

_STYLES = {
    PilotState.RUNNING: "green",
    PilotState.SLOW: "yellow",
    PilotState.SILENT: "red",
    PilotState.UNKNOWN: "red",
    PilotState.LOST: "dim",
    PilotState.ENDED: "dim",
}
_COLUMNS = (
    Column("state"),
    Column("pilot", least=8),
    Column("host", least=12),
    Column("busy", right=True),
    Column("done", right=True),
    Column("failed", right=True),
    Column("beat", right=True),
    Column("view", least=12, optional=True),
    Column("job", least=6, optional=True),
    Column("age", right=True, optional=True),
)
_NAMED = 3
"""Pilots that are named where several say the same."""

_PAST = (PilotState.ENDED, PilotState.LOST)
_FACTS = (
    *("hostname", "pid", "version", "view", "logs", "slots", "cores", "memory", "gpus"),
    *("cluster", "restarts"),
)
_COUNTERS = ("done", "error", "scrubbed", "released", "fenced", "unsettled")
_MOMENTS = ("started", "heartbeat", "ended")

Fleet = Sequence[tuple[Document, PilotState]]
"""Pilots' documents, each with how the pilot is."""


@click.command("pilots")
@click.option("--all", "past", is_flag=True, help="Past pilots, too: for 30 days after their end.")
@json_option
@pool_option
def pilots_command(past: bool, as_json: bool, pool_url: str | None) -> None:
    """Show the pilots: which live, which are stuck or broken, and what they did.

    What a pilot did is what it told at its last heartbeat; 'beat' is how long ago that was. 'busy'
    is how many of its slots had a token. 'failed' counts all failures, those that are tried again,
    too. A pilot that is slow, silent or unknown asks for a look.
    """
    with pool(pool_url) as opened:
        docs = opened.pilots()
        now = opened.now()
        lease = LeaseTimes.of(opened.settings()).lease
        url = opened.url
    fleet = _sorted([(doc, figures.pilot_state(doc, now, lease)) for doc in docs])
    shown = [(doc, state) for doc, state in fleet if past or may_hold_tokens(doc)]
    if as_json:
        states = {state.value: n for state, n in Counter(state for _, state in fleet).items()}
        about = {"pool": url, "time": round(now, 3), "lease": lease, "states": states}
        print_json(about | {"pilots": [_facts(doc, state, now) for doc, state in shown]})
        return
    if shown:
        table.show(table.table(_COLUMNS, [_row(doc, state, now) for doc, state in shown]))
        click.echo()
    out = console()
    reasons = list(_reasons(shown))
    lines = [*reasons, *([("", "")] if reasons else []), *_summary(fleet, all_shown=past)]
    for text, style in lines:
        out.print(Text(table.safe(text), style=style))


def _sorted(fleet: Fleet) -> Fleet:
    """Those first that ask for attention; of each state those first that were heard of last."""
    order = {state: place for place, state in enumerate(PilotState)}

    def key(entry: tuple[Document, PilotState]) -> tuple[int, float, str]:
        doc, state = entry
        return order[state], -figures.number(doc, "heartbeat"), str(doc["_id"])

    return sorted(fleet, key=key)


def _row(doc: Document, state: PilotState, now: float) -> list[str | Text]:
    """One pilot in the table."""
    failed = figures.number(doc, "error") + figures.number(doc, "scrubbed")
    busy = f"{len(figures.running(doc))}/{figures.number(doc, 'slots'):.0f}"
    return [
        Text(state.value, style=_STYLES[state]),
        figures.pilot_name(str(doc["_id"])),
        value(doc.get("hostname")),
        "" if state in _PAST else busy,
        f"{figures.number(doc, 'done'):,.0f}",
        f"{failed:,.0f}",
        _since(doc, "heartbeat", now),
        value(doc.get("view")),
        value(recorded_job(doc)),
        _since(doc, "started", now),
    ]


def _since(doc: Document, name: str, now: float) -> str:
    """How long ago a moment in the document was."""
    moment = figures.number(doc, name)
    return figures.duration(now - moment) if moment else ""


def _facts(doc: Document, state: PilotState, now: float) -> dict[str, Any]:
    """One pilot for a program."""
    heartbeat = figures.number(doc, "heartbeat")
    return {
        "id": doc["_id"],
        "name": figures.pilot_name(str(doc["_id"])),
        "state": state.value,
        **{name: doc.get(name) for name in _FACTS},
        "job": recorded_job(doc),
        "running": figures.running(doc),
        **{name: int(figures.number(doc, name)) for name in _COUNTERS},
        **{name: doc.get(name) for name in _MOMENTS},
        "silent_seconds": round(now - heartbeat, 3) if heartbeat else None,
        "why": figures.pilot_why(doc),
    }


def _reasons(fleet: Fleet) -> Iterable[tuple[str, str]]:
    """Why pilots are slow, or ended: each reason once, with a few of those that have it."""
    groups: dict[tuple[PilotState, str], list[str]] = {}
    for doc, state in fleet:
        if why := figures.pilot_why(doc):
            groups.setdefault((state, why), []).append(figures.pilot_name(str(doc["_id"])))
    for (state, why), names in groups.items():
        more = len(names) - _NAMED
        named = ", ".join(names[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")
        yield f"{state.value} {named}: {why}", _STYLES[state]


def _summary(fleet: Fleet, *, all_shown: bool) -> Iterable[tuple[str, str]]:
    """What there is in all, and what to do about those that ask for attention."""
    states = Counter(state for _, state in fleet)
    drained = sum(figures.is_drained(doc.get("reason")) for doc, _ in fleet)
    present = [f"{states[s]:,} {s.value}" for s in PilotState if states[s] and s not in _PAST]
    yield ", ".join(present) or "no pilots at work; 'picas run' starts one", "bold"
    if states[PilotState.ENDED] or states[PilotState.LOST]:
        line = f"past: {states[PilotState.ENDED]:,} ended"
        line += f" ({drained:,} of them drained)" if drained else ""
        line += f", {states[PilotState.LOST]:,} lost" if states[PilotState.LOST] else ""
        yield line + ("" if all_shown else "; 'picas pilots --all' shows them"), ""
    if states[PilotState.SLOW]:
        yield "slow: is it the host, or the command? 'picas list error' shows what failed", ""
    if states[PilotState.SILENT]:
        yield "silent: other pilots take over what they hold; 'picas reap' does it now", ""
