"""How CouchDB keeps documents: the same on a real server and on its double."""

from typing import Any

import pytest
from tests.couchdb.exchange import (
    CONFLICT,
    DELETED,
    MADE_UP,
    MISSING,
    NO_DATABASE,
    Exchange,
    bad_request,
    error,
)

BAD_TYPE = error("bad_content_type", "Content-Type must be application/json")
NO_JSON = bad_request("invalid UTF-8 JSON")
RESERVED = error("illegal_docid", "Only reserved document ids may start with underscore.")


def allowed(*methods: str) -> tuple[int, dict[str, str]]:
    """The answer to a method that a path does not know."""
    return 405, error("method_not_allowed", f"Only {','.join(methods)} allowed")


def test_server_says_who_and_when(exchange: Exchange) -> None:
    """The root tells the version, ``_up`` that it runs, and every reply the time."""
    with exchange.server.raw() as raw:
        root, up = raw.get("/"), raw.get("/_up")
    assert root.json["couchdb"] == "Welcome"
    assert root.json["version"].startswith("3.")
    assert (up.status, up.json["status"]) == (200, "ok")
    assert all(reply.headers["date"].endswith("GMT") for reply in (root, up))


def test_databases_come_and_go(exchange: Exchange) -> None:
    """A database can be made once, looked at, and removed once."""
    with exchange.server.raw() as raw:
        path = f"/{exchange.name}"
        again = raw.put(path)
        assert (again.status, again.json["error"]) == (412, "file_exists")
        assert raw.call("HEAD", path).status == 200
        assert raw.get(path).json["db_name"] == exchange.name
        assert raw.get(path).json["doc_count"] == 0
        assert raw.delete(path).json == {"ok": True}
        for method in ("GET", "DELETE"):
            reply = raw.call(method, path)
            assert (reply.status, reply.json) == (404, NO_DATABASE)
        assert raw.call("HEAD", path).status == 404
        assert raw.put(path + "/x", {}).json == NO_DATABASE
        assert raw.post(path + "/_bulk_docs", {"docs": []}).json == NO_DATABASE


@pytest.mark.parametrize("name", ["Upper", "1digit", "_special", "with.dot"])
def test_database_names_are_checked(exchange: Exchange, name: str) -> None:
    """A name that is not lower case and letters first is refused."""
    with exchange.server.raw() as raw:
        reply = raw.put(f"/{name}")
    assert (reply.status, reply.json["error"]) == (400, "illegal_database_name")


def test_document_is_created_once(exchange: Exchange) -> None:
    """PUT creates; a second PUT without a revision, or with a wrong one, conflicts."""
    assert exchange.ask("GET", "/a") == (404, MISSING)
    assert exchange.ask("PUT", "/a", {"x": 1}) == (201, {"ok": True, "id": "a", "rev": "1-*"})
    assert exchange.ask("PUT", "/a", {"x": 1}) == (409, CONFLICT)
    assert exchange.ask("PUT", "/a", {"x": 1, "_rev": MADE_UP}) == (409, CONFLICT)
    assert exchange.ask("GET", "/a") == (200, {"_id": "a", "_rev": "1-*", "x": 1})


def test_update_names_the_revision_it_follows(exchange: Exchange) -> None:
    """The revision counts in the body, in the query and in If-Match; an identical body is new."""
    first = exchange.write("/a", {"x": 1})
    second = exchange.write("/a", {"x": 1, "_rev": first})
    third = exchange.write(f"/a?rev={second}", {"x": 1})
    assert [rev.split("-")[0] for rev in (first, second, third)] == ["1", "2", "3"]
    assert exchange.ask("PUT", "/a", {}, {"If-Match": second}) == (409, CONFLICT)
    assert exchange.ask("PUT", "/a", {}, {"If-Match": third})[0] == 201
    assert exchange.ask("PUT", f"/a?rev={first}", {"_rev": second})[0] == 400


def test_old_revisions_can_be_read(exchange: Exchange) -> None:
    """Before compaction every revision is there; one that never was is missing."""
    first = exchange.write("/a", {"x": 1})
    exchange.write(f"/a?rev={first}", {"x": 2})
    assert exchange.ask("GET", f"/a?rev={first}") == (200, {"_id": "a", "_rev": "1-*", "x": 1})
    assert exchange.ask("GET", f"/a?rev={MADE_UP}") == (404, MISSING)
    assert exchange.ask("GET", f"/nothing?rev={first}") == (404, MISSING)
    assert exchange.ask("GET", "/a?rev=odd") == (400, bad_request("Invalid rev format"))
    status, doc = exchange.ask("GET", "/a?conflicts=true&revs=true")
    assert (status, doc["_revisions"]["start"], doc.get("_conflicts")) == (200, 2, None)


