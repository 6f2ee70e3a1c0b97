"""Talking to CouchDB: one request, one answer, and every failure its own error.

A time limit is on everything. A write is never sent again by itself: its lost reply is
`PoolUnreachable`, and the caller finds out (promise 3). A read is asked again a few times.
"""

import email.utils
import functools
import json
import logging
import math
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException
from itertools import islice
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlencode

from picas.backoff import delays
from picas.credentials import redact
from picas.errors import (
    Conflict,
    Forbidden,
    NotFound,
    PoolError,
    PoolUnreachable,
    Refused,
    ServerError,
    TooLarge,
    Unauthorized,
)
from picas.pool.couchdb.connections import Body, Connections, Reply, basic
from picas.version import __version__

_JSON_PARAMETERS = frozenset(("key", "startkey", "endkey", "start_key", "end_key"))

CONNECT_SECONDS = 10.0
READ_SECONDS = 120.0
READ_TRIES = 4
_DATE_AGE = 2.0
_LINE_LENGTH = 300

log = logging.getLogger("picas.pool")

_BY_STATUS: Mapping[int, type[PoolError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    412: Conflict,
    413: TooLarge,
    408: ServerError,
    429: ServerError,
    # A proxy had no answer from the server: what was asked may have been done.
    502: PoolUnreachable,
    504: PoolUnreachable,
}
_ADVICE: Mapping[type[PoolError], str] = {
    Unauthorized: "check user name and password ('picas config show' tells where they come from)",
    Forbidden: "this user may not; ask the database's administrator, or use another account",
    TooLarge: "keep large data in files or attachments, or raise the server's limit",
    ServerError: "the server's log has the cause; trying again later may help",
}


class Session:
    """Requests to one CouchDB server.

    Args:
        base: ``http(s)://host:port`` and a path before the databases, if any; no credentials.
        username: User name, or None.
        password: Password; goes into the Authorization header only.
        ca_file: Certificates to trust instead of the system's.
        verify: False trusts any certificate: whoever is between us and the server can read the
            password.

    Raises:
        ConfigError: The CA file or the environment's proxy cannot be used.
    """

    def __init__(
        self,
        base: str,
        username: str | None,
        password: str | None,
        ca_file: Path | None = None,
        *,
        verify: bool = True,
    ) -> None:
        self.base = base.rstrip("/")
        self.clock = Clock()
        self._deadline = math.inf
        self._limits = threading.local()
        self._headers = {
            "Accept": "application/json",
            "Content-Type": "application/json",
            "User-Agent": f"picas/{__version__}",
        }
        if username is not None:
            self._headers["Authorization"] = basic(username, password or "")
        self._connections = Connections(self.base, ca_file, verify=verify)

    def json(
        self,
        operation: str,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: object = None,
        read: bool | None = None,
        timeout: float = READ_SECONDS,
    ) -> Any:
        """Ask for JSON.

        Args:
            operation: What this is for, in the words of an error message: ``reading the view …``.
            method: HTTP method.
            path: Path behind the base, already quoted.
            query: Parameters; values are sent as JSON texts where CouchDB wants them so.
            body: Anything JSON can hold, or bytes that are JSON already.
            read: True if it only reads, so that it may be sent again; by default what GET does.
            timeout: Seconds to wait for the answer.

        Raises:
            PoolError: One of its kinds, by what the server said.
        """
        data = body if isinstance(body, bytes) or body is None else encode(body)
        repeatable = method in ("GET", "HEAD") if read is None else read
        waits = iter(islice(delays(0.2, 5.0), READ_TRIES - 1 if repeatable else 0))
        while True:
            try:
                reply = self._send(operation, method, path, query, data, timeout)
                return self._parsed(operation, reply)
            except (PoolUnreachable, ServerError):
                wait = next(waits, None)
                if wait is None or wait > self._patience():
                    raise
                time.sleep(wait)

    def hurry(self, seconds: float) -> None:
        """From now on let nothing take longer than until then; for a pilot that has to end."""
        self._deadline = time.monotonic() + seconds

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """A span in which no request of this thread takes longer than `seconds`."""
        self._limits.seconds = seconds
        try:
            yield
        finally:
            del self._limits.seconds

    def _patience(self) -> float:
        """Seconds that a request may still take; at least one, so that a server can be asked."""
        limit: float = getattr(self._limits, "seconds", math.inf)
        return max(1.0, min(limit, self._deadline - time.monotonic()))

    def upload(
        self,
        operation: str,
        path: str,
        stream: IO[bytes],
        length: int,
        content_type: str,
        query: Mapping[str, object],
    ) -> Any:
        """PUT a stream of known length; all of it within the time that requests may take."""
        until = time.monotonic() + self._patience()
        headers = {"Content-Type": content_type, "Content-Length": str(length)}
        pieces = _in_time(stream, length, until)
        reply = self._send(operation, "PUT", path, query, pieces, READ_SECONDS, headers)
        return self._parsed(operation, reply)

    def download(self, operation: str, path: str) -> Iterator[bytes]:
        """GET a body in pieces of up to 1 MiB; the status is checked before the first."""
        reply = self._send(operation, "GET", path, None, None, READ_SECONDS)

        def pieces() -> Iterator[bytes]:
            with self._lost_connection(operation):
                yield from reply.pieces(1 << 20)

        return pieces()

    def close(self) -> None:
        """Close all connections."""
        self._connections.close()

    def _send(
        self,
        operation: str,
        method: str,
        path: str,
        query: Mapping[str, object] | None,
        body: Body | None,
        timeout: float,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        if query:
            path += "?" + urlencode(query)
        sent = self._headers if headers is None else {**self._headers, **headers}
        before, patience = time.time(), self._patience()
        connect, read = min(CONNECT_SECONDS, patience), min(timeout, patience)
        with self._lost_connection(operation):
            reply = self._connections.send(method, path, body, sent, connect=connect, read=read)
        self.clock.saw(reply.fields.get("date"), before, time.time())
        if reply.status >= 300:
            with self._lost_connection(operation):
                reason = reply.read()
            raise _error(operation, self.base, reply.status, reason, reply.fields.get("location"))
        return reply

    def _parsed(self, operation: str, reply: Reply) -> Any:
        with self._lost_connection(operation):
            data = reply.read()
        if not data:
            raise PoolUnreachable(f"{operation}: no answer from {self.base}: it broke off")
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as error:
            raise ServerError(f"{operation}: the answer is not JSON; is this a CouchDB?") from error

    @contextmanager
    def _lost_connection(self, operation: str) -> Iterator[None]:
        try:
            yield
        except ssl.SSLError as error:
            advice = ""
            if isinstance(error, ssl.SSLCertVerificationError):
                advice = "; if the server has a certificate of its own authority, set ca_file"
            raise PoolUnreachable(
                f"{operation}: no safe connection to {self.base}: {_in_a_line(error)}{advice}"
            ) from error
        except (OSError, HTTPException, ValueError, OverflowError, MemoryError) as error:
            raise PoolUnreachable(
                f"{operation}: no answer from {self.base}: {_in_a_line(error)}"
            ) from error


class Clock:
    """The server's clock, by its ``Date`` headers.

    A header has whole seconds, and CouchDB's HTTP library makes a new one only every second: so it
    is up to two seconds old (seen: 1.9 s with CouchDB 3.5). Every answer bounds the offset to this
    host's clock from both sides; the bounds tighten with each. Where this host's clock fits, it is
    taken as right.
    """

    def __init__(self) -> None:
        self._least, self._most = float("-inf"), float("inf")

    def saw(self, date: str | None, sent: float, received: float) -> None:
        """Take note of one answer: its header, and local times around it."""
        if not date:
            return
        server = _epoch(date)
        if server is None:
            return
        least, most = server - received, server + _DATE_AGE - sent
        self._least, self._most = max(self._least, least), min(self._most, most)
        if self._least > self._most:  # one of the clocks was set: begin again
            self._least, self._most = least, most

    @property
    def offset(self) -> float:
        """Seconds to add to this host's clock to have the server's."""
        if self._least <= 0 <= self._most:
            return 0.0
        return (self._least + self._most) / 2

    def now(self) -> float:
        """The server's time, in epoch seconds."""
        return time.time() + self.offset


@functools.lru_cache(maxsize=8)
def _epoch(date: str) -> float | None:
    """A date of a header in epoch seconds; the same one comes with many answers."""
    try:
        return email.utils.parsedate_to_datetime(date).timestamp()
    except (ValueError, OverflowError):
        return None


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def encode(value: object) -> bytes:
    """JSON as it is sent: compact UTF-8; NaN never gets this far."""
    return _ENCODER.encode(value).encode()


def as_text(value: object) -> str:
    """JSON as a parameter of a query holds it."""
    return encode(value).decode()


def as_parameter(name: str, value: object) -> object:
    """A parameter of a view as its query holds it: keys and truth values as JSON."""
    is_json = name in _JSON_PARAMETERS or isinstance(value, bool | list | dict)
    return as_text(value) if is_json else value


def _in_time(stream: IO[bytes], length: int, until: float) -> Iterator[bytes]:
    """Read so much of a stream in pieces: each of them may take the server long.

    Raises:
        TimeoutError: The time is up.
        OSError: The stream has less: what would be sent next would be taken for the rest.
    """
    while length and (piece := stream.read(min(length, 1 << 16))):
        if time.monotonic() > until:
            raise TimeoutError("it takes too long to send")
        length -= len(piece)
        yield piece
    if length:
        raise OSError("not all was sent, for the file became shorter meanwhile")


def _in_a_line(words: object) -> str:
    """What an error or a server says, for a person: it may be anything at all."""
    text = " ".join(str(words).split())[:_LINE_LENGTH]
    return "".join(c if c.isprintable() else "?" for c in text) or type(words).__name__


def _error(operation: str, base: str, status: int, data: bytes, location: str | None) -> PoolError:
    if status < 400:
        place = _in_a_line(redact(location or "another place"))
        return Refused(f"{operation}: {base} says {status}, it is at {place}; use that URL")
    try:
        answer = json.loads(data)
        said = _in_a_line(f"{answer['error']}: {answer['reason']}").rstrip(".")
    except (ValueError, KeyError, TypeError, RecursionError):
        said = "no reason given"
    kind = _BY_STATUS.get(status, ServerError if status >= 500 else Refused)
    advice = _ADVICE.get(kind)
    return kind(f"{operation}: {base} says {status}, {said}" + (f"; {advice}" if advice else ""))
