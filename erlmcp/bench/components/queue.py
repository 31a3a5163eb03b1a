"""Rows of the queue: bounded FIFO, one item pushed and popped again."""

from __future__ import annotations

import asyncio
import collections
import queue
import threading
import time
from time import perf_counter_ns
from types import ModuleType
from typing import Any

from erlmcp.bench import room
from erlmcp.bench.components.row import BATCH, Row, Ways, marks
from erlmcp.bench.timing import Timed, closing, timed

ACROSS = 100_000  # items that cross between two threads in one go
ITEMS: list[Any] = list(range(BATCH))


def _pairs(push: Any, pop: Any, items: list[Any]) -> None:
    for item in items:
        push(item)
        pop()


def _many(push_many: Any, pop_many: Any, items: list[Any], count: int) -> None:
    push_many(items)
    pop_many(count)


def _deque_many(made: Any, items: list[Any], pop: Any, count: int) -> None:
    made.extend(items)
    for _ in range(count):
        pop()


def _cycle(push: Any, pop: Any) -> Timed:
    def one() -> None:
        push(7)
        pop()

    return timed(len(ITEMS), _pairs, push, pop, ITEMS, single=one)


def _ring_mode(kind: Any, mode: str, capacity: int = BATCH) -> Any:
    return kind(capacity, mode)


def _batch(kind: Any) -> Timed:
    made = _ring_mode(kind, "local")
    return timed(len(ITEMS), _many, made.push_many, made.pop_many, ITEMS, len(ITEMS))


def _ring(kind: Any) -> Timed:
    made = _ring_mode(kind, "local")
    return _cycle(made.push, made.pop)


def _janus(module: ModuleType) -> Timed:
    loop = asyncio.new_event_loop()

    async def make() -> Any:
        return module.Queue(BATCH)

    whole = loop.run_until_complete(make())

    def close() -> None:
        loop.run_until_complete(whole.aclose())
        loop.close()

    return closing(_put_get(whole.sync_q), close)


def _put_get(made: Any) -> Timed:
    return _cycle(made.put_nowait, made.get_nowait)


def one_thread(ways: Ways) -> None:
    ways.both("call", "ring", "RingQueue", _ring)
    ways.own("call", "deque", lambda: _cycle_of_deque(collections.deque(maxlen=BATCH)))
    ways.own("call", "SimpleQueue", lambda: _put_get(queue.SimpleQueue()))
    ways.own("call", "asyncio.Queue", lambda: _put_get(asyncio.Queue(BATCH)))
    ways.own("call", "queue.Queue", lambda: _put_get(queue.Queue(BATCH)))
    ways.peer("call", "janus", "janus", _janus)
    ways.peer("call", "culsans", "culsans", lambda lib: _put_get(lib.Queue(BATCH).sync_q))
    ways.both("batch", "ring", "RingQueue", _batch)
    ways.own("batch", "deque.extend", _deque_batch)
    ways.core("ring_local", lambda loop: timed(BATCH * 16, loop, BATCH, 16))


def _cycle_of_deque(made: Any) -> Timed:
    return _cycle(made.append, made.popleft)


def _deque_batch() -> Timed:
    made: collections.deque[Any] = collections.deque(maxlen=BATCH)
    return timed(len(ITEMS), _deque_many, made, ITEMS, made.popleft, len(ITEMS))


def disciplines(ways: Ways) -> None:
    ways.core("ring_local_many", lambda loop: timed(BATCH * 16, loop, BATCH, 16))
    ways.own("core", "core spsc", lambda: timed(BATCH * 16, room.loop("ring_spsc"), BATCH, 16))
    ways.own("core", "core mpmc", lambda: timed(BATCH * 16, room.loop("ring_mpmc"), BATCH, 16))


