"""Answers that a server said may be kept (``ttlMs``, 2026-07-28 basic/utilities/caching), and loads that are shared.

Whether a stored value is there, somebody loads it, or it is to be loaded, is one decision of ``erlmcp.core.Cache``. A
load is a task of its own, so that the caller who began it may leave without taking it from the others; the last who
leaves ends it. A client has one set of credentials, so that ``cacheScope`` makes no difference here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

from erlmcp import core

HIT, LOAD = 0, 2
MS_NS: Final = 1_000_000
TTL_MS_MAX: Final = 7 * 24 * 3600 * 1000
RESOURCES: Final = "resources"
TOOLS: Final = "tools"

Load = Callable[[], Coroutine[Any, Any, tuple[Any, Any]]]


class Kept:
    """``await kept.get(key, load)``; ``load()`` gives (value, its ttlMs as the server wrote it)."""

    def __init__(self, count_max: int, bytes_max: int) -> None:
        self._core = core.Cache(count_max, bytes_max=bytes_max, now_ns=time.monotonic_ns())
        self._tasks: dict[Any, asyncio.Task[None]] = {}

    def __len__(self) -> int:
        return len(self._core)

    async def get(self, key: str, load: Load, tags: tuple[str, ...] = ()) -> Any:
        self._core.now_ns = time.monotonic_ns()
        waiter = asyncio.get_running_loop().create_future()
        verdict, found = self._core.claim(key, waiter)
        if verdict == HIT:
            return found
        if verdict == LOAD:
            self._tasks[found] = asyncio.get_running_loop().create_task(self._run(found, load, tags))
        try:
            return await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled() and waiter.done():
                waiter.exception()  # It came too late, and is not to be reported as never looked at.
            if not found.is_done and self._core.leave(found, waiter) == 0:
                self._core.fail(found)
                self._tasks[found].cancel()
            raise

    async def _run(self, ticket: Any, load: Load, tags: tuple[str, ...]) -> None:
        try:
            value, ttl_ms = await load()
            ttl_ns = int(min(ttl_ms, TTL_MS_MAX) * MS_NS) if _is_time(ttl_ms) else 0
            self._core.now_ns = time.monotonic_ns()
            # A ttl of 0 is no end in the cache, and no time at all on the wire.
            size_bytes = _bytes_of(value) if ttl_ns > 0 else 0
            if ttl_ns > 0 and size_bytes <= self._core.bytes_max:
                waiters = self._core.finish(ticket, value, size_bytes, ttl_ns, tags)
            else:
                waiters = self._core.fail(ticket)
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(value)
        except BaseException as error:
            if not ticket.is_done:
                for waiter in self._core.fail(ticket):
                    if not waiter.done():
                        waiter.set_exception(_shared(error))
            if not isinstance(error, Exception):
                raise
        finally:
            self._tasks.pop(ticket, None)

    def drop(self, key: str) -> None:
        """It is not true any more; a load under way is for those who wait for it, and is not kept."""
        self._core.remove(key)

    def drop_tag(self, tag: str) -> None:
        self._core.invalidate_tag(tag)

    def clear(self) -> None:
        self._core.clear()


def _bytes_of(value: Any) -> int:
    """What a value counts for: bytes by their length, lists by their items, typed results by their JSON."""
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, list):
        return sum(map(_bytes_of, value))
    return len(value.model_dump_json()) if hasattr(value, "model_dump_json") else 0


def _is_time(ttl_ms: Any) -> bool:
    return isinstance(ttl_ms, int | float) and not isinstance(ttl_ms, bool) and ttl_ms > 0


def _shared(error: BaseException) -> BaseException:
    """A future takes no CancelledError as its exception; who waits for a load that was cancelled is told so."""
    return error if isinstance(error, Exception) else asyncio.InvalidStateError("the load was cancelled")
