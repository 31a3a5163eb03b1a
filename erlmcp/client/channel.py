"""What a client and a way to a server owe each other.

A *channel* carries requests to one server and their answers back: a byte stream (stdio, TCP, Unix socket, memory), or
HTTP. It knows bytes, framing, headers and connections, and nothing of tools. The *front* is its client: it knows the
protocol's words, and nothing of bytes. A channel never blocks in ``send``; every request that was given to it ends
exactly once, by ``Request.settle`` or ``Request.fail``.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from erlmcp.core import Call
    from erlmcp.errors import McpError


class Request:
    """One request on its way. ``future`` gets the answer: a ``Call`` of kind RESULT or ERROR, not decoded yet."""

    __slots__ = (
        "deadline_ns",
        "future",
        "headers",
        "id",
        "is_idempotent",
        "is_sent",
        "method",
        "name",
        "on_notification",
        "params",
    )

    def __init__(
        self,
        method: str,
        params: dict[str, Any] | None,
        future: asyncio.Future[Call],
        *,
        name: str | None = None,
        headers: dict[str, str] | None = None,
        deadline_ns: int | None = None,
        is_idempotent: bool = False,
    ) -> None:
        self.id = 0  # given by the channel's correlation when it is sent
        self.method = method
        self.params = params
        self.name = name  # what params names: a tool, a prompt or a URI; HTTP's Mcp-Name
        self.headers = headers  # HTTP's Mcp-Param-*
        self.future = future
        self.deadline_ns = deadline_ns  # of the loop's clock
        self.is_idempotent = is_idempotent  # may be sent again where nobody knows whether it arrived
        self.is_sent = False  # whether any byte of it may have reached the server

    def settle(self, call: Call) -> None:
        if not self.future.done():
            self.future.set_result(call)

    def fail(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class Front(Protocol):
    """The client, as its channel sees it."""

    def received(self, call: Call) -> None:
        """A request or a notification of the server's; a request is answered through ``Channel.answer``."""

    def lost(self, error: Exception) -> None:
        """The conversation is gone, and every request on it has failed with this error."""


class Channel(Protocol):
    """A way to one server."""

    is_http: bool  # requests have heads, and a session is the server's word

    async def open(self, front: Front) -> None:
        """Connect. Raises ConnectionClosedError or OSError; nothing is left behind then."""

    def send(self, request: Request) -> None:
        """Send at the end of this turn of the loop, together with what else is sent until then."""

    def notify(self, method: str, params: dict[str, Any] | None) -> None: ...

    def answer(self, id_raw: bytes, result: object, error: McpError | None = None) -> None:
        """Answer a request of the server's."""

    def cancel(self, request: Request, reason: str) -> None:
        """The caller gave the request up: say so to the server where the revision has a word for it, and forget it."""

    def negotiated(self, era: str, version: str) -> None:
        """What the handshake or the detection found; from here on the channel's heads say so."""

    async def aclose(self) -> None:
        """End the conversation and everything that belongs to it. Never raises for what the peer does; idempotent."""
