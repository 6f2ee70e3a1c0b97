"""A proxy in front of a real CouchDB that makes the network bad.

It knows of HTTP where one request ends and the next begins, and nothing more.
"""

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from typing import Any

CHANCE = {
    "cut": 0.3,
    "delay": 0.5,
    "half_close": 0.3,
    "reply_lost": 0.4,
    "late_request": 0.3,
    "error_500": 0.3,
    "error_503": 0.3,
}
"""While a fault lasts, the share of the requests that it meets."""

MOST_BYTES = 1 << 20
_PIECE = 1 << 16
_LINGER = struct.pack("ii", 1, 0)


class Proxy:
    """Listens on a free loopback port, and passes on to another one.

    Args:
        port: Where the server listens.
        seed: Which requests a fault meets.
        injected: Called from the proxy's thread with the kind of each single fault.
    """

    def __init__(self, port: int, seed: int, injected: Callable[[str], None]) -> None:
        self.server_port = port
        self.port = 0
        self.active: set[str] = set()
        self.injected = injected
        self.chance = random.Random(f"{seed} network")
        self.open = asyncio.Event()
        self.dead = False
        """What waited while nothing passed is cut off, instead of going on."""
        self._connections: set[_Connection] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)

    def start(self) -> None:
        """Listen."""
        self._thread.start()
        self._call(self._listen())

    def close(self) -> None:
        """Stop, and cut all connections."""
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def begin(self, kind: str) -> None:
        """Begin a fault."""
        self._call(self._begin(kind))

    def end(self, kind: str, *, dead: bool = False) -> None:
        """End a fault.

        Args:
            kind: Which.
            dead: Cut off what waited while nothing passed.
        """
        self._call(self._stop(kind, dead))

    async def _listen(self) -> None:
        self.open.set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=MOST_BYTES)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _begin(self, kind: str) -> None:
        self.active.add(kind)
        if kind == "black_hole":
            self.open.clear()
        if kind == "cut":
            for connection in list(self._connections):
                self.injected("cut")
                connection.cut()

    async def _stop(self, kind: str, dead: bool) -> None:
        self.active.discard(kind)
        if kind == "black_hole":
            self.dead = dead
            self.open.set()

    async def _end(self) -> None:
        self._server.close()
        for connection in list(self._connections):
            connection.cut()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(self, reader, writer)
        self._connections.add(connection)
        try:
            await connection.run()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # one of the two sides went away
        except asyncio.CancelledError:
            pass  # the proxy ends
        finally:
            self._connections.discard(connection)
            connection.cut()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(30)


class _Connection:
    """One client's connection, and the one to the server that stands behind it."""

    def __init__(
        self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._proxy = proxy
        self._reader, self._writer = reader, writer
        self._upstream: asyncio.StreamWriter | None = None
        self._reply_fault = ""
        self._late = False

    async def run(self) -> None:
        """Pass on requests one by one, and replies as they come."""
        answers, self._upstream = await asyncio.open_connection(
            "127.0.0.1", self._proxy.server_port, limit=MOST_BYTES
        )
        replies = asyncio.ensure_future(self._replies(answers))
        try:
            while not self._reader.at_eof():
                head = await self._reader.readuntil(b"\r\n\r\n")
                body = await self._reader.readexactly(_length(head))
                if not await self._pass_on(head, body, self._upstream):
                    break
            if self._late:
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(asyncio.shield(replies), 10)
        finally:
            replies.cancel()
            await asyncio.gather(replies, return_exceptions=True)

    def cut(self) -> None:
        """Reset both connections, so that the other sides learn it at once."""
        _reset(self._writer)
        if self._upstream is not None:
            _reset(self._upstream)

    async def _pass_on(self, head: bytes, body: bytes, upstream: asyncio.StreamWriter) -> bool:
        """Pass on one request, or what a fault leaves of it; False ends the connection."""
        if not await self._passable():
            return False
        fault = self._draw()
        if fault == "cut":
            upstream.write((head + body)[: self._proxy.chance.randrange(len(head) + len(body))])
            await upstream.drain()
            return False
        if fault in ("error_500", "error_503"):
            self._writer.write(_error(int(fault[-3:])))
            await self._writer.drain()
            self._writer.close()
            return False
        if fault == "late_request":
            self._late = True
            _reset(self._writer)
            await asyncio.sleep(self._proxy.chance.uniform(0.2, 3.0))
        elif fault == "delay":
            await asyncio.sleep(self._proxy.chance.uniform(0.2, 2.0))
        elif fault in ("reply_lost", "half_close"):
            self._reply_fault = fault
        upstream.write(head + body)
        await upstream.drain()
        return fault != "late_request"

    async def _replies(self, answers: asyncio.StreamReader) -> None:
        """Pass on what the server answers; its first bytes show that a request was applied."""
        try:
            while piece := await answers.read(_PIECE):
                if self._late or not await self._passable() or self._reply_fault == "reply_lost":
                    break
                if self._reply_fault == "half_close":
                    self._writer.write(piece[: len(piece) // 2])
                    self._writer.write_eof()
                    await self._writer.drain()
                    return
                self._writer.write(piece)
                await self._writer.drain()
        except OSError:
            pass
        if not self._late:
            self.cut()

    async def _passable(self) -> bool:
        """Wait until something passes again; False if this connection is to be dead then."""
        if self._proxy.open.is_set():
            return True
        self._proxy.injected("black_hole")
        await self._proxy.open.wait()
        return not self._proxy.dead

    def _draw(self) -> str:
        """The fault that meets this request, if one does."""
        for kind in sorted(self._proxy.active & CHANCE.keys()):
            if self._proxy.chance.random() < CHANCE[kind]:
                self._proxy.injected(kind)
                return kind
        return ""


def _length(head: bytes) -> int:
    """Bytes of the body behind a request's head."""
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
        if name.strip().lower() == b"transfer-encoding":
            raise OSError("a request in chunks is more than this proxy understands")
    return 0


def _error(status: int) -> bytes:
    body = b'{"error":"unavailable","reason":"injected by the proxy"}'
    head = f"HTTP/1.1 {status} Injected\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
    return head.encode() + b"Content-Type: application/json\r\n\r\n" + body


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close a connection so that the other side sees a reset."""
    connection = writer.get_extra_info("socket")
    if connection is not None and not writer.transport.is_closing():
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
        writer.transport.abort()
