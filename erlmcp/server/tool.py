"""A tool as it is served: its plan, and how a call of it begins and ends."""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from erlmcp.errors import InvalidParamsError, JsonError, McpError
from erlmcp.runtime.current import CURRENT
from erlmcp.runtime.quick import Entry
from erlmcp.runtime.within import DEADLINE, until_after
from erlmcp.server.context import Context
from erlmcp.server.guarding import caller_at, caller_behind, caller_of
from erlmcp.server.input import InputRequired
from erlmcp.server.param import MISSING
from erlmcp.server.plan import PRIORITIES, ToolPlan
from erlmcp.server.source import direct_call
from erlmcp.spec.descriptor import has_structured

if TYPE_CHECKING:
    from erlmcp.core import Call
    from erlmcp.flags import Flags
    from erlmcp.runtime.exchange import Exchange, Front
    from erlmcp.runtime.executor import Done
    from erlmcp.runtime.guard import Guard
    from erlmcp.runtime.within import Until
    from erlmcp.server.app import Server
    from erlmcp.wire.peer import Peer

log = logging.getLogger("erlmcp.server")

TEXT, VALUE, VALUE_AS_TEXT = 0, 1, 2
_OPEN = b'{"content":[{"type":"text","text":'


class Tool(Entry):
    """One registered tool. ``start`` is the hot path: decode, call, answer, with a task only where the handler
    waits."""

    __slots__ = (
        "guard",
        "hard_s",
        "in_thread",
        "kind",
        "may_be_simple",
        "needs_context",
        "own_timeout_s",
        "plan",
        "server",
    )

    def __init__(self, server: Server, plan: ToolPlan, guard: Guard | None = None) -> None:
        self.server = server
        self.plan = plan
        self.guard = self.fence = guard
        self.invoke = plan.invoke
        self.kind = plan.result_kind
        self.result_class = plan.result_class
        self.own_timeout_s = plan.timeout_s or server.limits.request_timeout_s
        self.hard_s = guard.timeout.rule.hard_s if guard is not None and guard.timeout is not None else None
        self.in_thread = plan.in_thread
        self.lane = PRIORITIES.index(plan.priority)
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
        self.switch(server.flags)

    def again(self, server: Server, guard: Guard | None) -> Tool:
        """The same tool on another side."""
        return Tool(server, self.plan, guard)

    def switch(self, flags: Flags) -> None:
        """Go by these flags from now on."""
        hands_on = self.plan.timeout_s is not None and flags.adaptive_timeouts
        self.span_ns = int(self.own_timeout_s * 1e9) if hands_on else 0
        if self.guard is not None:
            self.guard.switch(flags)

    @property
    def timeout_s(self) -> float:
        """How long a call may take now."""
        return (self.guard.timeout_s if self.guard is not None else None) or self.own_timeout_s

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

    def waited(self, call: Call, peer: Peer, front: Front, coro: Any, first: Any, token: int = 0) -> None:
        """A call that began the short way waits: its coroutine yielded ``first`` in the entered carrier."""
        exchange = front.exchange(call, peer)
        task = self.server.executor.adopt(coro, first, self._end_of(exchange, token))
        self._wait(exchange, task, token)
        front.waits(exchange)

    def ended(self, call: Call, peer: Peer, front: Front, value: Any, error: BaseException | None) -> None:
        """A call that began the short way ended, but not in a value that its template takes."""
        self._done(front.exchange(call, peer), value, error)

    def enter_for(self, holder: Any, request: Any) -> int:
        """The guard's token for the caller of a call that begins the short way: on a link, or by a request."""
        guard: Any = self.guard
        caller = caller_at(holder.session) if request is None else caller_behind(request.head.tag)
        return int(guard.enter_for(caller))

    def refused(self, call: Call, peer: Peer, front: Front, token: int) -> None:
        """A call that began the short way was not let in."""
        exchange = front.exchange(call, peer)
        guard: Any = self.guard
        caller = caller_of(exchange) if guard.callers is not None else ""
        self._refused(exchange, exchange.arguments, None, token, caller)
        if not exchange.done:
            front.waits(exchange)

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
        guard, token, caller = self.guard, 0, ""
        if guard is not None:
            caller = caller_of(exchange) if guard.callers is not None else ""
            token = guard.enter_for(caller) if caller else guard.enter()
            if token <= 0:
                self._refused(exchange, arguments, context, token, caller)
                return
        done = self._end_of(exchange, token)
        if self.in_thread:
            self._begin_in_thread(exchange, arguments, context, done, token)
            return
        task = server.drive(self._coroutine(exchange, arguments, context), done)
        if task is not None and not exchange.done:
            self._wait(exchange, task, token)

    def _begin_in_thread(self, exchange: Exchange, arguments: Any, context: Any, done: Done, token: int) -> None:
        guard = self.guard
        try:
            future = self.server.lanes.submit(
                self._invoke_within, (arguments, context, exchange), done, level=self.lane, owner=exchange.owner
            )
        except BaseException:
            if guard is not None:
                guard.cancel(token)
            raise
        if guard is not None:
            future.add_done_callback(lambda future: self._unbegun(exchange, token) if future.cancelled() else None)
        self._wait(exchange, future, token)

    async def _in_thread(self, arguments: Any, context: Any, exchange: Exchange) -> Any:
        given = (arguments, context, exchange)
        return await self.server.lanes.call(self._invoke_within, given, level=self.lane, owner=exchange.owner)

    def _wait(self, exchange: Exchange, task: Any, token: int) -> None:
        if self.guard is None:
            exchange.waits(task, self.timeout_s)
        else:
            exchange.waits(task, self.timeout_s, partial(self.guard.gave_up, token), self.hard_s)

    # -- within a guard ------------------------------------------------------------------------------------------------

    def _end_of(self, exchange: Exchange, token: int) -> Done:
        return partial(self._done_guarded, exchange, token) if token else partial(self._done, exchange)

    def _done_guarded(self, exchange: Exchange, token: int, value: Any, error: BaseException | None) -> None:
        guard: Any = self.guard
        if exchange.expired:
            guard.hand_over()
        elif error is None:
            guard.leave(token, True)
        else:
            guard.failed(token, error)
        self._done(exchange, value, error)

    def _unbegun(self, exchange: Exchange, token: int) -> None:
        """No thread took the call before it was cancelled."""
        guard: Any = self.guard
        if exchange.expired:
            guard.hand_over()
        else:
            guard.cancel(token)

    def _refused(self, exchange: Exchange, arguments: Any, context: Context | None, token: int, caller: str) -> None:
        guard: Any = self.guard
        if guard.fallback is None and not guard.may_wait(token):
            exchange.fail(guard.refusal(token, caller))
            return
        task = self.server.drive(
            self._run_guarded(arguments or {}, context, exchange, token, caller), partial(self._done, exchange)
        )
        if task is not None and not exchange.done:
            exchange.waits(task, self.timeout_s)

    async def _run_guarded(
        self, arguments: dict[str, Any], context: Context | None, exchange: Exchange, token: int, caller: str
    ) -> Any:
        """A call with what ``enter`` said of it: in line for a place, within the guard, or by the fallback."""
        guard: Any = self.guard
        token = await guard.turn(token)
        if token <= 0:
            if guard.fallback is None:
                raise guard.refusal(token, caller)
            value = guard.fallback(**self.plan.decode(arguments))
            return await value if hasattr(value.__class__, "__await__") else value
        if self.in_thread:
            return await self._run_in_thread(arguments, context, exchange, token)
        try:
            value = await self._coroutine(exchange, arguments, context)
        except BaseException as error:
            if exchange.expired:
                guard.expired(token)
            else:
                guard.failed(token, error)
            raise
        guard.leave(token, True)
        return value

    async def _run_in_thread(
        self, arguments: dict[str, Any], context: Context | None, exchange: Exchange, token: int
    ) -> Any:
        """In a thread, which keeps the place until it ends, whether somebody still waits for it or not."""
        guard: Any = self.guard
        held = guard.hold()

        def hold() -> Any:
            with held:
                return self._invoke_within(arguments, context, exchange)

        try:
            value = await self.server.lanes.call(hold, (), level=self.lane, owner=exchange.owner)
        except BaseException as error:
            if not held.is_used:  # no thread took it
                held.release()
            if exchange.expired:
                guard.gave_up(token)
            elif isinstance(error, Exception):
                guard.settle(token, not guard.is_failure(error))
            else:
                guard.withdraw(token)
            raise
        guard.settle(token, True)
        return value

    async def _run(self, arguments: dict[str, Any], context: Context | None) -> Any:
        """All that is the author's, so that it has one task and context variables of its own."""
        value = self.invoke(arguments, context)
        if value.__class__ is CoroutineType or hasattr(value.__class__, "__await__"):
            return await value
        return value

    def _coroutine(self, exchange: Exchange, arguments: dict[str, Any], context: Context | None) -> Any:
        """The author's part of a call, which knows until when there is time where that is handed on."""
        until = self._until(exchange)
        return self._run(arguments, context) if until is None else self._run_until(until, arguments, context)

    async def _run_until(self, until: Until, arguments: dict[str, Any], context: Context | None) -> Any:
        before = DEADLINE.set(until)
        value = await self._run(arguments, context)
        DEADLINE.reset(before)  # So that the executor finds its context as it was.
        return value

    def _until(self, exchange: Exchange) -> Until | None:
        span_ns = (self.guard.span_ns if self.guard is not None else 0) or self.span_ns
        if span_ns:
            exchange.until = until_after(span_ns)
        return exchange.until

    def _invoke_within(self, arguments: dict[str, Any], context: Context | None, exchange: Exchange) -> Any:
        until = self._until(exchange)
        if until is not None:
            DEADLINE.set(until)  # The context is a copy of this call's own.
        exchange.handler_ns = time.perf_counter_ns()
        CURRENT.in_thread.exchange = exchange
        del exchange  # Its task keeps what is raised here, whose traceback keeps this frame.
        try:
            return self.invoke(arguments, context)
        finally:
            CURRENT.in_thread.exchange = None

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
            if self.guard is not None:
                caller = caller_of(exchange) if self.guard.callers is not None else ""
                token = self.guard.enter_for(caller) if caller else self.guard.enter()
                value = await self._run_guarded(arguments, context, exchange, token, caller)
            elif self.in_thread:
                value = await self._in_thread(arguments, context, exchange)
            else:
                value = await self._coroutine(exchange, arguments, context)
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
