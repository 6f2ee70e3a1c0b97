"""How CouchDB tells what changed: the same on a real server and on its double."""

import json
import threading
import time
from typing import Any

import pytest
from tests.couchdb.exchange import Exchange, bad_request, error


def ids(answer: Any) -> str:
    """Ids of the changes in a reply."""
    return "".join(row["id"] for row in answer["results"])


def later(exchange: Exchange, path: str, body: dict[str, Any]) -> threading.Timer:
    """Write a document in a moment, from elsewhere."""

    def write() -> None:
        with exchange.server.raw(f"/{exchange.name}") as raw:
            raw.put(path, body)

    timer = threading.Timer(0.1, write)
    timer.start()
    return timer


def test_changes_in_order(exchange: Exchange) -> None:
    """Every document once, at its latest change; a deletion says so."""
    revs = [exchange.write(f"/{name}", {}) for name in "abc"]
    exchange.write(f"/a?rev={revs[0]}", {"x": 1})
    exchange.write(f"/b?rev={revs[1]}", method="DELETE")
    rows = [
        {"seq": "seq", "id": "c", "changes": [{"rev": "1-*"}]},
        {"seq": "seq", "id": "a", "changes": [{"rev": "2-*"}]},
        {"seq": "seq", "id": "b", "changes": [{"rev": "2-*"}], "deleted": True},
    ]
    answer = {"results": rows, "last_seq": "seq", "pending": 0}
    assert exchange.ask("GET", "/_changes") == (200, answer)
    assert exchange.ask("POST", "/_changes", {}) == (200, answer)
    docs = exchange.ask("GET", "/_changes?include_docs=true")[1]["results"]
    assert docs[1]["doc"] == {"_id": "a", "_rev": "2-*", "x": 1}
    assert docs[2]["doc"] == {"_id": "b", "_rev": "2-*", "_deleted": True}


def test_changes_since_a_point(exchange: Exchange) -> None:
    """``last_seq`` is where to go on; ``now`` is behind everything."""
    exchange.bulk({"_id": "a"}, {"_id": "b"})
    first = exchange.get("/_changes?limit=1").json
    assert (ids(first), first["pending"]) == ("a", 1)
    rest = exchange.get(f"/_changes?since={first['last_seq']}").json
    assert (ids(rest), rest["pending"]) == ("b", 0)
    now = exchange.get("/_changes?since=now").json
    assert ids(now) == ""
    exchange.write("/c", {})
    assert ids(exchange.get(f"/_changes?since={now['last_seq']}").json) == "c"
    assert ids(exchange.get("/_changes?since=0&limit=0").json) == ""
    assert ids(exchange.get("/_changes?descending=true").json) == "cba"


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        ({"n": 1}, "b"),
        ({"n": {"$eq": 1}}, "b"),
        ({"n": {"$gt": 0}}, "bcd"),
        ({"n": {"$gte": 1, "$lt": 2}}, "b"),
        ({"n": {"$ne": 1}}, "acd"),
        ({"n": 0, "t": "x"}, "a"),
        ({"n": {"$in": [0, 2]}}, "ac"),
        ({"n": {"$nin": [0, 2]}}, "bd"),
        ({"n": {"$exists": False}}, "e"),
        ({"n": {"$type": "string"}}, "d"),
        ({"t": {"$regex": "^x"}}, "ab"),
        ({"$or": [{"n": 0}, {"n": 2}]}, "ac"),
        ({"$and": [{"n": {"$gte": 0}}, {"t": "x"}]}, "ab"),
        ({"sub.k": 1}, "c"),
        ({"sub": {"k": 1}}, "c"),
        ({}, "abcde"),
    ],
)
def test_changes_of_chosen_documents(exchange: Exchange, selector: Any, found: str) -> None:
    """A selector chooses; comparison is the one of views."""
    exchange.bulk(
        {"_id": "a", "n": 0, "t": "x"},
        {"_id": "b", "n": 1, "t": "x"},
        {"_id": "c", "n": 2, "sub": {"k": 1}},
        {"_id": "d", "n": "text"},
        {"_id": "e"},
    )
    status, answer = exchange.ask("POST", "/_changes?filter=_selector", {"selector": selector})
    assert (status, "".join(sorted(ids(answer)))) == (200, found)


def test_changes_of_named_documents(exchange: Exchange) -> None:
    """A filter by id, in the body or in the query."""
    exchange.bulk({"_id": "a"}, {"_id": "b"})
    body = {"doc_ids": ["b", "no"]}
    assert ids(exchange.ask("POST", "/_changes?filter=_doc_ids", body)[1]) == "b"
    assert ids(exchange.get('/_changes?filter=_doc_ids&doc_ids=["a"]').json) == "a"


