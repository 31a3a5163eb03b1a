"""An in-memory connection: the same link, the same bytes, no file descriptors. For tests and for embedding."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from erlmcp.errors import ConnectionClosedError

if TYPE_CHECKING:
    from erlmcp.transports.stream import ByteLink, LinkFactory


class MemoryConnection:
    """The client's end: ``send`` bytes, ``receive`` messages.

    ``async with server.memory() as wire: wire.send(b'{...}\\n'); line = await wire.receive()``.
    """

    def __init__(self, make: LinkFactory) -> None:
        self._lines: asyncio.Queue[bytes] = asyncio.Queue()
        self._rest = b""
        self._link: ByteLink = make(self._write)

    def _write(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._lines.put_nowait(line)

    def send(self, data: bytes) -> None:
        """Hand bytes to the server, in any cut."""
        if self._link.closed:
            raise ConnectionClosedError("the in-memory connection is closed")
        self._link.feed(data)

    async def receive(self, timeout_s: float = 10.0) -> bytes:
        """The next message from the server, without its newline; TimeoutError where none comes."""
        async with asyncio.timeout(timeout_s):
            return await self._lines.get()

    def pending(self) -> int:
        """How many messages have arrived and were not received yet."""
        return self._lines.qsize()

    def close(self) -> None:
        self._link.close("the client closed the connection")

    async def __aenter__(self) -> MemoryConnection:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()
