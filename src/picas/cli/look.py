"""``picas list``, ``show``, ``logs`` and ``get``: look at tokens, and take things out of them."""

import codecs
import json
import os
import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from picas import figures, token, views
from picas.cli import fields, table
from picas.cli.common import console, json_option, note, pool, pool_option, print_json
from picas.cli.table import Column, value
from picas.errors import InputError, TokenMissing
from picas.jobid import JOB_ID_FIELDS
from picas.pool import Pool
from picas.token import Document, State

LIST_LIMIT = 50

_TRACEBACK_LINES = 6

_LIST_COLUMNS = (
    Column("id", least=12),
    Column("state"),
    Column("tries", right=True, optional=True),
    Column("exit", right=True),
    Column("took", right=True, optional=True),
    Column("age", right=True, optional=True),
    Column("host", least=8, optional=True),
    Column("input", least=12),
)
_ATTEMPT_COLUMNS = (
    Column("n", right=True),
    Column("start"),
    Column("took", right=True),
    Column("exit", right=True),
    Column("cpu", right=True, optional=True),
    Column("memory", right=True, optional=True),
    Column("host", least=8),
    Column("job", least=6, optional=True),
    Column("reason", least=10),
)
_NEEDS = ("cores", "memory", "gpus", "time", "priority", "not_before")
_SHOWN = {
    *("_id", "_rev", "_attachments", "input", "lock", "done", "exit_code", "hostname"),
    *("scrub_count", "error", "attempts", "pilot", "lease", "type"),
    *_NEEDS,
    *JOB_ID_FIELDS,
}
# What a log may do to a terminal: colours, tabs and line ends, nothing else.
_CONTROLS = re.compile(r"\x1b\[[0-9;:]*m|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


@click.command("list")
@click.argument("view")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    help=f"Show this many tokens at most.  [default: {LIST_LIMIT}; all with --json]",
)
@click.option(
    "--fields", "chosen", metavar="A,B", help="Show these fields (a.b: inside) beside the id."
)
@json_option
@pool_option
def list_command(
    view: str, limit: int | None, chosen: str | None, as_json: bool, pool_url: str | None
) -> None:
    """List the tokens of a VIEW, in the order of their ids: Monitor/error, or just error."""
    view = "/".join(views.split(view))
    names = None if chosen is None else fields.names(chosen)
    with pool(pool_url) as opened:
        if as_json:
            for doc in opened.find(view, limit=limit):
                shown = doc if names is None else {"_id": doc["_id"], **_chosen(doc, names)}
                click.echo(json.dumps(shown, ensure_ascii=False))
            return
        limit = limit or LIST_LIMIT
        docs = list(islice(opened.find(view, limit=limit + 1), limit + 1))
        if not docs:
            click.echo(f"no tokens in {view}")
            return
        now = opened.now()
        columns: Sequence[Column]
        if names is None:
            columns, rows = _LIST_COLUMNS, [_row(doc, now) for doc in docs[:limit]]
        else:
            columns = (Column("id", least=8), *(Column(name, least=6) for name in names))
            rows = [[d["_id"], *map(value, _chosen(d, names).values())] for d in docs[:limit]]
        table.show(table.table(columns, rows))
        if len(docs) > limit:
            more = max(1, opened.count(view) - limit)
            click.echo(f"… and {more:,} more")


def _row(doc: Document, now: float) -> list[str | Text]:
    """One token in the list."""
    state = token.state(doc)
    tries = max(token.next_attempt(doc) - 1, token.scrub_count(doc))
    runs = figures.finished_attempts(doc)
    took = runs[-1].get("wall") if runs and state is not State.LOCKED else None
    since = _epoch(doc.get("lock" if state is State.LOCKED else "done"))
    return [
        str(doc["_id"]),
        table.state_text(state),
        str(tries) if tries else "",
        value(doc.get("exit_code")),
        _span(took),
        "" if since is None else figures.duration(now - since),
        value(doc.get("hostname")),
        value(doc.get("input")),
    ]


def _chosen(doc: Document, names: Iterable[str]) -> dict[str, Any]:
    """Some fields of a document, None what it has not."""
    return {name: fields.field(doc, name) for name in names}


@click.command("show")
@click.argument("token_id", metavar="ID")
@json_option
@pool_option
def show_command(token_id: str, as_json: bool, pool_url: str | None) -> None:
    """Show a token: its fields, its attempts, its files. A beginning of the ID will do."""
    with pool(pool_url) as opened:
        doc = opened.get(token_id)
        now = opened.now()
    if as_json:
        print_json(doc)
        return
    out = console()
    out.print(Text.assemble((table.safe(doc["_id"]), "bold"), "  ", *_standing(doc)))
    rows = _facts(doc, now)
    width = max((len(name) for name, _ in rows), default=0)
    for name, text in rows:
        out.print(Text.assemble((f"  {table.safe(name):<{width}}  ", "dim"), text))
    _section("attempts", [_attempt_row(entry) for entry in token.attempts(doc)])
    _show_traceback(doc.get("error"))
    _show_attachments(doc)


