"""Waiting for a place of a bulkhead: a thread for an ordinary function, a future for a coroutine.

Who finds no place joins the line first and then asks once more: a place that became free before it stood there would
else be nobody's. From then on places are handed over under the lock.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
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


class Hold:
    """A place that is given back once, by whoever comes first: the thread that had it, or who waited for the thread."""

    __slots__ = ("_give_back", "_lock", "is_used")

    def __init__(self, give_back: Callable[[], None]) -> None:
        self._give_back: Callable[[], None] | None = give_back
        self._lock = threading.Lock()
        self.is_used = False

    def __enter__(self) -> None:
        self.is_used = True

    def __exit__(self, *_error: object) -> None:
        self.release()

    def release(self) -> None:
        with self._lock:
            give_back, self._give_back = self._give_back, None
        if give_back is not None:
            give_back()


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

    def hold(self) -> Hold:
        """The place of a call that goes on in a thread."""
        return Hold(self.hand_over)

    def _join(self, who: Any) -> bool | None:
        """True: there is a place. None: in line. False: the line is full."""
        bulkhead = self.bulkhead
        assert bulkhead is not None
        with self._lock:
            if not bulkhead.join(who):
                return False
            if not bulkhead.places.enter():
                return None
            bulkhead.abandon(who)
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
