"""A pool of connections, or of anything that is expensive to open, for asyncio.

Who is lent what, limits, ages and leaks are kept by ``erlmcp.core.Pool``; here is what has to wait or to call the
user's functions. Waiters stand in one line and are served in its order: while there is a line nobody takes the short
way. The first of it is handed either a loan, or a reserved place with which it opens a member itself: so a failure to
open goes to the one who caused it, and the place to the next. A waiter that is cancelled when it was served already
passes on what it was handed.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import sys
import time
import weakref
from asyncio import current_task
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from types import TracebackType
from typing import Any, Generic, NamedTuple, TypeVar

from erlmcp.core import Pool as Core
from erlmcp.core import walk
from erlmcp.errors import LimitError, PoolClosedError, PoolTimeoutError, StaleHandleError

T = TypeVar("T")
LOG = logging.getLogger("erlmcp.pool")
UPKEEP_MIN_S, UPKEEP_MAX_S = 0.001, 1.0


class Leak(NamedTuple):
    """A loan that goes on. ``is_lost``: its block was dropped without an end; never known for ``acquire``."""

    member: Any
    borrower: str
    age_s: float
    is_lost: bool
    handle: int


class Pool(Generic[T]):
    """Lends members, the one that came back last first, and opens and closes them as needed. For one event loop.

    ``open`` makes a member, ``close`` ends one, ``check`` says at its return whether it is still good (false, or an
    exception: it is closed); each a function or a coroutine function. At most ``count_max`` members are open or being
    opened; at least ``count_min`` are kept open. Those idle for ``idle_s`` are closed down to ``count_min``, those
    older than ``age_s`` at their return or when idle, and those not given back within ``reclaim_s`` while they are
    lent; the borrower's return is a StaleHandleError then, unless its block failed already. ``None`` is no bound. A
    member's place is free as soon as it is taken out, so that one that takes long to close may overlap with its
    successor.

    A loan waits at most ``wait_s``, the opening included, and at most ``waiter_count_max`` wait at a time. One task
    does the upkeep, from the first loan (or ``start``) to ``aclose``; loans are timed by its beat, at most a second.
    The loop that it runs on is the pool's (RuntimeError on another).
    ``trace`` writes down where a loan began, for ``leaks``, at some microseconds a loan.

    ``async with Pool(...) as pool`` starts it, opens ``count_min`` members and closes it at the end.
    """

    def __init__(
        self,
        open: Callable[[], Awaitable[T] | T],
        close: Callable[[T], Any] | None = None,
        check: Callable[[T], Any] | None = None,
        *,
        count_max: int = 10,
        count_min: int = 0,
        idle_s: float | None = 300.0,
        age_s: float | None = None,
        wait_s: float | None = 30.0,
        waiter_count_max: int = 1000,
        reclaim_s: float | None = None,
        close_s: float | None = 10.0,
        trace: bool = False,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        bounds = {"idle_s": idle_s, "age_s": age_s, "wait_s": wait_s, "reclaim_s": reclaim_s, "close_s": close_s}
        for name, value in bounds.items():
            if value is not None and not value > 0:
                raise ValueError(f"{name} is above 0, or None for no bound, got {value}")
        if waiter_count_max < 0:
            raise ValueError(f"waiter_count_max is 0 or more, got {waiter_count_max}")
        self.core: Core = Core(
            count_max,
            count_min=count_min,
            idle_ns=_ns(idle_s),
            age_ns=_ns(age_s),
            now_ns=clock_ns(),
        )
        self._lend_to = self.core.lend_to
        self._open_one = open
        self._close_one = close
        self._check = check
        self._wait_s = wait_s
        self._waiter_count_max = waiter_count_max
        self._reclaim_ns = _ns(reclaim_s)
        self._close_s = close_s
        self._trace = trace
        self._clock_ns = clock_ns
        beats = [s / 4 for s in (idle_s, age_s, reclaim_s) if s is not None]
        self._upkeep_s = max(UPKEEP_MIN_S, min([UPKEEP_MAX_S, *beats]))
        self._waiters: OrderedDict[asyncio.Future[Any], object] = OrderedDict()
        self._acquired: dict[int, list[Any]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._upkeeper: asyncio.Task[None] | None = None
        self._warming: asyncio.Task[None] | None = None
        self._closings: set[asyncio.Task[None]] = set()
        self._is_closed = False
        self._drained: asyncio.Event = asyncio.Event()

    def __len__(self) -> int:
        return len(self.core)

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    def stats(self) -> dict[str, int]:
        """The counters of ``erlmcp.core.Pool.stats``, and ``waiting_count``."""
        return {**self.core.stats(), "waiting_count": len(self._waiters)}

    def lend(self, timeout_s: float | None = None) -> Lending[T]:
        """``async with pool.lend() as member``: lent for the block, and taken back at its end, whatever happened.

        Entering raises PoolTimeoutError naming ``wait_s`` (or ``timeout_s``, which stands in its place), LimitError
        naming ``waiter_count_max``, PoolClosedError, and what ``open`` raises.
        """
        return Lending(self, timeout_s)

    async def acquire(self, timeout_s: float | None = None) -> T:
        """The member itself, for ``release``; errors as for ``lend``."""
        lease = await self._lend(timeout_s)
        member: T = lease.member
        self._acquired.setdefault(id(member), []).append(lease)
        return member

    async def release(self, member: T, *, is_broken: bool = False) -> None:
        """Ends the loan of ``acquire``; a broken member is closed. StaleHandleError where it is not lent (any more)."""
        leases = self._acquired.get(id(member))
        if leases is None:
            raise StaleHandleError(f"{member!r} is not lent by acquire; it was released or reclaimed")
        lease = leases.pop()
        if not leases:
            del self._acquired[id(member)]
        await self._take_back(lease, is_broken)

    async def warm(self) -> None:
        """Opens members at the same time until there are ``count_min``. ExceptionGroup of what ``open`` raised."""
        self._stop_where_closed()
        self._start()
        outcomes = await asyncio.gather(*(self._add() for _ in range(self.core.shortage)), return_exceptions=True)
        errors = [error for error in outcomes if isinstance(error, Exception)]
        if errors:
            raise ExceptionGroup(f"{len(errors)} of {len(outcomes)} members could not be opened", errors)

    def leaks(self, older_than_s: float = 0.0) -> list[Leak]:
        """The loans that go on for at least so long, the longest first: who has what, since when."""
        self.core.now_ns = self._clock_ns()
        found = self.core.leaks(int(older_than_s * 1e9))
        return [Leak(leak.member, _name(leak.who), leak.age_ns / 1e9, leak.is_lost, leak.handle) for leak in found]

    def members(self) -> Iterator[tuple[T, str, Any, int]]:
        """Each member, "idle", "lent" or "leaving", its borrower, and since how many ns, while they come and go."""
        return walk(self.core.scan)

    def reclaim(self, leak: Leak) -> None:
        """Ends a loan that nobody ends: the member is closed, its place is free. StaleHandleError where it ended."""
        member = self.core.reclaim(leak.handle)
        leases = [lease for lease in self._acquired.pop(id(member), ()) if lease.handle != leak.handle]
        if leases:
            self._acquired[id(member)] = leases
        self._settle()
        self._close_later(member)

    async def upkeep(self) -> None:
        """One round of what the pool's task does: closes the old and the idle, reclaims, opens up to ``count_min``."""
        self._tidy()
        if not self._is_closed:
            await self.warm()

    def start(self) -> None:
        """Starts the upkeep. Needs no call: the first loan that has to wait or to open does it."""
        self._stop_where_closed()
        self._start()

    async def __aenter__(self) -> Pool[T]:
        self.start()
        try:
            await self.warm()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> list[Leak]:
        """Ends the pool: no more loans, waiters get PoolClosedError, idle members are closed at once, lent ones when
        they come back. Those that have not come back after ``close_s`` are closed under their borrowers, and returned;
        what is not closed after as long again is cancelled.
        """
        self._is_closed = True
        while self._waiters:
            future, _ = self._waiters.popitem(last=False)
            if not future.done():
                future.set_exception(PoolClosedError("the pool was closed"))
        self.core.retire_all()
        self._settle()
        await self._end(self._upkeeper, self._warming)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._close_s):
                await self._drained.wait()
        leaks = [leak for leak in self.leaks() if self._reclaim_if_lent(leak, "closed")]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._close_s):
                while self._closings:
                    await asyncio.wait(self._closings)
        await self._end(*self._closings)
        return leaks

    # ---- Loans

    async def _lend(self, timeout_s: float | None) -> Any:
        who = self._borrower() if self._trace else current_task()
        if not self._waiters:
            lease = self._lend_to(who)
            if lease is not None:
                return lease
        return await self._lend_slowly(who, timeout_s)

    async def _lend_slowly(self, who: object, timeout_s: float | None) -> Any:
        self._stop_where_closed()
        self._start()
        self.core.now_ns = self._clock_ns()
        wait_s = self._wait_s if timeout_s is None else timeout_s
        try:
            async with asyncio.timeout(wait_s) as scope:
                self._settle()
                if not self._waiters:
                    lease = self._lend_to(who)
                    if lease is not None:
                        return lease
                    if self.core.reserve():
                        return await self._open(who)
                return await self._wait(who)
        except TimeoutError as error:
            if wait_s is None or not scope.expired():
                raise  # of open's own
            detail = f"{self.core.lent_count} of {self.core.count_max} members are lent, {len(self._waiters)} wait"
            raise PoolTimeoutError("wait_s" if timeout_s is None else "timeout_s", wait_s, detail) from error

    async def _wait(self, who: object) -> Any:
        if len(self._waiters) >= self._waiter_count_max:
            raise LimitError("waiter_count_max", self._waiter_count_max, "too many wait for a member of the pool")
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiters[future] = who
        try:
            lease = await future
        except BaseException:
            self._waiters.pop(future, None)
            if future.done() and not future.cancelled() and future.exception() is None:
                self._pass_on(future.result())
            raise
        return lease if lease is not None else await self._open(who)

    def _pass_on(self, lease: Any) -> None:
        """What was handed to a waiter that is no more."""
        if lease is None:
            self.core.unreserve()
        else:
            with contextlib.suppress(StaleHandleError):  # reclaimed before it was noticed
                self.core.take_back(lease)
        self._settle()

    def _settle(self) -> None:
        """After a change: closes who has to leave, and serves the line as far as it goes."""
        self._sweep()
        while self._waiters and self._serve_first():
            self._sweep()
        if self._is_closed and not len(self.core) and not self.core.stats()["opening_count"]:
            self._drained.set()

    def _sweep(self) -> None:
        for member in self.core.expire():
            self._close_later(member)

    def _serve_first(self) -> bool:
        """False where there is nothing for it, nor will be after a sweep."""
        future, who = next(iter(self._waiters.items()))
        if not future.done():
            lease = self._lend_to(who)
            if lease is None and not self.core.reserve():
                return self.core.stats()["leaving_count"] > 0
            future.set_result(lease)  # None: a place is reserved for it
        del self._waiters[future]
        return True

    async def _open(self, who: object) -> Any:
        """In a reserved place."""
        return self.core.lend_new(await self._make(), who)

    async def _add(self) -> None:
        """Opens a member for nobody, where there is room."""
        if self.core.reserve():
            self.core.add(await self._make(), is_reserved=True)
            self._settle()

    async def _make(self) -> T:
        """A member for the reserved place, which is given up where that fails."""
        try:
            self._stop_where_closed()
            made = self._open_one()
            member: T = await made if inspect.isawaitable(made) else made
            if self._is_closed:
                self._close_later(member)
                raise PoolClosedError("the pool was closed while a member was opened")
            self.core.now_ns = self._clock_ns()
            return member
        except BaseException:
            self.core.unreserve()
            self._settle()
            raise

    # ---- Returns

    async def _take_back(self, lease: Any, is_broken: bool) -> None:
        if not is_broken and (self._check is None or await self._is_good(lease)):
            if not self.core.take_back(lease) or self._waiters:
                self._settle()
            return
        self._retire(lease)

    async def _is_good(self, lease: Any) -> bool:
        assert self._check is not None
        member = lease.member
        try:
            verdict = self._check(member)
            if inspect.isawaitable(verdict):
                verdict = await verdict
            return bool(verdict)
        except Exception as error:
            LOG.warning("the check of %r raised %r; it is closed", member, error)
            return False
        except BaseException:
            with contextlib.suppress(StaleHandleError):
                self._retire(lease)
            raise

    def _retire(self, lease: Any) -> None:
        member = self.core.retire(lease)
        self._settle()
        self._close_later(member)

    def _close_later(self, member: T) -> None:
        """Closes it now where ``close`` is a function, else in a task that ``aclose`` waits for. Errors are logged."""
        if self._close_one is None:
            return
        try:
            closing = self._close_one(member)
        except Exception as error:
            LOG.warning("close of %r raised %r", member, error)
            return
        if inspect.isawaitable(closing):
            task = asyncio.ensure_future(_finish(member, closing))
            self._closings.add(task)
            task.add_done_callback(self._closings.discard)

    # ---- Upkeep

    def _start(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
            run = _keep_up(weakref.ref(self), self._upkeep_s)
            self._upkeeper = loop.create_task(run, name="erlmcp-pool-upkeep")
        if self._loop is not loop:
            raise RuntimeError("the pool belongs to another event loop")

    def _beat(self) -> None:
        """What the upkeep's task does, which an ``open`` that takes long does not hold up."""
        self._tidy()
        if self.core.shortage and (self._warming is None or self._warming.done()):
            self._warming = asyncio.ensure_future(self._warm_quietly())

    async def _warm_quietly(self) -> None:
        try:
            await self.warm()
        except Exception as error:
            LOG.warning("upkeep of the pool: %r", error)

    def _tidy(self) -> None:
        self.core.now_ns = self._clock_ns()
        if self._reclaim_ns:
            for leak in self.leaks(self._reclaim_ns / 1e9):
                self._reclaim_if_lent(leak, "reclaimed")
        self._settle()

    def _reclaim_if_lent(self, leak: Leak, word: str) -> bool:
        try:
            self.reclaim(leak)
        except StaleHandleError:
            return False  # it came back while another one was closed
        LOG.warning("%s %r after %.1f s under %s", word, leak.member, leak.age_s, leak.borrower)
        return True

    async def _end(self, *tasks: asyncio.Task[None] | None) -> None:
        """Cancels tasks of the pool's, and waits for their end, ``close_s`` at most."""
        running = [task for task in tasks if task is not None and not task.done()]
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running, timeout=self._close_s)

    def _stop_where_closed(self) -> None:
        if self._is_closed:
            raise PoolClosedError("the pool is closed")

    def _borrower(self) -> str:
        """The task, and the first line outside of this module."""
        frame = sys._getframe(1)
        while frame.f_back is not None and frame.f_code.co_filename == __file__:
            frame = frame.f_back
        code = frame.f_code
        return f"{_name(current_task())} at {code.co_filename}:{frame.f_lineno} in {code.co_name}"


