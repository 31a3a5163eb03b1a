"""A server's sides of connections, over the transports of the poller or of the loop, and sockets as their clients."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import AsyncIterator, Callable
from typing import Any

from erlmcp.transports.acceptor import Acceptor, bind_tcp

MEGABYTE = 1 << 20
Make = Callable[[], asyncio.Protocol]


class Side(asyncio.Protocol):
    """A server's side of a connection, which keeps what happens to it."""

    keeps_open = False

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.got = bytearray()
        self.calls: list[str] = []
        self.error: Exception | None = None
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.stage.sides.append(self)
        self._tell("made")

    def data_received(self, data: bytes) -> None:
        self.got += data
        self.stage.order.append(self)
        self._tell("data")

    def eof_received(self) -> bool:
        self._tell("eof")
        return self.keeps_open

    def pause_writing(self) -> None:
        self._tell("pause")

    def resume_writing(self) -> None:
        self._tell("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.error = exc
        self._tell("lost")

    def _tell(self, what: str) -> None:
        self.calls.append(what)
        for waiter in self.stage.waiters:
            if not waiter.done():
                waiter.set_result(None)
        self.stage.waiters.clear()


class Stage:
    """A server, and all sides of connections that it made."""

    def __init__(self) -> None:
        self.sides: list[Any] = []
        self.order: list[Any] = []  # whose data came
        self.waiters: list[asyncio.Future[None]] = []
        self.server: Any = None
        self.clients: list[socket.socket] = []

    @property
    def port(self) -> int:
        found: int = self.server.sockets[0].getsockname()[1]
        return found

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not is_so():
                waiter = asyncio.get_running_loop().create_future()
                self.waiters.append(waiter)
                await waiter

    async def dial(self) -> tuple[socket.socket, Any]:
        """A client's socket, and the side that it meets."""
        count = len(self.sides)
        client = socket.socket(self.server.sockets[0].family)
        self.clients.append(client)
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, self.server.sockets[0].getsockname())
        await self.until(lambda: len(self.sides) > count)
        return client, self.sides[count]


@contextlib.asynccontextmanager
async def serving(
    kind: str, make: Callable[[Stage], Any] = Side, sock: socket.socket | None = None
) -> AsyncIterator[Stage]:
    from erlmcp.transports.poller import Poller

    loop, stage = asyncio.get_running_loop(), Stage()
    made: Make = lambda: make(stage)  # noqa: E731
    if kind == "loop":
        stage.server = await (
            loop.create_server(made, "127.0.0.1", 0) if sock is None else loop.create_unix_server(made, sock=sock)
        )
    else:
        stage.server = Acceptor(Poller(loop), made, await bind_tcp("127.0.0.1", 0) if sock is None else [sock])
    try:
        yield stage
    finally:
        stage.server.close()
        for client in stage.clients:
            client.close()
        for side in stage.sides:
            if "lost" not in side.calls:
                side.transport.abort()
        await stage.until(lambda: all("lost" in side.calls for side in stage.sides))


async def receive(client: socket.socket, size: int) -> bytes:
    loop, got = asyncio.get_running_loop(), bytearray()
    async with asyncio.timeout(20):
        while len(got) < size:
            data = await loop.sock_recv(client, MEGABYTE)
            if not data:
                break
            got += data
    return bytes(got)


def reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def pattern(size: int) -> bytes:
    return random.Random(size).randbytes(size)
