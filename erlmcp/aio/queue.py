"""A bounded queue for asyncio whose other end may be a task, a thread, or C code that does not hold the GIL.

Wanted: a put and a get that need not wait cost no more than the two calls into the ring; waiters are served in the
order in which they came; a cancelled waiter takes nothing with it; a thread wakes the loop only where somebody sleeps
on it.

Plan. Items live in a ``RingQueue`` alone: a waiter is never handed an item, it is woken and takes one itself, so there
is nothing to lose between the two. Each side has a line of waiters. Those woken keep their places at the head of the
line until they have run, and nobody takes the short way while there is a line, so nobody overtakes (threads do: they do
not stand in line). Where the first of a line is not woken, the ring is armed: the next push (or pop) of whatever thread
writes to a descriptor that the loop watches. What the loop's own tasks push needs no such write: they disarm the ring
first and settle the line themselves.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from typing import Any, Generic, Literal, TypeVar

from erlmcp.core import RingQueue
from erlmcp.errors import QueueClosedError

T = TypeVar("T")
D = TypeVar("D")

ABSENT: Any = object()


class Waiter:
    __slots__ = ("future",)

    future: asyncio.Future[None]


class Line:
    """The waiters of one side. ``ready`` says how many could go on now; ``arm`` is the ring's."""

    __slots__ = ("arm", "ready", "waiting", "woken")

    def __init__(self, ready: Callable[[], int], arm: Callable[[], bool]) -> None:
        self.ready = ready
        self.arm = arm
        self.waiting: OrderedDict[Waiter, None] = OrderedDict()
        self.woken: OrderedDict[Waiter, None] = OrderedDict()  # all of them before all of ``waiting``

    def __bool__(self) -> bool:
        return bool(self.waiting or self.woken)

    def settle(self) -> None:
        """Wake as many as could go on; where that is nobody, arm the ring for the first."""
        while self.waiting:
            for _ in range(self.ready() - len(self.woken)):
                if not self.waiting:
                    break
                self.wake_first()
            if not self.waiting or self.woken or self.arm():
                return

    def wake_first(self) -> None:
        waiter, _ = self.waiting.popitem(last=False)
        self.woken[waiter] = None
        if not waiter.future.done():
            waiter.future.set_result(None)

    def wake_all(self) -> None:
        while self.waiting:
            self.wake_first()

    def unwake(self, last: Waiter) -> None:
        """``last`` needs another turn, so that it and those behind it were woken in vain: all back to waiting."""
        while last in self.woken:
            waiter, _ = self.woken.popitem()
            self.waiting[waiter] = None
            self.waiting.move_to_end(waiter, last=False)

    def leave(self, waiter: Waiter) -> None:
        self.waiting.pop(waiter, None)
        self.woken.pop(waiter, None)


