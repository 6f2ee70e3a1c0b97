"""What ``picas push`` reads: text lines, JSON and CSV become tokens, in flat memory.

A reader turns a binary stream into entries (the user's fields, and where they stand); `tokens` adds
what ``--set`` says, gives every entry an id and makes the token. All are generators, so that the
same source can be read twice: once to find out whether all of it is good, once to push.

What cannot become a token but leaves the rest readable comes out as a `Bad`, for the caller to stop
at or to count. What spoils the rest of the source (a broken JSON array, an open quote in CSV)
raises `InputError`.
"""

import codecs
import csv
import hashlib
import itertools
import json
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Self

from picas import retry, token
from picas.errors import ConfigError, InputError
from picas.jobid import JOB_ID_FIELDS
from picas.token import MAX_TOKEN_BYTES, Document

MAX_ARRAY_BYTES = 256 * 1024 * 1024
"""The largest JSON array taken: unlike lines, it is held in memory as a whole."""

EXACT_DIGITS = 15
"""Decimal numbers of so many digits keep them all in JSON readers, which use doubles."""

_POOL_FIELDS = frozenset(
    {"lock", "done", "exit_code", "hostname", "scrub_count", "pilot", "lease", "attempts"}
    | {"_rev", "_attachments", *JOB_ID_FIELDS}
)
_NEVER = object()
_INTEGER = re.compile(r"0|-?[1-9][0-9]*")
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]*)\.[0-9]+")
_CONTENT_ID = re.compile(r"token_[0-9a-f]{3}([0-9a-f]{16})")
_LOW_DIGITS = re.compile(rb"[0-9]{1,3}(?![0-9])")
_LIKE_ID = ("id", "_id")
_SPACE = re.compile(r"[ \t\r\n]*")
_JSON_ERRORS = (ValueError, RecursionError)
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Entry:
    """What becomes one token: the user's fields, and where they stand (``a.txt, line 3``)."""

    where: str
    fields: Document


@dataclass(frozen=True, slots=True)
class Bad:
    """What cannot become a token, and why; what stands after it can still be read."""

    where: str
    problem: str

    def __str__(self) -> str:
        return f"{self.where}: {self.problem}"


@dataclass(frozen=True, slots=True)
class _Line:
    where: str
    text: str


def read_lines(stream: BinaryIO, name: str) -> Iterator[Entry | Bad]:
    r"""One token a line: ``input`` is the line. Blank lines are skipped; ``#`` means nothing.

    Args:
        stream: UTF-8 text; line ends are ``\n`` or ``\r\n``.
        name: What messages call it.
    """
    for line in _lines(stream, name):
        if isinstance(line, Bad):
            yield line
        elif line.text.strip():
            yield Entry(line.where, {"input": line.text})


def read_json(stream: BinaryIO, name: str) -> Iterator[Entry | Bad]:
    """One token a JSON object: an object a line (JSON Lines), or one array of objects.

    The first character that is no space decides. An array is read into memory. A name that stands
    twice in one object is refused.

    Args:
        stream: UTF-8 text; seekable.
        name: What messages call it.

    Raises:
        InputError: The array is broken or over `MAX_ARRAY_BYTES`.
    """
    if _is_array(stream):
        yield from _array(stream, name)
        return
    for line in _lines(stream, name):
        if isinstance(line, Bad):
            yield line
        elif line.text.strip():
            yield _json_line(line)


def read_csv(stream: BinaryIO, name: str) -> Iterator[Entry | Bad]:
    """One token a row: the header row names the fields, an empty cell leaves its field out.

    Cells that are plain numbers, ``true`` or ``false`` become JSON values (see `cell_value`),
    but for the columns ``input`` and ``_id``, which stay texts.

    Args:
        stream: UTF-8 text, with commas between the cells.
        name: What messages call it.

    Raises:
        InputError: The header cannot be used, or the file cannot be read on: a stray quote, a line
            that is not UTF-8.
    """
    rows = _rows(stream, name)
    header = _header(next(rows, None), name)
    for where, row in rows:
        if len(row) != len(header):
            problem = f"number of cells {len(row)}, but the header has {len(header)}"
            yield Bad(where, f"{problem}; put a cell that holds a comma in quotes")
            continue
        fields = {
            column: cell if column in ("input", "_id") else cell_value(cell)
            for column, cell in zip(header, row, strict=True)
            if cell
        }
        yield Entry(where, fields) if fields else Bad(where, "all cells are empty")


