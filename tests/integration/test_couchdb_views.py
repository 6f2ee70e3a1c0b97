"""How CouchDB lists and counts documents: the same on a real server and on its double."""

import json
import random
import time
from typing import Any
from urllib.parse import quote

import pytest
from tests.couchdb.exchange import DELETED, MISSING, Exchange, bad_request, error

BY_KEY = "function (doc) { emit(doc.k, null); }"
VALUES: list[Any] = [
    None, False, True, -1, 0, 1, 2.5, 10, "", " ", "_", "-", "[", "10", "9", "a", "A", "a b", "a-b",
    "aa", "ab", "b", "B", "é", "z", "Z", [], [None], [1], [1, 2], ["a"], [[]], {}, {"a": 1},
    {"a": 1, "b": 1}, {"a": 2}, {"b": 0},
]  # fmt: skip
"""Values in the order of their collation."""


def design(exchange: Exchange, views: dict[str, Any] | None = None, **more: Any) -> str:
    """Store a design document; the path of its views."""
    given = {**(views or {}), **more}
    maps = {n: view if isinstance(view, dict) else {"map": view} for n, view in given.items()}
    exchange.write("/_design/d", {"views": maps})
    return "/_design/d/_view"


def arguments(**given: Any) -> str:
    """A query whose values are JSON."""
    return "?" + "&".join(f"{name}={quote(json.dumps(value))}" for name, value in given.items())


def test_all_docs_are_in_the_order_of_bytes(exchange: Exchange) -> None:
    """Ids are compared byte by byte, designs among them."""
    exchange.bulk(*({"_id": doc_id} for doc_id in ("b", "a", "B", "é", "a1", "a-1", "10", "2")))
    exchange.write("/_design/d", {})
    ids = ["10", "2", "B", "_design/d", "a", "a-1", "a1", "b", "é"]
    assert [row[0] for row in exchange.rows("/_all_docs")] == ids
    assert [row[0] for row in exchange.rows("/_all_docs?descending=true")] == ids[::-1]
    row = {"id": "10", "key": "10", "value": {"rev": "1-*"}}
    answer = {"total_rows": 9, "offset": 0, "rows": [row]}
    assert exchange.ask("GET", "/_all_docs?limit=1") == (200, answer)


@pytest.mark.parametrize(
    ("query", "offset", "ids"),
    [
        (arguments(startkey="b", endkey="d"), 1, "bcd"),
        (arguments(startkey="b", endkey="d", inclusive_end=False), 1, "bc"),
        (arguments(startkey="d", endkey="b", descending=True), 1, "dcb"),
        (arguments(startkey="d", endkey="b", descending=True, inclusive_end=False), 1, "dc"),
        (arguments(startkey="b", endkey="a"), 1, ""),
        (arguments(limit=2, skip=1), 1, "bc"),
        (arguments(limit=2, skip=9), 5, ""),
        (arguments(limit=0), 0, ""),
        (arguments(key="c"), 2, "c"),
        (arguments(key="bb"), 2, ""),
        (arguments(key=5), 0, ""),
        (arguments(start_key="c", end_key="cc"), 2, "c"),
    ],
)
def test_ranges_of_ids(exchange: Exchange, query: str, offset: int, ids: str) -> None:
    """Ranges, limits and skips of ``_all_docs``, and the offset it tells."""
    exchange.bulk(*({"_id": doc_id} for doc_id in "abcde"))
    for method, path, body in (
        ("GET", "/_all_docs" + query, None),
        ("POST", "/_all_docs" + query, {}),
    ):
        status, answer = exchange.ask(method, path, body)
        found = "".join(row["id"] for row in answer["rows"])
        assert (status, answer["total_rows"], answer["offset"], found) == (200, 5, offset, ids)


