"""How much time there is left: a deadline that ends a call, and is handed on to what it calls.

It is a context variable, so that tasks and threads that a handler starts have it too. Times are those of
``time.monotonic_ns``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from erlmcp import core
from erlmcp.errors import CallTimeoutError
from erlmcp.runtime.timers import Timers

SECOND_NS: Final = 1_000_000_000
MARGIN_S: Final = 0.01  # of the time left that a nested call does not get, so that there is some to answer with
_TIMERS: dict[asyncio.AbstractEventLoop, Timers] = {}


class PlainUntil:
    """Until when there is time: progress may move it."""

    __slots__ = ("due_ns",)

    def __init__(self, due_ns: int) -> None:
        self.due_ns = due_ns


def plain_until_after(span_ns: int) -> PlainUntil:
    """For a call that may take so long, within the time of the one it is made in."""
    outer: Any = DEADLINE.get()
    own_ns = time.monotonic_ns() + span_ns
    return PlainUntil(own_ns if outer is None else min(own_ns, outer.due_ns))


if TYPE_CHECKING or core.IMPLEMENTATION != "core":
    Until = PlainUntil
    until_after = plain_until_after
    DEADLINE: ContextVar[PlainUntil | None] = ContextVar("erlmcp_deadline", default=None)
else:
    from erlmcp.runtime.fence import DEADLINE, until_after


def left_s() -> float | None:
    """The time left for what runs here; None where nobody waits for a limited time. Zero or less: it is over."""
    until = DEADLINE.get()
    return None if until is None else (until.due_ns - time.monotonic_ns()) / SECOND_NS


def due_ns() -> int | None:
    """The deadline of what runs here."""
    until = DEADLINE.get()
    return None if until is None else until.due_ns


def shortened_s(wanted_s: float, method: str = "") -> float:
    """The timeout of a nested call that would have this one alone. CallTimeoutError where no time is left for it."""
    until = DEADLINE.get()
    if until is None:
        return wanted_s
    from erlmcp.policy.timeouts import nested_s

    found = nested_s(wanted_s, (until.due_ns - time.monotonic_ns()) / SECOND_NS, MARGIN_S)
    if found <= 0:
        raise CallTimeoutError("deadline", 0.0, method)
    return found


def timers_of(loop: asyncio.AbstractEventLoop) -> Timers:
    """The timers of a loop that functions are guarded on."""
    found = _TIMERS.get(loop)
    if found is None:
        for known in list(_TIMERS):  # other threads have loops, too
            if known.is_closed():
                _TIMERS.pop(known, None)
        found = _TIMERS[loop] = Timers(loop)
    return found


def _fire(task: asyncio.Task[Any], fired: list[bool]) -> None:
    fired.append(True)
    task.cancel()


async def within(
    seconds: float, name: str, function: Callable[..., Any], args: Any, kwargs: Any, began_ns: int = 0
) -> Any:
    """``await function(*args, **kwargs)``, cancelled when the time is over: CallTimeoutError then. ``began_ns``: when
    the time began, where not now."""
    loop = asyncio.get_running_loop()
    task: Any = asyncio.current_task(loop)
    timers = _TIMERS.get(loop) or timers_of(loop)
    cancelling = task.cancelling()
    fired: list[bool] = []
    left_ns = int(seconds * SECOND_NS) - (time.monotonic_ns() - began_ns if began_ns else 0)
    deadline = timers.add(left_ns / SECOND_NS, _fire, task, fired)
    before = DEADLINE.set(until_after(left_ns))
    try:
        return await function(*args, **kwargs)
    except asyncio.CancelledError:
        if fired and task.uncancel() <= cancelling:
            raise CallTimeoutError("timeout", seconds, name) from None
        raise
    finally:
        DEADLINE.reset(before)
        if not timers.cancel(deadline) and task.cancelling() > cancelling:
            task.uncancel()  # it ended by itself in the very moment
