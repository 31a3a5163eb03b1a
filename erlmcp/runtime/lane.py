"""Thread lanes: where synchronous handlers run, so that they never hold up the event loop."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from erlmcp.errors import SERVER_BUSY, McpError

Done = Callable[[Any, BaseException | None], None]


class ThreadLanes:
    """A bounded pool of threads, with a bounded queue before it.

    Results go back to the loop in batches: one wake-up for as many as are ready (waking a loop costs some 25 us here).
    """

    __slots__ = ("_lock", "_loop", "_pending", "_pool", "_ready", "queue_max", "thread_count_max")

    def __init__(self, loop: asyncio.AbstractEventLoop, thread_count_max: int, queue_max: int) -> None:
        self._loop = loop
        self.thread_count_max = thread_count_max
        self.queue_max = queue_max
        self._pool: ThreadPoolExecutor | None = None
        self._pending = 0
        self._ready: deque[tuple[Done, Any, BaseException | None]] = deque()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """How many calls wait or run."""
        return self._pending

    def submit(self, fn: Callable[..., Any], args: tuple[Any, ...], done: Done) -> Future[None]:
        """Run ``fn(*args)`` in a thread, in a copy of the current context; ``done(value, error)`` comes on the loop.

        Raises McpError -32000 where ``thread_queue_max`` calls wait already. A Future cancelled before a thread took
        the call never calls ``done``.
        """
        if self._pending >= self.thread_count_max + self.queue_max:
            raise McpError(SERVER_BUSY, f"Server busy: thread_queue_max={self.queue_max} calls are waiting")
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.thread_count_max, thread_name_prefix="erlmcp-lane")
        context = contextvars.copy_context()
        self._pending += 1
        future = self._pool.submit(self._run, context, fn, args, done)
        future.add_done_callback(self._left)
        return future

    def _run(self, context: contextvars.Context, fn: Callable[..., Any], args: tuple[Any, ...], done: Done) -> None:
        value, error = None, None
        try:
            value = context.run(fn, *args)
        except BaseException as exc:
            error = exc
        with self._lock:
            wake = not self._ready
            self._ready.append((done, value, error))
        del error  # Its traceback holds this frame.
        if wake:
            try:
                self._loop.call_soon_threadsafe(self._deliver)
            except RuntimeError:
                return  # The loop was closed while the handler ran: nobody is left to answer.

    def _left(self, _future: Future[None]) -> None:
        with self._lock:
            self._pending -= 1

    def _deliver(self) -> None:
        with self._lock:
            batch = list(self._ready)
            self._ready.clear()
        for done, value, error in batch:
            try:
                done(value, error)
            except Exception as fault:
                self._loop.call_exception_handler({"message": "a lane's callback failed", "exception": fault})

    def close(self) -> None:
        """Take no more calls; threads that run end with their call."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
