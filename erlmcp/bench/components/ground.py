"""Rows of slab, timing wheel, correlation and batch."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
from collections.abc import Callable
from typing import Any

from erlmcp.bench.components.row import BATCH, SEED, Row, Ways, marks
from erlmcp.bench.timing import Timed, closing, timed
from erlmcp.runtime import timers

FRAME = b'{"jsonrpc":"2.0","id":1,"result":{}}\n'
DEADLINES = [random.Random(SEED).randrange(60_000_000_000) for _ in range(BATCH)]
ITEM = object()


# ---------------------------------------------------------------------------------------------------- slab
def _handles(put: Any, get: Any, take: Any, count: int) -> None:
    for _ in range(count):
        handle = put(ITEM)
        get(handle)
        take(handle)


def _slab(made: Any) -> Timed:
    put, get, take = made.put, made.get, made.take

    def one() -> None:
        handle = put(ITEM)
        get(handle)
        take(handle)

    return timed(BATCH, _handles, put, get, take, BATCH, single=one)


class _Numbered:
    """What is written by hand: a dict and a counter, whose numbers never come again."""

    def __init__(self) -> None:
        self.held: dict[int, object] = {}
        self.numbers = itertools.count(1)
        self.get = self.held.__getitem__
        self.take = self.held.pop

    def put(self, item: object) -> int:
        number = next(self.numbers)
        self.held[number] = item
        return number


def slab(ways: Ways) -> None:
    ways.both("call", "slab", "Slab", lambda kind: _slab(kind(BATCH)))
    ways.own("call", "dict and counter", lambda: _slab(_Numbered()))
    ways.core("slab_cycle", lambda loop: timed(BATCH * 16, loop, BATCH, 16))


# ---------------------------------------------------------------------------------------------------- wheel
def _add_all(add: Any, cancel: Any, deadlines: list[int]) -> None:
    for key, deadline in enumerate(deadlines):
        add(key, deadline)
    for key in range(len(deadlines)):
        cancel(key)


def _one_by_one(function: Any, undo: Any) -> Callable[[], object]:
    def one() -> None:
        function(7, 30_000_000_000)
        undo(7)

    return one


def _wheel(made: Any) -> Timed:
    return timed(BATCH, _add_all, made.add, made.cancel, DEADLINES, single=_one_by_one(made.add, made.cancel))


def _call_later(loop: Any, deadlines: list[int]) -> None:
    made = [loop.call_later(deadline / 1e9, _nothing) for deadline in deadlines]
    for one in made:
        one.cancel()
    loop.call_soon(loop.stop)
    loop.run_forever()  # sweeps the cancelled ones


def _timers(loop: Any) -> Timed:
    return closing(timed(BATCH, _call_later, loop, DEADLINES), loop.close)


def _nothing() -> None:
    pass


def _heap(deadlines: list[int]) -> None:
    heap: list[tuple[int, int]] = []
    live: set[int] = set()
    for key, deadline in enumerate(deadlines):
        heapq.heappush(heap, (deadline, key))
        live.add(key)
    for key in range(len(deadlines)):
        live.discard(key)
    while heap and heap[0][1] not in live:
        heapq.heappop(heap)


def wheel(ways: Ways) -> None:
    ways.both("call", "wheel", "TimingWheel", lambda kind: _wheel(kind()))
    ways.own("call", "heapq", lambda: timed(BATCH, _heap, DEADLINES))
    ways.own("call", "asyncio call_later", lambda: _timers(asyncio.new_event_loop()))
    ways.peer("call", "uvloop call_later", "uvloop", lambda lib: _timers(lib.new_event_loop()))
    ways.core("wheel_cycle", lambda loop: timed(BATCH * 4, loop, BATCH, 4))


# ---------------------------------------------------------------------------------------------------- deadline
def _one_at_a_time(add: Any, cancel: Any, count: int) -> None:
    for _ in range(count):
        cancel(add(30.0, _nothing))


def _set_and_cancel(add: Any, cancel: Any, close: Callable[[], None]) -> Timed:
    for deadline in DEADLINES:
        add(1 + deadline / 1e9, _nothing)
    made = timed(BATCH, _one_at_a_time, add, cancel, BATCH, single=lambda: cancel(add(30.0, _nothing)))
    return closing(made, close)


def _timers_of(kind: Any) -> Timed:
    loop = asyncio.new_event_loop()
    made = kind(loop)

    def close() -> None:
        made.close()
        loop.close()

    return _set_and_cancel(made.add, made.cancel, close)


def _loop_timers(loop: Any) -> Timed:
    return _set_and_cancel(loop.call_later, lambda handle: handle.cancel(), loop.close)


async def _timeouts(count: int) -> None:
    for _ in range(count):
        async with asyncio.timeout(30):
            pass


def _asyncio_timeout(loop: Any) -> Timed:
    return closing(timed(BATCH, lambda: loop.run_until_complete(_timeouts(BATCH))), loop.close)


def deadline(ways: Ways) -> None:
    ways.own("call", "core", lambda: _timers_of(timers.Timers))
    ways.own("call", "model", lambda: _timers_of(timers.PlainTimers))
    ways.own("call", "asyncio call_later", lambda: _loop_timers(asyncio.new_event_loop()))
    ways.peer("call", "uvloop call_later", "uvloop", lambda lib: _loop_timers(lib.new_event_loop()))
    ways.own("call", "asyncio.timeout", lambda: _asyncio_timeout(asyncio.new_event_loop()))


# ---------------------------------------------------------------------------------------------------- correlation
def _calls(put: Any, take: Any, next_id: Any, count: int) -> None:
    for _ in range(count):
        id = next_id()
        put(id, ITEM)
        take(id)


def _correlation(put: Any, take: Any, next_id: Any) -> Timed:
    def one() -> None:
        id = next_id()
        put(id, ITEM)
        take(id)

    return timed(BATCH, _calls, put, take, next_id, BATCH, single=one)


def _waiting(made: Any) -> Timed:
    for _ in range(1000):
        made.put(made.next_id(), ITEM)
    return _correlation(made.put, made.take, made.next_id)


def _pending_dict() -> Timed:
    numbers = itertools.count(1)
    held: dict[int, object] = {next(numbers): ITEM for _ in range(1000)}
    return _correlation(held.__setitem__, held.pop, numbers.__next__)


def correlation(ways: Ways) -> None:
    ways.both("call", "correlation", "Correlation", lambda kind: _waiting(kind()))
    ways.own("call", "dict and counter", _pending_dict)


# ---------------------------------------------------------------------------------------------------- batch
def _gather(add: Any, take: Any, count: int) -> None:
    for _ in range(count):
        add(FRAME)
    take()


def _gather_many(add_many: Any, take: Any, frames: list[bytes]) -> None:
    add_many(frames)
    take()


def _join(count: int) -> None:
    held: list[bytes] = []
    append = held.append
    for _ in range(count):
        append(FRAME)
    b"".join(held)


def _batch(kind: Any) -> Timed:
    made = kind(BATCH, 1 << 30)
    return timed(BATCH, _gather, made.add, made.take_bytes, BATCH)


def _batch_many(kind: Any) -> Timed:
    made = kind(BATCH, 1 << 30)
    return timed(BATCH, _gather_many, made.add_many, made.take_bytes, [FRAME] * BATCH)


def batch(ways: Ways) -> None:
    ways.both("call", "batch", "Batch", _batch)
    ways.own("call", "list and join", lambda: timed(BATCH, _join, BATCH))
    ways.both("batch", "batch", "Batch", _batch_many)
    ways.core("batch_cycle", lambda loop: timed(BATCH * 4, loop, FRAME, BATCH, 4))


ROWS = [
    Row("slab", "slab", "an object put, got and taken by its handle, one live at a time", slab),
    Row(
        "wheel",
        "wheel",
        f"a deadline added and cancelled, {BATCH:,} live, evenly drawn within 60 s (peers that cancel lazily pay for"
        " the sweep)",
        wheel,
    ),
    Row(
        "deadline",
        "wheel",
        f"a callback in 30 s set and cancelled by a server's timers, {BATCH:,} others waiting",
        deadline,
        marks(call=10),
    ),
    Row("correlation", "correlation", "a new int id, put and taken, 1,000 others waiting", correlation),
    Row(
        "batch",
        "batch",
        f"a frame of {len(FRAME)} bytes put; all joined after {BATCH:,} (core: a C loop that holds the GIL)",
        batch,
    ),
]
