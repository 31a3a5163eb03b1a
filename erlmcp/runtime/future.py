"""What a caller holds of a job: a future as ``concurrent.futures`` knows it, which an event loop can wait for, too."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import weakref
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import InvalidStateError
from functools import partial
from typing import Any, Final, NoReturn

from erlmcp.runtime.threads import Job

MAKING: Final = threading.Lock()


class Delivery:
    """Brings what threads have to say to an event loop, in batches: one wake-up for as much as is there (waking a loop
    costs some 25 us here)."""

    __slots__ = ("__weakref__", "_is_woken", "_lock", "_loop", "_ready")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)  # ``delivery_of`` keeps this one by its loop, for as long as there is that
        self._lock = threading.Lock()
        self._ready: deque[Callable[[], object]] = deque()
        self._is_woken = False

    def add(self, act: Callable[[], object]) -> None:
        """From any thread: ``act`` is called on the loop. Nothing where the loop was closed: nobody is left to tell."""
        with self._lock:
            self._ready.append(act)
            if not self._is_woken:
                loop = self._loop()
                try:
                    if loop is None:
                        raise RuntimeError("the event loop is gone")
                    loop.call_soon_threadsafe(self._deliver)
                except RuntimeError:
                    self._ready.clear()
                    return
                self._is_woken = True

    def _deliver(self) -> None:
        with self._lock:
            batch, self._ready = self._ready, deque()
            self._is_woken = False
        for act in batch:
            try:
                act()
            except Exception as fault:
                context = {"message": "a thread's callback failed", "exception": fault}
                asyncio.get_running_loop().call_exception_handler(context)


_DELIVERIES: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Delivery] = weakref.WeakKeyDictionary()


def delivery_of(loop: asyncio.AbstractEventLoop) -> Delivery:
    """The one of this loop: all who wait on it share its wake-ups."""
    with MAKING:
        found = _DELIVERIES.get(loop)
        if found is None:
            found = _DELIVERIES[loop] = Delivery(loop)
        return found


class Future(Job, concurrent.futures.Future[Any]):  # type: ignore[override]
    """The outcome of a call, as ``concurrent.futures.Future``, whose ``wait``, ``as_completed`` and
    ``asyncio.wrap_future`` take it. The condition that they need is made when they ask for it. Only the pool sets the
    outcome: ``set_result`` and its kind raise InvalidStateError.

    On an event loop it can be awaited; a task that is cancelled there cancels the call, if no thread has taken it.
    """

    __slots__ = ("_made", "_waiters")

    _made: threading.Condition
    _waiters: list[Any]

    @property
    def _condition(self) -> threading.Condition:  # type: ignore[override]
        with MAKING:
            if hasattr(self, "_made"):
                return self._made
            made = self._made = threading.Condition()
            self._waiters = []
        self.wake_by(partial(_tell_waiters, self))
        return made

    def __await__(self) -> Generator[Any, None, Any]:
        if not self.done():
            loop = asyncio.get_running_loop()
            waiting = loop.create_future()
            add = delivery_of(loop).add
            self.wake_by(partial(add, partial(_wake, waiting)))
            try:
                yield from waiting
            except asyncio.CancelledError:
                self.cancel()
                raise
        return self.result()

    def set_result(self, _result: Any) -> NoReturn:
        raise InvalidStateError("only the pool sets the outcome of a call")

    def set_exception(self, _exception: BaseException | None) -> NoReturn:
        raise InvalidStateError("only the pool sets the outcome of a call")

    def set_running_or_notify_cancel(self) -> NoReturn:
        raise InvalidStateError("only the pool sets the outcome of a call")


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


def _tell_waiters(future: Future) -> None:
    """``concurrent.futures.wait`` and ``as_completed`` left something to be told."""
    with future._condition:
        for waiter in future._waiters:
            if future.cancelled():
                waiter.add_cancelled(future)
            elif future.exception() is not None:
                waiter.add_exception(future)
            else:
                waiter.add_result(future)
        future._condition.notify_all()
