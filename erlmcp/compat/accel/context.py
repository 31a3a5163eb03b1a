"""Level 3 for a tool that wants the SDK's own ``Context``: the function is called straight, with a request context as
the kernel would have built it, whose voice is ours (``RequestVoice``).

What the kernel does besides is done here (the channel of the request, the end of its connection, what a cancelled
call is told), or is not needed: no middleware, no span, no parsing of params into a model. A request that says more
than which tool with which arguments (answers to questions, a state to be unsealed, a trace, a version of the tool) is
the kernel's, as is one whose words the kernel might refuse.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from mcp.server.connection import _LOG_LEVELS
from mcp_types import LOG_LEVEL_META_KEY

from erlmcp.compat.accel.kernel import close
from erlmcp.compat.accel.straight import Direct, Straight, StraightPlan
from erlmcp.compat.accel.visit import visit_of, within
from erlmcp.compat.accel.voice import RequestVoice
from erlmcp.server.param import MISSING
from erlmcp.spec.key import PROGRESS_TOKEN

if TYPE_CHECKING:
    from erlmcp.compat.accel.app import Accelerated
    from erlmcp.runtime.exchange import Exchange

PARAMS: Final = frozenset({"name", "arguments", "_meta"})
KERNELS: Final = frozenset({"traceparent", "fastmcp"})  # what of a request's _meta changes how it is called
ABSENT: Final = object()


class WithContext(Straight):
    """A tool whose plan's ``invoke`` takes the SDK's request context, and gives a coroutine."""

    __slots__ = ()

    def begin(self, exchange: Exchange) -> None:
        params = exchange.params
        if not (is_plain(params) and self.server.kernel.takes(exchange)):
            self.server.service.relay(exchange)
            return
        task = self.server.drive(self._talk(exchange, params), partial(self._done, exchange))
        if task is not None and not exchange.done:
            self._wait(exchange, task, 0)

    async def _talk(self, exchange: Exchange, params: dict[str, Any]) -> Any:
        kernel, voice = self.server.kernel, RequestVoice(exchange)
        leave = self.server.adapter.enter(exchange)
        try:
            connection = kernel.connection_of(exchange)
            try:
                with within(visit_of(exchange.headers)):
                    context = kernel.context_of(exchange, voice, connection)
                    return await self.plan.invoke(params.get("arguments") or {}, context)
            finally:
                if exchange.peer.modern:  # It was made for this request.
                    await close(connection)
        except asyncio.CancelledError:
            voice.cancelled()
            raise
        finally:
            if leave is not None:
                leave()


def straight_tool(server: Accelerated, plan: StraightPlan) -> Straight:
    """A tool with that plan."""
    return (WithContext if plan.needs_context else Straight)(server, plan)


def is_plain(params: Any) -> bool:
    """Whether params of ``tools/call`` name a tool and its arguments, and nothing that the kernel has to look at."""
    if params.__class__ is not dict or not params.keys() <= PARAMS:
        return False
    arguments, meta = params.get("arguments"), params.get("_meta", ABSENT)
    if not (arguments is None or arguments.__class__ is dict):
        return False
    if meta is ABSENT:
        return True
    return (
        meta.__class__ is dict
        and KERNELS.isdisjoint(meta)
        and meta.get(PROGRESS_TOKEN, "").__class__ in (str, int)
        and meta.get(LOG_LEVEL_META_KEY, "info") in _LOG_LEVELS
    )


def taker(direct: Direct, *, is_strict: bool) -> Callable[[dict[str, Any]], dict[str, Any] | None]:
    """A function that takes arguments as they are, by name, where none of them needs the tool's validator; it gives
    None where one does. Where ``is_strict``, another key does."""
    rows = tuple(zip(*direct, strict=True))

    def take(arguments: dict[str, Any]) -> dict[str, Any] | None:
        taken: dict[str, Any] = {}
        count = 0
        for key, cls, default in rows:
            value = arguments.get(key, ABSENT)
            if value is ABSENT:
                if default is MISSING:
                    return None
                value = default
            elif value.__class__ is not cls:
                return None
            else:
                count += 1
            taken[key] = value
        return None if is_strict and count != len(arguments) else taken

    return take
