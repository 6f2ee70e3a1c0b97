"""Kept-alive connections to one server, straight or by a proxy.

Thin over `http.client`, which costs a pilot less than larger HTTP libraries do (ADR 0018).
Nothing is sent a second time here, and no redirect is followed.
"""

import base64
import logging
import os
import select
import ssl
import traceback
import urllib.request
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.client import (
    HTTPConnection,
    HTTPException,
    HTTPSConnection,
    IncompleteRead,
)
from pathlib import Path
from urllib.parse import SplitResult, quote, unquote, urlsplit

from picas.errors import ConfigError
from picas.pool.couchdb.response import Response

KEPT = 8
"""Connections without a request that are kept."""

Body = bytes | Iterable[bytes]

_SAFE = "/%~!$&'()*+,;=:@"

_ENDED = (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
"""How it shows while sending that the server has ended a connection."""

log = logging.getLogger("picas.pool")


class Connections:
    """Connections to one server, each with one request at a time; callable from any thread.

    Args:
        base: ``http(s)://host:port`` and a path before all others, if any.
        ca_file: Certificates to trust instead of the system's.
        verify: False trusts any certificate.

    Raises:
        ConfigError: The CA file cannot be read, or the proxy that the environment names is of a
            kind that cannot be used.
    """

    def __init__(self, base: str, ca_file: Path | None, *, verify: bool) -> None:
        self._server = urlsplit(base)
        self._secure = _tls(base, ca_file, verify=verify) if base.startswith("https:") else None
        self._proxy = _proxy(self._server)
        self._prefix = quote(self._server.path, safe=_SAFE)
        self._headers: dict[str, str] = {}
        if self._proxy is not None and self._secure is None:
            self._prefix = f"{self._server.scheme}://{self._server.netloc}{self._prefix}"
            self._headers = _credentials(self._proxy)
        self._process = os.getpid()
        self._idle: list[HTTPConnection] = []
        weakref.finalize(self, _close, self._idle)  # classic clients are dropped, never closed

    def send(
        self,
        method: str,
        path: str,
        body: Body | None,
        headers: Mapping[str, str],
        *,
        connect: float,
        read: float,
    ) -> "Reply":
        """Send a request; returns when the head of its reply is there.

        Args:
            method: HTTP method.
            path: Path and query behind the base.
            body: What to send.
            headers: All headers but ``Host``; with an iterable body ``Content-Length``, too.
            connect: Seconds for a new connection.
            read: Seconds without a byte of the reply.

        Raises:
            OSError: No connection, or it broke, or was too slow.
            HTTPException: What came is no reply.
            ValueError: No server can have such a name.
        """
        connection = self._take(connect)
        try:
            connection.sock.settimeout(read)
            # A server that refuses a body may answer before it has read all of it.
            with suppress(*_ENDED):
                connection.request(method, self._prefix + path, body, {**self._headers, **headers})
            return Reply(_reply(connection), connection, self)
        except BaseException:
            connection.close()
            raise

    def give_back(self, connection: HTTPConnection) -> None:
        """Keep a connection for the next request; the server may have ended it."""
        if connection.sock is not None and len(self._idle) < KEPT:
            self._idle.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        """Close those that are idle."""
        _close(self._idle)

    def _take(self, connect: float) -> HTTPConnection:
        if self._process != os.getpid():  # after a fork they are the parent's
            self._process = os.getpid()
            _close(self._idle)
        with suppress(IndexError):  # there is none, or another thread was faster
            while True:
                connection = self._idle.pop()
                if not _is_readable(connection):
                    return connection
                connection.close()  # the server ended it meanwhile
        connection = self._new(connect)
        connection.response_class = Response
        try:
            connection.connect()
        except BaseException as error:
            connection.close()
            # Before Python 3.11.4 a proxy's refusal is left open there, and the socket with it.
            traceback.clear_frames(error.__traceback__)
            raise
        return connection

    def _new(self, connect: float) -> HTTPConnection:
        at = self._proxy or self._server
        host = at.hostname or ""
        if self._secure is None:
            return HTTPConnection(host, at.port or 80, timeout=connect)
        secure = HTTPSConnection(
            host,
            at.port or (443 if self._proxy is None else 80),
            timeout=connect,
            context=self._secure,
        )
        if self._proxy is not None:
            port = self._server.port or 443
            secure.set_tunnel(self._server.hostname or "", port, _credentials(self._proxy))
        return secure


class Reply:
    """A reply whose head is read.

    Attributes:
        status: The HTTP status.
        fields: Its header fields (see `Response`).
    """

    def __init__(
        self, response: Response, connection: HTTPConnection, connections: Connections
    ) -> None:
        self.status = response.status
        self.fields = response.fields
        self._response = response
        self._connection = connection
        self._connections = connections

    def read(self) -> bytes:
        """All of its body.

        Raises:
            OSError: The connection broke, or was too slow.
            HTTPException: It broke off.
        """
        with self._ending():
            return self._response.read()

    def pieces(self, size: int) -> Iterator[bytes]:
        """Its body in pieces of up to so many bytes; raises what `read` does."""
        with self._ending():
            while piece := self._response.read(size):
                yield piece
            if self._response.length:
                raise IncompleteRead(b"", self._response.length)

    @contextmanager
    def _ending(self) -> Iterator[None]:
        try:
            yield
        except BaseException:  # else the rest would be taken for the next reply
            self._response.close()
            self._connection.close()
            raise
        self._connections.give_back(self._connection)


def _close(idle: list[HTTPConnection]) -> None:
    with suppress(IndexError):  # another thread may take some
        while True:
            idle.pop().close()


def _reply(connection: HTTPConnection) -> Response:
    response = connection.getresponse()
    assert isinstance(response, Response)
    if response.status < 200:  # the reply itself is still to come
        response.close()
        raise HTTPException(f"it says {response.status} first, which nobody asked for")
    return response


def _is_readable(connection: HTTPConnection) -> bool:
    """Tell whether there is something to read: on an idle connection that is its end, or wrong."""
    if isinstance(connection.sock, ssl.SSLSocket) and connection.sock.pending():
        return True
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return bool(poll.poll(0))


def _tls(base: str, ca_file: Path | None, *, verify: bool) -> ssl.SSLContext:
    if not verify:
        log.warning("%s: its certificate is not verified, as was asked for", base)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # needs no certificates of the system's
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise ConfigError(f"the CA file {ca_file} cannot be read: {error}") from error


def _proxy(server: SplitResult) -> SplitResult | None:
    """The proxy that the environment names for a server."""
    url = urllib.request.getproxies().get(server.scheme)
    if not url or urllib.request.proxy_bypass(server.hostname or ""):
        return None
    try:
        proxy = urlsplit(url if "://" in url else f"http://{url}")
        usable = proxy.scheme == "http" and bool(proxy.hostname) and proxy.port != 0
    except ValueError:  # its words may hold the password
        usable = False
    if not usable:
        name = f"{server.scheme}_proxy"
        raise ConfigError(f"${name}: only proxies of the form http://host:port can be used")
    return proxy


def _credentials(proxy: SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    login = basic(unquote(proxy.username), unquote(proxy.password or ""))
    return {"Proxy-Authorization": login}


def basic(username: str, password: str) -> str:
    """The value of a header that holds a user's name and password; CouchDB reads UTF-8."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()