class Lending(Generic[T]):
    """What ``Pool.lend`` gives. Set ``is_broken`` within the block to have the member closed at its end."""

    __slots__ = ("is_broken", "lease", "pool", "timeout_s")

    def __init__(self, pool: Pool[T], timeout_s: float | None) -> None:
        self.pool = pool
        self.timeout_s = timeout_s
        self.lease: Any = None
        self.is_broken = False

    async def __aenter__(self) -> T:
        pool = self.pool
        if self.lease is not None:
            raise RuntimeError("this loan was begun already; each block needs a lend() of its own")
        if pool._waiters or pool._trace or (lease := pool._lend_to(current_task())) is None:
            lease = await pool._lend(self.timeout_s)
        self.lease = lease
        member: T = lease.member
        return member

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pool = self.pool
        try:
            if pool._check is not None or self.is_broken:
                await pool._take_back(self.lease, self.is_broken)
            elif not pool.core.take_back(self.lease) or pool._waiters:
                pool._settle()
        except StaleHandleError:
            if error is None:
                raise


async def _keep_up(reference: weakref.ref[Pool[Any]], upkeep_s: float) -> None:
    """Until the pool is closed, or nobody has it any more."""
    while True:
        await asyncio.sleep(upkeep_s)
        pool = reference()
        if pool is None:
            return
        try:
            pool._beat()
        except Exception as error:
            LOG.warning("upkeep of the pool: %r", error)
        del pool


async def _finish(member: Any, closing: Awaitable[Any]) -> None:
    try:
        await closing
    except Exception as error:
        LOG.warning("close of %r raised %r", member, error)


def _ns(seconds: float | None) -> int:
    return 0 if seconds is None else max(1, int(seconds * 1e9))


def _name(who: object) -> str:
    return who.get_name() if isinstance(who, asyncio.Task) else str(who)
