"""Four threads on the ring, the pools and the registry for a while: nothing lost, nothing twice, counters at zero.

``ERLMCP_SOAK_S`` is how long each of the tests goes on: 2 seconds unless it says otherwise.
"""

from __future__ import annotations

import gc
import itertools
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from erlmcp._core import memory
from erlmcp._core.pool import Pool as CorePool
from erlmcp._core.registry import Registry
from erlmcp._core.ring import RingQueue, WordRing, feed
from erlmcp.sync import Pool

SOAK_S = float(os.environ.get("ERLMCP_SOAK_S", "2"))
THREADS = 4
NAMES = 200  # of each thread
MASK = (1 << 64) - 1

pytestmark = [pytest.mark.deep, pytest.mark.timeout(SOAK_S + 120)]


@pytest.fixture(autouse=True)
def _frequent_switches() -> Iterator[None]:
    """Threads take turns every 100 us, so that they meet."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    yield
    sys.setswitchinterval(before)


class Tally:
    """Numbers of which none may be lost or doubled, in little room: how many, their sum, and that of their squares."""

    def __init__(self) -> None:
        self.sums = (0, 0, 0)

    def add(self, number: int) -> None:
        count, total, squares = self.sums
        self.sums = count + 1, (total + number) & MASK, (squares + number * number) & MASK


def whole(tallies: list[Tally]) -> tuple[int, ...]:
    return tuple(sum(part) & MASK for part in zip(*(tally.sums for tally in tallies), strict=True))


class Member:
    """What a pool lends. Whoever has it says so, and finds his word still there at the end."""

    def __init__(self) -> None:
        self.user: object = None
        self.loans = 0
        self.closed = 0

    def use(self, user: object) -> None:
        assert self.user is None, "lent to two"
        assert not self.closed, "lent after its end"
        self.user = user
        self.loans += 1
        assert self.user is user, "lent to two"
        self.user = None


class Shared:
    """What the threads share, and the marks that count the references in it."""

    def __init__(self) -> None:
        self.marks = object(), object()
        self.ring: RingQueue[tuple[object, int, int]] = RingQueue(64, "mpmc")
        self.core = CorePool(THREADS - 1)
        self.opened: list[Member] = []
        self.pool: Pool[Member] = Pool(self.open, self.close, count_max=THREADS - 1)
        self.registry = Registry(THREADS * NAMES)

    def open(self) -> Member:
        self.opened.append(Member())
        return self.opened[-1]

    def close(self, member: Member) -> None:
        member.closed += 1


class Side:
    """One thread: a bit of everything, round and round, each thing checked on the spot as far as it can be."""

    def __init__(self, number: int, shared: Shared) -> None:
        self.number = number
        self.shared = shared
        self.draw = random.Random(number)
        self.pushed, self.popped = Tally(), Tally()
        self.next = 1
        self.waiting: list[tuple[object, int, int]] = []
        self.last = [0] * THREADS
        self.core_loans = self.loans = self.retired = 0
        self.own: dict[str, tuple[object, str, int]] = {}

    def ring_step(self) -> None:
        ring = self.shared.ring
        while len(self.waiting) < self.draw.randrange(1, 12):
            self.waiting.append((self.shared.marks[0], self.number, self.next))
            self.next += 1
        done = ring.push_many(self.waiting) if self.next & 1 else int(ring.push(self.waiting[0]))
        for _, side, number in self.waiting[:done]:
            self.pushed.add(number << 2 | side)
        del self.waiting[:done]
        for _, side, number in ring.pop_many(self.draw.randrange(12)):
            assert number > self.last[side], "out of order"
            self.last[side] = number
            self.popped.add(number << 2 | side)

    def core_step(self) -> None:
        pool = self.shared.core
        lease = pool.lend_to(self)
        if lease is None:
            if not pool.reserve():
                return
            lease = pool.lend_new(Member(), self)
        member: Any = lease.member
        member.use(self)
        self.core_loans += 1
        if member.loans % 500 == 0:
            assert pool.retire(lease) is member
            self.retired += 1
        else:
            assert pool.take_back(lease)

    def pool_step(self) -> None:
        lending = self.shared.pool.lend()
        with lending as member:
            member.use(self)
            lending.is_broken = member.loans % 500 == 0
        self.loans += 1

    def registry_step(self) -> None:
        registry, entry = self.shared.registry, self.draw.randrange(1 << 30)
        name = f"{self.number}/{self.draw.randrange(NAMES)}"
        assert registry.get(name) is self.own.get(name)
        if entry & 1:
            self.own[name] = (self.shared.marks[1], name, entry)
            registry.put(name, self.own[name], self.number)
        else:
            assert registry.remove(name) is (self.own.pop(name, None) is not None)
        others = [f"{side}/{entry % NAMES}" for side in range(THREADS)]
        for asked, found in zip(others, registry.get_many(others), strict=True):
            assert found is None or found[1] == asked  # type: ignore[index]

    def steps(self) -> list[Callable[[], None]]:
        return [self.ring_step, self.core_step, self.pool_step, self.registry_step]


def soak(*works: Callable[[], None]) -> None:
    """Each in a thread of its own, again and again until the time is over. What one of them raises is raised."""
    until, failed = time.monotonic() + SOAK_S, []

    def run(work: Callable[[], None]) -> None:
        try:
            while time.monotonic() < until and not failed:
                work()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


def turn_of(side: Side) -> Callable[[], None]:
    steps = side.steps()

    def turn() -> None:
        for _ in range(50):
            for step in steps:
                step()

    return turn


def test_four_threads_share_a_ring_two_pools_and_a_registry() -> None:
    gc.collect()
    blocks = memory.live_blocks()
    shared = Shared()
    references = [sys.getrefcount(mark) for mark in shared.marks]
    sides = [Side(number, shared) for number in range(THREADS)]
    with shared.pool:
        soak(*map(turn_of, sides))
        assert shared.pool.stats()["lent_count"] == shared.pool.stats()["waiting_count"] == 0
        assert shared.pool.stats()["lent_total"] == sum(side.loans for side in sides) > 0
    check_ring(shared, sides)
    check_pools(shared, sides)
    check_registry(shared, sides)
    for side in sides:
        side.waiting.clear()
        side.own.clear()
    assert [sys.getrefcount(mark) for mark in shared.marks] == references
    del shared, sides, side
    gc.collect()
    assert memory.live_blocks() == blocks


def check_ring(shared: Shared, sides: list[Side]) -> None:
    rest = Tally()
    for _, side, number in shared.ring.pop_many(shared.ring.capacity):
        rest.add(number << 2 | side)
    assert whole([*(side.popped for side in sides), rest]) == whole([side.pushed for side in sides])
    assert len(shared.ring) == 0
    assert rest.sums[0] < sum(side.popped.sums[0] for side in sides)
    shared.ring.check()


def check_pools(shared: Shared, sides: list[Side]) -> None:
    assert len(shared.pool) == 0
    assert all(member.closed == 1 and member.user is None for member in shared.opened)
    assert sum(member.loans for member in shared.opened) == sum(side.loans for side in sides)
    core, retired = shared.core, sum(side.retired for side in sides)
    stats = core.stats()
    assert stats["lent_total"] == sum(side.core_loans for side in sides) > 0
    assert (stats["lent_count"], stats["opening_count"], core.leaks()) == (0, 0, [])
    assert (stats["added_total"], stats["retired_total"]) == (len(core) + retired, retired)
    core.check()
    core.retire_all()
    assert len(core.expire()) == stats["count"]
    assert len(core) == 0


def check_registry(shared: Shared, sides: list[Side]) -> None:
    registry = shared.registry
    held = {name: entry for side in sides for name, entry in side.own.items()}
    assert len(registry) == len(held)
    assert registry.get_many(list(held)) == list(held.values())
    assert all(registry.remove(name) for name in held)
    assert len(registry) == 0
    assert registry.get_many(list(held)) == [None] * len(held)


def rounds() -> Iterator[int]:
    until = time.monotonic() + SOAK_S
    for number in itertools.count():
        yield number
        if time.monotonic() >= until:
            return


def at_once(givers: list[Callable[[], None]], takers: list[Callable[[threading.Event], None]]) -> None:
    """Each in a thread of its own; takers are told when all givers have ended."""
    is_over = threading.Event()
    giving = [threading.Thread(target=giver) for giver in givers]
    taking = [threading.Thread(target=taker, args=(is_over,)) for taker in takers]
    for thread in giving + taking:
        thread.start()
    for thread in giving:
        thread.join()
    is_over.set()
    for thread in taking:
        thread.join()


@pytest.mark.parametrize("batch", [1, 7])
def test_two_pairs_without_the_gil_share_a_ring(batch: int) -> None:
    ring, count = WordRing(64, "mpmc"), 300_000
    for number in rounds():
        firsts = [1 + (2 * number + side) * count for side in range(2)]
        popped: list[int] = []

        def pop(_is_over: threading.Event, popped: list[int] = popped) -> None:
            popped.append(ring.pop_sum(count, batch)[0])

        at_once([partial(ring.push_range, first, count, batch) for first in firsts], [pop, pop])
        assert sum(popped) == sum(first * count + count * (count - 1) // 2 for first in firsts)
        ring.check()


def test_objects_pushed_without_the_gil_reach_the_threads_that_pop() -> None:
    ring: RingQueue[tuple[object, int]] = RingQueue(64, "mpmc")
    mark, count = object(), 4000
    items = [(mark, number) for number in range(count)]
    before = [sys.getrefcount(item) for item in items]
    for _ in rounds():
        counts = bytearray(count), bytearray(count)

        def pop(is_over: threading.Event, mine: bytearray) -> None:
            while not is_over.is_set() or len(ring):
                for _, number in ring.pop_many(32):
                    mine[number] += 1

        at_once([partial(feed, ring, items)] * 2, [partial(pop, mine=mine) for mine in counts])
        assert {one + other for one, other in zip(*counts, strict=True)} == {2}
        assert [sys.getrefcount(item) for item in items] == before
        ring.check()
