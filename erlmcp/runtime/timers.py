"""Deadlines of an event loop: what times out, retries and repeats hangs on one wheel, and on one timer of the loop.

Operations wanted: give a call a deadline and take it away again, for the price of a few function calls (a
``loop.call_later`` and its ``cancel`` cost 420-1,060 ns, ``asyncio.timeout`` 5,600 ns; ``add`` and ``cancel`` here
60-70), and move one without adding it anew.

What holds:

- a callback is called once, or never where it was cancelled before; at the end of the millisecond its time lies in, or
  later where the loop is late: never before its time, and all that is due is called however late the loop comes;
- callbacks that are due together are called in order of their times;
- the loop has at most one timer of these; it may come early (its deadline was cancelled), then it is only set anew;
- a callback's error goes to the loop's exception handler and keeps no other from being called;
- callbacks run in the context that the timers were made in, not in that of whoever added them;
- a handle outlives its deadline: cancelling or extending what has fired does nothing.

All of it belongs to the loop's thread. Compiled where the core is (``erlmcp.runtime.deadline``); the twin below says
the same in plain Python.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from erlmcp import core

TICK_NS = 1_000_000
DELAY_S_MAX = 1e9
ARM_S_MAX = 3600.0  # the loop's timer is set for no longer; a deadline may lie further away


class PlainDeadline:
    """A callback that waits for its time, made by ``Timers.add``."""

    __slots__ = ("args", "callback", "due_ns", "timers")

    def __init__(self, timers: PlainTimers, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        self.timers = timers
        self.callback: Callable[..., object] | None = callback
        self.args = args
        self.due_ns = 0

    @property
    def is_pending(self) -> bool:
        """Whether it will be called: neither called yet, nor cancelled, nor its timers closed."""
        return self.callback is not None


class PlainTimers:
    """The deadlines of one event loop, of which the loop itself has at most one timer."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock_ns: Callable[[], int] | None = None) -> None:
        self._loop = loop
        self._clock = clock_ns or time.monotonic_ns
        self._wheel: core.TimingWheel[PlainDeadline] = core.TimingWheel(TICK_NS, self._clock())
        self._armed_ns: int | None = None
        self._handle: asyncio.TimerHandle | None = None
        self._awake = self._closed = False
        self._context = contextvars.copy_context()

    def __len__(self) -> int:
        return len(self._wheel)

    def add(self, delay_s: float, callback: Callable[..., object], *args: Any) -> PlainDeadline:
        """Call ``callback(*args)`` after this time; one below zero counts as zero.

        ValueError for a delay above 1e9 s, or one that is no number; RuntimeError where the timers are closed.
        """
        deadline = PlainDeadline(self, callback, args)
        deadline.due_ns = self._due_ns(delay_s)
        if self._closed:
            raise RuntimeError("the timers are closed")
        self._wheel.add(deadline, deadline.due_ns)
        self._arm(deadline.due_ns)
        return deadline

    def cancel(self, deadline: PlainDeadline) -> bool:
        """False where it is not pending, or of other timers."""
        if deadline.callback is None or deadline.timers is not self:
            return False
        deadline.callback = None
        deadline.args = ()
        self._wheel.cancel(deadline)
        return True

    def extend(self, deadline: PlainDeadline, delay_s: float) -> bool:
        """Let it fire this long after now instead (earlier or later); False where it is not pending, or of others."""
        due_ns = self._due_ns(delay_s)
        if deadline.callback is None or deadline.timers is not self:
            return False
        deadline.due_ns = due_ns
        if not self._wheel.move(deadline, due_ns):  # due, and not called yet
            self._wheel.add(deadline, due_ns)
        self._arm(due_ns)
        return True

    def close(self) -> None:
        """Drop all that is pending, and the loop's timer. May be called more than once."""
        self._closed = True
        self._armed_ns = None
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        for deadline in self._wheel.advance((1 << 64) - 1):
            deadline.callback = None
            deadline.args = ()

    def _wake(self) -> None:
        self._armed_ns = self._handle = None
        due = self._wheel.advance(self._clock())
        self._awake = True
        called = 0
        try:
            for deadline in due:
                called += 1
                self._call(deadline)
        finally:
            self._awake = False
            # What is left where something worse than an error was raised fires at the next wake.
            for deadline in due[called:]:
                if self._closed:
                    deadline.callback = None
                elif deadline.callback is not None and deadline not in self._wheel:
                    self._wheel.add(deadline, deadline.due_ns)
            first_ns = self._wheel.next_deadline_ns()
            if first_ns is not None:
                self._arm(first_ns)

    def _call(self, deadline: PlainDeadline) -> None:
        callback, args = deadline.callback, deadline.args
        # One that was called before may have cancelled this one, or extended it.
        if callback is None or deadline in self._wheel:
            return
        deadline.callback = None
        deadline.args = ()
        if self._closed:
            return
        try:
            callback(*args)
        except Exception as error:
            self._loop.call_exception_handler(
                {"message": f"a deadline's callback failed: {callback!r}", "exception": error}
            )

    def _due_ns(self, delay_s: float) -> int:
        if delay_s <= 0:
            return self._clock()
        if not delay_s <= DELAY_S_MAX:
            raise ValueError(f"a delay must be at most {DELAY_S_MAX:g} seconds, got {delay_s:g}")
        return self._clock() + int(delay_s * 1e9)

    def _arm(self, due_ns: int) -> None:
        """Set the loop's timer. Loops count in milliseconds and round as they like: asked for a whole number."""
        due_ns = -(-due_ns // TICK_NS) * TICK_NS
        if self._awake or self._closed or (self._armed_ns is not None and self._armed_ns <= due_ns):
            return
        if self._handle is not None:
            self._handle.cancel()
        delay_s = min(-(-max(due_ns - self._clock(), 0) // TICK_NS) * 1e-3, ARM_S_MAX)
        self._handle = self._loop.call_later(delay_s, self._wake, context=self._context)
        self._armed_ns = due_ns


if TYPE_CHECKING:
    from erlmcp.runtime.deadline import Deadline as Deadline
    from erlmcp.runtime.deadline import Timers as Timers
elif core.IMPLEMENTATION == "core":
    from erlmcp.runtime.deadline import Deadline, Timers
else:
    Deadline, Timers = PlainDeadline, PlainTimers
