"""HTTP for the double: requests, replies, refusals, and how a reply gets onto the wire."""

import enum
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, unquote_plus

if TYPE_CHECKING:
    from tests.couchdb.double.server import DoubleCouch

Json = Any


@dataclass(slots=True)
class Request:
    """One request, as the fault hooks and the routes see it.

    Attributes:
        method: GET, PUT, …
        path: The path as it was sent, without the query.
        parts: Its decoded segments: database, document, attachment.
        query: The query's parameters.
        headers: Header values by lower-case name.
        body: The whole body.
        user: Who asks; None for nobody.
        roles: That user's roles.
    """

    method: str
    path: str
    parts: list[str]
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes = b""
    user: str | None = None
    roles: list[str] = field(default_factory=list)

    @property
    def admin(self) -> bool:
        """Whether a server administrator asks."""
        return "_admin" in self.roles

    def json(self) -> Json:
        """The body as JSON; CouchDB's own complaint where it is none."""
        return parse_json(self.body)

    def json_object(self) -> dict[str, Json]:
        """The body of a POST: sent as JSON, and an object."""
        if not self.headers.get("content-type", "").startswith("application/json"):
            raise Refusal(415, "bad_content_type", "Content-Type must be application/json")
        value = self.json()
        if not isinstance(value, dict):
            raise Refusal(400, "bad_request", "Request body must be a JSON object")
        return value

    def allow(self, *methods: str) -> None:
        """Refuse any other method."""
        if self.method not in methods:
            names = ",".join(methods)
            raise Refusal(405, "method_not_allowed", f"Only {names} allowed", {"Allow": names})


@dataclass(slots=True)
class Reply:
    """One reply.

    Attributes:
        status: The HTTP status.
        body: JSON to encode, or bytes as they are.
        headers: More headers.
        stream: Pieces to send one by one as they come, instead of `body`.
    """

    status: int
    body: Json = None
    headers: dict[str, str] = field(default_factory=dict)
    stream: Iterator[bytes] | None = None


class Fault(enum.Enum):
    """What a fault hook may ask for instead of a reply."""

    DROP = "close the connection without an answer"


class Refusal(Exception):
    """A request that is answered with an error."""

    def __init__(
        self, status: int, error: str, reason: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(reason)
        self.reply = Reply(status, {"error": error, "reason": reason}, dict(headers or {}))
        self.error = error
        self.reason = reason


def not_found(reason: str) -> Refusal:
    """A 404."""
    return Refusal(404, "not_found", reason)


def bad_request(reason: str) -> Refusal:
    """A 400."""
    return Refusal(400, "bad_request", reason)


def conflict() -> Refusal:
    """A 409."""
    return Refusal(409, "conflict", "Document update conflict.")


def parse_json(text: bytes | str) -> Json:
    """JSON as strictly as CouchDB reads it: UTF-8, no NaN, no lone surrogate, no overflow."""
    try:
        decoded = text.decode() if isinstance(text, bytes) else text
        value = json.loads(decoded, parse_constant=_refuse, parse_float=_finite)
        dump_json(value)
    except ValueError:
        raise bad_request("invalid UTF-8 JSON") from None
    return value


def dump_json(value: Json) -> bytes:
    """Compact JSON, as it goes over the wire."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _parts(path: str) -> list[str]:
    """Decoded segments; as in CouchDB a ``+`` is a space, but not in a database's name."""
    first, *rest = path.split("/")[1:] or [""]
    return [unquote(first), *(unquote_plus(part) for part in rest)]


def _refuse(text: str) -> Json:
    raise ValueError(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


class Handler(BaseHTTPRequestHandler):
    """One connection: reads requests, lets the double answer, writes the replies."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 64 * 1024
    server_version = "CouchDB/3.5.0 (double)"
    sys_version = ""
    couch: "DoubleCouch"

    def setup(self) -> None:
        """Note the connection, so that stopping the double can cut it."""
        super().setup()
        self.couch.connections.add(self.connection)

    def finish(self) -> None:
        """Forget the connection."""
        self.couch.connections.discard(self.connection)
        super().finish()

    def do_GET(self) -> None:
        """Answer a request of any method."""
        outcome = self._answer()
        if isinstance(outcome, Fault):
            self.close_connection = True
        elif outcome.stream is not None:
            self._send_stream(outcome)
        else:
            self._send(outcome)

    do_HEAD = do_PUT = do_POST = do_DELETE = do_PATCH = do_OPTIONS = do_GET  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent."""

    def _answer(self) -> Reply | Fault:
        path, _, query = self.path.partition("?")
        limit = self.couch.setting("chttpd/max_http_request_size")
        request = Request(
            method=self.command,
            path=path,
            parts=_parts(path),
            query=dict(parse_qsl(query, keep_blank_values=True)),
            headers={name.lower(): value for name, value in self.headers.items()},
        )
        try:
            # Attachments stream past that limit; with more than 3 segments it is one.
            request.body = self._read_body(limit if len(request.parts) < 3 else None)
        except Refusal as refusal:
            self.close_connection = True
            return refusal.reply
        return self.couch.answer(request, self.client_address[0])

    def _read_body(self, limit: int | None) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            body = b"".join(self._chunks())
        else:
            length = int(self.headers.get("Content-Length") or 0)
            if limit is not None and length > limit:
                raise Refusal(413, "too_large", "the request entity is too large")
            body = self.rfile.read(length) if length else b""
            if len(body) < length:
                raise ConnectionResetError("the body ended early")
        if limit is not None and len(body) > limit:
            raise Refusal(413, "too_large", "the request entity is too large")
        return body

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline().split(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass

    def _start(self, reply: Reply) -> None:
        self.send_response(reply.status)
        for name, value in {"Cache-Control": "must-revalidate", **reply.headers}.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")

    def _send(self, reply: Reply) -> None:
        body = reply.body
        if not isinstance(body, bytes):
            body = dump_json(body) + b"\n"
            reply.headers.setdefault("Content-Type", "application/json")
        self._start(reply)
        if reply.status != 304:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD" and reply.status != 304:
            self.wfile.write(body)
        self.wfile.flush()

    def _send_stream(self, reply: Reply) -> None:
        assert reply.stream is not None
        self._start(reply)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in reply.stream:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()