def test_deleted_document_leaves_a_trace(exchange: Exchange) -> None:
    """A deletion is a revision: reads say so, and only a write without a revision revives."""
    rev = exchange.write("/a", {"x": 1})
    assert exchange.ask("DELETE", "/a") == (409, CONFLICT)
    assert exchange.ask("DELETE", "/nothing") == (404, MISSING)
    assert exchange.ask("DELETE", f"/nothing?rev={MADE_UP}") == (404, MISSING)
    gone = exchange.write(f"/a?rev={rev}", method="DELETE")
    assert exchange.ask("GET", "/a") == (404, DELETED)
    assert exchange.ask("DELETE", f"/a?rev={gone}") == (404, DELETED)
    tombstone = {"_id": "a", "_rev": "2-*", "_deleted": True}
    assert exchange.ask("GET", f"/a?rev={gone}") == (200, tombstone)
    assert exchange.ask("PUT", "/a", {"_rev": rev}) == (409, CONFLICT)
    assert exchange.bulk({"_id": "a", "_rev": gone}) == [{"id": "a", **CONFLICT}]
    assert exchange.ask("PUT", "/a", {"x": 2}) == (201, {"ok": True, "id": "a", "rev": "3-*"})


def test_etag_saves_a_read(exchange: Exchange) -> None:
    """The revision is the ETag; who has it is told so."""
    rev = exchange.write("/a", {"x": 1})
    assert exchange.get("/a").headers["etag"] == f'"{rev}"'
    assert exchange.get("/a", **{"If-None-Match": f'"{rev}"'}).status == 304
    assert exchange.get("/a", **{"If-None-Match": f'"{MADE_UP}"'}).status == 200
    assert exchange.raw.call("HEAD", "/a").headers["etag"] == f'"{rev}"'


@pytest.mark.parametrize(
    ("body", "reply"),
    [
        ({"_foo": 1}, error("doc_validation", "Bad special document member: _foo")),
        ([1], bad_request("Document must be a JSON object")),
        ('{"a":', NO_JSON),
        ("", NO_JSON),
        ('{"a": NaN}', NO_JSON),
        ('{"a": 1e400}', NO_JSON),
        ('{"a": "\\ud800"}', NO_JSON),
        (b'{"a": "\xff"}', NO_JSON),
        ({"_rev": "odd"}, bad_request("Invalid rev format")),
        ({"_rev": None}, bad_request("Invalid rev format")),
        ({"_attachments": 5}, error("doc_validation", "Bad special document member: _attachments")),
    ],
)
def test_bad_documents_are_refused(exchange: Exchange, body: Any, reply: dict[str, str]) -> None:
    """What is not a document is refused with a reason."""
    assert exchange.ask("PUT", "/a", body) == (400, reply)


def test_ids_may_hold_anything_but_a_leading_underscore(exchange: Exchange) -> None:
    """Slashes, pluses (not as they are: a plus means a space) and other alphabets are fine."""
    names = {"/a%2Fb": "a/b", "/%C3%A9": "é", "/a+b": "a b", "/a%2Bb": "a+b", "/a:b@c": "a:b@c"}
    for path, doc_id in names.items():
        assert exchange.ask("PUT", path, {})[1]["id"] == doc_id
        assert exchange.ask("GET", path)[1]["_id"] == doc_id
    assert exchange.ask("PUT", "/_odd", {}) == (400, RESERVED)
    assert exchange.ask("GET", "/_odd") == (404, MISSING)


def test_numbers_keep_their_digits(exchange: Exchange) -> None:
    """Long integers and fractions come back as they were."""
    exchange.write("/a", '{"i": 10000000000000000000000001, "f": 0.1, "e": 1e2}')
    doc = exchange.get("/a").json
    assert (doc["i"], doc["f"], doc["e"]) == (10**25 + 1, 0.1, 100.0)