def test_keys_of_ids(exchange: Exchange) -> None:
    """Every id asked for has its row: missing and deleted ones too."""
    exchange.bulk({"_id": "a"}, {"_id": "b"})
    exchange.write(f"/b?rev={exchange.get('/b').json['_rev']}", method="DELETE")
    body = {"keys": ["b", "no", "a", "a"], "include_docs": True}
    there = {"id": "a", "key": "a", "value": {"rev": "1-*"}, "doc": {"_id": "a", "_rev": "1-*"}}
    gone = {"id": "b", "key": "b", "value": {"rev": "2-*", "deleted": True}, "doc": None}
    rows = [gone, {"key": "no", "error": "not_found"}, there, there]
    answer = {"total_rows": 1, "offset": None, "rows": rows}
    assert exchange.ask("POST", "/_all_docs", body) == (200, answer)
    limited = exchange.ask("POST", "/_all_docs?skip=1&limit=1", {"keys": ["b", "no", "a"]})
    assert limited[1]["rows"] == [{"key": "no", "error": "not_found"}]
    assert exchange.ask("POST", "/_all_docs", {"keys": "a"})[0] == 400
    assert exchange.ask("GET", "/_all_docs" + arguments(keys=["a", "b"], key="a"))[0] == 400


def test_keys_of_views_collate(exchange: Exchange) -> None:
    """Null, booleans, numbers, texts, arrays, objects: in CouchDB's order; equals by id."""
    shuffled = list(enumerate(VALUES))
    random.Random(1).shuffle(shuffled)
    exchange.bulk(*({"_id": f"d{n:02}", "k": value} for n, value in shuffled))
    view = design(exchange, v=BY_KEY) + "/v"
    assert [key for _, key in exchange.rows(view)] == VALUES
    assert [key for _, key in exchange.rows(view + "?descending=true")] == VALUES[::-1]


def test_texts_of_views_collate(exchange: Exchange) -> None:
    """Random texts of ASCII sort as they do in Unicode's root collation."""
    dice = random.Random(7)
    letters = "aAbBzZ019 _-.:/+=~#@"
    texts = sorted({"".join(dice.choices(letters, k=dice.randint(1, 4))) for _ in range(300)})
    exchange.bulk(*({"_id": f"d{n:03}", "k": text} for n, text in enumerate(texts)))
    view = design(exchange, v=BY_KEY) + "/v"
    found = [key for _, key in exchange.rows(view)]
    order = " _-:.@/#+=~019abz"
    expected = sorted(
        texts,
        key=lambda text: (
            [order.index(char.lower()) for char in text],
            [char.isupper() for char in text],
        ),
    )
    assert found == expected


@pytest.mark.parametrize(
    ("query", "offset", "ids"),
    [
        (arguments(key=2), 1, ["b", "c"]),
        (arguments(startkey=2), 1, ["b", "c", "d"]),
        (arguments(endkey=2), 0, ["a", "b", "c"]),
        (arguments(endkey=2, inclusive_end=False), 0, ["a"]),
        (arguments(startkey=2, descending=True), 1, ["c", "b", "a"]),
        (arguments(startkey=3, endkey=2, descending=True, inclusive_end=False), 0, ["d"]),
        ("?startkey=2&startkey_docid=c", 2, ["c", "d"]),
        ("?startkey_docid=c", 0, ["a", "b", "c", "d"]),
        ("?startkey=2&startkey_docid=b&endkey=2&endkey_docid=b", 1, ["b"]),
        ("?startkey=2&startkey_docid=b&descending=true", 2, ["b", "a"]),
        (arguments(skip=1, limit=1), 1, ["b"]),
        (arguments(skip=9), 4, []),
        (arguments(limit=0), 0, []),
        (arguments(startkey=1.5, endkey=1.7), 1, []),
        (arguments(startkey={}), 4, []),
    ],
)
def test_ranges_of_views(exchange: Exchange, query: str, offset: int, ids: list[str]) -> None:
    """Ranges, limits, skips and offsets of a view."""
    exchange.bulk(*({"_id": i, "k": k} for i, k in zip("abcd", (1, 2, 2, 3), strict=True)))
    view = design(exchange, v=BY_KEY) + "/v"
    status, answer = exchange.ask("GET", view + query)
    found = [row["id"] for row in answer["rows"]]
    assert (status, answer["total_rows"], answer["offset"], found) == (200, 4, offset, ids)


