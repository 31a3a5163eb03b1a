"""A server in this process, through real bytes and no file descriptor.

There is no kernel to save calls of, so nothing is gathered: a request goes to the server as it is sent, and where the
handler does not wait, its answer is there when ``send`` returns. A handler that calls its own server through the same
channel is inside of ``Link.feed`` then; what it sends goes out at the end of the turn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from erlmcp.client.bound import ClientLimits
from erlmcp.client.direct import Waiting, make_direct
from erlmcp.client.pipe import Pipe, closed_by_us
from erlmcp.errors import ConnectionClosedError
from erlmcp.flags import Flags

if TYPE_CHECKING:
    from erlmcp.client.channel import Front, Request


class MemoryChannel(Pipe):
    """A link of ``server`` (anything with ``start``, ``stop`` and ``link``, as ``erlmcp.Server``), which runs for as
    long as the channel is open. With ``objects``, calls that need no bytes take a shorter way
    (``erlmcp.client.direct``)."""

    def __init__(
        self,
        server: Any,
        *,
        objects: bool = True,
        limits: ClientLimits | None = None,
        flags: Flags | None = None,
        json_rpc_batch: bool = False,
    ) -> None:
        super().__init__(limits, flags, json_rpc_batch=json_rpc_batch)
        self.server = server
        self._objects = objects
        self._waits: set[Waiting] = set()
        self._link: Any = None

    async def open(self, front: Front) -> None:
        self._begin()
        self._is_prompt = True
        await self.server.start()
        self._link = self.server.link(self.feed)
        self._opened(front)

    def direct(self, version: str) -> Any:
        """The short way for calls of simple tools, once the revision is known; None where there is none."""
        return make_direct(self.server, self._link.session, version, self._waits) if self._objects else None

    def send(self, request: Request) -> None:
        if self._is_dirty or not self._is_prompt or request.deadline_ns is None:
            super().send(request)  # A listen stream must not begin before its reader knows the request's id.
            return
        self._is_dirty = True  # No flush is to be scheduled: it comes at once.
        try:
            super().send(request)
        finally:
            self._flush()

    def _write(self, data: bytes) -> None:
        link = self._link
        outer, self._is_prompt = self._is_prompt, False
        try:
            link.feed(data)
        finally:
            self._is_prompt = outer
        if link.closed:
            self._lose(lambda: ConnectionClosedError("the server closed the connection"))

    async def aclose(self) -> None:
        if self._lost is None:
            self._flush()
        self._lose(closed_by_us, by_us=True)
        for waiting in list(self._waits):
            waiting.fail(closed_by_us())
        link, self._link = self._link, None
        if link is not None:
            link.close("the client closed the connection")
            await self.server.stop()
