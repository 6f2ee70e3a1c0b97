"""Tables and texts for a person: what tokens hold is shown as text, whatever it is."""

import json
import time
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any, Literal

import click
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from picas.cli.common import console
from picas.token import State

STYLES = {State.TODO: "", State.LOCKED: "yellow", State.DONE: "green", State.ERROR: "red"}
"""Colours of the states."""

_HIDDEN = ("Cc", "Cf", "Co", "Cs", "Zl", "Zp")
_UNBOUNDED = 100_000
_GAP = 2


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        title: Its heading.
        right: Numbers stand on the right.
        least: Where the terminal is narrow, the column shrinks, but not below this; None: never.
        optional: Left out where the terminal is too narrow for all of them, the last one first.
    """

    title: str
    right: bool = False
    least: int | None = None
    optional: bool = False


def table(
    columns: Sequence[Column], rows: Sequence[Sequence[str | Text]], width: int | None = None
) -> Table:
    """A table of texts, one line a row; a text that is too long ends in an ellipsis.

    A column without a text in it is left out.

    Args:
        columns: What the columns are.
        rows: One text a column; plain ones are made safe.
        width: Characters there are; by default those of the terminal, if there is one.
    """
    cells = [[_text(cell) for cell in row] for row in rows]
    if width is None:
        out = console()
        width = out.width if out.is_terminal else _UNBOUNDED
    natural = {
        i: max(len(column.title), *(row[i].cell_len for row in cells))
        for i, column in enumerate(columns)
        if any(row[i].plain for row in cells)
    }
    widths = _fitted(columns, natural, width)
    made = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for i in widths:
        side: Literal["left", "right"] = "right" if columns[i].right else "left"
        title = Text(columns[i].title)
        made.add_column(title, justify=side, no_wrap=True, overflow="ellipsis", width=widths[i])
    for row in cells:
        made.add_row(*(row[i] for i in widths))
    return made


def show(made: Table) -> None:
    """Print a table: on a terminal with its colours, else as plain text."""
    out = console()
    if out.is_terminal:
        out.print(made, soft_wrap=False)
    else:
        click.echo(plain(made))


def plain(made: Table) -> str:
    """The table as text, with nothing cut off."""
    wide = Console(width=_UNBOUNDED, file=StringIO(), color_system=None)
    width = Measurement.get(wide, wide.options, made).maximum
    with wide.capture() as captured:
        wide.print(made, width=width)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def safe(text: str) -> str:
    """A text in one line without what could steer a terminal: such characters are spelled out."""
    if text.isprintable():
        return text
    return "".join(_spelled(c) if unicodedata.category(c) in _HIDDEN else c for c in text)


def value(content: Any) -> str:
    """Any JSON value as a safe text in one line; texts as they are, nothing for nothing."""
    if content in (None, "", [], {}):
        return ""
    if not isinstance(content, str):
        content = json.dumps(content, ensure_ascii=False)
    return safe(content)


def state_text(state: State | None) -> Text:
    """A state in its colour."""
    return Text("–") if state is None else Text(state.value, style=STYLES[state])


def clock(seconds: float) -> str:
    """A point in time, on this machine's clock: ``2026-05-01 14:03:22``."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
    except (OverflowError, ValueError, OSError):
        return str(seconds)


def _spelled(character: str) -> str:
    return character.encode("unicode_escape").decode()


def _text(cell: str | Text) -> Text:
    return cell if isinstance(cell, Text) else Text(safe(cell))


def _fitted(columns: Sequence[Column], natural: dict[int, int], width: int) -> dict[int, int]:
    """How wide each column is where all of them have so much room: the widest gives way first."""
    least = {i: min(n, columns[i].least or n) for i, n in natural.items()}
    widths = dict(natural)
    for i in sorted(natural, reverse=True):
        if columns[i].optional and sum(least[j] + _GAP for j in widths) - _GAP > width:
            del widths[i]
    over = sum(widths.values()) + _GAP * (len(widths) - 1) - width
    while over > 0:
        slack = [i for i in widths if widths[i] > least[i]]
        if not slack:
            break
        widest = max(slack, key=lambda i: widths[i])
        second = max((widths[i] for i in slack if i != widest), default=0)
        cut = min(over, widths[widest] - max(second - 1, least[widest]))
        widths[widest] -= cut
        over -= cut
    return widths
