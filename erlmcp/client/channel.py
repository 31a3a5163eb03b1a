"""What a client and a way to a server owe each other.

A *channel* carries requests to one server and their answers back: a byte stream (stdio, TCP, Unix socket, memory), or
HTTP. It knows bytes, framing, headers and connections, and nothing of tools. The *front* is its client: it knows the
protocol's words, and nothing of bytes. A channel never blocks in ``send``; every request that was given to it ends
exactly once, by ``Request.settle`` or ``Request.fail``.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from erlmcp.client.flow import Request as Request

if TYPE_CHECKING:
    from erlmcp.core import Call
    from erlmcp.errors import McpError


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


def weakly(method: Callable[[], None]) -> Callable[[], None]:
    """The method as a callback that does not keep its object alive."""
    known = weakref.WeakMethod(method)

    def call() -> None:
        found = known()
        if found is not None:
            found()

    return call
