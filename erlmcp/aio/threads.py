"""A pool of threads for functions that block, awaited from an event loop: it runs a server's ordinary ones, too."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Iterable
from functools import partial
from types import TracebackType
from typing import Any

from erlmcp.runtime.future import Future, delivery_of
from erlmcp.runtime.line import LEVELS
from erlmcp.runtime.pooled import Pooled, Priority


class ThreadPool(Pooled):
    """Threads that take work from each other, as ``erlmcp.sync.ThreadPool``, which says what the options mean.

    Results come to the loop in batches, one wake-up for as many as there are. May be used from several loops.
    ``async with ThreadPool() as pool`` waits at its end for what runs, and cancels what does not yet.
    """

    async def run(
        self,
        fn: Callable[..., Any],
        /,
        *args: Any,
        priority: Priority = "normal",
        owner: Hashable = None,
        **kwargs: Any,
    ) -> Any:
        """What ``fn(*args, **kwargs)`` gives, in a thread. Where the task is cancelled, a call that has not begun is,
        too; one that runs ends unheard. Raises LimitError naming ``job_count_max``, PoolClosedError, WorkerLostError
        where the thread died, KeyError for a priority that is none, and what ``fn`` raises."""
        core = self.core
        future = Future(core.live, partial(fn, **kwargs) if kwargs else fn, args, LEVELS[priority], owner)
        core.push(future)
        return await future

    async def run_many(
        self, fn: Callable[[Any], Any], items: Iterable[Any], *, priority: Priority = "normal", owner: Hashable = None
    ) -> list[Any]:
        """``fn(item)`` for each, the values in order. All or none is accepted; with the first exception, which is
        raised, and where the task is cancelled, what has not begun is cancelled. Errors as of ``run``."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        live, add, level = self.core.live, delivery_of(loop).add, LEVELS[priority]
        futures = [Future(live, fn, (item,), level, owner) for item in items]
        left = len(futures)

        def count(future: Future) -> None:
            nonlocal left
            left -= 1
            if not (left and has_value(future)) and not ended.done():
                ended.set_result(None)

        for future in futures:
            future.wake_by(partial(add, partial(count, future)))
        self.core.push_many(futures)
        try:
            if futures:
                await ended
        finally:
            for future in futures:
                future.cancel()
        for future in futures:
            if future.done() and not future.cancelled() and not has_value(future):
                future.result()
        return [future.result() for future in futures]

    async def close(self) -> None:
        """Take no more calls, cancel what has not begun, and wait for what runs."""
        self.core.shutdown(wait=False, cancel=True)
        await asyncio.get_running_loop().run_in_executor(None, self.core.shutdown)

    async def __aenter__(self) -> ThreadPool:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def has_value(future: Future) -> bool:
    return not future.cancelled() and future.exception() is None