def test_local_documents_stand_aside(exchange: Exchange) -> None:
    """Documents under ``_local/`` never conflict and are in no listing."""
    reply = {"ok": True, "id": "_local/a", "rev": "0-1"}
    assert exchange.ask("PUT", "/_local/a", {"x": 1}) == (201, reply)
    assert exchange.ask("PUT", "/_local/a", {"x": 1}) == (201, reply)
    doc = {"_id": "_local/a", "_rev": "0-1", "x": 1}
    assert exchange.ask("GET", "/_local/a") == (200, doc)
    assert exchange.rows("/_all_docs") == []
    assert exchange.ask("DELETE", "/_local/a")[0] == 200
    assert exchange.ask("GET", "/_local/a") == (404, MISSING)


def test_post_creates_with_or_without_an_id(exchange: Exchange) -> None:
    """POST takes the id from the document, or makes one up; it must be sent as JSON."""
    assert exchange.ask("POST", "", {"_id": "a"}) == (201, {"ok": True, "id": "a", "rev": "1-*"})
    assert exchange.ask("POST", "", {}) == (201, {"ok": True, "id": "random", "rev": "1-*"})
    assert exchange.ask("POST", "", {"_id": "a"}) == (409, CONFLICT)
    assert exchange.ask("POST", "", b"{}") == (415, BAD_TYPE)


def test_bulk_answers_for_each_document_in_order(exchange: Exchange) -> None:
    """Some are written and others conflict; of one id twice the first wins."""
    exchange.write("/there", {})
    assert exchange.bulk({"_id": "b"}, {"_id": "there"}, {"_id": "a"}, {"_id": "b", "x": 1}) == [
        {"ok": True, "id": "b", "rev": "1-*"},
        {"id": "there", **CONFLICT},
        {"ok": True, "id": "a", "rev": "1-*"},
        {"id": "b", **CONFLICT},
    ]
    assert exchange.ask("GET", "/b") == (200, {"_id": "b", "_rev": "1-*"})


def test_bulk_updates_and_deletes(exchange: Exchange) -> None:
    """Revisions count in bulk as they do alone."""
    first, second = exchange.write("/a", {}), exchange.write("/b", {})
    assert exchange.bulk(
        {"_id": "a", "_rev": first, "_deleted": True},
        {"_id": "b", "_rev": second, "x": 1},
        {"_id": "b", "_rev": second, "x": 2},
        {"_id": "b", "_deleted": True},
        {"x": 1},
    ) == [
        {"ok": True, "id": "a", "rev": "2-*"},
        {"ok": True, "id": "b", "rev": "2-*"},
        {"id": "b", **CONFLICT},
        {"id": "b", **CONFLICT},
        {"ok": True, "id": "random", "rev": "1-*"},
    ]
    assert exchange.ask("GET", "/a") == (404, DELETED)
    assert exchange.ask("GET", "/b") == (200, {"_id": "b", "_rev": "2-*", "x": 1})


@pytest.mark.parametrize(
    ("body", "reply"),
    [
        ({"docs": [{"_id": "_x"}, {"_id": "a"}]}, RESERVED),
        (
            {"docs": [{"_id": "a"}, {"_id": 5}]},
            error("illegal_docid", "Document id must be a string"),
        ),
        ({"docs": [{"_id": ""}]}, error("illegal_docid", "Document id must not be empty")),
        ({"docs": [{"_id": "a"}, "x"]}, bad_request("Document must be a JSON object")),
        (
            {"docs": [{"_id": "a"}, {"_id": "b", "_f": 1}]},
            error("doc_validation", "Bad special document member: _f"),
        ),
        ({"docs": [{"_id": "a"}, {"_id": "b", "_rev": "x"}]}, bad_request("Invalid rev format")),
        ({"docs": {}}, bad_request("`docs` parameter must be an array.")),
        ({}, bad_request("POST body must include `docs` parameter.")),
        ([1], bad_request("Request body must be a JSON object")),
    ],
)
def test_one_bad_document_fails_the_bulk(
    exchange: Exchange, body: Any, reply: dict[str, str]
) -> None:
    """A document that could never be stored has the whole request refused, nothing written."""
    assert exchange.ask("POST", "/_bulk_docs", body) == (400, reply)
    assert exchange.rows("/_all_docs") == []


