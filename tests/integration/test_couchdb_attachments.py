"""How CouchDB keeps attachments: the same on a real server and on its double."""

import base64
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from tests.couchdb.exchange import CONFLICT, DELETED, MADE_UP, MISSING, Exchange, bad_request, error

NO_ATTACHMENT = error("not_found", "Document is missing attachment")
NO_REV = error("not_found", "missing_rev")
JSON = {"Accept": "application/json"}


def inline(data: bytes, content_type: str = "application/octet-stream") -> dict[str, str]:
    """An attachment inside a document."""
    return {"content_type": content_type, "data": base64.b64encode(data).decode()}


def stubs(exchange: Exchange, path: str = "/a") -> dict[str, Any]:
    """Revision position and length of a document's attachments."""
    found = exchange.get(path).json.get("_attachments", {})
    assert all(entry["stub"] for entry in found.values())
    return {name: (entry["revpos"], entry["length"]) for name, entry in found.items()}


def test_attachments_inside_the_document(exchange: Exchange) -> None:
    """They go in as base64 and are shown as stubs, with the digest of what is stored."""
    attachments = {"bin": inline(b"\0\1"), "log": inline(b"hello", "text/plain")}
    exchange.write("/a", {"_attachments": attachments})
    stub = {"revpos": 1, "stub": True}
    assert exchange.get("/a").json["_attachments"] == {
        "bin": {
            "content_type": "application/octet-stream",
            "digest": "md5-RBB3zJ5XVU3Udr37i4uBAg==",
            "length": 2,
            **stub,
        },
        "log": {
            "content_type": "text/plain",
            "digest": "md5-iMaiC8wqiFlD2NjLTemvCQ==",
            "length": 5,
            **stub,
        },
    }
    assert exchange.get("/a/log").body == b"hello"
    assert exchange.get("/a/log").headers["content-type"] == "text/plain"
    assert exchange.get("/a/bin").body == b"\0\1"


def test_documents_with_the_bytes(exchange: Exchange) -> None:
    """``attachments=true`` gives base64, but only to who asks for JSON by name."""
    exchange.write("/a", {"_attachments": {"log": inline(b"hello", "text/plain")}})
    doc = exchange.get("/a?attachments=true", **JSON).json
    assert doc["_attachments"]["log"]["data"] == base64.b64encode(b"hello").decode()
    assert "stub" not in doc["_attachments"]["log"]
    kind = exchange.get("/a?attachments=true").headers["content-type"]
    assert kind.startswith("multipart/related; boundary=")
    exchange.write("/plain", {})
    plain = exchange.get("/plain?attachments=true")
    assert plain.headers["content-type"] == "application/json"
    wanted = {"docs": [{"id": "a"}]}
    (found,) = exchange.ask("POST", "/_bulk_get?attachments=true", wanted)[1]["results"]
    assert "data" in found["docs"][0]["ok"]["_attachments"]["log"]


def test_stubs_keep_and_absence_drops(exchange: Exchange) -> None:
    """A stub keeps what is there, whatever else is new; what is left out is gone."""
    exchange.write("/a", {"_attachments": {"x": inline(b"x"), "y": inline(b"yy")}})
    doc = exchange.get("/a").json
    doc["_attachments"]["z"] = inline(b"zzz")
    exchange.write("/a", doc)
    assert stubs(exchange) == {"x": (1, 1), "y": (1, 2), "z": (2, 3)}
    doc = exchange.get("/a").json
    del doc["_attachments"]["y"]
    doc["_attachments"]["x"] = {"stub": True}
    assert exchange.bulk(doc)[0]["rev"] == "3-*"
    assert stubs(exchange) == {"x": (1, 1), "z": (2, 3)}
    exchange.write("/a", {"_rev": exchange.get("/a").json["_rev"]})
    assert stubs(exchange) == {}
    assert exchange.ask("GET", "/a/x") == (404, NO_ATTACHMENT)


def test_stubs_of_nothing_are_refused(exchange: Exchange) -> None:
    """A stub without an attachment behind it fails the whole request."""
    rev = exchange.write("/a", {"_attachments": {"x": inline(b"x")}})

    def refused(doc_id: str, name: str) -> tuple[int, dict[str, str]]:
        return 412, error("missing_stub", f"Invalid attachment stub in {doc_id} for {name}")

    new = {"_id": "new", "_attachments": {"no": {"stub": True}}}
    assert exchange.ask("PUT", "/new", new) == refused("new", "no")
    assert exchange.ask("POST", "/_bulk_docs", {"docs": [{"_id": "b"}, new]}) == refused(
        "new", "no"
    )
    assert exchange.ask("GET", "/b") == (404, MISSING)
    for name, stub in (("no", {"stub": True}), ("x", {"stub": True, "revpos": 9})):
        doc = {"_id": "a", "_rev": rev, "_attachments": {name: stub}}
        assert exchange.ask("PUT", "/a", doc) == refused("a", name)
        together = {"docs": [{"_id": "b"}, doc]}
        assert exchange.ask("POST", "/_bulk_docs", together) == refused("a", name)
    old = {"_rev": MADE_UP, "_attachments": {"x": {"stub": True}}}
    assert exchange.ask("PUT", "/a", old) == (409, CONFLICT)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("x", {"data": "!!!"}, "Invalid attachment data for x"),
        ("x", {}, "Invalid attachment data for x"),
        ("_x", {"data": ""}, "Attachment name '_x' starts with prohibited character '_'"),
    ],
)
def test_bad_attachments_are_refused(
    exchange: Exchange, name: str, value: Any, reason: str
) -> None:
    """What is not base64, or has a name that CouchDB keeps for itself."""
    body = {"_attachments": {name: value}}
    assert exchange.ask("PUT", "/a", body) == (400, bad_request(reason))


