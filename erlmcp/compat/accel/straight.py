"""Level 3: a tool of another SDK, called straight: its arguments by our plan or its own validator, its function, its
result by a template of ours or its own conversion. Nothing of the kernel is on the way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final

from erlmcp import core
from erlmcp.compat.accel.kernel import as_ours
from erlmcp.compat.accel.visit import visit_of, within
from erlmcp.compat.accel.voice import RequestVoice
from erlmcp.errors import JsonError, McpError
from erlmcp.server.param import MISSING
from erlmcp.server.source import DIRECT_MAX
from erlmcp.server.tool import Tool
from erlmcp.spec.key import SERVER_INFO

if TYPE_CHECKING:
    from erlmcp.compat.accel.app import Accelerated
    from erlmcp.flags import Flags
    from erlmcp.runtime.exchange import Exchange
    from erlmcp.wire.peer import Peer

# Kinds of results whose text and structured value are known from the value alone: see ``Straight._template``.
TEXT: Final = "text"
TEXT_ONLY: Final = "text_only"
VALUE: Final = "value"
CONVERT: Final = "convert"
Direct = tuple[tuple[str, ...], tuple["type | None", ...], tuple[object, ...]]


@dataclass(slots=True, eq=False)
class StraightPlan:
    """What is known of a tool of another SDK before it is called.

    ``invoke(arguments, context)`` validates as the tool does and calls its function: it gives a coroutine where
    ``is_async``, and belongs into a thread where ``in_thread``. ``convert(value)`` gives the SDK's
    result, as ``refuse(error)`` does for an exception; where that is a protocol error it raises. ``direct`` are keys,
    exact classes and defaults of arguments that need no validator, and ``function`` what takes them by position;
    ``strict`` where other keys are refused. ``meta`` is what the SDK says of a result that a template is for.
    ``needs_context`` where ``invoke`` takes the SDK's request context and gives a coroutine in any case
    (``context.WithContext``).
    """

    name: str
    source: object  # the tool of theirs, which is replaced where it changes
    function: Callable[..., Any]
    invoke: Callable[[Any, Any], Any]
    convert: Callable[[Any], Any]
    refuse: Callable[[BaseException], Any]
    is_async: bool
    in_thread: bool
    direct: Direct | None
    result_kind: str
    result_class: type | None
    wraps_result: bool
    strict: bool = False
    meta: dict[str, Any] | None = None
    timeout_s: float | None = None
    priority: str = "normal"
    needs_context: bool = False
    dependencies: tuple[Any, ...] = ()

    @property
    def param_headers(self) -> dict[str, Any]:
        """Tools whose arguments are mirrored in headers are left to the kernel."""
        return {}

    @property
    def note(self) -> str:
        """What its arguments and its result are read and written with."""
        by = "compiled arguments" if self.direct is not None else "the tool's own validator"
        written = "a ready answer" if self.result_class is not None else "the tool's own conversion"
        ends = (", in a thread" if self.in_thread else "") + (", with the Context" if self.needs_context else "")
        return f"{by}, {written}{ends}"


class Straight(Tool):
    """A tool with such a plan, served as one of ours."""

    __slots__ = ()
    server: Accelerated
    plan: StraightPlan  # type: ignore[assignment]

    def __init__(self, server: Accelerated, plan: StraightPlan) -> None:
        self.server = server
        self.plan = plan
        self.guard = self.fence = None
        self.invoke = plan.invoke
        self.kind = plan.result_kind
        self.result_class = plan.result_class
        self.own_timeout_s = server.limits.request_timeout_s
        self.hard_s = None
        self.in_thread = plan.in_thread
        self.lane = 1
        self.needs_context = False
        is_simple = plan.is_async and plan.result_class is not None and not plan.needs_context
        self.is_simple = self.may_be_simple = is_simple
        if self.is_simple and plan.direct is not None:
            self.set_direct(plan.function, *plan.direct, MISSING, plan.strict)
        meta, ours = plan.meta or {}, {SERVER_INFO: server.info}
        modern = b"," + core.encode({"resultType": "complete", "_meta": {**meta, **ours}})[1:-1]
        legacy = b"," + core.encode({"_meta": meta})[1:-1] if meta else b""
        self.modern = self._template(modern, structured=True)
        self.structured = self._template(legacy, structured=True)
        self.plain = self.structured  # The SDKs give older revisions their structured content as well.
        self.switch(server.flags)

    def switch(self, flags: Flags) -> None:
        """No deadline is handed on: the SDKs have none."""
        self.span_ns = 0

    def begin(self, exchange: Exchange) -> None:
        arguments = exchange.arguments
        if arguments is None or arguments.__class__ is dict:
            super().begin(exchange)
        else:
            self.server.service.relay(exchange)  # The kernel has its own words for it.

    def _wait(self, exchange: Exchange, task: Any, token: int) -> None:
        exchange.waits(task, None)

    def _done(self, exchange: Exchange, value: Any, error: BaseException | None) -> None:
        if error is None:
            template = self._template_for(exchange.peer) if exchange.codec is None else None
            if template is not None and value.__class__ is self.result_class:
                try:
                    exchange.fill_or_raise(template, (value,))
                    return
                except JsonError:
                    pass  # Their conversion knows what becomes of it.
            try:
                found = self._result(exchange, value)
            except McpError as fault:  # A result that the revision does not have: no failure of the tool.
                exchange.result_or_error(fault)
                return
            except Exception as fault:
                error = fault
            else:
                exchange.result(found)
                return
        self._failed(exchange, error)

    def result(self, value: Any, peer: Peer) -> dict[str, Any]:
        """The result of a value, as this peer's revision has it. Raises McpError for a protocol error."""
        return self.server.kernel.finish(peer, self.plan.convert(value))

    def _result(self, exchange: Exchange, value: Any) -> dict[str, Any]:
        found = self.result(value, exchange.peer)
        if not self.server.adapter.is_question(value):
            return found
        kernel = self.server.kernel
        with within(visit_of(exchange.headers)):  # what is sealed is for who asked
            context = kernel.context_of(exchange, RequestVoice(exchange), kernel.connection_of(exchange))
            return self.server.adapter.seal(context, found)

    def _failed(self, exchange: Exchange, error: BaseException) -> None:
        if isinstance(error, asyncio.CancelledError) and exchange.done:
            return
        exchange.result_or_error(self.outcome(error, exchange.peer))

    def outcome(self, error: BaseException, peer: Peer) -> Any:
        """What an exception is answered with: a result, or the error itself."""
        try:
            return self.server.kernel.finish(peer, self.plan.refuse(error))
        except Exception as fault:
            return as_ours(fault, peer.modern)
        except BaseException as fault:
            return fault


def takes_by_position(function: Any, keys: tuple[str, ...]) -> bool:
    """Whether a function takes exactly these, in this order, by position."""
    if not isinstance(function, FunctionType) or hasattr(function, "__wrapped__") or len(keys) > DIRECT_MAX:
        return False
    code = function.__code__
    has_more = code.co_kwonlyargcount or code.co_flags & 0x0C  # *args and **kwargs
    return not has_more and code.co_varnames[: code.co_argcount] == keys