def test_keys_of_views(exchange: Exchange) -> None:
    """Several keys: their rows in the order asked, by GET and by POST."""
    exchange.bulk(*({"_id": i, "k": k} for i, k in zip("abcd", (1, 2, 2, 3), strict=True)))
    view = design(exchange, v=BY_KEY) + "/v"
    rows = [("d", 3), ("b", 2), ("c", 2)]
    assert exchange.rows(view + arguments(keys=[3, 9, 2])) == rows
    status, answer = exchange.ask("POST", view, {"keys": [3, 9, 2], "limit": 2})
    assert (status, [row["id"] for row in answer["rows"]]) == (200, ["d", "b"])
    assert exchange.ask("POST", view, {"key": 3})[1]["rows"][0]["id"] == "d"
    assert exchange.ask("POST", view, {"keys": 3}) == (
        400,
        bad_request("`keys` member must be an array."),
    )
    assert exchange.ask("POST", view, b"{}")[0] == 415


@pytest.mark.parametrize(
    ("query", "reply"),
    [
        ("?limit=-1", error("query_parse_error", 'Invalid value for positive integer: "-1"')),
        ("?skip=x", error("query_parse_error", 'Invalid value for integer: "x"')),
        ("?key=x", bad_request("invalid UTF-8 JSON")),
        ("?update=x", error("query_parse_error", "Invalid value for `update`.")),
        ("?reduce=true", error("query_parse_error", "Reduce is invalid for map-only views.")),
        ("?group=true", error("query_parse_error", "Invalid use of grouping on a map view.")),
        (
            "?startkey=2&endkey=1",
            error(
                "query_parse_error",
                "No rows can match your key range, reverse your start_key and end_key or set "
                "descending=true",
            ),
        ),
    ],
)
def test_bad_questions_are_refused(exchange: Exchange, query: str, reply: dict[str, str]) -> None:
    """A parameter that makes no sense is refused with a reason; unknown ones are ignored."""
    view = design(exchange, v=BY_KEY) + "/v"
    assert exchange.ask("GET", view + query) == (400, reply)
    assert exchange.ask("GET", view + "?unknown=1")[0] == 200


def test_missing_views(exchange: Exchange) -> None:
    """A view that is not there, a design that is not there, a design that is gone."""
    view = design(exchange, v=BY_KEY)
    assert exchange.ask("GET", view + "/no") == (404, error("not_found", "missing_named_view"))
    assert exchange.ask("GET", "/_design/no/_view/v") == (404, MISSING)
    rev = exchange.get("/_design/d").json["_rev"]
    exchange.write(f"/_design/d?rev={rev}", method="DELETE")
    assert exchange.ask("GET", view + "/v") == (404, DELETED)


def test_what_a_map_function_emits(exchange: Exchange) -> None:
    """Several rows a document; undefined is null; the document cannot be changed in it."""
    source = """function (doc) {
        doc.n = 5;
        emit(doc.n, doc._rev.length); emit([isArray(doc.l), sum(doc.l)], toJSON({a: 1}));
        emit(); emit('same', 'x'); emit('same', 2); emit('same', {});
    }"""
    exchange.write("/a", {"n": 1, "l": [1, 2]})
    view = design(exchange, v=source) + "/v"
    rows = [(row["key"], row["value"]) for row in exchange.get(view).json["rows"]]
    same = [("same", 2), ("same", {}), ("same", "x")]
    assert rows == [(None, None), (1, 34), *same, ([True, 3], '{"a":1}')]


def test_failing_map_function_skips_the_document(exchange: Exchange) -> None:
    """A function that throws is as if it had emitted nothing; other views go on."""
    exchange.bulk({"_id": "a", "bad": True}, {"_id": "b"})
    source = "function (doc) { emit(1, 1); if (doc.bad) throw 'no'; }"
    view = design(exchange, bad=source, broken="function (d) { nothing(); }", good=BY_KEY)
    assert exchange.rows(view + "/bad") == [("b", 1)]
    assert exchange.rows(view + "/broken") == []
    assert exchange.rows(view + "/good") == [("a", None), ("b", None)]


