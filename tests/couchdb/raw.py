"""Plain HTTP calls for tests: one request, one reply, nothing resent and nothing raised."""

import base64
import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

Body = bytes | str | dict[str, Any] | list[Any] | None


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server answered.

    Attributes:
        status: The HTTP status.
        body: The raw bytes.
        headers: Header values by lower-case name.
    """

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Raw:
    """A connection to one server; the user and password in the URL go along as Basic auth.

    Args:
        url: ``http://user:password@host:port/prefix``; paths are relative to it.
        timeout: Seconds without a byte until a call fails.
    """

    def __init__(self, url: str, *, timeout: float = 30.0) -> None:
        parts = urlsplit(url)
        self.prefix = parts.path.rstrip("/")
        self.connection = http.client.HTTPConnection(
            parts.hostname or "", parts.port, timeout=timeout
        )
        self.headers: dict[str, str] = {}
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self.headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()

    def __enter__(self) -> "Raw":
        """Use it in a ``with``: the connection is closed at the end."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def call(
        self, method: str, path: str, body: Body = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Send one request and read the whole reply; a dict or list is sent as JSON."""
        given = dict(headers or {})
        if isinstance(body, dict | list):
            body = json.dumps(body)
            given.setdefault("Content-Type", "application/json")
        data = body.encode() if isinstance(body, str) else body
        self.connection.request(method, self.prefix + path, data, {**self.headers, **given})
        response = self.connection.getresponse()
        headers_in = {name.lower(): value for name, value in response.getheaders()}
        return Reply(response.status, response.read(), headers_in)

    def get(self, path: str, **headers: str) -> Reply:
        """GET; keyword arguments are headers."""
        return self.call("GET", path, None, headers)

    def put(self, path: str, body: Body = None) -> Reply:
        """PUT."""
        return self.call("PUT", path, body)

    def post(self, path: str, body: Body = None) -> Reply:
        """POST."""
        return self.call("POST", path, body)

    def delete(self, path: str) -> Reply:
        """DELETE."""
        return self.call("DELETE", path)