@pytest.mark.parametrize(
    ("query", "body", "status", "reply"),
    [
        (
            "?since=odd",
            None,
            400,
            bad_request("Malformed sequence supplied in 'since' parameter."),
        ),
        (
            "?feed=odd",
            None,
            400,
            bad_request("Supported `feed` types: normal, continuous, live, longpoll, eventsource"),
        ),
        (
            "?filter=_selector",
            None,
            400,
            bad_request("Selector must be specified in POST payload"),
        ),
        ("?filter=_selector", {}, 400, bad_request("Selector error: expected a JSON object")),
        (
            "?filter=_selector",
            {"selector": {"n": {"$odd": 1}}},
            400,
            bad_request("Invalid operator: $odd"),
        ),
        (
            "?filter=odd",
            None,
            400,
            bad_request("`filter` must be of the form `designname/filtername`"),
        ),
        ("?filter=no/x", None, 404, error("not_found", "missing")),
        (
            "?feed=continuous&heartbeat=false",
            None,
            400,
            bad_request(
                "Invalid heartbeat value. Expecting a positive integer value (in milliseconds)."
            ),
        ),
    ],
)
def test_bad_feeds_are_refused(
    exchange: Exchange, query: str, body: Any, status: int, reply: dict[str, str]
) -> None:
    """A feed that cannot be is refused with a reason."""
    method = "GET" if body is None else "POST"
    assert exchange.ask(method, "/_changes" + query, body) == (status, reply)


def test_long_poll_answers_what_is_there(exchange: Exchange) -> None:
    """With changes behind ``since`` it does not wait."""
    exchange.bulk({"_id": "a"}, {"_id": "b"})
    start = time.monotonic()
    answer = exchange.get("/_changes?feed=longpoll&since=0&timeout=10000").json
    assert (ids(answer), time.monotonic() - start < 2) == ("ab", True)
    limited = exchange.get("/_changes?feed=longpoll&since=0&timeout=10000&limit=1").json
    assert (ids(limited), limited["pending"]) == ("a", 1)


def test_long_poll_waits(exchange: Exchange) -> None:
    """It ends with the first change, or empty after its time-out."""
    start = time.monotonic()
    nothing = exchange.get("/_changes?feed=longpoll&since=now&timeout=150").json
    assert (ids(nothing), nothing["pending"]) == ("", 0)
    assert 0.1 < time.monotonic() - start < 5
    timer = later(exchange, "/a", {})
    answer = exchange.get("/_changes?feed=longpoll&since=now&timeout=10000").json
    timer.join()
    assert ids(answer) == "a"
    assert time.monotonic() - start < 5
    assert ids(exchange.get(f"/_changes?since={answer['last_seq']}").json) == ""


def test_long_poll_waits_for_a_chosen_document(exchange: Exchange) -> None:
    """Other changes do not end it, but put its time-out off."""
    path = "/_changes?filter=_selector&feed=longpoll&since=now"
    chosen = {"selector": {"n": 1}}
    timers = [later(exchange, "/other", {"n": 0}), later(exchange, "/a", {"n": 1})]
    assert ids(exchange.ask("POST", path + "&timeout=10000", chosen)[1]) == "a"
    for timer in timers:
        timer.join()
    start = time.monotonic()
    timer = later(exchange, "/another", {"n": 0})
    assert ids(exchange.ask("POST", path + "&timeout=250", chosen)[1]) == ""
    timer.join()
    assert time.monotonic() - start > 0.3


def test_heartbeats_keep_a_long_poll_alive(exchange: Exchange) -> None:
    """Empty lines come while nothing happens, and the reply is JSON nevertheless."""
    timer = later(exchange, "/a", {})
    reply = exchange.get("/_changes?feed=longpoll&since=now&heartbeat=20&timeout=50")
    timer.join()
    assert ids(reply.json) == "a"
    assert reply.body.count(b"\n\n") >= 1


def test_continuous_feed(exchange: Exchange) -> None:
    """One line a change, as it comes; a limit or the time-out ends it with the last point."""
    exchange.write("/a", {})
    lines = exchange.get("/_changes?feed=continuous&timeout=100").body.decode().split("\n")
    rows = [json.loads(line) for line in lines if line]
    assert [row.get("id") for row in rows] == ["a", None]
    assert rows[-1]["pending"] == 0
    exchange.write("/b", {})
    limited = exchange.get("/_changes?feed=continuous&timeout=10000&limit=1").body.split(b"\n")
    assert json.loads(limited[1])["pending"] == 1
    since = rows[-1]["last_seq"]
    body = {"selector": {"_id": "c"}}
    exchange.write("/c", {})
    path = f"/_changes?feed=continuous&timeout=100&filter=_selector&since={since}"
    reply = exchange.raw.post(path, body).body
    assert [json.loads(line).get("id") for line in reply.split(b"\n") if line] == ["c", None]


def test_continuous_feed_is_live(exchange: Exchange) -> None:
    """A change arrives while the feed is open, between heartbeats."""
    raw = exchange.server.raw(f"/{exchange.name}")
    path = f"{raw.prefix}/_changes?feed=continuous&since=now&heartbeat=50"
    raw.connection.request("GET", path, headers=raw.headers)
    response = raw.connection.getresponse()
    try:
        assert response.readline() == b"\n"
        exchange.write("/a", {})
        start = time.monotonic()
        while (line := response.readline()) == b"\n":
            assert time.monotonic() - start < 5
        assert json.loads(line)["id"] == "a"
    finally:
        response.close()
        raw.close()