def cell_value(text: str) -> Any:
    """What a CSV cell means: an integer, a decimal, true or false; anything else is a text.

    Texts they stay: numbers with leading zeros, a plus sign or an exponent (``007``, ``12e5`` are
    names as often as numbers), and those of over 15 digits, which JSON readers would round.
    """
    if text in ("true", "false"):
        return text == "true"
    if _INTEGER.fullmatch(text):
        return int(text) if len(text.lstrip("-")) <= EXACT_DIGITS else text
    if _DECIMAL.fullmatch(text):
        digits = text.lstrip("-0.").replace(".", "")
        return float(text) if len(digits) <= EXACT_DIGITS else text
    return text


class Identifier:
    """Gives ids to the tokens of one pass over one push; close it afterwards.

    Without a prefix an id tells the token's fields and how many equal tokens came before it: equal
    lines become tokens of their own, and the same push again has the same ids, so it adds nothing.
    It begins with three digits that tokens share which differ in low digits of numbers only: they
    lie together in the database, where they are cheaper to work on (ADR 0007).
    An ``_id`` that the user gave is kept. Memory stays flat: the ids seen are in a temporary file.

    Args:
        prefix: Number the tokens by position instead: ``P0``, ``P1``, …
    """

    def __init__(self, prefix: str | None = None) -> None:
        if prefix is not None and (not prefix or prefix.startswith("_")):
            raise InputError(f"the prefix {prefix!r} cannot begin an id; begin it with a letter")
        self._prefix = prefix
        # An empty name is a database of its own in a temporary file, which SQLite removes.
        self._seen = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._seen.execute("PRAGMA journal_mode = OFF")
        self._seen.execute("PRAGMA cache_size = -2048")
        self._seen.execute("CREATE TABLE seen (id INTEGER PRIMARY KEY, n INTEGER, place TEXT)")
        self._seen.execute("BEGIN")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the temporary file."""
        self._seen.close()

    def assign(self, fields: Mapping[str, Any], position: int, where: str) -> str:
        """The id of the token with these fields.

        Args:
            fields: The user's fields.
            position: How many entries, good or bad, came before it.
            where: Where it stands, for the message about an id that comes twice.

        Raises:
            InputError: The ``_id`` is no text, or was there before in this push.
            ConfigError: There is no room for the temporary file.
        """
        try:
            if "_id" in fields:
                return self._given(fields["_id"], where)
            if self._prefix is not None:
                return self._given(f"{self._prefix}{position}", where)
            return self._from_content(fields)
        except sqlite3.Error as error:
            raise ConfigError(
                f"cannot keep the ids of this push in a temporary file: {error}; "
                "point SQLITE_TMPDIR to a directory with room"
            ) from error

    def _given(self, token_id: Any, where: str) -> str:
        if not isinstance(token_id, str) or not token_id:
            raise InputError(f"the _id {token_id!r} must be a text that is not empty")
        if made := _CONTENT_ID.fullmatch(token_id):
            key = _key(bytes.fromhex(made[1]))
        else:
            key = _key(hashlib.sha256(token_id.encode("utf-8", "surrogatepass")).digest())
        if not self._take(key, where):
            query = "SELECT place FROM seen WHERE id = ?"
            (first,) = self._seen.execute(query, (key,)).fetchone()
            raise InputError(
                f"the id {token_id!r} comes twice in this push, first in "
                f"{first or 'an equal token without an _id'}; give each token its own"
            )
        return token_id

    def _from_content(self, fields: Mapping[str, Any]) -> str:
        content = _CANONICAL.encode(fields).encode("utf-8", "surrogatepass")
        digest = hashlib.sha256(content + b"\n0").digest()
        key = _key(digest)
        while not self._take(_key(digest), None):
            self._seen.execute("UPDATE seen SET n = n + 1 WHERE id = ?", (key,))
            (n,) = self._seen.execute("SELECT n FROM seen WHERE id = ?", (key,)).fetchone()
            digest = hashlib.sha256(b"%b\n%d" % (content, n)).digest()
        return f"token_{_family(content)}{digest[:8].hex()}"

    def _take(self, key: int, place: str | None) -> bool:
        """Note an id as used; False if it was used before."""
        insert = "INSERT OR IGNORE INTO seen VALUES (?, 0, ?)"
        return self._seen.execute(insert, (key, place)).rowcount == 1


def tokens(
    items: Iterable[Entry | Bad], *, sets: Mapping[str, Any], ids: Identifier
) -> Iterator[Document | Bad]:
    """Make the tokens of a push.

    Args:
        items: From a reader, or a `picas.sweeps.Sweep`.
        sets: Fields for every token, by (dotted) name; they win over those of an entry, and count
            in an id made from the content.
        ids: A fresh one for every pass.
    """
    for position, item in enumerate(items):
        if isinstance(item, Bad):
            yield item
            continue
        try:
            fields = _with_sets(item.fields, sets)
            _check_free(fields)
            if isinstance(policy := fields.get("retry"), dict):  # else a field of the user's own
                retry.read(policy)
            yield token.new(fields, ids.assign(fields, position, item.where))
        except InputError as error:
            yield Bad(item.where, str(error))
        except RecursionError:
            yield Bad(item.where, "nested too deeply for a token")


def _with_sets(fields: Document, sets: Mapping[str, Any]) -> Document:
    changed = dict(fields)
    for name, value in sets.items():
        *path, last = name.split(".")
        place = changed
        for part in path:
            inner = place.get(part, {})
            if not isinstance(inner, dict):
                raise InputError(f"{name} cannot be set: {part!r} is not an object here")
            place[part] = dict(inner)
            place = place[part]
        place[last] = value
    return changed


def _check_free(fields: Document) -> None:
    """Refuse what would make a new token look claimed or settled."""
    for name in sorted(_POOL_FIELDS & fields.keys()):
        if fields[name] != token.CLASSIC_DEFAULTS.get(name, _NEVER):
            raise InputError(f"the field {name!r} is written by the pool only; leave it out")


def _lines(stream: BinaryIO, name: str) -> Iterator[_Line | Bad]:
    """The lines without their ends; never more than one of them in memory."""
    for number in itertools.count(1):
        line = stream.readline(MAX_TOKEN_BYTES + 2)
        if not line:
            return
        where = f"{name}, line {number}"
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        content = line.removesuffix(b"\n").removesuffix(b"\r")
        if len(content) > MAX_TOKEN_BYTES:
            yield Bad(where, _too_long(len(content) + _skip_line(stream, line)))
            continue
        try:
            yield _Line(where, content.decode())
        except UnicodeDecodeError as error:
            yield Bad(where, _not_utf8(error, error.start))


def _skip_line(stream: BinaryIO, piece: bytes) -> int:
    """Read to the end of a line that began with `piece`; how many bytes more it had."""
    size = 0
    while piece and not piece.endswith(b"\n"):
        piece = stream.readline(1 << 20)
        size += len(piece.rstrip(b"\r\n"))
    return size


def _is_array(stream: BinaryIO) -> bool:
    start, found = stream.tell(), b""
    while not found and (chunk := stream.read(1 << 16)):
        found = chunk.removeprefix(codecs.BOM_UTF8).lstrip()
    stream.seek(start)
    return found.startswith(b"[")


def _json_line(line: _Line) -> Entry | Bad:
    try:
        value = _JSON.decode(line.text)
    except _JSON_ERRORS as error:
        return Bad(line.where, _json_problem(error))
    return _json_entry(line.where, value)


def _json_entry(where: str, value: Any) -> Entry | Bad:
    if isinstance(value, dict):
        return Entry(where, value)
    return Bad(where, 'not a JSON object; write {"input": …}')


def _array(stream: BinaryIO, name: str) -> Iterator[Entry | Bad]:
    text, line, counted = _whole(stream, name), 1, 0
    for start, end, value in _elements(text, name):
        line, counted = line + text.count("\n", counted, start), start
        where, size = f"{name}, line {line}", len(text[start:end].encode())
        yield _json_entry(where, value) if size <= MAX_TOKEN_BYTES else Bad(where, _too_long(size))


def _whole(stream: BinaryIO, name: str) -> str:
    data = stream.read(MAX_ARRAY_BYTES + 1)
    if len(data) > MAX_ARRAY_BYTES:
        raise InputError(
            f"{name}: an array of over {MAX_ARRAY_BYTES:,} bytes; "
            "write one object a line instead (jq -c '.[]' does that)"
        )
    try:
        return data.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        # The codec's own copy of the bytes: without a byte order mark before the first line.
        before = error.object[: error.start]
        column = error.start - (before.rfind(b"\n") + 1)
        where = f"{name}, line {before.count(10) + 1}"
        raise InputError(f"{where}: {_not_utf8(error, column)}") from error


def _elements(text: str, name: str) -> Iterator[tuple[int, int, Any]]:
    """Start, end and value of each element of an array, decoded one by one."""
    at = text.index("[")
    try:
        at = _past_space(text, at + 1)
        more = not text.startswith("]", at)
        while more:
            value, end = _JSON.raw_decode(text, at)
            yield at, end, value
            at = _past_space(text, end)
            if more := text.startswith(",", at):
                at = _past_space(text, at + 1)
        if not text.startswith("]", at):
            raise json.JSONDecodeError("Expecting ',' delimiter", text, at)
        if (rest := _past_space(text, at + 1)) != len(text):
            raise json.JSONDecodeError("Extra data", text, rest)
    except _JSON_ERRORS as error:
        line = text.count("\n", 0, getattr(error, "pos", at)) + 1
        raise InputError(f"{name}, line {line}: {_json_problem(error)}") from error


def _past_space(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    return space.end() if space else at


def _once(pairs: list[tuple[str, Any]]) -> Document:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _TwiceError(f"the name {twice!r} stands twice in one object")
    return fields


def _json_problem(error: Exception) -> str:
    match error:
        case json.JSONDecodeError():
            return f"not JSON: {error.msg} (column {error.colno})"
        case RecursionError():
            return "nested too deeply for a token"
        case _TwiceError():
            return f"{error}; keep one of the two"
    # The only other thing that the standard library refuses is the length of an integer.
    return "a number of thousands of digits; write it as a text, in quotes"


def _rows(stream: BinaryIO, name: str) -> Iterator[tuple[str, list[str]]]:
    """The rows that are not blank, and where each begins (a quoted cell may span lines)."""
    rows = csv.reader(_csv_lines(stream, name), strict=True)
    while True:
        where = f"{name}, line {rows.line_num + 1}"
        try:
            row = next(rows, None)
        except csv.Error as error:
            problem = f"not CSV: {error}; is a quote not closed, or not doubled inside a cell?"
            raise InputError(f"{where}: {problem}") from error
        if row is None:
            return
        if row:
            yield where, row


def _csv_lines(stream: BinaryIO, name: str) -> Iterator[str]:
    for line in _lines(stream, name):
        if isinstance(line, Bad):
            # Behind it, nobody knows whether a quoted cell is open.
            raise InputError(str(line))
        yield line.text + "\n"


def _header(row: tuple[str, list[str]] | None, name: str) -> list[str]:
    if row is None:
        raise InputError(f"{name}: empty; the first row must name the columns")
    where, header = row[0], [column.strip() for column in row[1]]
    if "" in header:
        raise InputError(f"{where}: column {header.index('') + 1} has no name in the header row")
    if "_id" not in header and (odd := next((c for c in header if c.lower() in _LIKE_ID), None)):
        raise InputError(
            f"{where}: a column {odd!r}, but none '_id': did you mean '_id', the token's id? "
            "If it is a field of your own, give it another name"
        )
    if twice := next((column for column in header if header.count(column) > 1), None):
        raise InputError(f"{where}: the header row names the column {twice!r} twice")
    return header


def _family(content: bytes) -> str:
    """What contents share that differ in the last three digits of numbers only."""
    return hashlib.sha256(_LOW_DIGITS.sub(b"", content)).hexdigest()[:3]


def _key(digest: bytes) -> int:
    """The first 64 bits: a row's number in SQLite, so that an id takes a dozen bytes."""
    return int.from_bytes(digest[:8], signed=True)


def _too_long(size: int) -> str:
    return (
        f"{size:,} bytes, and a token can have {MAX_TOKEN_BYTES:,}; "
        "put the data in a file, and its name in the token"
    )


def _not_utf8(error: UnicodeDecodeError, offset: int) -> str:
    byte = error.object[error.start]
    return f"not UTF-8: byte 0x{byte:02x} at byte {offset + 1}; convert it, for example with iconv"


class _TwiceError(ValueError):
    """A name stands twice in one JSON object."""


_JSON = json.JSONDecoder(object_pairs_hook=_once)
