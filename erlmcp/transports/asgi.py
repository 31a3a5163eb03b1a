"""The endpoint as an ASGI application, to be mounted in another one (Starlette, FastAPI).

The request is put together again as HTTP/1.1 bytes and read by the same parser as on a socket: the same limits and
checks hold, and there is one way to judge a request. This costs more than the server's own protocol; it is for apps
that have other routes to serve beside MCP.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import TYPE_CHECKING, Any, Protocol

from erlmcp import core

if TYPE_CHECKING:
    from erlmcp.core import HttpRequest, Outbound, Routes
    from erlmcp.limits import Limits

log = logging.getLogger("erlmcp.http")
_BREAK = re.compile(rb"[\r\n\0]")
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Handler(Protocol):
    def handle(self, request: HttpRequest, reply: AsgiReply) -> None: ...
    def end_streams(self) -> None: ...
    def close(self) -> None: ...


class AsgiReply:
    """One answer, as the ASGI messages that carry it."""

    kind = "asgi"

    def __init__(self, bytes_max: int, client: tuple[str, int] | None = None) -> None:
        self.client = client  # its address, where the host knows it
        self.scope: Scope = {}  # of the host, for applications of its kind beside the endpoint
        self.front: object | None = None
        self.gone: Callable[[], None] | None = None
        self.messages: deque[Message] = deque()
        self.came = asyncio.Event()  # whether there is one
        self.waiting_bytes = 0  # of the bodies in ``messages``
        self.is_cut = False
        self._bytes_max = bytes_max
        self._out = core.Outbound(framing="none", bytes_max=bytes_max)
        self._start: tuple[int, bytes] = (200, b"")

    def _put(self, message: Message) -> None:
        self.messages.append(message)
        self.came.set()

    def _head(self, status: int, lines: bytes, more: Iterable[tuple[bytes, bytes]] = ()) -> None:
        headers = [*more]
        for line in lines.split(b"\r\n"):
            name, colon, value = line.partition(b":")
            if colon:
                headers.append((name.strip().lower(), value.strip()))
        self._put({"type": "http.response.start", "status": status, "headers": headers})

    def _body(self, data: bytes, more: bool = False) -> None:
        self.waiting_bytes += len(data)
        self._put({"type": "http.response.body", "body": data, "more_body": more})
        if not more:
            self.gone = None

    def plain(self, status: int, body: bytes, extra: bytes = b"", content_type: bytes = b"text/plain") -> None:
        more = [(b"content-length", b"%d" % len(body))] if status != 204 else []
        if body:
            more.append((b"content-type", content_type + b"; charset=utf-8"))
        self._head(status, extra, more)
        self._body(body)

    def whole(self, status: int, lines: bytes, body: bytes) -> None:
        self._head(status, lines)
        self._body(body)

    def begin(self, status: int, extra: bytes) -> Outbound:
        self._start = (status, extra)
        return self._out

    def end(self) -> None:
        body = self._out.take()
        status, extra = self._start
        self._head(status, extra, [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))])
        self._body(body)

    def open(self, extra: bytes, status: int = 200) -> None:
        self._head(status, extra)

    def send(self, data: bytes) -> None:
        if self.is_cut:
            return
        self._body(data, more=True)
        if self.waiting_bytes > self._bytes_max:
            log.warning("a client does not read its stream: outbox_bytes_max=%d passed", self._bytes_max)
            self.is_cut = True
            self.leave()

    @property
    def unsent_bytes(self) -> int:
        return self.waiting_bytes

    def abort(self) -> None:
        self.is_cut = True
        self._put({"type": "http.response.body", "body": b"", "more_body": True})  # what is cut is seen with a message

    def leave(self) -> None:
        """Nobody reads the answer any more."""
        gone, self.gone = self.gone, None
        if gone is not None:
            gone()

    def finish(self) -> None:
        self._body(b"")


class AsgiApp:
    """``app(scope, receive, send)``: serves the endpoint at ``path``, or at the path it is mounted at.

    ``start`` and ``stop`` enter and leave the server's lifespan; where the host never runs ours, the first request
    starts it.
    """

    def __init__(
        self,
        make_handler: Callable[[], Handler],
        routes: Routes,
        limits: Limits,
        path: str,
        start: Callable[[], Awaitable[None]],
        stop: Callable[[], Awaitable[None]],
    ) -> None:
        self._make_handler = make_handler
        self._routes = routes
        self._limits = limits
        self.path = "/" + path.strip("/")
        self._start = start
        self._stop = stop
        self._handler: Handler | None = None
        self._starting: asyncio.Lock | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._http(await self.started(), scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000})

    async def started(self) -> Handler:
        """The handler; the server is started first where it is not yet."""
        if self._handler is not None:
            return self._handler
        if self._starting is None:
            self._starting = asyncio.Lock()
        async with self._starting:
            if self._handler is None:
                await self._start()
                self._handler = self._make_handler()
        return self._handler

    async def close(self) -> None:
        """Leave the server's lifespan."""
        handler, self._handler = self._handler, None
        if handler is not None:
            handler.end_streams()
            handler.close()
            await self._stop()

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                try:
                    await self.started()
                except Exception as error:
                    await send({"type": "lifespan.startup.failed", "message": str(error)})
                    return
                await send({"type": "lifespan.startup.complete"})
            else:
                await self.close()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _http(self, handler: Handler, scope: Scope, receive: Receive, send: Send) -> None:
        reply = AsgiReply(self._limits.outbox_bytes_max, scope.get("client"))
        reply.scope = scope
        body = await self._read_body(receive, reply)
        if body is None:
            return
        inbound = core.HttpInbound(
            self._routes,
            None,
            head_bytes_max=self._limits.head_bytes_max,
            header_count_max=self._limits.header_count_max,
            body_bytes_max=self._limits.body_bytes_max,
            depth_max=self._limits.depth_max,
            string_bytes_max=self._limits.string_bytes_max,
            number_bytes_max=self._limits.number_bytes_max,
            batch_count_max=self._limits.batch_count_max,
        )
        requests = inbound.feed(self._as_bytes(scope, body))
        if len(requests) != 1:
            reply.plain(400, b"Bad Request")
        elif requests[0].status:
            reply.plain(requests[0].status, (requests[0].message or "Bad Request").encode())
        elif isinstance(body, int):
            reply.plain(413, f"Content Too Large: body_bytes_max={self._limits.body_bytes_max}".encode())
        else:
            handler.handle(requests[0], reply)
        await self._send(reply, receive, send)

    async def _read_body(self, receive: Receive, reply: AsgiReply) -> bytes | int | None:
        """The body; its length so far where it is too long, None where the client left."""
        parts: list[bytes] = []
        length = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            parts.append(message.get("body", b""))
            length += len(parts[-1])
            if length > self._limits.body_bytes_max:
                return length
            if not message.get("more_body", False):
                return b"".join(parts)

    def _as_bytes(self, scope: Scope, body: bytes | int) -> bytes:
        """The request as it would have come over a socket, at the endpoint's own path."""
        path: str = scope["path"]
        root: str = scope.get("root_path", "")
        inner = path[len(root) :] if root and path.startswith(root) else path
        target = self.path if inner.rstrip("/") in ("", self.path) else inner
        if scope.get("query_string"):
            target += "?" + scope["query_string"].decode("latin-1")
        lines = [f"{scope['method']} {target.replace(' ', '%20')} HTTP/1.1".encode("latin-1", "replace")]
        skipped = (b"content-length", b"transfer-encoding", b"connection", b"expect")
        has_host = False
        for name, value in scope["headers"]:
            if name not in skipped:
                has_host = has_host or name == b"host"
                lines.append(name + b": " + value)
        if not has_host:
            server = scope.get("server") or ("localhost", None)
            lines.append(b"host: " + str(server[0]).encode("latin-1"))
        if any(_BREAK.search(line) for line in lines):
            return b"\0"  # no request at all
        data = body if isinstance(body, bytes) else b""
        if data or scope["method"] == "POST":
            lines.append(b"content-length: %d" % len(data))
        return b"\r\n".join(lines) + b"\r\n\r\n" + data

    async def _send(self, reply: AsgiReply, receive: Receive, send: Send) -> None:
        leaving: asyncio.Future[Message] | None = None
        try:
            while True:
                if not reply.messages:
                    reply.came.clear()
                    leaving = leaving or asyncio.ensure_future(receive())
                    if not await _comes(reply, leaving):
                        return
                message = reply.messages.popleft()
                await send(message)
                if message["type"] == "http.response.body":
                    reply.waiting_bytes -= len(message["body"])
                    if not message["more_body"]:
                        return
                if reply.is_cut:
                    return  # Without the end of the body: the host closes the connection.
        finally:
            if leaving is not None and not leaving.cancel() and not leaving.cancelled():
                leaving.exception()  # which is looked at, whether anybody waited for it or not
            reply.leave()


async def _comes(reply: AsgiReply, leaving: asyncio.Future[Message]) -> bool:
    """Wait for the next message of an answer; False where the client has left before."""
    coming: asyncio.Future[Any] = asyncio.ensure_future(reply.came.wait())
    try:
        if not leaving.done():
            both: list[asyncio.Future[Any]] = [coming, leaving]
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if not coming.done() and not _has_left(leaving):
            await coming
        return coming.done()
    finally:
        coming.cancel()


def _has_left(leaving: asyncio.Future[Message]) -> bool:
    """Whether what the host said after the body is that the client is gone; it may say other things."""
    return leaving.cancelled() or leaving.exception() is not None or leaving.result()["type"] == "http.disconnect"