@pytest.mark.parametrize(
    ("views", "name", "reason"),
    [
        ({"v": {"map": "function ("}}, "compilation_error", "Compilation of the map function in"),
        ({"v": {"map": "5"}}, "compilation_error", "Compilation of the map function in the 'v'"),
        ({"v": {}}, "invalid_design_doc", "View `v` must contain map function"),
        ({"v": {"map": 5}}, "invalid_design_doc", "`views.v.map` field must have string type"),
        (5, "invalid_design_doc", "`views` field must have object type"),
        (
            {"v": {"map": BY_KEY, "reduce": "_odd"}},
            "invalid_design_doc",
            "`_odd` is not a supported reduce function.",
        ),
        (
            {"v": {"map": BY_KEY, "reduce": "function ("}},
            "compilation_error",
            "Compilation of the reduce function in the 'v' view failed: ",
        ),
    ],
)
def test_bad_designs_are_refused(exchange: Exchange, views: Any, name: str, reason: str) -> None:
    """A design document whose functions do not compile is not stored."""
    status, reply = exchange.ask("PUT", "/_design/d", {"views": views})
    assert (status, reply["error"]) == (400, name)
    assert reply["reason"].startswith(reason)
    assert exchange.ask("GET", "/_design/d") == (404, MISSING)


def reduced(exchange: Exchange, path: str) -> list[tuple[Any, Any]]:
    """Keys and values of a reduced view."""
    reply = exchange.get(path)
    assert reply.status == 200, reply.body
    return [(row["key"], row["value"]) for row in reply.json["rows"]]


def test_built_in_reduces(exchange: Exchange) -> None:
    """``_sum``, ``_count`` and ``_stats``: of all, by group, and of nothing."""
    exchange.bulk(*({"_id": f"d{n}", "g": "ab"[n % 2], "n": n} for n in range(4)))
    source = "function (doc) { emit([doc.g, doc.n], doc.n); }"
    kinds = ("_sum", "_count", "_stats")
    view = design(exchange, {kind[1:]: {"map": source, "reduce": kind} for kind in kinds})
    assert reduced(exchange, view + "/sum") == [(None, 6)]
    assert reduced(exchange, view + "/count?group_level=1") == [(["a"], 2), (["b"], 2)]
    stats = {"sum": 4, "count": 2, "min": 1, "max": 3, "sumsqr": 10}
    assert reduced(exchange, view + "/stats?group_level=1&skip=1") == [(["b"], stats)]
    assert reduced(exchange, view + "/sum?group=true&limit=2") == [(["a", 0], 0), (["a", 2], 2)]
    assert reduced(exchange, view + "/sum?group_level=1&descending=true")[0] == (["b"], 4)
    assert reduced(exchange, view + "/sum" + arguments(key="none")) == []
    assert reduced(exchange, view + "/sum" + arguments(startkey=["b"], endkey=["b", {}])) == [
        (None, 4)
    ]
    keys = [["b", 3], ["z"], ["a", 2]]
    wanted = reduced(exchange, view + "/sum" + arguments(keys=keys, group=True))
    assert wanted == [(["b", 3], 3), (["a", 2], 2)]
    assert exchange.ask("GET", view + "/sum" + arguments(keys=keys))[0] == 400
    assert exchange.rows(view + "/sum?reduce=false&limit=1") == [("d0", ["a", 0])]
    reply = error("query_parse_error", "`include_docs` is invalid for reduce")
    assert exchange.ask("GET", view + "/sum?include_docs=true") == (400, reply)


