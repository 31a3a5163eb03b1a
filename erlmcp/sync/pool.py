"""A pool of connections, or of anything that is expensive to open, for threads.

The blocking sister of ``erlmcp.aio.Pool``. Each step of ``erlmcp.core.Pool`` is whole for the threads of Python (of its
plain twin by ``Whole``), so a loan or a return that concerns nobody else takes no lock. The lock is for the line of
waiters. None is forgotten: who has to wait joins the line first and looks for an idle member after that; who gives one
back does so first and looks at the line after that. The user's functions are called without the lock.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import sys
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from threading import TIMEOUT_MAX, current_thread
from types import TracebackType
from typing import Any, Generic, TypeVar

from erlmcp.aio.pool import Leak
from erlmcp.core import IMPLEMENTATION, walk
from erlmcp.core import Pool as Core
from erlmcp.errors import LimitError, PoolClosedError, PoolTimeoutError, StaleHandleError

T = TypeVar("T")
LOG = logging.getLogger("erlmcp.pool")
UPKEEP_MIN_S, UPKEEP_MAX_S = 0.001, 1.0
OPENERS_MAX = 32


class Whole:
    """The plain twin of the core's pool, each of whose steps is whole for threads only under this lock."""

    def __init__(self, twin: Core) -> None:
        self.__dict__.update(twin=twin, lock=threading.RLock())

    def __getattr__(self, name: str) -> Any:
        with self.lock:
            value = getattr(self.twin, name)
        return functools.partial(self._call, value) if callable(value) else value

    def __setattr__(self, name: str, value: object) -> None:
        with self.lock:
            setattr(self.twin, name, value)

    def __len__(self) -> int:
        with self.lock:
            return len(self.twin)

    def _call(self, method: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        with self.lock:
            return method(*arguments, **options)


class Waiter:
    """A thread in the line, until ``wake`` is released: it was served, or the pool was closed."""

    __slots__ = ("is_served", "lease", "wake", "who")

    def __init__(self, who: object) -> None:
        self.who = who
        self.lease: Any = None  # None where it is served: a place is reserved for it
        self.is_served = False
        self.wake = threading.Lock()
        self.wake.acquire()


class Pool(Generic[T]):
    """Lends members, the one that came back last first, and opens and closes them as needed. For any threads.

    ``open`` makes a member, ``close`` ends one, ``check`` says at its return whether it is still good (false, or an
    exception: it is closed). They run in the thread that needs it, or in that of the upkeep. At most ``count_max``
    members are open or being opened; at least ``count_min`` are kept open. Those idle for ``idle_s`` are closed down
    to ``count_min``, those older than ``age_s`` at their return or when idle, and those not given back within
    ``reclaim_s`` while they are lent; the borrower's return is a StaleHandleError then, unless its block failed
    already. ``None`` is no bound. A member's place is free as soon as it is taken out, so that one that takes long to
    close may overlap with its successor.

    A loan waits in line at most ``wait_s`` (opening is not cut short), and at most ``waiter_count_max`` wait at a
    time. One thread does the upkeep, from the first loan (or ``start``) to ``close``; loans are timed by its beat, at
    most a second. ``trace`` writes down where a loan began, for ``leaks``, at some microseconds a loan.

    ``with Pool(...) as pool`` starts it, opens ``count_min`` members and closes it at the end.
    """

    def __init__(
        self,
        open: Callable[[], T],
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
        core = Core(count_max, count_min=count_min, idle_ns=_ns(idle_s), age_ns=_ns(age_s), now_ns=clock_ns())
        self.core: Any = core if IMPLEMENTATION == "core" else Whole(core)
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
        # Reentrant: dropping an object under it may run code that gives a member back.
        self._lock = threading.RLock()
        self._warming = threading.RLock()  # who opens members for nobody
        self._waiters: OrderedDict[Waiter, None] = OrderedDict()
        self._acquired: dict[int, list[Any]] = {}
        self._upkeeper: threading.Thread | None = None
        self._stop = threading.Event()
        self._is_closed = False
        self._drained = threading.Event()

    def __len__(self) -> int:
        return len(self.core)

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    def stats(self) -> dict[str, int]:
        """Those of ``erlmcp.core.Pool.stats``, and ``waiting_count``."""
        return {**self.core.stats(), "waiting_count": len(self._waiters)}

    def lend(self, timeout_s: float | None = None) -> Lending[T]:
        """``with pool.lend() as member``: lent for the block, and taken back at its end, whatever happened.

        Entering raises PoolTimeoutError naming ``wait_s`` (or ``timeout_s``, which stands in its place), LimitError
        naming ``waiter_count_max``, PoolClosedError, and what ``open`` raises.
        """
        return Lending(self, timeout_s)

    def acquire(self, timeout_s: float | None = None) -> T:
        """The member itself, for ``release``; errors as for ``lend``."""
        lease = self._lend(timeout_s)
        member: T = lease.member
        with self._lock:
            self._acquired.setdefault(id(member), []).append(lease)
        return member

    def release(self, member: T, *, is_broken: bool = False) -> None:
        """Ends the loan of ``acquire``; a broken member is closed. StaleHandleError where it is not lent (any more)."""
        with self._lock:
            leases = self._acquired.get(id(member))
            if leases is None:
                raise StaleHandleError(f"{member!r} is not lent by acquire; it was released or reclaimed")
            lease = leases.pop()
            if not leases:
                del self._acquired[id(member)]
        self._take_back(lease, is_broken)

    def warm(self) -> None:
        """Opens members at the same time until there are ``count_min``. ExceptionGroup of what ``open`` raised."""
        self._stop_where_closed()
        self._start()
        with self._warming:
            self._warm()

    def _warm(self) -> None:
        self._stop_where_closed()
        count = left = self.core.shortage
        errors: list[Exception] = []

        def add() -> None:
            try:
                self._add()
            except Exception as error:
                errors.append(error)

        while left and not errors:
            openers = [threading.Thread(target=add, daemon=True) for _ in range(min(left, OPENERS_MAX) - 1)]
            left -= len(openers) + 1
            for opener in openers:
                opener.start()
            add()
            for opener in openers:
                opener.join()
        if errors:
            raise ExceptionGroup(f"{len(errors)} of {count} members could not be opened", errors)

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
        with self._lock:
            leases = [lease for lease in self._acquired.pop(id(member), ()) if lease.handle != leak.handle]
            if leases:
                self._acquired[id(member)] = leases
        self._settle()
        self._close_now(member)

    def upkeep(self) -> None:
        """One round of what the pool's thread does: closes the old and idle, reclaims, opens up to ``count_min``."""
        self.core.now_ns = self._clock_ns()
        if self._reclaim_ns:
            for leak in self.leaks(self._reclaim_ns / 1e9):
                self._reclaim_if_lent(leak, "reclaimed")
        self._settle()
        if not self._is_closed and self._warming.acquire(blocking=False):
            try:
                self._warm()
            finally:
                self._warming.release()

    def start(self) -> None:
        """Starts the upkeep. Needs no call: the first loan that has to wait or to open does it."""
        self._stop_where_closed()
        self._start()

    def __enter__(self) -> Pool[T]:
        self.start()
        try:
            self.warm()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> list[Leak]:
        """Ends the pool: no more loans, waiters get PoolClosedError, idle members are closed at once, lent ones when
        they come back. Those that have not come back after ``close_s`` are closed under their borrowers, and returned.
        """
        with self._lock:
            self._is_closed = True
            self.core.retire_all()
            while self._waiters:
                waiter, _ = self._waiters.popitem(last=False)
                waiter.wake.release()
        self._stop.set()
        self._settle()
        self._drained.wait(self._close_s)
        leaks = [leak for leak in self.leaks() if self._reclaim_if_lent(leak, "closed")]
        if self._upkeeper is not None and self._upkeeper is not current_thread():
            self._upkeeper.join(self._close_s)
        return leaks

    # ---- Loans

    def _lend(self, timeout_s: float | None) -> Any:
        who = self._borrower() if self._trace else current_thread()
        if not self._waiters:
            lease = self._lend_to(who)
            if lease is not None:
                return lease
        self._start()
        self.core.now_ns = self._clock_ns()
        lease = self._wait(Waiter(who), timeout_s)
        if lease is None:
            lease = self.core.lend_new(self._make(), who)
            self._settle_where_closed()
        return lease

    def _wait(self, waiter: Waiter, timeout_s: float | None) -> Any:
        """A loan; None where a place is reserved."""
        wait_s = self._wait_s if timeout_s is None else timeout_s
        try:
            with self._lock:
                self._stop_where_closed()
                is_late = len(self._waiters) >= self._waiter_count_max
                self._waiters[waiter] = None
            self._settle()
            if is_late and len(self._waiters) > self._waiter_count_max and self._leave(waiter):
                raise LimitError("waiter_count_max", self._waiter_count_max, "too many wait for a member of the pool")
            is_woken = waiter.wake.acquire(timeout=-1 if wait_s is None else min(max(0.0, wait_s), TIMEOUT_MAX))
            if not is_woken and self._leave(waiter):
                detail = f"{self.core.lent_count} of {self.core.count_max} members are lent"
                raise PoolTimeoutError("wait_s" if timeout_s is None else "timeout_s", wait_s or 0.0, detail)
            if not waiter.is_served:
                raise PoolClosedError("the pool was closed")
            return waiter.lease
        except BaseException:
            self._leave(waiter)
            if waiter.is_served:
                self._pass_on(waiter.lease)
            raise

    def _leave(self, waiter: Waiter) -> bool:
        """Whether it was in the line, where it is not any more."""
        with self._lock:
            return self._waiters.pop(waiter, self) is None

    def _pass_on(self, lease: Any) -> None:
        """What was handed to a waiter that is no more."""
        if lease is None:
            self.core.unreserve()
        else:
            with contextlib.suppress(StaleHandleError):  # reclaimed before it was noticed
                self.core.take_back(lease)
        self._settle()

    def _settle(self) -> None:
        """After a change: serves the line as far as it goes, and closes who has to leave."""
        with self._lock:
            left = self.core.expire()
            while self._waiters:
                waiter = next(iter(self._waiters))
                lease = self._lend_to(waiter.who)
                if lease is None:
                    left += self.core.expire()
                    if not self.core.reserve():
                        break
                if self._waiters.pop(waiter, self) is not None:  # code that ran here served it meanwhile
                    if lease is None:
                        self.core.unreserve()
                    else:
                        self.core.take_back(lease)
                    continue
                waiter.lease, waiter.is_served = lease, True
                waiter.wake.release()
            if self._is_closed and not len(self.core) and not self.core.stats()["opening_count"]:
                self._drained.set()
        for member in left:
            self._close_now(member)

    def _add(self) -> None:
        """Opens a member for nobody, where there is room."""
        if self.core.reserve():
            self.core.add(self._make(), is_reserved=True)
            self._settle_where_closed()
            self._settle()

    def _make(self) -> T:
        """A member for the reserved place, which is given up where that fails."""
        try:
            self._stop_where_closed()
            member = self._open_one()
            if self._is_closed:
                self._close_now(member)
                raise PoolClosedError("the pool was closed while a member was opened")
            self.core.now_ns = self._clock_ns()
            return member
        except BaseException:
            self.core.unreserve()
            self._settle()
            raise

    def _settle_where_closed(self) -> None:
        """A member that was being opened while the pool was closed leaves as the others do."""
        if self._is_closed:
            self.core.retire_all()
            self._settle()

    # ---- Returns

    def _take_back(self, lease: Any, is_broken: bool) -> None:
        if not is_broken and (self._check is None or self._is_good(lease)):
            if not self.core.take_back(lease) or self._waiters:
                self._settle()
            return
        self._retire(lease)

    def _is_good(self, lease: Any) -> bool:
        assert self._check is not None
        member = lease.member
        try:
            return bool(self._check(member))
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
        self._close_now(member)

    def _close_now(self, member: T) -> None:
        if self._close_one is not None:
            try:
                self._close_one(member)
            except Exception as error:
                LOG.warning("close of %r raised %r", member, error)

    def _reclaim_if_lent(self, leak: Leak, word: str) -> bool:
        try:
            self.reclaim(leak)
        except StaleHandleError:
            return False  # it came back meanwhile
        LOG.warning("%s %r after %.1f s under %s", word, leak.member, leak.age_s, leak.borrower)
        return True

    # ---- Upkeep

    def _start(self) -> None:
        if self._upkeeper is None:
            with self._lock:
                if self._upkeeper is None and not self._is_closed:
                    arguments = (weakref.ref(self), self._stop, self._upkeep_s)
                    self._upkeeper = threading.Thread(target=_keep_up, args=arguments, name="erlmcp-pool", daemon=True)
                    self._upkeeper.start()

    def _stop_where_closed(self) -> None:
        if self._is_closed:
            raise PoolClosedError("the pool is closed")

    def _borrower(self) -> str:
        """The thread, and the first line outside of this module."""
        frame = sys._getframe(1)
        while frame.f_back is not None and frame.f_code.co_filename == __file__:
            frame = frame.f_back
        code = frame.f_code
        return f"{current_thread().name} at {code.co_filename}:{frame.f_lineno} in {code.co_name}"


class Lending(Generic[T]):
    """What ``Pool.lend`` gives. Set ``is_broken`` within the block to have the member closed at its end."""

    __slots__ = ("is_broken", "lease", "pool", "timeout_s")

    def __init__(self, pool: Pool[T], timeout_s: float | None) -> None:
        self.pool = pool
        self.timeout_s = timeout_s
        self.lease: Any = None
        self.is_broken = False

    def __enter__(self) -> T:
        pool = self.pool
        if self.lease is not None:
            raise RuntimeError("this loan was begun already; each block needs a lend() of its own")
        if pool._waiters or pool._trace or (lease := pool._lend_to(current_thread())) is None:
            lease = pool._lend(self.timeout_s)
        self.lease = lease
        member: T = lease.member
        return member

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pool = self.pool
        try:
            if pool._check is not None or self.is_broken:
                pool._take_back(self.lease, self.is_broken)
            elif not pool.core.take_back(self.lease) or pool._waiters:
                pool._settle()
        except StaleHandleError:
            if error is None:
                raise


def _keep_up(reference: weakref.ref[Pool[Any]], stop: threading.Event, upkeep_s: float) -> None:
    """Until the pool is closed, or nobody has it any more."""
    while not stop.wait(upkeep_s):
        pool = reference()
        if pool is None:
            return
        try:
            pool.upkeep()
        except PoolClosedError:
            return
        except Exception as error:
            LOG.warning("upkeep of the pool: %r", error)
        del pool


def _ns(seconds: float | None) -> int:
    return 0 if seconds is None else max(1, int(seconds * 1e9))


def _name(who: object) -> str:
    return who.name if isinstance(who, threading.Thread) else str(who)
