"""``picas pilots``: which pilots live, which are stuck or broken, and what they did."""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import click
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from picas import figures
from picas.cli import table
from picas.cli import watch as watching
from picas.cli.common import console, json_option, pool, pool_option, print_json
from picas.cli.table import Column, value
from picas.cli.watch import watch_options
from picas.figures import PilotState
from picas.jobid import recorded_job
from picas.pilot.lease import LeaseTimes
from picas.pool import Pool
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


@dataclass(frozen=True, slots=True)
class Roll:
    """The pilots of a pool at one moment.

    Attributes:
        url: The pool.
        time: Its clock.
        lease: Seconds without a heartbeat after which a pilot counts as gone.
        fleet: All of them.
        past: Whether past ones are shown, too.
    """

    url: str
    time: float
    lease: float
    fleet: Fleet
    past: bool

    @staticmethod
    def of(opened: Pool, lease: float, *, past: bool) -> "Roll":
        """The pilots as they are now."""
        docs, now = opened.pilots(), opened.now()
        fleet = _sorted([(doc, figures.pilot_state(doc, now, lease)) for doc in docs])
        return Roll(opened.url, now, lease, fleet, past)

    @property
    def shown(self) -> Fleet:
        """Those that are shown."""
        return [(doc, state) for doc, state in self.fleet if self.past or may_hold_tokens(doc)]

    def as_dict(self) -> dict[str, Any]:
        """The pilots for a program."""
        states = {state.value: n for state, n in Counter(s for _, s in self.fleet).items()}
        pilots = [_facts(doc, state, self.time) for doc, state in self.shown]
        about = {"pool": self.url, "time": round(self.time, 3), "lease": self.lease}
        return {**about, "states": states, "pilots": pilots}

    def lines(self) -> list[str]:
        """The pilots for a log, with the time of the look."""
        at = time.strftime("%H:%M:%S", time.localtime(self.time))
        return [f"{at} {self.url}", *self.text(), ""]

    def text(self) -> list[str]:
        """The pilots as plain text."""
        below = [line.plain for line in self._below()]
        return [table.plain(self._table()), "", *below] if self.shown else below

    def picture(self, height: int | None = None) -> RenderableType:
        """The pilots for a terminal; where that is low, those that ask for attention."""
        if not self.shown:
            return Group(*self._below())
        below = [Text(), *self._below()]
        # The heading of the table, a line for those left out, and the cursor's own.
        room = len(self.shown) if height is None else max(1, height - len(below) - 3)
        if (more := len(self.shown) - room) > 0:
            below.insert(0, Text(f"… and {more:,} more", style="dim"))
        return Group(self._table(room), *below)

    def _table(self, limit: int | None = None) -> Table:
        rows = [_row(doc, state, self.time) for doc, state in self.shown[:limit]]
        return table.table(_COLUMNS, rows)

    def _below(self) -> list[Text]:
        """What is said below the table."""
        reasons = list(_reasons(self.shown))
        summary = _summary(self.fleet, all_shown=self.past)
        lines = [*reasons, *([("", "")] if reasons else []), *summary]
        return [Text(table.safe(text), style=style) for text, style in lines]


@click.command("pilots")
@click.option("--all", "past", is_flag=True, help="Past pilots, too: for 30 days after their end.")
@watch_options
@json_option
@pool_option
def pilots_command(
    past: bool, watch: bool, interval: float, as_json: bool, pool_url: str | None
) -> None:
    """Show the pilots: which live, which are stuck or broken, and what they did.

    What a pilot did is what it told at its last heartbeat; 'beat' is how long ago that was. 'busy'
    is how many of its slots had a token. 'failed' counts all failures, those that are tried again,
    too. A pilot that is slow, silent or unknown asks for a look.
    """
    with pool(pool_url) as opened:
        lease = LeaseTimes.of(opened.settings()).lease
        if watch:
            look = partial(Roll.of, opened, lease, past=past)
            watching.watch(opened, look, interval, as_json=as_json)
            return
        roll = Roll.of(opened, lease, past=past)
    out = console()
    if as_json:
        print_json(roll.as_dict())
    elif out.is_terminal:
        out.print(roll.picture(), soft_wrap=False)
    else:
        click.echo("\n".join(roll.text()))


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