class Queue(Generic[T]):
    """First in, first out, with ``capacity`` places (rounded up to a power of two).

    The coroutines and the ``*_nowait`` methods belong to one event loop: the one that the first waiter runs on
    (RuntimeError on another). ``push`` and ``pop`` may be called from any thread; C code pushes to ``ring`` with
    ``queue_push_owned`` of ring.pxd. ``mode`` is the ring's: "mpmc" allows any number of threads without the GIL,
    "spsc" one, "local" none.

    Waiters are served in the order in which they came. A cancelled ``get`` takes no item; a cancelled ``put`` has put
    none; of a cancelled ``put_many`` the items that went in before stay, from the front.

    ``close`` ends the queue: putting raises QueueClosedError at once, getting raises it when the queue is drained.
    """

    __slots__ = (
        "__weakref__", "_getters", "_loop", "_pop_or", "_push", "_putters", "_release", "_waiters", "ring",
    )  # fmt: skip

    def __init__(self, capacity: int, mode: Literal["local", "spsc", "mpmc"] = "mpmc") -> None:
        ring: RingQueue[T] = RingQueue(capacity, mode)
        self.ring = ring
        self._push = ring.push
        self._pop_or = ring.pop_or
        self._waiters = 0
        self._getters = Line(ring.__len__, ring.arm_items)
        self._putters = Line(lambda: ring.capacity - len(ring), ring.arm_space)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._release: Callable[[], Any] | None = None

    def __len__(self) -> int:
        return len(self.ring)

    @property
    def capacity(self) -> int:
        return self.ring.capacity

    @property
    def is_full(self) -> bool:
        return self.ring.is_full

    @property
    def is_closed(self) -> bool:
        return self.ring.is_closed

    async def put(self, item: T) -> None:
        """Puts the item in, waiting for a place. QueueClosedError."""
        if self._waiters or not self._push(item):
            await self._put((item,))

    async def get(self) -> T:
        """The oldest item, waiting for one. QueueClosedError where the queue is closed and drained."""
        if not self._waiters:
            item = self._pop_or(ABSENT)
            if item is not ABSENT:
                return item
        waited: T = await self._get(lambda: self._pop_or(ABSENT))
        return waited

    async def put_many(self, items: list[T] | tuple[T, ...]) -> None:
        """Puts them all in, in order, waiting for places as often as it must; no other waiter comes between them.
        QueueClosedError says how many went in. TypeError for anything but a list or a tuple."""
        if not isinstance(items, list | tuple):
            raise TypeError(f"items must be a list or a tuple, got {type(items).__name__}")
        done = 0 if self._waiters else self.ring.push_many(items)
        if done < len(items):
            await self._put(tuple(items), done)

    async def get_many(self, count: int) -> list[T]:
        """Waits for one item, and gives that and what else there is, at most ``count``. QueueClosedError as ``get``;
        ValueError below 1."""
        if count < 1:
            raise ValueError(f"count must be at least 1, got {count}")
        if not self._waiters and (items := self.ring.pop_many(count)):
            return items
        waited: list[T] = await self._get(lambda: self.ring.pop_many(count) or ABSENT)
        return waited

    def put_nowait(self, item: T) -> bool:
        """False where the queue is full, or others wait to put. QueueClosedError."""
        if not self._waiters:
            return self.push(item)
        return not self._putters and self._push_from_loop((item,), 0) == 1

    def get_nowait(self, default: D = None) -> T | D:  # type: ignore[assignment]
        """The oldest item; the default where the queue is empty, or others wait to get."""
        if not self._waiters:
            return self._pop_or(default)
        if self._getters:
            return default
        item = self._pop_from_loop(lambda: self._pop_or(ABSENT))
        return default if item is ABSENT else item

    def push(self, item: T) -> bool:
        """From any thread: False where the queue is full. Wakes the loop where a getter waits. QueueClosedError."""
        if self._push(item):
            return True
        if self.ring.is_closed:
            raise QueueClosedError("the queue is closed")
        return False

    def pop(self, default: D = None) -> T | D:  # type: ignore[assignment]
        """From any thread: the default where the queue is empty. Wakes the loop where a putter waits."""
        return self._pop_or(default)

    def close(self) -> None:
        """Ends the queue, from the loop (threads use ``loop.call_soon_threadsafe``). May be repeated."""
        self.ring.close()
        self._getters.wake_all()
        self._putters.wake_all()
        if self._release is not None:
            self._release()

    def __aiter__(self) -> AsyncIterator[T]:
        """Gets until the queue is closed and drained."""
        return self

    async def __anext__(self) -> T:
        try:
            return await self.get()
        except QueueClosedError:
            raise StopAsyncIteration from None

    # ---- The long way: somebody waits, or has to.

    async def _get(self, pop: Callable[[], Any]) -> Any:
        if not self._getters:
            item = self._pop_from_loop(pop)
            if item is not ABSENT:
                return item
            self._stop_where_closed("the queue is closed, and drained")
        with Place(self, self._getters) as place:
            while True:
                await place.turn()
                item = self._pop_from_loop(pop)
                if item is not ABSENT:
                    return item
                self._stop_where_closed("the queue is closed, and drained")

    async def _put(self, items: tuple[T, ...], done: int = 0) -> None:
        if not self._putters:
            done += self._push_from_loop(items, done)
            if done == len(items):
                return
        with Place(self, self._putters) as place:
            while done < len(items):
                await place.turn()
                done += self._push_from_loop(items, done)

    def _pop_from_loop(self, pop: Callable[[], Any]) -> Any:
        if not self._putters:
            return pop()
        self.ring.disarm_space()
        item = pop()
        self._putters.settle()
        return item

    def _push_from_loop(self, items: tuple[T, ...], done: int) -> int:
        self._stop_where_closed(f"the queue is closed: {done} of {len(items)} items went in")
        if not self._getters:
            return self.ring.push_many(items[done : done + self.capacity])
        self.ring.disarm_items()
        count = self.ring.push_many(items[done : done + self.capacity])
        self._getters.settle()
        return count

    def _stop_where_closed(self, message: str) -> None:
        if self.ring.is_closed:
            raise QueueClosedError(message)

    def _bind(self) -> asyncio.AbstractEventLoop:
        """The loop on which all waiters wait; it watches the descriptor that the ring writes to."""
        loop = asyncio.get_running_loop()
        if self._loop is None:
            reading, writing = open_wake()
            self._loop = loop
            self._release = weakref.finalize(self, release, loop, self.ring, reading, writing)
            self._release.atexit = False
            loop.add_reader(reading, on_wake, weakref.ref(self), reading)
            self.ring.wake_fd = self.ring.space_fd = writing
        if self._loop is not loop:
            raise RuntimeError("the queue belongs to another event loop")
        return loop


