"""How much time there is left: a deadline that ends a call, and is handed on to what it calls.

It is a context variable, so that tasks and threads that a handler starts have it too. Times are those of
``time.monotonic_ns``; 0 is no deadline.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final

from erlmcp.errors import CallTimeoutError
from erlmcp.policy.timeouts import nested_s
from erlmcp.runtime.timers import Timers

SECOND_NS: Final = 1_000_000_000
MARGIN_S: Final = 0.01  # of the time left that a nested call does not get, so that there is some to answer with
DEADLINE: ContextVar[int] = ContextVar("erlmcp_deadline_ns", default=0)
_TIMERS: dict[asyncio.AbstractEventLoop, Timers] = {}


def left_s() -> float | None:
    """The time left for what runs here; None where nobody waits for a limited time. Zero or less: it is over."""
    deadline_ns = DEADLINE.get()
    return (deadline_ns - time.monotonic_ns()) / SECOND_NS if deadline_ns else None


def shortened_s(wanted_s: float, method: str = "") -> float:
    """The timeout of a nested call that would have this one alone. CallTimeoutError where no time is left for it."""
    deadline_ns = DEADLINE.get()
    if not deadline_ns:
        return wanted_s
    found = nested_s(wanted_s, (deadline_ns - time.monotonic_ns()) / SECOND_NS, MARGIN_S)
    if found <= 0:
        raise CallTimeoutError("deadline", 0.0, method)
    return found


def deadline_after(seconds: float) -> int:
    """The deadline of a call that may take so long, within that of the one it is made in."""
    outer_ns = DEADLINE.get()
    own_ns = time.monotonic_ns() + int(seconds * SECOND_NS)
    return min(own_ns, outer_ns) if outer_ns else own_ns


def timers_of(loop: asyncio.AbstractEventLoop) -> Timers:
    """The timers of a loop that functions are guarded on."""
    found = _TIMERS.get(loop)
    if found is None:
        for known in [each for each in _TIMERS if each.is_closed()]:
            del _TIMERS[known]
        found = _TIMERS[loop] = Timers(loop)
    return found


def _fire(task: asyncio.Task[Any], fired: list[bool]) -> None:
    fired.append(True)
    task.cancel()


async def within(seconds: float, name: str, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """``await function(*args, **kwargs)``, cancelled when the time is over: CallTimeoutError then."""
    task: Any = asyncio.current_task()
    loop = task.get_loop()
    timers = _TIMERS.get(loop) or timers_of(loop)
    cancelling = task.cancelling()
    fired: list[bool] = []
    deadline = timers.add(seconds, _fire, task, fired)
    before = DEADLINE.set(deadline_after(seconds))
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
