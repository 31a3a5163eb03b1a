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
        "params",
        "timeout_s",
    )

    def __init__(
        self,
        method: str,
        params: dict[str, Any] | None,
        future: asyncio.Future[Call],
        name: str | None = None,
        headers: dict[str, str] | None = None,
        deadline_ns: int | None = None,
        timeout_s: float = 0.0,
        is_idempotent: bool = False,
    ) -> None:
        self.id = 0  # given by ``Channel.send``, before it returns
        self.method = method
        self.params = params  # JSON values, and ``core.Raw`` among them
        self.name = name  # what params names: a tool, a prompt or a URI; HTTP's Mcp-Name
        self.headers = headers  # HTTP's Mcp-Param-*, by their whole names, ready to be sent
        self.future = future
        self.deadline_ns = deadline_ns  # of time.monotonic_ns(); None: it waits until it is cancelled (a listen stream)
        self.timeout_s = timeout_s  # what the deadline was made of, for the error
        self.is_idempotent = is_idempotent  # may be sent again where nobody knows whether it arrived
        # Whether any byte of it may have reached the server. A channel that learns that the server did not act on it
        # (a 404 for its session) sets it back before it fails the request: then it is sent again.
        self.is_sent = False

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
        """The conversation is gone, and every request on it has failed with this error. Not called for ``aclose``."""


class Channel(Protocol):
    """A way to one server."""

    is_http: bool  # requests have heads, and a session is the server's word

    async def open(self, front: Front) -> None:
        """Connect. Raises ConnectionClosedError, for an OSError too; nothing is left behind then."""

    def send(self, request: Request) -> None:
        """Send at the end of this turn of the loop, together with what else is sent until then; gives it its ``id``.

        At its deadline it fails with CallTimeoutError, and with the loss of the conversation with
        ConnectionClosedError or a subclass of it. Raises, with nothing taken, JsonError or LimitError for params that
        cannot be written, LimitError where too many wait, ConnectionClosedError where the conversation is over.
        """

    def notify(self, method: str, params: dict[str, Any] | None) -> None:
        """Nothing happens where the conversation is over."""

    def answer(self, id_raw: bytes, result: object, error: McpError | None = None) -> None:
        """Answer a request of the server's."""

    def cancel(self, request: Request, reason: str) -> None:
        """The caller gave the request up: say so to the server where the revision has a word for it, and forget it."""

    def negotiated(self, era: str, version: str) -> None:
        """What the handshake or the detection found; from here on the channel's heads say so."""

    async def aclose(self) -> None:
        """End the conversation and everything that belongs to it. Never raises for what the peer does; idempotent."""
