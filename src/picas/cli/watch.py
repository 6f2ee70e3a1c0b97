"""``--watch``: what a command shows, again and again until Ctrl-C, which is a good end."""

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import click
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from picas.cli import table
from picas.cli.common import console
from picas.cli.params import Duration
from picas.errors import PoolError, PoolUnreachable, ServerError
from picas.pool import Pool

LEAST_SECONDS = 0.5
"""Seconds between two looks, however busy the pool is."""

Command = TypeVar("Command", bound=Callable[..., Any])


class View(Protocol):
    """What was seen at one look."""

    def as_dict(self) -> dict[str, Any]:
        """It for a program."""

    def lines(self) -> Sequence[str]:
        """It for a log."""

    def picture(self, height: int | None = None) -> RenderableType:
        """It for a terminal of so many lines; None: however many it takes."""


def watch_options(command: Command) -> Command:
    """Add ``--watch`` and ``--interval`` to a command, as `watch` and `interval`."""
    interval = click.option(
        "--interval",
        type=Duration(),
        default=5.0,
        show_default="5s",
        help="With --watch: look again after this time, if nothing changed before.",
    )
    watched = click.option("--watch", is_flag=True, help="Go on showing it, until Ctrl-C.")
    return watched(interval(command))


def watch(pool: Pool, look: Callable[[], View], interval: float, *, as_json: bool) -> None:
    """Watch a pool until Ctrl-C: in place on a terminal, else a line (or some) each time.

    Args:
        pool: The pool; a change in it is a reason to look again.
        look: Looks at it.
        interval: Seconds between two looks, if nothing changes.
        as_json: One JSON object a line instead.
    """
    with contextlib.suppress(KeyboardInterrupt):
        interval = max(LEAST_SECONDS, interval)
        if as_json or not console().is_terminal:
            _repeat(look, interval, as_json=as_json)
        else:
            _live(pool, look, interval)


def _repeat(look: Callable[[], View], interval: float, *, as_json: bool) -> None:
    while True:
        view = look()
        click.echo(json.dumps(view.as_dict()) if as_json else "\n".join(view.lines()))
        sys.stdout.flush()
        time.sleep(interval)


def _live(pool: Pool, look: Callable[[], View], interval: float) -> None:
    out = console()
    with Live(console=out, auto_refresh=False, transient=False) as live:
        for picture in _pictures(pool, lambda: look().picture(out.height), interval):
            live.update(picture, refresh=True)


def _pictures(
    pool: Pool, look: Callable[[], RenderableType], interval: float
) -> Iterator[RenderableType]:
    """What to show, anew whenever the pool changed or the interval is over."""
    since: str | None = None
    picture: RenderableType = Text("")
    while True:
        try:
            if since is None:
                since = pool.changes(None, timeout=0).seq
            picture = look()
            yield picture
            # A busy pool changes all the time: look at it now and then, not at every change.
            time.sleep(LEAST_SECONDS)
            since = pool.changes(since, timeout=interval).seq
        except (PoolUnreachable, ServerError) as error:
            yield Group(picture, _warning(error))
            time.sleep(interval)


def _warning(error: PoolError) -> Text:
    at = time.strftime("%H:%M:%S")
    return Text(f"{at} {table.safe(str(error))}; trying again", style="red")
