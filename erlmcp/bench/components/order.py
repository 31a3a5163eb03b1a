"""Rows of priority lanes and of the work-stealing deque."""

from __future__ import annotations

import asyncio
import collections
import heapq
import itertools
import queue
from typing import Any

from erlmcp.bench.components.row import BATCH, Mark, Row, Ways
from erlmcp.bench.timing import Timed, timed

# One critical, three normal and twelve bulk items of every sixteen.
LEVELS = [(0, 1, 1, 1, *([2] * 12))[i % 16] for i in range(BATCH)]
ITEM, URGENT = object(), object()
QUEUED = 100_000


def _fill_and_empty(push: Any, pop: Any, levels: list[int]) -> None:
    for level in levels:
        push(ITEM, level)
    for _ in levels:
        pop()


def _cycle(push: Any, pop: Any) -> Timed:
    def one() -> None:
        push(ITEM, 1)
        pop()

    return timed(BATCH, _fill_and_empty, push, pop, LEVELS, single=one)


def _lanes(kind: Any) -> Timed:
    made = kind(BATCH)
    return _cycle(made.push, made.pop)


def _three_deques() -> Timed:
    lanes: list[collections.deque[Any]] = [collections.deque(), collections.deque(), collections.deque()]

    def push(item: object, level: int) -> None:
        lanes[level].append(item)

    def pop() -> object:
        for lane in lanes:
            if lane:
                return lane.popleft()
        return None

    return _cycle(push, pop)


def _heap_ends() -> tuple[Any, Any]:
    heap: list[tuple[int, int, object]] = []
    numbers = itertools.count()

    def push(item: object, level: int) -> None:
        heapq.heappush(heap, (level, next(numbers), item))

    def pop() -> object:
        return heapq.heappop(heap)[2]

    return push, pop


def _priority_queue(made: Any) -> Timed:
    numbers = itertools.count()

    def push(item: object, level: int) -> None:
        made.put_nowait((level, next(numbers), item))

    return _cycle(push, made.get_nowait)


def lanes(ways: Ways) -> None:
    ways.both("call", "lanes", "Lanes", _lanes)
    ways.own("call", "three deques", _three_deques)
    ways.own("call", "heapq", lambda: _cycle(*_heap_ends()))
    ways.own("call", "asyncio.PriorityQueue", lambda: _priority_queue(asyncio.PriorityQueue()))
    ways.own("call", "queue.PriorityQueue", lambda: _priority_queue(queue.PriorityQueue()))
    ways.core("lanes_cycle", lambda loop: timed(BATCH * 16, loop, BATCH, 16))


def _overtake(push: Any, pop: Any, count: int) -> None:
    """Whatever comes out before the urgent item for its age goes to the end of the line again."""
    for _ in range(count):
        push(URGENT, 0)
        while (item := pop()) is not URGENT:
            push(item, 2)


def _overtaking(push: Any, pop: Any) -> Timed:
    for _ in range(QUEUED):
        push(ITEM, 2)
    return timed(BATCH, _overtake, push, pop, BATCH, single=lambda: _overtake(push, pop, 1))


def _overtaking_lanes(kind: Any) -> Timed:
    made = kind(QUEUED)
    return _overtaking(made.push, made.pop)


def overtake(ways: Ways) -> None:
    ways.both("call", "lanes", "Lanes", _overtaking_lanes)
    ways.own("call", "heapq", lambda: _overtaking(*_heap_ends()))


def _pairs(push: Any, pop: Any, count: int) -> None:
    for _ in range(count):
        push(ITEM)
        pop()


def _deque(push: Any, pop: Any) -> Timed:
    def one() -> None:
        push(ITEM)
        pop()

    return timed(BATCH, _pairs, push, pop, BATCH, single=one)


def _stealing(kind: Any, take: str) -> Timed:
    made = kind(BATCH)
    return _deque(made.push, getattr(made, take))


def deque(ways: Ways) -> None:
    ways.both("call", "deque", "WorkStealingDeque", lambda kind: _stealing(kind, "pop"))
    ways.own("call", "deque", lambda: _bare("pop"))
    ways.core("deque_cycle", lambda loop: timed(BATCH * 16, loop, BATCH, 16))


def _bare(take: str) -> Timed:
    made: collections.deque[Any] = collections.deque()
    return _deque(made.append, getattr(made, take))


def steal(ways: Ways) -> None:
    ways.both("call", "deque", "WorkStealingDeque", lambda kind: _stealing(kind, "steal"))
    ways.own("call", "deque.popleft", lambda: _bare("popleft"))
    ways.core("deque_steal", lambda loop: timed(BATCH * 16, loop, BATCH, 16))


ROWS = [
    Row("lanes", "lanes", f"{BATCH:,} items pushed, 1 critical, 3 normal, 12 bulk of 16, then popped in order", lanes),
    Row(
        "lanes-overtake",
        "lanes",
        f"a critical item pushed and popped while {QUEUED:,} bulk items are queued, which move on by their age",
        overtake,
        {"call": Mark(p99_ns=1e6)},
    ),
    Row("deque", "deque", "an item pushed and popped by the owner, last in, first out", deque),
    Row("deque-steal", "deque", "an item pushed by the owner and stolen, first in, first out, one thread", steal),
]
