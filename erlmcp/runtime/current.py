"""Which request is being handled here, for those who want to tell it: a record of a log.

A handler's first step runs within its dispatch, which is noted on the loop, or on the short way, which knows its call;
what comes after a wait runs in a task, whose name says it; an ordinary function runs in a thread, where it is noted by
thread.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from typing import TYPE_CHECKING, Any, Final

from erlmcp.spec.trace import trace_id

if TYPE_CHECKING:
    from erlmcp.runtime.exchange import Exchange
    from erlmcp.runtime.stride import Stride

_PREFIX: Final = "mcp request "
ID_CHARS_MAX: Final = 64


class _Thread(threading.local):
    exchange: Any = None


class Current:
    """The request whose route runs now, on whichever loop; ``in_thread`` that of a thread; ``strides`` are the short
    ways, each with the call in hand."""

    __slots__ = ("exchange", "in_thread", "strides")

    def __init__(self) -> None:
        self.exchange: Exchange | None = None
        self.in_thread = _Thread()
        self.strides: weakref.WeakSet[Stride] = weakref.WeakSet()


CURRENT: Final = Current()


def task_name(exchange: Exchange) -> str:
    """The name of a task that goes on with a request: what there is to tell of it."""
    trace = trace_id(exchange.call.meta)
    return f"{_PREFIX}{str(exchange.call.id)[:ID_CHARS_MAX]}" + (f" trace {trace}" if trace else "")


def known_of(exchange: Any) -> dict[str, str]:
    """What a record tells of its request."""
    return _known_of_call(exchange.call)


def _known_of_call(call: Any) -> dict[str, str]:
    if call is None:  # a call of the same process, which is no message
        return {}
    found = {"request": str(call.id)[:ID_CHARS_MAX], "method": str(call.method)[:ID_CHARS_MAX]}
    trace = trace_id(call.meta)
    return {**found, "trace": trace} if trace else found


def known_here() -> dict[str, str]:
    """What there is to tell of the request that the caller of this works for; {} where it is none."""
    exchange = CURRENT.in_thread.exchange
    if exchange is not None:
        return known_of(exchange)
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return {}
    exchange = CURRENT.exchange
    if exchange is not None and exchange.session.loop is loop:
        return known_of(exchange)
    for stride in CURRENT.strides:
        if stride.call is not None and stride.loop is loop:
            return _known_of_call(stride.call)
    task = asyncio.current_task()
    name = task.get_name() if task is not None else ""
    if not name.startswith(_PREFIX):
        return {}
    id, _, trace = name.removeprefix(_PREFIX).partition(" trace ")
    return {"request": id, "trace": trace} if trace else {"request": id}
