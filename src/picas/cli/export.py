"""``picas export``: the tokens of a view as a file for other programs."""

import csv
import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import IO, Any

import click

from picas.cli import common
from picas.cli.fields import field, names
from picas.cli.meter import Meter
from picas.errors import InputError
from picas.pool import Pool
from picas.token import Document
from picas.views import split

JSONL = "jsonl"
CSV = "csv"

_MISSING = object()


@click.command("export")
@click.argument("view")
@click.option(
    "--format",
    "form",
    type=click.Choice([JSONL, CSV]),
    help="What to write.  [default: csv if FILE ends so, else jsonl]",
)
@click.option(
    "-o", "--output", metavar="FILE", help="Write a file, which appears when it is whole."
)
@click.option("--fields", metavar="A,B,C.D", help="Only these; C.D is D in the object C.")
@common.pool_option
def export_command(
    view: str,
    form: str | None,
    output: str | None,
    fields: str | None,
    pool_url: str | None,
) -> None:
    """Write the tokens of VIEW for other programs.

    VIEW is like Monitor/done, or done for the same; overview_total has all tokens.

    jsonl has a token a line, as the pool holds it; attachments only by name and size ('picas get'
    fetches them). csv has a row a token: texts as they are, all else as JSON, and an empty cell
    where the token has no such field. Both are UTF-8.
    """
    view = "/".join(split(view))
    columns = None if fields is None else names(fields)
    if form is None:
        form = CSV if output is not None and output.lower().endswith(".csv") else JSONL
    with common.pool(pool_url) as pool:
        if output is not None and output != "-":
            with _replacing(Path(output)) as stream:
                number = _export(pool, view, form, columns, stream, total=pool.count(view))
            click.echo(f"wrote {common.counted(number, 'token')} of {view} to {output}")
        else:
            _export(pool, view, form, columns, _standard_output())


def _export(
    pool: Pool,
    view: str,
    form: str,
    columns: Sequence[str] | None,
    stream: IO[str],
    total: int | None = None,
) -> int:
    """Write the tokens; with `total`, tells how far it is. Returns their number."""
    if form == CSV and columns is None:
        columns = _union(pool, view, total)
    number = 0
    rows = csv.writer(stream, lineterminator="\n")
    if form == CSV:
        rows.writerow(columns or ["_id"])
    with nullcontext() if total is None else Meter("exporting", "token", total) as meter:
        for doc in pool.find(view):
            number += 1
            if meter is not None:
                meter.advance()
            if form == CSV:
                rows.writerow([_cell(field(doc, name, _MISSING)) for name in columns or ()])
            else:
                stream.write(_json(doc if columns is None else _picked(doc, columns)) + "\n")
    return number


def _union(pool: Pool, view: str, total: int | None) -> list[str]:
    """The fields that any of the tokens has, in the order in which they come."""
    names: dict[str, None] = {}
    with nullcontext() if total is None else Meter("reading columns", "token", total) as meter:
        for doc in pool.find(view):
            names.update(dict.fromkeys(doc))
            if meter is not None:
                meter.advance()
    return list(names)


def _picked(doc: Document, columns: Sequence[str]) -> Document:
    values = {name: field(doc, name, _MISSING) for name in columns}
    return {name: value for name, value in values.items() if value is not _MISSING}


def _cell(value: Any) -> str:
    if value is _MISSING:
        return ""
    return value if isinstance(value, str) else _json(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _standard_output() -> IO[str]:
    """Standard output as UTF-8, whatever the locale; lines end as the format says."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", newline="")
    return sys.stdout


@contextmanager
def _replacing(path: Path) -> Iterator[IO[str]]:
    """A new file that takes its place when it is whole; what is no file is written as it is.

    Raises:
        InputError: It cannot be written; what was there before is there still.
    """
    special = path.exists() and not path.is_file()
    target = path.resolve()
    place = target if special else target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with place.open("w", encoding="utf-8", newline="") as stream:
            yield stream
        if not special:
            place.replace(target)
    except BaseException as error:
        if not special:
            with suppress(OSError):
                place.unlink()
        if isinstance(error, OSError):
            raise InputError(f"cannot write {path}: {error.strerror}") from error
        raise
