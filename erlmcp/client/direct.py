"""Simple tools of a server in this process, called with objects and without bytes.

What may be called so: an async function without context and dependencies, on a server without middleware, whose
arguments and result are each a single value (str, int, float, bool, None). Such a value is the same on both sides of a
wire, so nobody can tell; whatever is more goes through bytes. The handler runs in a task and in a context of its own,
as it does for any other client, and its first step at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from erlmcp.client.result import CallResult, typed
from erlmcp.errors import REQUEST_TIMEOUT, CallTimeoutError, ConnectionClosedError, McpError
from erlmcp.runtime.exchange import Exchange
from erlmcp.runtime.executor import cancel_soon
from erlmcp.runtime.quick import Objects
from erlmcp.spec import method as m
from erlmcp.spec.descriptor import has_structured
from erlmcp.spec.version import LATEST_LEGACY, LATEST_MODERN, MODERN_VERSIONS
from erlmcp.wire.peer import Peer

Direct = Callable[[str, object], Any]  # Objects.call


class DirectResult(CallResult):
    """The result of such a call: the value, and ``raw`` where somebody asks for it. ``Objects`` makes it, by its
    slots."""

    __slots__ = ("_made", "data", "tool")
    data: Any
    peer = Peer(LATEST_MODERN, modern=True)

    def __init__(self, data: Any, tool: Any) -> None:
        self.data = data
        self.tool = tool

    @property
    def raw(self) -> dict[str, Any]:  # type: ignore[override]
        made: dict[str, Any] | None = getattr(self, "_made", None)
        if made is None:
            made = self._made = self.tool.result(self.data, self.peer)
        return made

    @property
    def content(self) -> Any:
        return typed("list[ContentBlock]", self.raw["content"])

    @property
    def is_error(self) -> bool:
        return False


class HandshakeResult(DirectResult):
    """The same in a handshake era, whose results carry less around them."""

    __slots__ = ()
    peer = Peer(LATEST_LEGACY)


class Waiting:
    """A call whose handler waits, in a task of the server's."""

    __slots__ = ("future", "limit_s", "task")

    def __init__(self, future: asyncio.Future[CallResult], limit_s: float) -> None:
        self.future = future
        self.limit_s = limit_s  # the server's
        self.task: asyncio.Task[None] | None = None

    async def settle(self, timeout_s: float) -> CallResult:
        """The result. Raises McpError where the handler takes longer than its tool may, CallTimeoutError where it takes
        longer than the client waits."""
        loop = asyncio.get_running_loop()
        timer = loop.call_later(min(timeout_s, self.limit_s), self._expire, timeout_s)
        try:
            return await self.future
        except asyncio.CancelledError:
            self._stop()
            raise
        finally:
            timer.cancel()

    def _expire(self, timeout_s: float) -> None:
        error: Exception = CallTimeoutError("timeout_s", timeout_s, m.TOOLS_CALL)
        if self.limit_s < timeout_s:
            error = McpError(REQUEST_TIMEOUT, f"Request timed out after {self.limit_s:g} s")
        self.fail(error)

    def fail(self, error: Exception) -> None:
        """The caller gets this error, and the handler is cancelled."""
        if not self.future.done():
            self.future.set_exception(error)
            self._stop()

    def _stop(self) -> None:
        if self.task is not None:
            cancel_soon(self.task)


def make_direct(server: Any, session: Any, version: str, waits: set[Waiting]) -> Direct | None:
    """The short way to ``server``'s tools; None where it has none, or the revision says less than its values do.
    ``waits`` holds the calls whose handlers wait."""
    stride = getattr(server, "stride", None)
    if stride is None or Objects is None or not (version in MODERN_VERSIONS or has_structured(version)):
        return None
    kind = DirectResult if version in MODERN_VERSIONS else HandshakeResult
    peer = kind.peer

    def ended(tool: Any, value: Any, error: BaseException | None) -> CallResult:
        """The result that the general way has for it; raises McpError."""
        if error is None:
            try:
                return CallResult(tool.result(value, peer))
            except Exception as fault:
                error = fault
        exchange = Exchange(None, peer, session, None)  # type: ignore[arg-type]
        found = server.service.failure(exchange, tool.plan.name, error)
        if isinstance(found, BaseException):
            raise found
        return CallResult(found)

    def waited(tool: Any, coro: Any, first: Any) -> Waiting:
        future: asyncio.Future[CallResult] = stride.host.loop.create_future()
        waiting = Waiting(future, tool.timeout_s)
        waits.add(waiting)
        future.add_done_callback(lambda _: waits.discard(waiting))
        waiting.task = server.executor.adopt(coro, first, partial(done, future, tool))
        return waiting

    def done(future: asyncio.Future[CallResult], tool: Any, value: Any, error: BaseException | None) -> None:
        if future.done():
            return
        try:
            if isinstance(error, asyncio.CancelledError):
                raise ConnectionClosedError("the server stopped")
            plain = error is None and value.__class__ is tool.result_class
            future.set_result(kind(value, tool) if plain else ended(tool, value, error))
        except Exception as fault:
            future.set_exception(fault)

    return Objects(stride, server.tools, kind, waited, ended).call
