"""An HTTP listener over TCP or a Unix socket: its connections, what they share, time limits, graceful drain."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import time
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, cast

from erlmcp import core
from erlmcp.runtime.parts import SPLIT_BYTES
from erlmcp.runtime.roll import Roll

if TYPE_CHECKING:
    import ssl

    from erlmcp.core import HttpRequest, Routes
    from erlmcp.limits import Limits
    from erlmcp.runtime.turn import Turn
    from erlmcp.transports.acceptor import Acceptor
    from erlmcp.transports.contract import Connection, Handler, Stride

SWEEP_S = 1.0
_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}
HEALTH = "/health/"


class HttpListener:
    """A listening socket, its connections, and what they share."""

    cancels_at_eof = True
    is_direct = core.IMPLEMENTATION == "core"  # Without TLS its sockets are its own, where there is an epoll.

    def __init__(
        self,
        handler: Handler,
        routes: Routes,
        limits: Limits,
        turn: Turn,
        stride: Stride | None = None,
        has_zero_copy: Callable[[], bool] = lambda: True,
    ) -> None:
        self.handler = handler
        self.has_zero_copy = has_zero_copy  # whether large answers are written in pieces
        self.stride = stride
        self.turn = turn
        self.limits = limits
        self.connections: Roll[Connection] = Roll()
        self.is_closing = False
        self._routes = routes
        self._server: asyncio.AbstractServer | Acceptor | None = None
        self.date = b""
        self._prefixes: dict[tuple[int, bytes, bool, bool], bytes] = {}
        self._timer: asyncio.TimerHandle | None = None

    def make_inbound(self) -> core.HttpInbound:
        limits = self.limits
        return core.HttpInbound(
            self._routes,
            None,
            head_bytes_max=limits.head_bytes_max,
            header_count_max=limits.header_count_max,
            body_bytes_max=limits.body_bytes_max,
            depth_max=limits.depth_max,
            string_bytes_max=limits.string_bytes_max,
            number_bytes_max=limits.number_bytes_max,
            batch_count_max=limits.batch_count_max,
        )

    def make_outbound(self) -> core.Outbound:
        split_bytes = SPLIT_BYTES if self.has_zero_copy() else 0
        return core.Outbound(framing="http", bytes_max=self.limits.outbox_bytes_max, split_bytes=split_bytes)

    def is_exempt(self, request: HttpRequest) -> bool:
        """Whether a request waits for nobody's turn: a critical one, or the question whether the server is alive."""
        if request.call is not None:
            return request.call.is_critical and self.turn.is_priority
        return request.head is not None and request.head.target.startswith(HEALTH) and self.turn.is_priority

    def admit(self, connection: Connection) -> bool:
        if len(self.connections) >= self.limits.connection_count_max:
            return False
        self.connections.add(connection)
        return True

    def forget(self, connection: Connection) -> None:
        self.connections.discard(connection)

    def head(self, status: int, keep: bool, is_11: bool) -> bytes:
        """Status line, Date, Connection."""
        line = b"HTTP/1.1 %d %b\r\nDate: %b\r\n" % (status, _REASONS.get(status, b"Unknown"), self.date)
        if not keep:
            return line + b"Connection: close\r\n"
        return line if is_11 else line + b"Connection: keep-alive\r\n"

    def prefix(self, status: int, extra: bytes, keep: bool, is_11: bool) -> bytes:
        """The head of a JSON answer, up to its length; kept for the second that its Date is right."""
        key = (status, extra, keep, is_11)
        found = self._prefixes.get(key)
        if found is None:
            found = self.head(status, keep, is_11) + extra + b"Content-Type: application/json\r\nContent-Length: "
            if len(self._prefixes) < 1000:
                self._prefixes[key] = found
        return found

    def _sweep(self) -> None:
        self.date = formatdate(usegmt=True).encode()
        self._prefixes.clear()
        if self.stride is not None:
            self.stride.date = self.date
        now = time.monotonic()
        for connection in self.connections:
            connection.sweep(now, self.limits)
        self._timer = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)

    async def listen(
        self,
        host: str | None,
        port: int,
        sock: socket.socket | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        http2: bool = False,
        reuse_port: bool = False,
    ) -> None:
        """Begin to accept; raises OSError where the address cannot be had. Either host and port, which with
        ``reuse_port`` other processes have, too, or a bound ``sock``.
        With ``http2`` a connection may speak that too: by ALPN, or from its first bytes on."""
        from erlmcp.transports.http1 import HttpConnection

        make: Callable[[], asyncio.Protocol] = lambda: HttpConnection(self)  # noqa: E731
        if http2:
            from erlmcp.transports.http2 import Sniffer

            make = lambda: Sniffer(self)  # noqa: E731
            if tls is not None:
                tls.set_alpn_protocols(["h2", "http/1.1"])
        self._sweep()
        try:
            self._server = await self._open(make, host, port, sock, tls, reuse_port)
        except BaseException:
            self._stop_sweep()
            raise

    async def _open(
        self,
        make: Callable[[], asyncio.Protocol],
        host: str | None,
        port: int,
        sock: socket.socket | None,
        tls: ssl.SSLContext | None,
        reuse_port: bool,
    ) -> asyncio.AbstractServer | Acceptor:
        loop = asyncio.get_running_loop()
        if self.is_direct and tls is None and sys.platform == "linux":
            from erlmcp.transports.acceptor import Acceptor, bind_tcp
            from erlmcp.transports.poller import Poller

            bound = [sock] if sock is not None else await bind_tcp(host, port, reuse_port=reuse_port)
            return Acceptor(Poller(loop), make, bound)
        if sock is not None:
            return await loop.create_unix_server(make, sock=sock, ssl=tls)
        return await loop.create_server(make, host, port, backlog=1024, ssl=tls, reuse_port=reuse_port or None)

    @property
    def port(self) -> int:
        """The TCP port, also where 0 was asked for."""
        return cast(int, cast(asyncio.Server, self._server).sockets[0].getsockname()[1])

    def _stop_sweep(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def close(self, drain_timeout_s: float, before_abort: Callable[[], None] = lambda: None) -> None:
        """Accept no more; let the answers under way leave, for so long; then cut what is left. ``before_abort`` ends
        streams that would stay open by themselves."""
        self.is_closing = True
        if self._server is not None:
            self._server.close()
        before_abort()
        for connection in self.connections:
            connection.drain()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(drain_timeout_s):
                while self.connections:
                    await asyncio.sleep(0.01)
        for connection in self.connections:
            connection.abort()
        self._stop_sweep()
