"""The feed of changes: at once, as a long poll, or continuous."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.couchdb.double.database import Change, Database, render
from tests.couchdb.double.http import (
    Json,
    Reply,
    Request,
    bad_request,
    dump_json,
    not_found,
    parse_json,
)
from tests.couchdb.double.selector import compile_selector

_FEEDS = ("normal", "continuous", "live", "longpoll")
_LONGEST = 60_000
_FEED_NAMES = "normal, continuous, live, longpoll, eventsource"


@dataclass(slots=True)
class Feed:
    """What a client wants to hear of.

    Attributes:
        since: The last write it knows.
        limit: At most that many changes.
        wanted: A test of documents.
        include_docs: Whether the documents come along.
        pause: Seconds of silence until the feed ends, or until the next heartbeat.
        heartbeat: Whether silence is filled with empty lines instead of ending.
    """

    database: Database
    since: int
    limit: int | None
    wanted: Callable[[Json], bool]
    include_docs: bool
    pause: float
    heartbeat: bool


def answer_changes(request: Request, database: Database) -> Reply:
    """Answer ``_changes``."""
    kind = request.query.get("feed", "normal")
    if kind not in _FEEDS:
        raise bad_request(f"Supported `feed` types: {_FEED_NAMES}")
    feed = _read_feed(request, database)
    if kind == "normal":
        rows, last = _take(feed)
        body = {
            "results": rows,
            "last_seq": database.seq_text(last),
            "pending": _pending(feed, last),
        }
        if request.query.get("descending") == "true":
            rows.reverse()
        return Reply(200, body)
    return Reply(200, stream=_longpoll(feed) if kind == "longpoll" else _continuous(feed))


def _read_feed(request: Request, database: Database) -> Feed:
    body = request.json_object() if request.method == "POST" else {}
    query = request.query
    heartbeat = query.get("heartbeat")
    if heartbeat is not None and heartbeat != "true" and not heartbeat.isdigit():
        reason = "Invalid heartbeat value. Expecting a positive integer value (in milliseconds)."
        raise bad_request(reason)
    milliseconds = min(int(query.get("timeout", _LONGEST)), _LONGEST)
    if heartbeat is not None:
        milliseconds = _LONGEST if heartbeat == "true" else int(heartbeat)
    return Feed(
        database=database,
        since=database.parse_seq(query.get("since", "0")),
        limit=int(query["limit"]) if "limit" in query else None,
        wanted=_filter(request, body),
        include_docs=query.get("include_docs") == "true",
        pause=milliseconds / 1000,
        heartbeat=heartbeat is not None,
    )


def _filter(request: Request, body: dict[str, Json]) -> Callable[[Json], bool]:
    name = request.query.get("filter")
    if name is None:
        return lambda doc: True
    if name == "_selector":
        if request.method != "POST":
            raise bad_request("Selector must be specified in POST payload")
        return compile_selector(body.get("selector"))
    if name == "_doc_ids":
        ids = body.get("doc_ids") or parse_json(request.query.get("doc_ids", "[]"))
        return lambda doc: doc["_id"] in ids
    if name == "_design":
        return lambda doc: str(doc["_id"]).startswith("_design/")
    if "/" not in name:
        raise bad_request("`filter` must be of the form `designname/filtername`")
    raise not_found("missing")


def _take(feed: Feed) -> tuple[list[Json], int]:
    """The changes that are there now, and the write up to which they were looked at."""
    rows: list[Json] = []
    with feed.database.changed:
        seq = feed.since
        for change in feed.database.changes(feed.since):
            if feed.limit is not None and len(rows) >= feed.limit:
                return rows, seq
            seq = change.seq
            if feed.wanted(render(change.id, change.revision)):
                rows.append(_row(feed, change))
        if feed.limit is None or len(rows) < feed.limit:
            seq = max(seq, feed.database.seq)
    return rows, seq


def _row(feed: Feed, change: Change) -> Json:
    row: dict[str, Json] = {
        "seq": feed.database.seq_text(change.seq),
        "id": change.id,
        "changes": [{"rev": change.revision.rev}],
    }
    if change.revision.deleted:
        row["deleted"] = True
    if feed.include_docs:
        row["doc"] = render(change.id, change.revision)
    return row


def _pending(feed: Feed, last: int) -> int:
    with feed.database.changed:
        return sum(1 for _ in feed.database.changes(last))


def _wait(feed: Feed, deadline: float) -> bool:
    """Wait for a write behind `since`; False if none came in time or the database went away."""
    database = feed.database
    with database.changed:
        while database.seq <= feed.since and not database.gone:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            database.changed.wait(left)
        return not database.gone


def _batches(feed: Feed, *, once: bool) -> Iterator[list[Json]]:
    """Changes as they come; an empty list is a heartbeat.

    Writes that nobody wants put the time-out off, as they do in CouchDB.
    """
    while True:
        rows, feed.since = _take(feed)
        if rows:
            yield rows
        done = once and bool(rows)
        if feed.limit is not None:
            feed.limit -= len(rows)
            done = done or feed.limit <= 0
        if done:
            return
        while not _wait(feed, time.monotonic() + feed.pause):
            if not feed.heartbeat or feed.database.gone:
                return
            yield []


def _longpoll(feed: Feed) -> Iterator[bytes]:
    yield b'{"results":[\n'
    for rows in _batches(feed, once=True):
        yield b",\n".join(dump_json(row) for row in rows) or b"\n"
    yield b"\n],\n" + dump_json(_end(feed))[1:] + b"\n"


def _continuous(feed: Feed) -> Iterator[bytes]:
    for rows in _batches(feed, once=False):
        yield b"".join(dump_json(row) + b"\n" for row in rows) or b"\n"
    yield dump_json(_end(feed)) + b"\n"


def _end(feed: Feed) -> Json:
    last = feed.database.seq_text(feed.since)
    return {"last_seq": last, "pending": _pending(feed, feed.since)}
