"""A cache whose values are loaded once for all who wait, and that is off where it costs more than it saves.

Wanted: many tasks that ask for one key start one load; a task that is cancelled takes nobody's load with it, unless it
was the last that waited; a failure is everybody's; a value that may be given out stale is, and is loaded anew behind;
for a loader that is quicker than the cache, or whose keys never come again, the cache gets out of the way.

Plan. Who loads and who waits is decided by ``erlmcp.core.Cache.claim`` in one step; here a load is a task of its own,
and a waiter a future of its own. Each loader has an ``Account``: a hit earns the time that the load would have taken,
a miss costs what the cache adds to it. The account is kept within a credit, so that old merits do not hide what is
now; who falls through it is off for a while, and then tries again.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final

from erlmcp import core

SECOND_NS: Final = 1_000_000_000
HIT, NEGATIVE, LOAD = 0, 1, 2

CREDIT_MISSES: Final = 64  # an account may lose the cost of so many misses ...
CREDIT_LOADS: Final = 4  # ... or of so many loads, whichever is more, before its loader is off
PAUSE_NS: Final = 10 * SECOND_NS  # how long the first time; twice as long each time, at most PAUSE_NS_MAX
PAUSE_NS_MAX: Final = 320 * SECOND_NS
SAMPLE_CALLS: Final = 64  # one hit in so many is measured
ACCOUNTS_MAX: Final = 1024

ABSENT: Final[Any] = object()
KEEPER: Final = object()  # waits for a load behind a stale value, so that nobody gives it up


class Account:
    """What the cache is worth to one loader, in nanoseconds: a pure decision, told of times and outcomes.

    ``load_ns``, ``hit_ns`` and ``miss_ns`` are moving averages (an eighth of the latest) of what a load takes, what a
    hit costs, and what a miss costs beyond the load.
    """

    __slots__ = ("balance_ns", "calls", "hit_ns", "load_ns", "miss_ns", "off_until_ns", "pause_ns")

    def __init__(self) -> None:
        self.balance_ns = 0.0
        self.load_ns = self.hit_ns = self.miss_ns = -1.0  # not measured yet
        self.off_until_ns = 0
        self.pause_ns = PAUSE_NS
        self.calls = 0

    @property
    def credit_ns(self) -> float:
        return max(CREDIT_MISSES * self.miss_ns, CREDIT_LOADS * self.load_ns)

    def is_on(self, now_ns: int) -> bool:
        return now_ns >= self.off_until_ns

    def measured(self, name: str, value_ns: float) -> None:
        """A new measurement of ``load_ns``, ``hit_ns`` or ``miss_ns``."""
        before = getattr(self, name)
        setattr(self, name, value_ns if before < 0 else before + (value_ns - before) / 8)

    def hit(self, now_ns: int) -> None:
        """A load was spared; so it was for one who waited for another's."""
        self._book(max(self.load_ns, 0.0) - max(self.hit_ns, 0.0), now_ns)

    def missed(self, load_ns: float, beyond_ns: float, now_ns: int) -> None:
        """A load took ``load_ns``, and the cache ``beyond_ns`` besides."""
        self.measured("load_ns", max(load_ns, 0.0))
        self.measured("miss_ns", max(beyond_ns, 0.0))
        self._book(-self.miss_ns, now_ns)

    def _book(self, gain_ns: float, now_ns: int) -> None:
        if self.load_ns < 0:
            return
        credit = self.credit_ns
        self.balance_ns = min(self.balance_ns + gain_ns, credit)
        if self.balance_ns == credit > 0:
            self.pause_ns = PAUSE_NS
        if self.balance_ns < -credit:
            self.balance_ns = 0.0
            self.off_until_ns = now_ns + self.pause_ns
            self.pause_ns = min(2 * self.pause_ns, PAUSE_NS_MAX)


@dataclass(frozen=True, slots=True)
class CacheStats:
    """Counts since the cache was made; ``entry_count``, ``bytes_held`` and ``load_count`` are of now."""

    hit_count: int
    miss_count: int
    hit_rate: float
    eviction_count: int
    expired_count: int
    entry_count: int
    bytes_held: int
    load_count: int
    loaded_count: int
    failed_count: int
    bypassed_count: int


def code_of(loader: Any) -> object:
    """What the calls of one loader have in common, though each may bring a closure of its own."""
    while isinstance(loader, functools.partial):
        loader = loader.func
    return getattr(loader, "__code__", None) or type(loader)


def nanoseconds(seconds: float | None) -> int | None:
    """None stays None; what is not 0 is at least a nanosecond, as 0 means without end."""
    if seconds is None or seconds == 0:
        return None if seconds is None else 0
    if not 0 < seconds < 9e9:
        raise ValueError(f"a time to live is from 0 to 9e9 seconds, got {seconds}")
    return max(int(seconds * SECOND_NS), 1)


