"""A server in this process, through real bytes and no file descriptor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from erlmcp.client.bound import ClientLimits
from erlmcp.client.pipe import Pipe, closed_by_us
from erlmcp.errors import ConnectionClosedError

if TYPE_CHECKING:
    from erlmcp.client.channel import Front


class MemoryChannel(Pipe):
    """A link of ``server`` (anything with ``start``, ``stop`` and ``link``, as ``erlmcp.Server``), which runs for as
    long as the channel is open."""

    def __init__(self, server: Any, *, limits: ClientLimits | None = None) -> None:
        super().__init__(limits)
        self.server = server
        self._link: Any = None

    async def open(self, front: Front) -> None:
        self._begin()
        await self.server.start()
        self._link = self.server.link(self.feed)
        self._opened(front)

    def _write(self, data: bytes) -> None:
        link = self._link
        link.feed(data)
        if link.closed:
            self._lose(lambda: ConnectionClosedError("the server closed the connection"))

    async def aclose(self) -> None:
        if self._lost is None:
            self._flush()
        self._lose(closed_by_us, by_us=True)
        link, self._link = self._link, None
        if link is not None:
            link.close("the client closed the connection")
            await self.server.stop()
