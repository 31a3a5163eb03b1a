"""Deadlines that call back, compiled; see ``erlmcp.runtime.timers`` for what they promise."""

import asyncio
from collections.abc import Callable
from typing import Any

class Deadline:
    """A callback that waits for its time, made by ``Timers.add``."""

    @property
    def is_pending(self) -> bool:
        """Whether it will be called: neither called yet, nor cancelled, nor its timers closed."""

class Timers:
    """The deadlines of one event loop, of which the loop itself has at most one timer."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock_ns: Callable[[], int] | None = None) -> None: ...
    def __len__(self) -> int: ...
    def add(self, delay_s: float, callback: Callable[..., object], *args: Any) -> Deadline:
        """Call ``callback(*args)`` after this time; one below zero counts as zero.

        ValueError for a delay above 1e9 s, or one that is no number; RuntimeError where the timers are closed.
        """
    def cancel(self, deadline: Deadline) -> bool:
        """False where it is not pending, or of other timers."""
    def extend(self, deadline: Deadline, delay_s: float) -> bool:
        """Let it fire this long after now instead (earlier or later); False where it is not pending, or of others."""
    def close(self) -> None:
        """Drop all that is pending, and the loop's timer. May be called more than once."""