class Cache:
    """``await cache.load(key, loader)`` gives the value of a key and calls ``loader(key)`` where it is not there.

    For the tasks of one event loop at a time (RuntimeError where another one has loads under way). Budgets, keys, tags,
    negative entries: as ``erlmcp.core.Cache``, times in seconds. A loader is a function or a coroutine function of the
    key. With ``adaptive`` each loader (told apart by its code) has an ``Account``: where the cache costs more than it
    saves, ``load`` calls the loader directly, without sharing, until it is tried again 10 s later (20, 40 ... 320 s
    where it fails again).
    """

    def __init__(
        self,
        count_max: int = 10_000,
        *,
        bytes_max: int = 0,
        ttl_s: float = 5.0,
        negative_ttl_s: float = 0.0,
        stale_s: float = 0.0,
        load_count_max: int = 65_536,
        size_of: Callable[[Any], int] | None = None,
        adaptive: bool = True,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """``size_of`` gives the bytes that a value counts for, where the call does not say it; without it 0.

        ``negative_ttl_s``: for how long a loader's failure is kept and raised again; 0 for not at all. ``stale_s``: for
        how long after its end a value is still given out while it is loaded anew.
        """
        self._core = core.Cache(
            count_max,
            bytes_max=bytes_max,
            ttl_ns=nanoseconds(ttl_s) or 0,
            negative_ttl_ns=nanoseconds(negative_ttl_s) or 0,
            stale_ns=nanoseconds(stale_s) or 0,
            load_count_max=load_count_max,
            now_ns=clock(),
        )
        self._clock = clock
        self._size_of = size_of
        self._has_stale = stale_s > 0
        self._adaptive = adaptive
        self._accounts: dict[int, tuple[object, Account]] = {}  # by the id of the code, which is kept with it
        self._tasks: dict[Any, asyncio.Task[None]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loaded_count = self._failed_count = self._bypassed_count = 0

    def __len__(self) -> int:
        return len(self._core)

    @property
    def enabled(self) -> bool:
        """Whether some loader is on, or none has been judged yet."""
        now_ns = self._clock()
        accounts = self._accounts.values()
        return not accounts or any(account.is_on(now_ns) for _, account in accounts)

    def is_enabled_for(self, loader: Callable[..., Any]) -> bool:
        known = self._accounts.get(id(code_of(loader)))
        return known is None or known[1].is_on(self._clock())

    def account(self, loader: Callable[..., Any]) -> Account:
        """The account of a loader, opened where there is none; the oldest of ACCOUNTS_MAX is closed for a new one."""
        code = code_of(loader)
        known = self._accounts.get(id(code))
        if known is None:
            if len(self._accounts) >= ACCOUNTS_MAX:
                del self._accounts[next(iter(self._accounts))]
            known = self._accounts[id(code)] = (code, Account())
        return known[1]

    def _at_now(self) -> Any:
        self._core.now_ns = self._clock()
        return self._core

    def get(self, key: str | bytes, default: Any = None) -> Any:
        return self._at_now().get(key, default)

    def get_many(self, keys: Sequence[str | bytes], default: Any = None) -> list[Any]:
        found: list[Any] = self._at_now().get_many(keys, default)
        return found

    def put(
        self,
        key: str | bytes,
        value: Any,
        *,
        ttl_s: float | None = None,
        tags: Sequence[str] = (),
        size_bytes: int | None = None,
    ) -> int:
        """How many entries left to make room; -1 where the value is larger than ``bytes_max`` and was not stored.

        ``ttl_s``: None for the cache's own, 0 for no end.
        """
        room: int = self._at_now().put(key, value, self._size(value, size_bytes), nanoseconds(ttl_s), tags)
        return room

    def put_negative(
        self,
        key: str | bytes,
        error: BaseException | None = None,
        *,
        ttl_s: float | None = None,
        tags: Sequence[str] = (),
    ) -> None:
        """From now on ``load`` raises this error (None: KeyError) instead of calling a loader."""
        if not isinstance(error, BaseException | None):
            raise TypeError(f"what load is to raise is an exception, not {type(error).__name__}")
        self._at_now().put_negative(key, error, nanoseconds(ttl_s), tags)

    def remove(self, key: str | bytes) -> bool:
        return bool(self._core.remove(key))

    def invalidate_tag(self, tag: str) -> int:
        """How many entries left. A load under way that ends with this tag is not stored."""
        return int(self._core.invalidate_tag(tag))

    def invalidate_prefix(self, prefix: str | bytes) -> int:
        return int(self._core.invalidate_prefix(prefix))

    def clear(self) -> None:
        self._core.clear()

    def expire(self) -> int:
        """Drops what has expired before its place is needed; how many that were."""
        return int(self._core.expire(self._clock()))

    def stats(self) -> CacheStats:
        held = self._core
        return CacheStats(
            hit_count=held.hit_count,
            miss_count=held.miss_count,
            hit_rate=held.hit_rate,
            eviction_count=held.eviction_count,
            expired_count=held.expired_count,
            entry_count=len(held),
            bytes_held=held.bytes_held,
            load_count=len(self._tasks),
            loaded_count=self._loaded_count,
            failed_count=self._failed_count,
            bypassed_count=self._bypassed_count,
        )

    async def load(
        self,
        key: str | bytes,
        loader: Callable[[Any], Any],
        *,
        ttl_s: float | None = None,
        tags: Sequence[str] = (),
        size_bytes: int | None = None,
    ) -> Any:
        """The value of the key, loaded where it is not there; whatever the loader raises is raised in all who wait.

        The arguments of the call that starts a load count for all. A value that was put or invalidated while it was
        loaded is given to those who waited, and not stored.
        """
        start_ns = self._clock()
        held = self._core
        held.now_ns = start_ns
        account = self.account(loader) if self._adaptive else None
        if account is not None and not account.is_on(start_ns):
            self._bypassed_count += 1
            value = loader(key)
            return await value if inspect.isawaitable(value) else value
        verdict, found = held.claim(key)
        if verdict == HIT:
            if account is not None:
                self._book_hit(account, start_ns)
            return found
        if verdict == NEGATIVE:
            if account is not None:
                self._book_hit(account, start_ns)
            raise KeyError(key) if found is None else found.with_traceback(None)
        if verdict == LOAD:
            self._begin(found, self._run(found, loader, ttl_s, tags, size_bytes, account, start_ns))
        if self._has_stale and (stale := held.get_stale(key, ABSENT)) is not ABSENT:
            held.join(found, KEEPER)
            value = stale
        else:
            value = await self._wait(found)
        if verdict != LOAD and account is not None:
            account.hit(self._clock())
        return value

    def _begin(self, ticket: Any, run: Coroutine[Any, Any, None]) -> None:
        """The load's own task; never an eager one, which would end before anybody waits."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            if self._tasks:
                run.close()
                self._core.fail(ticket)
                raise RuntimeError("loads of another event loop are under way in the cache")
            self._loop = loop
        task = self._tasks[ticket] = asyncio.Task(run, loop=loop)
        task.add_done_callback(functools.partial(self._ended, ticket))

    def _ended(self, ticket: Any, task: asyncio.Task[None]) -> None:
        self._tasks.pop(ticket, None)
        if not task.cancelled():
            task.exception()  # those who wait have it
        if not ticket.is_done:  # it was cancelled before its first step
            self._failed_count += 1
            self._fail(ticket, asyncio.CancelledError(), ())

    def _book_hit(self, account: Account, start_ns: int) -> None:
        account.calls += 1
        if account.calls % SAMPLE_CALLS == 1:
            account.measured("hit_ns", self._clock() - start_ns)
        account.hit(start_ns)

    async def _wait(self, ticket: Any) -> Any:
        """What the load brings. The last who gives up ends it."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            raise RuntimeError("the load under way belongs to another event loop")
        waiter = loop.create_future()
        self._core.join(ticket, waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if not ticket.is_done and self._core.leave(ticket, waiter) == 0:
                self._core.fail(ticket)
                self._tasks[ticket].cancel()
            raise

    def _size(self, value: Any, size_bytes: int | None) -> int:
        if size_bytes is not None:
            return size_bytes
        return self._size_of(value) if self._size_of is not None else 0

    async def _run(
        self,
        ticket: Any,
        loader: Callable[[Any], Any],
        ttl_s: float | None,
        tags: Sequence[str],
        size_bytes: int | None,
        account: Account | None,
        start_ns: int,
    ) -> None:
        """One load, from the call of the loader to the waking of those who wait."""
        begin_ns = end_ns = self._clock()
        try:
            try:
                value = loader(ticket.key)
                if inspect.isawaitable(value):
                    value = await value
            finally:
                end_ns = self._core.now_ns = self._clock()
            waiters = self._core.finish(ticket, value, self._size(value, size_bytes), nanoseconds(ttl_s), tags)
            self._loaded_count += 1
            for waiter in waiters:
                if waiter is not KEEPER and not waiter.done():
                    waiter.set_result(value)
        except BaseException as error:
            if not ticket.is_done:
                self._failed_count += 1
                self._fail(ticket, error, tags)
            if not isinstance(error, Exception):
                account = None  # how long it ran says nothing about a load
                raise
        finally:
            self._tasks.pop(ticket, None)
            if account is not None:
                now_ns = self._clock()
                account.missed(end_ns - begin_ns, (now_ns - start_ns) - (end_ns - begin_ns), now_ns)

    def _fail(self, ticket: Any, error: BaseException, tags: Sequence[str]) -> None:
        """The failure is everybody's; kept as a negative entry where the cache has such and it is an Exception."""
        try:
            waiters = self._core.fail(ticket, error if isinstance(error, Exception) else None, None, tags)
        except (ValueError, TypeError, MemoryError):
            waiters = self._core.fail(ticket)
        for waiter in waiters:
            if waiter is KEEPER or waiter.done():
                continue
            if isinstance(error, asyncio.CancelledError):
                waiter.cancel("the load was cancelled")
            elif isinstance(error, StopIteration):
                waiter.set_exception(RuntimeError("the loader raised StopIteration"))
            else:
                waiter.set_exception(error)

    async def close(self) -> None:
        """Cancels the loads under way, and those who wait for them; waits until they have ended."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._core.clear()

    async def __aenter__(self) -> Cache:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
