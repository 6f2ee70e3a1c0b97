"""``picas status``: how far the work is, who is at it, and how long it will take."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import click
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from picas import figures
from picas.cli import table
from picas.cli import watch as watching
from picas.cli.common import console, counted, json_option, pool, pool_option, print_json
from picas.cli.watch import watch_options
from picas.errors import ViewMissing
from picas.figures import Counts, Fleet, RateMeter
from picas.pilot.lease import LeaseTimes
from picas.pool import Pool
from picas.token import State
from picas.views import DEFAULT_DESIGN, OVERVIEW

_BAR = 12


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How a pool stands at one moment.

    Attributes:
        url: The pool.
        time: Its clock.
        counts: Of each design.
        fleet: The pilots that live.
        rates: Tokens a minute, of the designs for which one is known.
    """

    url: str
    time: float
    counts: Sequence[Counts]
    fleet: Fleet
    rates: Mapping[str, float] = field(default_factory=dict)

    def left(self, counts: Counts) -> float | None:
        """Seconds until a design has no open tokens, if anybody can tell."""
        return figures.time_left(counts.open, self.rates.get(counts.design))

    def as_dict(self) -> dict[str, Any]:
        """The snapshot for a program."""
        designs = [
            {
                **counts.as_dict(),
                "share_done": round(counts.share, 4),
                "tokens_per_minute": self.rates.get(counts.design),
                "seconds_left": self.left(counts),
            }
            for counts in self.counts
        ]
        about = {"pool": self.url, "time": round(self.time, 3)}
        return {**about, "designs": designs, "fleet": self.fleet.as_dict()}

    def lines(self) -> list[str]:
        """One line a design, for a log."""
        at = time.strftime("%H:%M:%S", time.localtime(self.time))
        lines = []
        for counts in self.counts:
            states = ", ".join(f"{getattr(counts, s.value):,} {s.value}" for s in State)
            parts = [f"{states} of {counts.total:,}", _pace(self, counts), _pilots(self.fleet)]
            lines.append(f"{at} {table.safe(counts.design)}: {'; '.join(p for p in parts if p)}")
        return lines

    def picture(self, height: int | None = None) -> RenderableType:  # noqa: ARG002
        """The snapshot for a terminal; it has few lines."""
        return Group(_title(self), _table(self), *_below(self))


@click.command("status")
@click.argument("design", required=False)
@watch_options
@json_option
@pool_option
def status_command(
    design: str | None, watch: bool, interval: float, as_json: bool, pool_url: str | None
) -> None:
    """Show how many tokens are todo, locked, done and failed, and how long the rest will take.

    All groups of views, or one DESIGN, as in Monitor/todo. The rate is what the living pilots
    told in their documents, which they write every minute; with --watch it is measured.
    """
    with pool(pool_url) as opened:
        looker = _Looker(opened, design)
        if watch:
            watching.watch(opened, looker.look, interval, as_json=as_json)
        elif as_json:
            print_json(looker.look().as_dict())
        else:
            _show(looker.look())


class _Looker:
    """Looks at a pool, again and again, and measures its rates."""

    def __init__(self, opened: Pool, design: str | None) -> None:
        self.pool = opened
        self._design = design
        self._lease = LeaseTimes.of(opened.settings()).lease
        self._meters: dict[str, RateMeter] = {}

    def look(self) -> Snapshot:
        """How the pool stands now."""
        names = [self._design] if self._design else self._designs()
        counts = [Counts.of(name, self.pool.counts(name)) for name in names]
        pilots = self.pool.pilots()
        now = self.pool.now()
        rates: dict[str, float] = {}
        for one in counts:
            meter = self._meters.setdefault(one.design, RateMeter())
            meter.saw(now, one.settled)
            measured = meter.per_minute
            told = figures.pilots_rate(pilots, now, one.design, self._lease)
            rate = told if measured is None else measured
            if rate is not None:
                rates[one.design] = round(rate, 3)
        return Snapshot(self.pool.url, now, counts, Fleet.of(pilots, now, self._lease), rates)

    def _designs(self) -> list[str]:
        """The designs that count tokens, ``Monitor`` first."""
        found = self.pool.designs().items()
        names = [name for name, design in found if OVERVIEW in design.views]
        if not names:
            raise ViewMissing(
                f"{self.pool.url} has no views that count tokens; 'picas init' makes the standard "
                "ones"
            )
        return sorted(names, key=lambda name: (name != DEFAULT_DESIGN, name))


