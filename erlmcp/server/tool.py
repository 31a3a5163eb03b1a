"""A tool as it is served: its plan, and how a call of it begins and ends."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from erlmcp.errors import InvalidParamsError, JsonError, McpError
from erlmcp.runtime.quick import Entry
from erlmcp.server.context import Context
from erlmcp.server.input import InputRequired
from erlmcp.server.param import MISSING
from erlmcp.server.plan import ToolPlan
from erlmcp.server.source import direct_call
from erlmcp.spec.descriptor import has_structured

if TYPE_CHECKING:
    from erlmcp.core import Call
    from erlmcp.runtime.exchange import Exchange, Front
    from erlmcp.server.app import Server
    from erlmcp.wire.peer import Peer

log = logging.getLogger("erlmcp.server")

TEXT, VALUE, VALUE_AS_TEXT = 0, 1, 2
_OPEN = b'{"content":[{"type":"text","text":'


class Tool(Entry):
    """One registered tool. ``start`` is the hot path: decode, call, answer, with a task only where the handler
    waits."""

    __slots__ = (
        "in_thread",
        "kind",
        "may_be_simple",
        "needs_context",
        "plan",
        "server",
        "timeout_s",
    )

    def __init__(self, server: Server, plan: ToolPlan) -> None:
        self.server = server
        self.plan = plan
        self.invoke = plan.invoke
        self.kind = plan.result_kind
        self.result_class = plan.result_class
        self.timeout_s = plan.timeout_s or server.limits.request_timeout_s
        self.in_thread = plan.in_thread
        self.needs_context = plan.needs_context
        self.is_simple = self.may_be_simple = (
            plan.is_async
            and plan.result_class is not None
            and not (plan.needs_context or plan.dependencies or plan.param_headers)
        )
        direct = direct_call(plan.binding)
        if self.is_simple and direct is not None:
            self.set_direct(plan.binding.call, *direct, MISSING, plan.binding.strict)
        self.modern = self._template(server.modern_suffix, structured=True)
        self.structured = self._template(b"", structured=True)
        self.plain = self._template(b"", structured=False)

    def _template(self, suffix: bytes, *, structured: bool) -> Any:
        """The answer with a hole for the value, for the kinds of result whose shape is known beforehand."""
        end = b',"isError":false' + suffix + b"}"
        make = self.server.stack.Template
        if self.kind == "text" and structured:
            return make([_OPEN, (TEXT, 0), b'}],"structuredContent":{"result":', (TEXT, 0), b"}" + end])
        if self.kind in ("text", "text_only"):
            return make([_OPEN, (TEXT, 0), b"}]" + end])
        if self.kind != "value":
            return None
        if not structured:
            return make([_OPEN, (VALUE_AS_TEXT, 0), b"}]" + end])
        opened, closed = (b'{"result":', b"}") if self.plan.wraps_result else (b"", b"")
        return make([_OPEN, (VALUE_AS_TEXT, 0), b'}],"structuredContent":' + opened, (VALUE, 0), closed + end])

    # -- one call ------------------------------------------------------------------------------------------------------

    def waited(self, call: Call, peer: Peer, front: Front, coro: Any, first: Any) -> None:
        """A call that began the short way waits: its coroutine yielded ``first`` in the entered carrier."""
        exchange = front.exchange(call, peer)
        task = self.server.executor.adopt(coro, first, partial(self._done, exchange))
        exchange.waits(task, self.timeout_s)
        front.waits(exchange)

    def ended(self, call: Call, peer: Peer, front: Front, value: Any, error: BaseException | None) -> None:
        """A call that began the short way ended, but not in a value that its template takes."""
        self._done(front.exchange(call, peer), value, error)

    def begin(self, exchange: Exchange) -> None:
        """Begin a call, the general way. Every way it can end leads to ``_done``."""
        arguments = exchange.arguments
        if arguments is None:
            arguments = {}
        elif arguments.__class__ is not dict:
            exchange.fail(InvalidParamsError("Invalid params: arguments must be an object"))
            return
        server = self.server
        context = Context(exchange, server) if self.needs_context else None
        done = partial(self._done, exchange)
        if self.in_thread:
            exchange.waits(server.lanes.submit(self.invoke, (arguments, context), done), self.timeout_s)
            return
        task = server.drive(self._run(arguments, context), done)
        if task is not None and not exchange.done:
            exchange.waits(task, self.timeout_s)

    async def _run(self, arguments: dict[str, Any], context: Context | None) -> Any:
        """All that is the author's, so that it has one task and context variables of its own."""
        value = self.invoke(arguments, context)
        if value.__class__ is CoroutineType or hasattr(value.__class__, "__await__"):
            return await value
        return value

    def _template_for(self, peer: Peer) -> Any:
        if peer.modern:
            return self.modern
        return self.structured if has_structured(peer.version) else self.plain

    def _done(self, exchange: Exchange, value: Any, error: BaseException | None) -> None:
        if error is not None:
            self._failed(exchange, error)
            return
        peer = exchange.peer
        template = self._template_for(peer) if exchange.codec is None else None
        if template is not None and value.__class__ is self.result_class:
            try:
                exchange.fill_or_raise(template, (value,))
                return
            except JsonError:
                pass  # A value that JSON cannot hold as it is: the general way converts it.
        try:
            exchange.result(self.result(value, peer))
        except Exception as fault:
            self._failed(exchange, fault)

    def _failed(self, exchange: Exchange, error: BaseException) -> None:
        if isinstance(error, asyncio.CancelledError) and exchange.done:
            return
        try:
            found = self.server.service.failure(exchange, self.plan.name, error)
        except Exception as fault:
            found = fault
        exchange.result_or_error(found)

    # -- the general way, around which middleware runs -----------------------------------------------------------------

    async def call(self, context: Context, arguments: Any) -> dict[str, Any]:
        """The result object of a call; raises McpError for a protocol error."""
        if arguments is None:
            arguments = {}
        if not isinstance(arguments, dict):
            raise InvalidParamsError("Invalid params: arguments must be an object")
        exchange = context._exchange
        try:
            if self.in_thread:
                value = await self.server.in_thread(self.invoke, arguments, context)
            else:
                value = await self._run(arguments, context)
            return self.result(value, exchange.peer)
        except McpError:
            raise
        except (InputRequired, Exception) as error:
            found: Any = self.server.service.failure(exchange, self.plan.name, error)
            if isinstance(found, McpError):
                raise found from error
            return dict(found)

    def result(self, value: Any, peer: Peer) -> dict[str, Any]:
        """The CallToolResult of a returned value, as this peer's revision has it."""
        found = self.plan.convert(value)
        if not (peer.modern or has_structured(peer.version)):
            found.pop("structuredContent", None)
        found.setdefault("isError", False)
        return self.server.service.stamp(found, peer)
