"""One of several ways to serve what a server has registered: with flags, and with a stack, of its own.

A side is a view of its server: the tools, prompts, resources, limits, tasks and threads are the server's; routes,
templates and the codec are its own, as objects of the compiled core and of its twins do not mix. A connection that is
made with a side is handled by it from its first byte to its last; a single call gets to it by ``handle``, which reads
the message anew. Both cost those nothing that stay on the server's own way.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from erlmcp import core
from erlmcp.errors import McpError
from erlmcp.flags import Flags
from erlmcp.runtime.codec import Codec
from erlmcp.runtime.quick import Stride, make_stride
from erlmcp.server.service import Service
from erlmcp.server.tool import Tool
from erlmcp.spec import method as m

if TYPE_CHECKING:
    import asyncio

    from erlmcp.runtime.exchange import Exchange
    from erlmcp.runtime.executor import Done
    from erlmcp.server.app import Server

INVALID = 6


class Side:
    """The host of the conversations and calls that are handled this way. What it has not itself is the server's."""

    def __init__(
        self, server: Server, flags: Flags, stack: str = core.IMPLEMENTATION, *, is_plain: bool = False
    ) -> None:
        self.whole = server
        self.flags = flags
        self.is_plain = is_plain
        self.stack = core.stack(stack)
        self.codec = None if flags.native_json else Codec(self.stack, is_plain=is_plain)
        self.routes = self.stack.Routes()
        self.tools: dict[str, Tool] = {}
        self.quick_route: object = None
        self._stride: tuple[Any, Stride | None] = (None, None)
        self.service: Service = server.service_class(self)  # type: ignore[arg-type]
        self.service.install()
        for name, tool in server.tools.items():
            self.set_entry(m.TOOLS_CALL, name, tool)
        for name, prompt in server.prompts.items():
            self.set_entry(m.PROMPTS_GET, name, prompt)
        self._inbound: Any = self.stack.Inbound(self.routes, framing="content_length", **self._bounds())

    def __getattr__(self, name: str) -> Any:
        return getattr(self.whole, name)

    @property
    def is_servers_own(self) -> bool:
        """Whether the server's own way is the same one."""
        server = self.whole
        return self.flags == server.flags and self.stack is server.stack and (self.codec is None or not self.is_plain)

    @property
    def stride(self) -> Stride | None:
        """The short way, of the server's present run."""
        executor = self.whole.executor
        if self._stride[0] is not executor:
            is_compiled = self.stack is self.whole.stack and self.whole.stride is not None
            self._stride = executor, make_stride(self) if is_compiled else None  # type: ignore[arg-type]
        return self._stride[1]

    def drive(self, coro: Coroutine[Any, Any, Any], done: Done) -> asyncio.Task[None] | None:
        """As the server's, by the flags of this side."""
        return type(self.whole).drive(self, coro, done)  # type: ignore[arg-type]

    # -- what is registered --------------------------------------------------------------------------------------------

    def set_entry(self, method: str, name: str, entry: Any) -> None:
        """The server has this tool or prompt now."""
        is_critical = method == m.TOOLS_CALL and entry.plan.priority == "critical"
        if method == m.TOOLS_CALL:
            guard = self.whole.guarding.again(entry.guard, self.flags)
            entry = self.tools[name] = entry.again(self, guard)
        self.routes.set_entry(method, name, entry, is_critical=is_critical)

    def drop_entry(self, method: str, name: str) -> None:
        if method == m.TOOLS_CALL:
            del self.tools[name]
        self.routes.drop_entry(method, name)

    # -- a call that came in another way -------------------------------------------------------------------------------

    def _bounds(self) -> dict[str, int]:
        limits = self.whole.limits
        return {
            "message_bytes_max": max(limits.message_bytes_max, limits.body_bytes_max),
            "depth_max": limits.depth_max,
            "string_bytes_max": limits.string_bytes_max,
            "number_bytes_max": limits.number_bytes_max,
            "batch_count_max": limits.batch_count_max,
        }

    def read(self, raw: bytes) -> Any:
        """A message, as the stack of this side has it."""
        return self._inbound.feed(b"Content-Length: %d\r\n\r\n%b" % (len(raw), raw))[0]

    def handle(self, exchange: Exchange) -> None:
        """Let this side handle a request that was admitted elsewhere; its channel must write what this stack makes."""
        call = self.read(exchange.call.raw)
        if call.kind == INVALID:
            exchange.fail(McpError(call.code, call.message))
            return
        exchange.call, exchange.codec = call, self.codec
        call.route(exchange)
