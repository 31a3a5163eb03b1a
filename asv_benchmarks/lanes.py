"""Room lanes."""

from __future__ import annotations

import time
from types import ModuleType

from asv_benchmarks import Room
from asv_benchmarks.instruction import Counted


class Single(Room):
    room = "lanes"

    def prepare(self, room: ModuleType) -> None:
        self.lanes = room.Lanes(1024)
        self.items: list[object] = list(range(1000))

    def time_push_and_pop_1000_times(self, implementation: str) -> None:
        lanes = self.lanes
        for item in self.items:
            lanes.push(item)
            lanes.pop()

    def time_push_many_and_pop_many_1000(self, implementation: str) -> None:
        self.lanes.push_many(self.items)
        self.lanes.pop_many(1000)


class Overtaking(Room):
    """A critical item behind 100,000 bulk items, with normal load besides."""

    room = "lanes"

    def prepare(self, room: ModuleType) -> None:
        self.lanes = room.Lanes(131072)
        self.bulk: list[object] = list(range(100_000))
        self.mark = object()

    def overtake(self) -> None:
        self.lanes.push(self.mark, 0)
        while self.lanes.pop() is not self.mark:
            pass

    def time_a_critical_item_overtakes_100000(self, implementation: str) -> None:
        if self.lanes.count(2) < 50_000:
            self.lanes.push_many(self.bulk, 2)
        self.overtake()

    def track_p99_ns_of_a_critical_item(self, implementation: str) -> int:
        """From its push to its pop, 10,000 times; the clock's own cost (some 50 ns) is in it."""
        self.lanes.push_many(self.bulk, 2)
        taken = []
        for _ in range(10_000):
            start = time.perf_counter_ns()
            self.overtake()
            taken.append(time.perf_counter_ns() - start)
        return sorted(taken)[9900]


class Memory(Room):
    """Places of one lane; all items are one object."""

    room = "lanes"

    def prepare(self, room: ModuleType) -> None:
        self.make = room.Lanes

    def peakmem_100000_bulk_items(self, implementation: str) -> None:
        lanes = self.make(131072)
        for _ in range(100_000):
            lanes.push(None, 2)


class Instructions(Counted):
    situation = Single
    counted = ("push_and_pop_1000_times", "push_many_and_pop_many_1000")
