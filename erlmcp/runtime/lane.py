"""Thread lanes: where synchronous handlers run, so that they never hold up the event loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import threading
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, Final, Protocol

from erlmcp.errors import SERVER_BUSY, McpError
from erlmcp.flags import Flags
from erlmcp.runtime.future import Delivery, Future
from erlmcp.runtime.line import LEVELS, NORMAL
from erlmcp.runtime.threads import ThreadPool

Done = Callable[[Any, BaseException | None], None]
Queued = concurrent.futures.Future[Any]
NO_OUTCOME: Final = (StopIteration, SystemExit, KeyboardInterrupt)
"""What a task cannot be told as it is: a future refuses StopIteration, as a coroutine does (PEP 479), and the other two
would end the event loop, though all that they are to end is a thread."""


class Switched(Protocol):
    """Whose flags say which pool a call goes to, at the time of the call."""

    @property
    def flags(self) -> Flags: ...


class ThreadLanes:
    """A bounded pool of threads, with a bounded queue before it: the work-stealing one or, where the flag
    ``work_stealing`` is off, a ThreadPoolExecutor. While calls went to both of them each has threads of its own.

    Results go back to the loop in batches.
    """

    __slots__ = ("_delivery", "_host", "_plain", "_stealing", "idle_s", "queue_max", "thread_count_max")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        thread_count_max: int,
        queue_max: int,
        host: Switched | None = None,
        *,
        idle_s: float = 30.0,
    ) -> None:
        self._delivery = Delivery(loop)
        self._host: Switched | None = host
        self._stealing: ThreadPool | None = None
        self._plain: PlainPool | None = None
        self.thread_count_max = thread_count_max
        self.queue_max = queue_max
        self.idle_s = idle_s

    def __len__(self) -> int:
        """How many calls wait or run."""
        return sum(len(pool) for pool in (self._stealing, self._plain) if pool is not None)

    @property
    def waiting(self) -> dict[str, int]:
        """How many calls wait in each lane, those that were cancelled there counted, too."""
        counts = [0, 0, 0]
        if self._stealing is not None:
            counts = list(self._stealing.line.counts)
        if self._plain is not None:
            counts[NORMAL] += max(0, len(self._plain) - self.thread_count_max)
        return dict(zip(LEVELS, counts, strict=True))

    def submit(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        done: Done,
        *,
        level: int = NORMAL,
        owner: Hashable = None,
    ) -> Queued:
        """Run ``fn(*args)`` in a thread, in a copy of the current context; ``done(value, error)`` comes on the loop.

        ``level`` is CRITICAL, NORMAL or BULK; of the normal calls those of different owners take turns. Raises McpError
        -32000 where ``thread_queue_max`` calls wait already. A Future cancelled before a thread took the call never
        calls ``done``.
        """
        if len(self) >= self.thread_count_max + self.queue_max:
            raise McpError(SERVER_BUSY, f"Server busy: thread_queue_max={self.queue_max} calls are waiting")
        flags = _ALL_ON if self._host is None else self._host.flags
        if not flags.work_stealing:
            if self._plain is None:
                self._plain = PlainPool(self.thread_count_max, self._delivery)
            return self._plain.submit(fn, args, done)
        if not flags.priority_queues:
            level, owner = NORMAL, None
        pool = self._stealing
        if pool is None:
            pool = self._stealing = self._open()
        future = Future(pool.live, fn, args, level, owner, self._delivery.add, done)
        pool.push(future)
        return future

    def _open(self) -> ThreadPool:
        count_max = self.thread_count_max + self.queue_max
        return ThreadPool(self.thread_count_max, count_max, idle_s=self.idle_s, name="erlmcp-lane")

    async def call(
        self, fn: Callable[..., Any], args: tuple[Any, ...], *, level: int = NORMAL, owner: Hashable = None
    ) -> Any:
        """Run ``fn(*args)`` in a thread and wait for it; where the waiting task is cancelled, a call that has not begun
        is, too."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def done(value: Any, error: BaseException | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(value)
            elif isinstance(error, NO_OUTCOME):
                name = getattr(fn, "__name__", fn)
                fault = RuntimeError(f"{name} raised {type(error).__name__} in a thread")
                fault.__cause__ = error
                future.set_exception(fault)
            else:
                future.set_exception(error)

        queued = self.submit(fn, args, done, level=level, owner=owner)
        try:
            return await future
        finally:
            queued.cancel()

    def close(self) -> None:
        """Take no more calls; threads that run end with their call."""
        if self._stealing is not None:
            self._stealing.shutdown(wait=False, cancel=True)
        if self._plain is not None:
            self._plain.close()


class PlainPool:
    """The baseline: what ``work_stealing`` is compared with."""

    __slots__ = ("_count", "_delivery", "_lock", "_pool")

    def __init__(self, thread_count_max: int, delivery: Delivery) -> None:
        self._pool = concurrent.futures.ThreadPoolExecutor(thread_count_max, thread_name_prefix="erlmcp-lane")
        self._delivery = delivery
        self._lock = threading.Lock()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def submit(self, fn: Callable[..., Any], args: tuple[Any, ...], done: Done) -> Queued:
        context = contextvars.copy_context()
        with self._lock:
            self._count += 1
        try:
            future = self._pool.submit(self._run, context, fn, args, done)
        except BaseException:
            self._left(None)
            raise
        future.add_done_callback(self._left)
        return future

    def _run(self, context: contextvars.Context, fn: Callable[..., Any], args: tuple[Any, ...], done: Done) -> None:
        value, error = None, None
        try:
            value = context.run(fn, *args)
        except BaseException as exc:
            error = exc
        self._delivery.add(partial(done, value, error))
        del error  # Its traceback holds this frame.

    def _left(self, _future: Queued | None) -> None:
        with self._lock:
            self._count -= 1

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


_ALL_ON = Flags()