def test_sums_of_structures(exchange: Exchange) -> None:
    """``_sum`` adds arrays and objects member by member, and says what it cannot add."""
    exchange.bulk({"_id": "a"}, {"_id": "b"})
    emits = {
        "list": "[1, 2]",
        "object": "{x: 1}",
        "mixed": "doc._id == 'a' ? 5 : [1, 2]",
        "text": "'x'",
    }
    view = design(
        exchange,
        {
            name: {"map": f"function (doc) {{ emit(null, {value}); }}", "reduce": "_sum"}
            for name, value in emits.items()
        },
    )
    assert reduced(exchange, view + "/list") == [(None, [2, 4])]
    assert reduced(exchange, view + "/object") == [(None, {"x": 2})]
    assert reduced(exchange, view + "/mixed") == [(None, [6, 2])]
    ((_, problem),) = reduced(exchange, view + "/text")
    assert (problem["error"], problem["caused_by"]) == ("builtin_reduce_error", "x")


def test_javascript_reduces(exchange: Exchange) -> None:
    """A reduce function gets keys with ids, is called again on its results, may fail to null."""
    exchange.bulk(*({"_id": f"d{n:03}"} for n in range(250)))
    count = "function (keys, values, again) { return again ? sum(values) : values.length; }"
    first = "function (keys, values, again) { return again ? values[0] : keys[0]; }"
    view = design(
        exchange,
        count={"map": "function (doc) { emit(doc._id, 1); }", "reduce": count},
        keys={"map": "function (d) { emit(d._id, 1); }", "reduce": first},
        fails={"map": "function (d) { emit(1, 1); }", "reduce": "function () { throw 1; }"},
    )
    assert reduced(exchange, view + "/count") == [(None, 250)]
    assert reduced(exchange, view + '/keys?key="d001"') == [(None, ["d001", "d001"])]
    assert reduced(exchange, view + "/fails?key=1") == [(None, None)]


def test_documents_of_rows(exchange: Exchange) -> None:
    """``include_docs`` adds the newest document, or the one that the value names."""
    exchange.bulk({"_id": "a", "x": 1}, {"_id": "b"})
    source = "function (doc) { if (doc.x) { emit(1); emit(2, {_id: 'b'}); emit(3, {_id: 'no'}); } }"
    view = design(exchange, v=source) + "/v?include_docs=true"
    docs = [row["doc"] for row in exchange.ask("GET", view)[1]["rows"]]
    assert docs == [{"_id": "a", "_rev": "1-*", "x": 1}, {"_id": "b", "_rev": "1-*"}, None]


def test_views_follow_updates(exchange: Exchange) -> None:
    """Changed documents move, deleted ones leave, designs are not mapped."""
    first = exchange.write("/a", {"k": 1})
    gone = exchange.write("/b", {"k": 2})
    view = design(exchange, v=BY_KEY) + "/v"
    assert exchange.rows(view) == [("a", 1), ("b", 2)]
    exchange.write("/a", {"k": 3, "_rev": first})
    exchange.write(f"/b?rev={gone}", method="DELETE")
    exchange.write("/c", {"k": 0})
    assert exchange.rows(view) == [("c", 0), ("a", 3)]


def test_stale_views(exchange: Exchange) -> None:
    """``update=false`` reads the index as it stands, ``update=lazy`` too, but then updates it."""
    exchange.write("/a", {"k": 1})
    view = design(exchange, v=BY_KEY) + "/v"
    stale_rows = [[], [("a", 1)]] if exchange.server.kind == "real" else [[]]
    assert exchange.rows(view + "?update=false") in stale_rows
    assert exchange.rows(view) == [("a", 1)]
    gone = exchange.write("/b", {"k": 2})
    both = [("a", 1), ("b", 2)]
    # The real server also indexes in the background, when it finds the time.
    may_be = [[("a", 1)], both] if exchange.server.kind == "real" else [[("a", 1)]]
    assert exchange.rows(view + "?update=false") in may_be
    assert exchange.rows(view + "?stale=ok") in may_be
    assert exchange.rows(view + "?update=lazy") in may_be
    deadline = time.monotonic() + 5
    while exchange.rows(view + "?update=false") != both:
        assert time.monotonic() < deadline
    exchange.write(f"/b?rev={gone}", method="DELETE")
    rows = exchange.get(view + "?update=false&include_docs=true").json["rows"]
    assert [row["doc"] for row in rows if row["id"] == "b"] in ([None], [])