def test_requests_need_the_right_method_and_type(exchange: Exchange) -> None:
    """Wrong methods are told the right ones; POST must say that it sends JSON."""
    assert exchange.ask("GET", "/_bulk_docs") == allowed("POST")
    assert exchange.ask("GET", "/_bulk_get") == allowed("POST")
    assert exchange.ask("PATCH", "/a") == allowed("DELETE", "GET", "HEAD", "POST", "PUT", "COPY")
    assert exchange.ask("PUT", "/_all_docs", {}) == allowed("GET", "HEAD", "POST")
    for path in ("/_bulk_docs", "/_all_docs", "/_bulk_get", "/_changes"):
        assert exchange.ask("POST", path, b"{}") == (415, BAD_TYPE)
        assert exchange.ask("POST", path, "{}", {"Content-Type": "text/plain"}) == (415, BAD_TYPE)
        kind = {"Content-Type": "application/json"}
        assert exchange.ask("POST", path, '{"a":', kind) == (400, NO_JSON)


def test_made_up_revision_may_be_believed(exchange: Exchange) -> None:
    """A revision of a document that never was conflicts at first, and later may be accepted.

    CouchDB looks revisions up only until a shard has validated its first write: a client must read
    the answer's revision and not trust that a purged document stays away.
    """
    docs = [{"_id": f"never-{n}", "_rev": MADE_UP} for n in range(3)]
    assert exchange.bulk(*docs) == [{"id": doc["_id"], **CONFLICT} for doc in docs]
    exchange.write("/a", {})
    exchange.write("/b", {})
    assert exchange.bulk(*docs) == [{"ok": True, "id": doc["_id"], "rev": "2-*"} for doc in docs]


def test_bulk_get_reads_many(exchange: Exchange) -> None:
    """Every document asked for has its answer, in order: deleted ones too."""
    rev = exchange.write("/a", {"x": 1})
    exchange.write(f"/gone?rev={exchange.write('/gone', {})}", method="DELETE")
    wanted = [{"id": "gone"}, {"id": "a", "rev": rev}, {"id": "no"}, {"id": "a", "rev": MADE_UP}]
    missing = {"reason": "missing", "error": "not_found"}
    assert exchange.ask("POST", "/_bulk_get", {"docs": wanted}) == (
        200,
        {
            "results": [
                {"id": "gone", "docs": [{"ok": {"_id": "gone", "_rev": "2-*", "_deleted": True}}]},
                {"id": "a", "docs": [{"ok": {"_id": "a", "_rev": "1-*", "x": 1}}]},
                {"id": "no", "docs": [{"error": {"id": "no", "rev": "undefined", **missing}}]},
                {"id": "a", "docs": [{"error": {"id": "a", "rev": "1-*", **missing}}]},
            ]
        },
    )
    assert exchange.ask("POST", "/_bulk_get", {})[0] == 400


def test_documents_and_requests_have_a_limit(exchange: Exchange) -> None:
    """A document over the limit fails its whole request; so does a request over its own."""
    if not exchange.server.restartable:
        pytest.skip("a server of somebody else: its configuration is not ours to change")
    big = {"_id": "big", "x": "x" * 6000}
    with exchange.server.raw("/_node/_local/_config") as config:
        for name, expected in (
            ("/couchdb/max_document_size", error("document_too_large", "big")),
            (
                "/chttpd/max_http_request_size",
                error("too_large", "the request entity is too large"),
            ),
        ):
            config.put(name, '"5000"')
            try:
                together = {"docs": [{"_id": "small"}, big]}
                assert exchange.ask("POST", "/_bulk_docs", together) == (413, expected)
                assert exchange.ask("PUT", "/big", big) == (413, expected)
                assert exchange.ask("PUT", "/att/x", b"x" * 6000)[0] == 201
            finally:
                config.delete(name)
            assert exchange.ask("GET", "/small") == (404, MISSING)
            exchange.write(f"/att?rev={exchange.get('/att').json['_rev']}", method="DELETE")


def test_document_limit_is_eight_megabytes(exchange: Exchange) -> None:
    """The default limit; a document's attachments do not count."""
    docs = [{"_id": "big", "x": "x" * 8_000_001}, {"_id": "small"}]
    too_large = (413, error("document_too_large", "big"))
    assert exchange.ask("POST", "/_bulk_docs", {"docs": docs}) == too_large
    assert exchange.ask("GET", "/small") == (404, MISSING)
