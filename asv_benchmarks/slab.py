"""Room slab."""

from __future__ import annotations

from types import ModuleType

from asv_benchmarks import Room
from asv_benchmarks.instruction import Counted


class Slab(Room):
    room = "slab"

    def prepare(self, room: ModuleType) -> None:
        self.slab = room.Slab()
        self.handles = [self.slab.put(i) for i in range(1000)]

    def time_put_and_take_1000_times(self, implementation: str) -> None:
        slab = self.slab
        for _ in range(1000):
            slab.take(slab.put(None))

    def time_get_1000_times(self, implementation: str) -> None:
        get = self.slab.get
        for handle in self.handles:
            get(handle)

    def time_scan_of_1000(self, implementation: str) -> None:
        scan = self.slab.scan
        cursor, _found = scan(0, 100)
        while cursor:
            cursor, _found = scan(cursor, 100)


class Memory(Room):
    room = "slab"

    def prepare(self, room: ModuleType) -> None:
        self.make = room.Slab

    def peakmem_100000_slots(self, implementation: str) -> None:
        slab = self.make(100_000)
        for _ in range(100_000):
            slab.put(None)


class Instructions(Counted):
    situation = Slab
    counted = ("put_and_take_1000_times",)
