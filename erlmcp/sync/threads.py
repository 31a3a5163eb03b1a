"""A pool of threads with the face of ``concurrent.futures``: the one that runs a server's ordinary functions."""

from __future__ import annotations

import concurrent.futures
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Any, Final

from erlmcp.runtime.future import Future as Future
from erlmcp.runtime.line import LEVELS
from erlmcp.runtime.pooled import Pooled, Priority

AHEAD: Final = 1024  # calls that ``map`` submits before the first result is taken


class ThreadPool(Pooled, concurrent.futures.Executor):
    """Threads that take work from each other (see ``erlmcp.runtime.threads``).

    At most ``thread_count_max`` threads (None: those of ThreadPoolExecutor, four more than processors and at most 32),
    started as they are needed and ended after ``idle_s`` seconds without work; at most ``job_count_max`` calls that
    wait or run. Each runs in a copy of its caller's context. ``with ThreadPool() as pool`` waits at its end for what
    was submitted.

    ``priority`` "critical" goes before "normal" and that before "bulk", which still moves on: one of 64 at least.
    Normal calls of different owners take turns, each owner's in their order; ``owner`` is any hashable value, and
    a call without one keeps its own place in the line.
    """

    def submit(  # type: ignore[override]
        self,
        fn: Callable[..., Any],
        /,
        *args: Any,
        priority: Priority = "normal",
        owner: Hashable = None,
        **kwargs: Any,
    ) -> Future:
        """Have ``fn(*args, **kwargs)`` called. Raises LimitError naming ``job_count_max``, PoolClosedError (a
        RuntimeError) after ``shutdown``, RuntimeError where no thread can be started, and KeyError for a priority that
        is none. The outcome is WorkerLostError where the thread died."""
        core = self.core
        future = Future(core.live, partial(fn, **kwargs) if kwargs else fn, args, LEVELS[priority], owner)
        core.push(future)
        return future

    def submit_many(
        self, fn: Callable[[Any], Any], items: Iterable[Any], *, priority: Priority = "normal", owner: Hashable = None
    ) -> list[Future]:
        """``fn(item)`` for each; all or none is accepted. Errors as of ``submit``."""
        return self._submit(fn, ((item,) for item in items), LEVELS[priority], owner)

    def _submit(
        self, fn: Callable[..., Any], rows: Iterable[tuple[Any, ...]], level: int, owner: Hashable
    ) -> list[Future]:
        live = self.core.live
        futures = [Future(live, fn, row, level, owner) for row in rows]
        self.core.push_many(futures)
        return futures

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        priority: Priority = "normal",
        owner: Hashable = None,
    ) -> Iterator[Any]:
        """The results in order, as ``Executor.map``, with 1,024 calls submitted ahead and then one for each result
        taken. ``chunksize`` items are one call. What has not begun when the iterator is dropped is cancelled."""
        if chunksize < 1:
            raise ValueError(f"chunksize is at least 1, got {chunksize}")
        deadline = None if timeout is None else time.monotonic() + timeout
        rows: Iterator[tuple[Any, ...]] = zip(*iterables, strict=False)
        if chunksize > 1:
            whole = rows
            rows = ((piece,) for piece in iter(lambda: list(islice(whole, chunksize)), []))
            fn = partial(_each, fn)
        submit = partial(self._submit, fn, level=LEVELS[priority], owner=owner)
        found = _results(submit, deque(submit(islice(rows, min(AHEAD, self.core.job_count_max)))), rows, deadline)
        return found if chunksize == 1 else (value for piece in found for value in piece)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls. What was accepted is run, unless ``cancel_futures`` and no thread has begun it."""
        self.core.shutdown(wait=wait, cancel=cancel_futures)


def _each(fn: Callable[..., Any], rows: list[tuple[Any, ...]]) -> list[Any]:
    return [fn(*row) for row in rows]


def _results(
    submit: Callable[[Iterable[Any]], list[Future]],
    ahead: deque[Future],
    rows: Iterator[tuple[Any, ...]],
    deadline: float | None,
) -> Iterator[Any]:
    try:
        while ahead:
            value = ahead.popleft().result(None if deadline is None else deadline - time.monotonic())
            ahead.extend(submit(islice(rows, 1)))
            yield value
    finally:
        for future in ahead:
            future.cancel()