def _standing(doc: Document) -> list[Text]:
    """The state and, of an error, the exit code."""
    state = token.state(doc)
    if state is None:
        return [Text(value(doc.get("type")))]
    code = f" (exit code {value(doc.get('exit_code'))})" if state is State.ERROR else ""
    return [table.state_text(state), Text(code)]


def _facts(doc: Document, now: float) -> list[tuple[str, str]]:
    """What there is to say about a token, name by name."""
    state = token.state(doc)
    facts = [("input", value(doc.get("input")))]
    for name, when in (("claimed", doc.get("lock")), ("settled", doc.get("done"))):
        if (at := _epoch(when)) is not None:
            facts.append((name, f"{table.clock(at)} ({figures.duration(now - at)} ago)"))
    facts.append(("host", value(doc.get("hostname"))))
    facts += [(name, value(doc.get(name))) for name in JOB_ID_FIELDS]
    if state is State.LOCKED:
        facts.append(("pilot", value(doc.get("pilot"))))
    facts += [(name, value(doc.get(name))) for name in _NEEDS]
    if scrubs := token.scrub_count(doc):
        facts.append(("scrub_count", str(scrubs)))
    facts += [(name, value(content)) for name, content in doc.items() if name not in _SHOWN]
    facts += [("error", text) for text in _messages(doc.get("error"))]
    return [(name, text) for name, text in facts if text]


def _messages(errors: Any) -> list[str]:
    """The lines of the classic ``error`` list, the last line of a traceback."""
    texts = []
    for entry in errors if isinstance(errors, list) else [errors]:
        if isinstance(entry, dict) and "message" in entry:
            at = _epoch(entry.get("time"))
            last = str(entry["message"]).strip().rpartition("\n")[2]
            texts.append((f"{table.clock(at)}  " if at else "") + table.safe(last))
        else:
            texts.append(value(entry))
    return texts


def _show_traceback(errors: Any) -> None:
    """Where the last error came from: the end of its traceback, if it has one."""
    last = errors[-1] if isinstance(errors, list) and errors else None
    message = str(last.get("message", "")) if isinstance(last, dict) else ""
    if message.startswith("Traceback "):
        console().print(Text("\nthe end of the last traceback", style="bold"))
        for line in message.splitlines()[-_TRACEBACK_LINES:]:
            console().print(Text(f"  {table.safe(line)}"))


def _attempt_row(entry: dict[str, Any]) -> list[str | Text]:
    code, reason = entry.get("exit_code"), value(entry.get("reason"))
    start, memory = _epoch(entry.get("start")), entry.get("memory")
    return [
        value(entry.get("n")),
        "" if start is None else table.clock(start),
        _span(entry.get("wall")),
        Text(value(code), style="red" if code else "green"),
        _span(entry.get("cpu")),
        figures.size(memory) if isinstance(memory, int | float) else "",
        value(entry.get("host")),
        value(entry.get("job")),
        "" if reason == f"exit code {code}" else reason,
    ]


def _section(title: str, rows: list[list[str | Text]]) -> None:
    if rows:
        console().print(Text(f"\n{title}", style="bold"))
        table.show(table.table(_ATTEMPT_COLUMNS, rows))


def _show_attachments(doc: Document) -> None:
    files = _attachments(doc)
    if not files:
        return
    click.echo()
    columns = (Column("file", least=12), Column("size", right=True), Column("type", least=6))
    rows = [
        [name, figures.size(stub.get("length", 0)), value(stub.get("content_type"))]
        for name, stub in sorted(files.items())
    ]
    table.show(table.table(columns, rows))


@click.command("logs")
@click.argument("token_id", metavar="ID")
@click.option("--err", is_flag=True, help="Its standard error instead of its standard output.")
@click.option("--attempt", type=click.IntRange(min=1), help="Of this attempt, not the latest.")
@pool_option
def logs_command(token_id: str, err: bool, attempt: int | None, pool_url: str | None) -> None:
    """Print the log of a token: what its command wrote to standard output."""
    stream = "err" if err else "out"
    with pool(pool_url) as opened:
        doc = opened.get(token_id)
        there = _logs(doc, stream)
        number = max(there, default=None) if attempt is None else attempt
        if number is None or number not in there:
            raise TokenMissing(_no_log(doc, attempt, there))
        if attempt is None and token.state(doc) in (State.TODO, State.LOCKED):
            what = "runs again" if token.state(doc) is State.LOCKED else "is to run again"
            note(f"{table.safe(doc['_id'])} {what}; this is the log of attempt {number}")
        _print(opened.attachment(doc["_id"], there[number]))