class Place:
    """A place in a line, kept until the block is left."""

    __slots__ = ("line", "loop", "queue", "waiter")

    def __init__(self, queue: Queue[Any], line: Line) -> None:
        self.queue = queue
        self.line = line
        self.waiter = Waiter()
        self.loop = queue._bind()

    def __enter__(self) -> Place:
        self.queue._waiters += 1
        self.line.waiting[self.waiter] = None
        return self

    def __exit__(self, *_: object) -> None:
        self.queue._waiters -= 1
        self.line.leave(self.waiter)
        if not (self.queue.ring.is_closed or self.loop.is_closed()):
            self.line.settle()

    async def turn(self) -> None:
        """Returns where this is the first of the line and was woken, or the queue is closed."""
        line, waiter = self.line, self.waiter
        while not self.queue.ring.is_closed:
            waiter.future = self.loop.create_future()
            line.unwake(waiter)
            if not line.woken:  # else the first of them settles the line when it has run
                line.settle()
            await waiter.future
            if line.woken and next(iter(line.woken)) is waiter:
                return


def open_wake() -> tuple[int, int]:
    """The reading and the writing end of what wakes a loop, where possible one and the same."""
    if hasattr(os, "eventfd"):
        both = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        return both, both
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    return reading, writing


def on_wake(reference: weakref.ref[Queue[Any]], reading: int) -> None:
    try:
        os.read(reading, 4096)
    except BlockingIOError:
        pass  # read already, in an earlier turn of the loop
    queue = reference()
    if queue is not None:
        queue._getters.settle()
        queue._putters.settle()


def release(loop: asyncio.AbstractEventLoop, ring: RingQueue[Any], reading: int, writing: int) -> None:
    """Takes the descriptor away from the ring and from the loop, and closes it. From any thread."""
    ring.wake_fd = ring.space_fd = -1

    def finish() -> None:
        if not loop.is_closed():
            loop.remove_reader(reading)
        for fd in {reading, writing}:
            os.close(fd)

    try:
        if loop.is_running() and asyncio._get_running_loop() is not loop:
            loop.call_soon_threadsafe(finish)
            return
    except RuntimeError:
        pass  # closed in the meantime
    finish()
