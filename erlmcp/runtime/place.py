"""Waiting for a place of a bulkhead: a thread for an ordinary function, a future for a coroutine.

Who finds no place joins the line first and then asks once more: a place that became free in between is taken by who
asks, and one that was handed over by who waits. Had both happened, one of the two is given back.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from erlmcp.policy.bulkhead import Bulkhead


class LoopWaiter:
    """Somebody on an event loop."""

    __slots__ = ("future", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.future: asyncio.Future[None] = loop.create_future()

    def set(self) -> None:
        """It has the place; from any thread."""
        try:
            self.loop.call_soon_threadsafe(self._wake)
        except RuntimeError:
            return  # Its loop is closed: whoever closed it cancelled who waited.

    def _wake(self) -> None:
        if not self.future.done():
            self.future.set_result(None)


class Lining:
    """The part of a guard that waits."""

    bulkhead: Bulkhead | None

    def __init__(self) -> None:
        self._lock = threading.Lock()
        super().__init__()

    def hand_over(self) -> None:
        """Give a place back, or on to who waits longest."""
        if self.bulkhead is None:
            return
        with self._lock:
            who: Any = self.bulkhead.leave()
        if who is not None:
            who.set()

    def _join(self, who: Any) -> bool | None:
        """True: there is a place. None: in line. False: the line is full."""
        bulkhead = self.bulkhead
        assert bulkhead is not None
        with self._lock:
            if not bulkhead.join(who):
                return False
            if not bulkhead.places.enter():
                return None
            is_in_line = bulkhead.abandon(who)
        if not is_in_line:
            self.hand_over()
        return True

    def _give_up(self, who: Any) -> bool:
        """Whether it was in time; else ``who`` has a place."""
        assert self.bulkhead is not None
        with self._lock:
            return self.bulkhead.abandon(who)

    def wait(self) -> bool:
        """Wait in this thread for a place; False where there is none in time."""
        who = threading.Event()
        found = self._join(who)
        if found is not None:
            return found
        assert self.bulkhead is not None
        return who.wait(self.bulkhead.rule.wait_s) or not self._give_up(who)

    async def wait_on_loop(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Wait in this task for a place; False where there is none in time."""
        who = LoopWaiter(loop)
        found = self._join(who)
        if found is not None:
            return found
        assert self.bulkhead is not None
        try:
            await asyncio.wait([who.future], timeout=self.bulkhead.rule.wait_s)
        except asyncio.CancelledError:
            if not self._give_up(who):
                self.hand_over()
            raise
        return who.future.done() or not self._give_up(who)