# ---------------------------------------------------------------------------------------------------- two threads
def crossing(count: int, give: Any, take: Any) -> Timed:
    """One thread gives, another takes ``count`` items; timed from the start of the first to the end of the last."""

    def elapsed(repeats: int) -> int:
        total = 0
        for _ in range(repeats):
            threads = [threading.Thread(target=give), threading.Thread(target=take)]
            began = perf_counter_ns()
            for one in threads:
                one.start()
            for one in threads:
                one.join()
            total += perf_counter_ns() - began
        return total

    return Timed(count, elapsed)


def _words(mode: str, batch: int) -> Timed:
    made = room.part("core", "ring", "WordRing")(BATCH, mode)
    count = ACROSS * 10
    return crossing(count, lambda: made.push_range(0, count, batch), lambda: made.pop_sum(count, batch))


def _ring_across(kind: Any, *, many: int) -> Timed:
    """A side that finds nothing to do gives the other one the GIL."""
    made = _ring_mode(kind, "spsc", 1 << 16)

    def give() -> None:
        push, left, rest = made.push, ACROSS, time.sleep
        while left:
            if push(7):
                left -= 1
            else:
                rest(0)

    def take() -> None:
        pop, left, rest = made.pop, ACROSS, time.sleep
        while left:
            if pop() is not None:
                left -= 1
            else:
                rest(0)

    def give_many() -> None:
        push_many, left, rest = made.push_many, ACROSS, time.sleep
        while left:
            done = push_many(ITEMS if left >= many else ITEMS[:left])
            left -= done
            if not done:
                rest(0)

    def take_many() -> None:
        pop_many, left, rest = made.pop_many, ACROSS, time.sleep
        while left:
            done = len(pop_many(many))
            left -= done
            if not done:
                rest(0)

    return crossing(ACROSS, give_many if many else give, take_many if many else take)


def _queue_across(made: Any) -> Timed:
    def give() -> None:
        put = made.put
        for item in range(ACROSS):
            put(item)

    def take() -> None:
        get = made.get
        for _ in range(ACROSS):
            get()

    return crossing(ACROSS, give, take)


def two_threads(ways: Ways) -> None:
    ways.both("call", "ring", "RingQueue", lambda kind: _ring_across(kind, many=0))
    ways.own("call", "SimpleQueue", lambda: _queue_across(queue.SimpleQueue()))
    ways.own("call", "queue.Queue", lambda: _queue_across(queue.Queue(1 << 16)))
    ways.both("batch", "ring", "RingQueue", lambda kind: _ring_across(kind, many=BATCH))


def spsc(ways: Ways) -> None:
    ways.own("core", "core", lambda: _words("spsc", 1))


def spsc_batched(ways: Ways) -> None:
    ways.own("core", "core", lambda: _words("spsc", 64))


def mpmc(ways: Ways) -> None:
    ways.own("core", "core", lambda: _words("mpmc", 1))


PAIR = "one item pushed and popped again, FIFO, bounded to 1,024"
CROSS = "items pushed by one thread and popped by another, bounded"
ROWS = [
    Row(
        "queue",
        "queue",
        f"{PAIR}, one thread (batch: push_many and pop_many of {BATCH:,}; core: pointers, one by one)",
        one_thread,
        marks(call=25, batch=200, core=500),
    ),
    Row(
        "queue-disciplines",
        "queue",
        f"{PAIR}, one thread, pointers 64 at a time; spsc and mpmc one by one",
        disciplines,
    ),
    Row(
        "queue-2-threads",
        "queue",
        f"{CROSS} to 65,536, under the GIL (batch: {BATCH:,} at a time)",
        two_threads,
        marks(call=10, batch=100),
        threads=2,
    ),
    Row("queue-spsc", "queue", f"{CROSS} to 1,024, spsc, without the GIL", spsc, marks(core=110), threads=2),
    Row(
        "queue-spsc-64",
        "queue",
        f"{CROSS} to 1,024, spsc, 64 at a time, without the GIL",
        spsc_batched,
        marks(core=500),
        threads=2,
    ),
    Row("queue-mpmc", "queue", f"{CROSS} to 1,024, mpmc, without the GIL", mpmc, marks(core=110), threads=2),
]