def test_attachments_of_their_own(exchange: Exchange) -> None:
    """PUT of an attachment makes a revision: of a new document, or against the one named."""
    kind = {"Content-Type": "image/png"}
    new = {"ok": True, "id": "a", "rev": "1-*"}
    assert exchange.ask("PUT", "/a/x", b"data", kind) == (201, new)
    rev = exchange.get("/a").json["_rev"]
    assert exchange.ask("PUT", "/a/y", b"data") == (409, CONFLICT)
    assert exchange.ask("PUT", f"/a/y?rev={MADE_UP}", b"data") == (409, NO_REV)
    assert exchange.ask("PUT", f"/b/y?rev={MADE_UP}", b"data") == (409, NO_REV)
    second = exchange.write(f"/a/logs%2Fy?rev={rev}", b"more")
    assert exchange.ask("PUT", f"/a/y?rev={rev}", b"data") == (409, CONFLICT)
    assert stubs(exchange) == {"x": (1, 4), "logs/y": (2, 4)}
    assert exchange.get("/a/logs/y").body == exchange.get("/a/logs%2Fy").body == b"more"
    assert exchange.get("/a/x").headers["content-type"] == "image/png"
    assert exchange.get("/a/logs/y").headers["content-type"] == "application/octet-stream"
    assert exchange.ask("PUT", "/a/z", b"", {"If-Match": second})[0] == 201
    assert exchange.get("/a/z").body == b""
    assert exchange.ask("PUT", f"/a/_z?rev={second}", b"")[0] == 400
    assert exchange.ask("POST", "/a/x", b"")[0] == 405


def test_attachments_can_stream(exchange: Exchange) -> None:
    """A body of unknown length goes in piece by piece; HEAD tells the length."""

    def pieces() -> Iterator[bytes]:
        yield b"abc" * 50_000
        yield b"def" * 50_000

    exchange.raw.connection.request(
        "PUT",
        f"/{exchange.name}/a/x",
        body=pieces(),
        headers={**exchange.raw.headers, "Content-Type": "application/x-tar"},
        encode_chunked=True,
    )
    response = exchange.raw.connection.getresponse()
    assert (response.status, response.read() != b"") == (201, True)
    assert exchange.get("/a/x").body == b"abc" * 50_000 + b"def" * 50_000
    assert exchange.raw.call("HEAD", "/a/x").headers["content-length"] == "300000"


def test_texts_are_kept_compressed(exchange: Exchange) -> None:
    """Who takes gzip gets it as it is stored; everybody else the text."""
    text = b"line\n" * 1000
    exchange.ask("PUT", "/a/log", text, {"Content-Type": "text/plain"})
    packed = exchange.get("/a/log", **{"Accept-Encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert zlib.decompress(packed.body, wbits=31) == text
    assert exchange.get("/a/log").body == text
    assert stubs(exchange) == {"log": (1, 5000)}


def test_attachments_are_deleted(exchange: Exchange) -> None:
    """One by one against the revision, or with their document."""
    rev = exchange.write("/a", {"_attachments": {"x": inline(b"x"), "y": inline(b"y")}})
    assert exchange.ask("DELETE", "/a/x") == (409, CONFLICT)
    assert exchange.ask("DELETE", f"/a/no?rev={rev}") == (404, NO_ATTACHMENT)
    assert exchange.ask("DELETE", f"/no/x?rev={rev}") == (409, NO_REV)
    reply = {"ok": True, "id": "a", "rev": "2-*"}
    assert exchange.ask("DELETE", f"/a/x?rev={rev}") == (200, reply)
    assert stubs(exchange) == {"y": (1, 1)}
    second = exchange.get("/a").json["_rev"]
    exchange.write(f"/a?rev={second}", method="DELETE")
    assert exchange.ask("GET", "/a/y") == (404, DELETED)
    assert exchange.get(f"/a/y?rev={second}").body == b"y"
    assert exchange.ask("GET", "/no/x") == (404, MISSING)
    assert exchange.ask("PUT", "/a/z", b"z")[1]["rev"] == "4-*"


def test_attachments_may_be_larger_than_documents(exchange: Exchange) -> None:
    """Over the document's limit of 8 MB they go, inside and of their own."""
    big = b"x" * 8_100_000
    exchange.write("/a", {"_attachments": {"x": inline(big)}})
    exchange.write("/b/x", big)
    assert stubs(exchange, "/a") == stubs(exchange, "/b") == {"x": (1, len(big))}


def test_attachments_have_a_limit(exchange: Exchange) -> None:
    """One that is larger than the server takes is refused, inside and of its own."""
    if not exchange.server.restartable:
        pytest.skip("a server of somebody else: its configuration is not ours to change")
    setting = "/_node/_local/_config/couchdb/max_attachment_size"
    too_large = (413, error("attachment_too_large", "x"))
    with exchange.server.raw() as config:
        config.put(setting, '"1000"')
        try:
            assert exchange.ask("PUT", "/a/x", b"x" * 2000) == too_large
            body = {"_attachments": {"x": inline(b"x" * 2000)}}
            assert exchange.ask("PUT", "/a", body) == too_large
        finally:
            config.delete(setting)
