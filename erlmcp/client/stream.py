"""Servers behind TCP and Unix sockets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from functools import partial
from typing import TYPE_CHECKING, cast

from erlmcp.client.bound import ClientLimits
from erlmcp.client.pipe import Pipe, closed_by_us
from erlmcp.errors import ConnectionClosedError, LimitError
from erlmcp.flags import Flags

if TYPE_CHECKING:
    from erlmcp.client.channel import Front


class StreamChannel(Pipe, asyncio.Protocol):
    """A TCP connection (``host`` and ``port``) or a Unix socket (``path``), newline framing."""

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        path: str | os.PathLike[str] | None = None,
        limits: ClientLimits | None = None,
        flags: Flags | None = None,
        json_rpc_batch: bool = False,
    ) -> None:
        super().__init__(limits, flags, json_rpc_batch=json_rpc_batch)
        self._host, self._port = host, port
        self._path = None if path is None else os.fspath(path)
        self.address = f"unix:{self._path}" if self._path is not None else f"tcp://{host}:{port}"
        self._transport: asyncio.Transport | None = None
        self._gone: asyncio.Future[None] | None = None

    async def open(self, front: Front) -> None:
        self._begin()
        loop = asyncio.get_running_loop()
        self._gone = loop.create_future()
        self._opened(front)
        try:
            if self._path is not None:
                await loop.create_unix_connection(lambda: self, self._path)
            else:
                await loop.create_connection(lambda: self, self._host, self._port)
        except BaseException as error:
            self._lose(closed_by_us, by_us=True)
            if self._transport is not None:
                self._transport.abort()
            if isinstance(error, OSError):
                raise ConnectionClosedError(f"cannot connect to {self.address}: {reason_of(error)}") from error
            raise

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    data_received = Pipe.feed
    pause_writing = Pipe._pause
    resume_writing = Pipe._resume

    def _write(self, data: bytes) -> None:
        transport = self._transport
        if transport is None:
            return
        transport.write(data)
        if self._is_paused and transport.get_write_buffer_size() > self._unread_max:
            limit = LimitError("outbox_bytes_max", self.limits.outbox_bytes_max, "the server does not read")
            self._lose(partial(ConnectionClosedError, f"{self.address}: {limit}"))
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        why = "the server closed the connection" if exc is None else f"the connection was lost: {reason_of(exc)}"
        self._lose(partial(ConnectionClosedError, f"{self.address}: {why}"))
        self._transport = None
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(None)

    async def aclose(self) -> None:
        """What was sent in this turn still leaves, for as long as ``close_timeout_s``."""
        if self._lost is None:
            self._flush()
            self._lose(closed_by_us, by_us=True)
        if self._transport is None or self._gone is None:
            return
        self._transport.close()
        try:
            await asyncio.wait([self._gone], timeout=self.limits.close_timeout_s)
        finally:
            if self._transport is not None:
                self._transport.abort()


def reason_of(error: BaseException) -> str:
    """What an error of the system says, in words."""
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text or type(error).__name__