def _show(snapshot: Snapshot) -> None:
    out = console()
    if out.is_terminal:
        out.print(snapshot.picture(), soft_wrap=False)
        return
    click.echo(_title(snapshot).plain)
    click.echo(table.plain(_table(snapshot)))
    click.echo("\n".join(line.plain for line in _below(snapshot)))


def _title(snapshot: Snapshot) -> Text:
    """Which pool this is about."""
    return Text(f"pool {table.safe(snapshot.url)}", style="dim")


def _table(snapshot: Snapshot) -> Table:
    """Counts, the share done, and the time left of each design."""
    names = ("todo", "locked", "done", "error", "total")
    columns = [
        table.Column("design", least=7),
        *(table.Column(name, right=True, optional=name == "total") for name in names),
        table.Column("", optional=True),
    ]
    rows = [
        [Text(table.safe(c.design)), *(_number(c, name) for name in names), _bar(c)]
        for c in snapshot.counts
    ]
    return table.table(columns, rows)


def _number(counts: Counts, name: str) -> Text:
    number = getattr(counts, name)
    state = next((s for s in State if s.value == name), State.TODO)
    return Text(f"{number:,}", style=table.STYLES[state] if number else "dim")


def _bar(counts: Counts) -> Text:
    """The share done, and the share failed behind it."""
    if not counts.total:
        return Text("")
    done = int(_BAR * counts.share)
    failed = min(_BAR - done, -(-_BAR * counts.error // counts.total))
    # Never "100 %" before the end.
    percent = int(100 * counts.share)
    return Text.assemble(
        (f"{percent:>3} % ", ""),
        ("█" * done, "green"),
        ("▒" * failed, "red"),
        ("░" * (_BAR - done - failed), "dim"),
    )


def _below(snapshot: Snapshot) -> list[Text]:
    """The lines below the table: who works, how fast, how long."""
    fleet = snapshot.fleet
    lines = [Text(), Text(_pilots(fleet))]
    # Which pilot has which token is in the tokens only; the largest design has the most of them.
    locked = max((counts.locked for counts in snapshot.counts), default=0)
    if fleet.lost:
        text = f"{counted(fleet.lost, 'pilot')} gone without a word"
        if locked:
            text += f", {counted(locked, 'token')} locked: picas reap"
        else:
            text += "; no token is locked, so there is nothing to do"
        lines.append(Text(text, style="yellow"))
    for counts in snapshot.counts:
        pace = _pace(snapshot, counts)
        if pace:
            name = f"{table.safe(counts.design)}: " if len(snapshot.counts) > 1 else ""
            lines.append(Text(name + pace))
    return lines


def _pilots(fleet: Fleet) -> str:
    if not fleet.pilots:
        return "no pilots at work"
    pilots, slots = counted(fleet.pilots, "pilot"), counted(fleet.slots, "slot")
    return f"{pilots} with {slots} on {counted(fleet.hosts, 'host')}"


def _pace(snapshot: Snapshot, counts: Counts) -> str:
    """The rate and the time left: empty where there is nothing to say."""
    rate = snapshot.rates.get(counts.design)
    left = snapshot.left(counts)
    if not counts.open:
        return ""
    if rate is None:
        # A pilot tells what it did for the first time when it has worked for a minute.
        return "time left: known after a minute" if snapshot.fleet.pilots else ""
    if left is None:
        return f"{figures.rate(rate)}, time left: known when tokens have ended"
    return f"{figures.rate(rate)}, about {figures.duration(left)} left"