def _logs(doc: Document, stream: str) -> dict[int, str]:
    """The logs that a token has: attachment by the number of the attempt."""
    runs = [e["n"] for e in figures.finished_attempts(doc) if isinstance(e.get("n"), int)]
    # A classic client attaches its logs without noting an attempt.
    latest = runs[-1] if runs else 1
    names = {n: token.log_name(doc["_id"], stream, n) for n in runs}
    names[latest] = token.log_name(doc["_id"], stream)
    return {n: name for n, name in names.items() if name in _attachments(doc)}


def _no_log(doc: Document, attempt: int | None, there: dict[int, str]) -> str:
    """Why there is no such log, and what there is instead."""
    name = repr(doc["_id"])
    if there:
        numbers = ", ".join(map(str, sorted(there)))
        entry = next((e for e in token.attempts(doc) if e.get("n") == attempt), None)
        why = ""
        if entry is not None and entry.get("exit_code") is None:
            why = f" (it was {value(entry.get('reason')) or 'given back'})"
        return f"attempt {attempt} of {name} has no log{why}; there are logs of: {numbers}"
    state = token.state(doc)
    if state is State.LOCKED:
        host = value(doc.get("hostname"))
        return (
            f"{name} is running on {host}: its logs come into the pool when it ends; until then "
            "they grow there, in the pilot's folder of logs (picas run --logs)"
        )
    if state is State.TODO:
        return f"{name} has no logs: it has not run yet (todo)"
    standing = "no token" if state is None else state.value
    show = f"picas show {shlex.quote(str(doc['_id']))}"
    return f"{name} has no logs in the pool ({standing}); '{show}' tells what it has"


@click.command("get")
@click.argument("token_id", metavar="ID")
@click.argument("name", required=False)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, allow_dash=True),
    metavar="FILE",
    help="Write it into this file or folder; '-' is standard output.",
)
@json_option
@pool_option
def get_command(
    token_id: str, name: str | None, output: Path | None, as_json: bool, pool_url: str | None
) -> None:
    """Take a file out of a token; without NAME, list its files."""
    if name is None and output is not None:
        raise click.UsageError("say which file to write: picas get ID NAME -o FILE")
    if name is not None and as_json:
        raise click.UsageError("--json lists the files of a token; leave NAME out")
    with pool(pool_url) as opened:
        doc = opened.get(token_id)
        files = _attachments(doc)
        if name is None:
            _list_attachments(doc, as_json)
            return
        if name not in files:
            some = ", ".join(sorted(files)) or "none"
            raise TokenMissing(f"{doc['_id']!r} has no file {name!r}; there are: {some}")
        if output is None or str(output) == "-":
            _print(opened.attachment(doc["_id"], name), refuse_binary=output is None)
        else:
            target = output / Path(name).name if output.is_dir() else output
            _save(opened, doc["_id"], name, target)


def _list_attachments(doc: Document, as_json: bool) -> None:
    files = _attachments(doc)
    if as_json:
        facts = [
            {"name": name, "size": stub.get("length"), "type": stub.get("content_type")}
            for name, stub in sorted(files.items())
        ]
        print_json(facts)
        return
    _show_attachments(doc)
    if not files:
        note(f"{table.safe(doc['_id'])} has no files")


def _save(opened: Pool, doc_id: str, name: str, target: Path) -> None:
    """Write an attachment into a file, which is there as a whole or not at all."""
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        try:
            with part.open("xb") as file:
                for piece in opened.attachment(doc_id, name):
                    file.write(piece)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise click.FileError(str(target), error.strerror) from error


def _print(pieces: Iterator[bytes], *, refuse_binary: bool = False) -> None:
    """Bytes to standard output, as they are; on a terminal as text that cannot steer it."""
    if not sys.stdout.isatty():
        for piece in pieces:
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
        return
    first = next(pieces, b"")
    if refuse_binary and b"\0" in first:
        raise InputError("this is no text: write it into a file with -o FILE")
    end = "\n"
    for line in _lines(codecs.iterdecode(_chain(first, pieces), "utf-8", "replace")):
        end = line[-1:]
        sys.stdout.write(_CONTROLS.sub(_spelled, line))
    if end != "\n":
        sys.stdout.write("\n")
    sys.stdout.write("\x1b[0m")
    sys.stdout.flush()


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _lines(texts: Iterable[str]) -> Iterator[str]:
    """Cut at line ends, so that no sequence of characters is torn apart."""
    held = ""
    for text in texts:
        held += text
        *whole, held = held.split("\n")
        yield from (f"{line}\n" for line in whole)
    if held:
        yield held


def _spelled(match: re.Match[str]) -> str:
    text = match[0]
    return text if len(text) > 1 else text.encode("unicode_escape").decode()


def _attachments(doc: Document) -> dict[str, dict[str, Any]]:
    return doc.get("_attachments") or {}


def _epoch(number: Any) -> float | None:
    """A point in time, if it can be one: classic clients also write 0, 1 and 99."""
    plausible = isinstance(number, int | float) and number > 1_000_000_000
    return float(number) if plausible else None


def _span(seconds: Any) -> str:
    return figures.duration(seconds) if isinstance(seconds, int | float) else ""
