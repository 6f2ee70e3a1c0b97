"""``picas push``: lines, JSON, CSV or a sweep become tokens.

What is pushed is read twice: once to find out whether all of it is good, once to push. So a
mistake in the last line leaves the pool as it was, and memory stays flat.
"""

import json
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import click

from picas import inputs
from picas.cli import common
from picas.cli.exits import OK, REFUSED
from picas.cli.meter import Meter
from picas.errors import InputError, PoolUnreachable, ServerError
from picas.inputs import Bad, Entry, Identifier
from picas.pool import Pool, Pushed, PushState
from picas.sweeps import Sweep, parse_set, parse_sweep
from picas.token import CLASSIC_DEFAULTS, Document

LISTED = 10
"""Bad lines, or ids that could not be pushed, that are listed; the others are counted."""

SHOWN = 5
"""Tokens that ``--dry-run`` shows."""

_SHOWN_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be pushed; can be read again and again, with the same ids each time.

    Attributes:
        name: What messages call it.
        read: Begins to read it anew.
        sets: Fields for every token.
        prefix: For ids by position.
        skip_bad: Leave out what cannot become a token.
    """

    name: str
    read: Callable[[], Iterable[Entry | Bad]]
    sets: Mapping[str, Any]
    prefix: str | None = None
    skip_bad: bool = False

    def tokens(self) -> Iterator[Document | Bad]:
        """The tokens, and what cannot become one."""
        with Identifier(self.prefix) as ids:
            yield from inputs.tokens(self.read(), sets=self.sets, ids=ids)

    def good(self) -> Iterator[Document]:
        """The tokens, for a second reading, after `check`.

        Raises:
            InputError: It was changed meanwhile.
        """
        for item in self.tokens():
            if not isinstance(item, Bad):
                yield item
            elif not self.skip_bad:
                raise InputError(f"{item}; it was good at first: it was changed meanwhile")


@dataclass(slots=True)
class Checked:
    """What the first reading found.

    Attributes:
        good: Number of tokens.
        bad: Number of places that cannot become one.
        first: The first few tokens.
        complaints: The first few bad places.
    """

    good: int = 0
    bad: int = 0
    first: list[Document] = field(default_factory=list)
    complaints: list[Bad] = field(default_factory=list)


@dataclass(slots=True)
class Tally:
    """What became of the tokens so far; the first few of each kind of trouble."""

    counts: Counter[PushState] = field(default_factory=Counter)
    trouble: dict[PushState, list[Pushed]] = field(
        default_factory=lambda: {PushState.DIFFERENT: [], PushState.REFUSED: []}
    )

    def add(self, answer: Pushed) -> None:
        """Count one answer."""
        self.counts[answer.state] += 1
        listed = self.trouble.get(answer.state)
        if listed is not None and len(listed) < LISTED:
            listed.append(answer)


@click.command("push")
@click.argument("file", required=False)
@click.option(
    "--json", "as_json", is_flag=True, help="FILE has JSON: an object a line, or an array."
)
@click.option("--csv", "as_csv", is_flag=True, help="FILE has CSV; its first row names the fields.")
@click.option(
    "--set",
    "sets",
    multiple=True,
    metavar="K=V",
    help="Give every token a field: --set cores=4, --set site=sara.",
)
@click.option(
    "--sweep",
    "sweeps",
    multiple=True,
    metavar="K=VALUES",
    help="Instead of FILE, all combinations of --sweep q=0.1:0.9:0.2 --sweep d=256,512 …",
)
@click.option("--template", metavar="TEXT", help="The sweep's input: --template './sim -q {q}'.")
@click.option("--prefix", metavar="P", help="Number the tokens P0, P1, … by their position.")
@click.option("--skip-bad", is_flag=True, help="Leave out what cannot become a token.")
@click.option("--dry-run", is_flag=True, help="Show what would be pushed; ask no pool.")
@click.option("--summary-json", is_flag=True, help="Print the summary as JSON, for programs.")
@common.pool_option
def push_command(
    file: str | None,
    as_json: bool,
    as_csv: bool,
    sets: tuple[str, ...],
    sweeps: tuple[str, ...],
    template: str | None,
    prefix: str | None,
    skip_bad: bool,
    dry_run: bool,
    summary_json: bool,
    pool_url: str | None,
) -> int:
    """Add tokens to the pool, one a line of FILE.

    The line is the token's input: a command line that a pilot runs. FILE may be - for the standard
    input. If one line cannot become a token, nothing is pushed; nor if there is no line at all.

    A token's id is made from its fields: pushing the same again adds nothing, so a push that was
    broken off is completed by the same command. Equal lines become tokens of their own.

    An id that the pool has already for other work is left alone and listed; the exit status is 6
    then.
    """
    sweep = _sweep(file, sweeps, template, as_json or as_csv)
    with _read_twice(file, _reader(as_json, as_csv), sweep) as (name, read):
        work = Work(name, read, dict(parse_set(text) for text in sets), prefix, skip_bad)
        checked = check(work, None if sweep is None else sweep.count())
        if dry_run:
            _show(checked, summary_json)
            return OK
        with common.pool(pool_url, create=True) as pool:
            # A server that is away is told at once here; a push would try for a minute.
            pool.store.exists()
            tally = push(work, pool, checked.good)
            return report(tally, checked.bad, pool.url, summary_json)


def check(work: Work, total: int | None = None) -> Checked:
    """Read it all, to find out whether it can be pushed.

    Args:
        work: What is to be pushed.
        total: How much it is, where that is known.

    Raises:
        InputError: Something cannot become a token (and `Work.skip_bad` is off), or nothing can.
    """
    checked = Checked()
    with Meter("checking", "token", total) as meter:
        for item in work.tokens():
            meter.advance()
            if not isinstance(item, Bad):
                checked.good += 1
                if len(checked.first) < SHOWN:
                    checked.first.append(item)
            elif work.skip_bad:
                checked.bad += 1
                if len(checked.complaints) < LISTED:
                    checked.complaints.append(item)
            else:
                raise InputError(f"{item}. Nothing was pushed; --skip-bad leaves out what is bad")
    _complain(checked)
    if not checked.good:
        raise InputError(f"no tokens in {work.name}")
    return checked


def push(work: Work, pool: Pool, total: int) -> Tally:
    """Push it; tells how far it came if it cannot be finished."""
    tally = Tally()
    try:
        with Meter("pushing", "token", total) as meter:
            for answer in pool.push(work.good()):
                tally.add(answer)
                meter.advance()
    except (KeyboardInterrupt, PoolUnreachable, ServerError):
        common.note(
            f"broken off: {tally.counts.total():,} of {common.counted(total, 'token')} pushed so "
            "far. The same command again pushes the rest, and none twice"
        )
        raise
    return tally


def report(tally: Tally, skipped: int, url: str, summary_json: bool) -> int:
    """Say what became of the tokens; returns the exit status."""
    counts = {state: tally.counts[state] for state in PushState}
    if summary_json:
        facts = {"pushed" if s is PushState.ADDED else s.value: n for s, n in counts.items()}
        common.print_json({"pool": url, "view": "Monitor/todo", **facts, "skipped": skipped})
    else:
        line = f"pushed {common.counted(counts[PushState.ADDED], 'token')} to {url} (Monitor/todo)"
        if there := counts[PushState.PRESENT]:
            line += f"; {there:,} {'was' if there == 1 else 'were'} there already"
        click.echo(line)
    if number := counts[PushState.DIFFERENT]:
        common.note(
            f"{common.counted(number, 'token')} not pushed: the pool has other work under the same "
            "id, and kept it. Give other ids (--prefix, or _id in the input), or delete those there"
        )
        _list([answer.id for answer in tally.trouble[PushState.DIFFERENT]], number)
    if number := counts[PushState.REFUSED]:
        common.note(f"{common.counted(number, 'token')} not pushed: refused by the pool")
        _list([str(answer.error) for answer in tally.trouble[PushState.REFUSED]], number)
    return REFUSED if any(counts[state] for state in tally.trouble) else OK


def _complain(checked: Checked) -> None:
    """List what is left out."""
    if checked.bad:
        common.note(f"left out what cannot become a token, {checked.bad:,} in all:")
        _list([str(bad) for bad in checked.complaints], checked.bad)


def _list(lines: Sequence[str], total: int) -> None:
    for line in lines:
        click.echo(f"  {line}", err=True)
    if total > len(lines):
        click.echo(f"  … and {total - len(lines):,} more", err=True)


def _show(checked: Checked, summary_json: bool) -> None:
    """What a dry run prints."""
    if summary_json:
        common.print_json({"tokens": checked.good, "skipped": checked.bad, "dry_run": True})
        return
    for doc in checked.first:
        own = {k: v for k, v in doc.items() if k != "_id" and CLASSIC_DEFAULTS.get(k) != v}
        text = json.dumps(own, ensure_ascii=False)
        if len(text) > _SHOWN_CHARACTERS:
            text = text[:_SHOWN_CHARACTERS] + "…"
        click.echo(f"{doc['_id']}  {text}")
    if checked.good > len(checked.first):
        click.echo(f"… and {checked.good - len(checked.first):,} more")
    click.echo(f"{common.counted(checked.good, 'token')} would be pushed (--dry-run)")


def _sweep(
    file: str | None, sweeps: Sequence[str], template: str | None, is_typed: bool
) -> Sweep | None:
    """The sweep that the options describe, or None."""
    if sweeps and (file is not None or is_typed):
        raise click.UsageError("--sweep makes the tokens itself; leave FILE, --json and --csv out")
    if template is not None and not sweeps:
        raise click.UsageError("--template fills in the values of a sweep; add --sweep NAME=VALUES")
    return Sweep([parse_sweep(text) for text in sweeps], template) if sweeps else None


def _reader(as_json: bool, as_csv: bool) -> Callable[[BinaryIO, str], Iterator[Entry | Bad]]:
    if as_json and as_csv:
        raise click.UsageError("FILE is --json or --csv, not both")
    return inputs.read_json if as_json else inputs.read_csv if as_csv else inputs.read_lines


@contextmanager
def _read_twice(
    file: str | None,
    reader: Callable[[BinaryIO, str], Iterator[Entry | Bad]],
    sweep: Sweep | None,
) -> Iterator[tuple[str, Callable[[], Iterable[Entry | Bad]]]]:
    """The name of what is pushed, and what begins to read it."""
    if sweep is not None:
        yield "the sweep", lambda: sweep
        return
    if file is None and sys.stdin.isatty():
        raise click.UsageError("nothing to push: name a FILE, or - for standard input, or --sweep")
    name = "standard input" if file in (None, "-") else str(file)
    with _opened(name, file) as given, _seekable(given, name) as stream:
        start = stream.tell()

        def read() -> Iterable[Entry | Bad]:
            stream.seek(start)
            return reader(stream, name)

        yield name, read


@contextmanager
def _opened(name: str, file: str | None) -> Iterator[BinaryIO]:
    if file is None or file == "-":
        yield sys.stdin.buffer
        return
    try:
        stream = Path(file).open("rb")  # noqa: SIM115 - closed below; its errors are others
    except OSError as error:
        raise InputError(f"cannot read {name}: {error.strerror}") from error
    with stream:
        yield stream


@contextmanager
def _seekable(stream: BinaryIO, name: str) -> Iterator[BinaryIO]:
    """The stream, or for a pipe a temporary file of what came through it."""
    with nullcontext() if stream.seekable() else tempfile.TemporaryFile() as spool:
        if spool is None:
            yield stream
            return
        try:
            shutil.copyfileobj(stream, spool, 1 << 20)
            spool.seek(0)
        except OSError as error:
            raise InputError(
                f"cannot keep {name} in a temporary file: {error.strerror}; point TMPDIR to a "
                "folder with room"
            ) from error
        yield spool
