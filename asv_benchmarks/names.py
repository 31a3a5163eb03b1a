"""Room names."""

from __future__ import annotations

import random
from types import ModuleType

from asv_benchmarks import Room, tool_names
from asv_benchmarks.instruction import Counted


class Lookup(Room):
    """1,000 hot names, asked with equal but not identical strings."""

    room = "names"
    count = 1000

    def prepare(self, room: ModuleType) -> None:
        self.table = room.Names()
        known = tool_names(self.count)
        for number, name in enumerate(known):
            self.table[name] = number
        self.asked = [name.encode().decode() for name in random.Random(1).choices(known, k=1024)]
        self.hashes = self.table.hashes(self.asked)
        self.out = self.table.find_hashes(self.hashes)

    def time_getitem_1024_times(self, implementation: str) -> None:
        table = self.table
        for name in self.asked:
            table[name]

    def time_get_many_1024(self, implementation: str) -> None:
        self.table.get_many(self.asked)

    def time_hashes_of_1024(self, implementation: str) -> None:
        self.table.hashes(self.asked)

    def time_find_1024_hashes(self, implementation: str) -> None:
        self.table.find_hashes(self.hashes, self.out)


class LookupLarge(Lookup):
    """100,000 names, asked at random."""

    count = 100_000


class Change(Room):
    """Names that fit into their slot, and names that do not."""

    room = "names"

    def prepare(self, room: ModuleType) -> None:
        self.room_module = room
        self.table = room.Names()
        self.near = tool_names(1000)
        self.far = [f"{name}/{name}" for name in self.near]

    def time_put_and_remove_1000_times(self, implementation: str) -> None:
        table = self.table
        for name in self.near:
            table.put(name, 1)
            table.remove(name)

    def time_put_and_remove_1000_long_names(self, implementation: str) -> None:
        table = self.table
        for name in self.far:
            table.put(name, 1)
            table.remove(name)

    def time_fill_with_1000(self, implementation: str) -> None:
        table = self.room_module.Names()
        for name in self.near:
            table.put(name, 1)


class InstructionsLookup(Counted):
    situation = Lookup
    counted = ("getitem_1024_times", "get_many_1024")


class InstructionsChange(Counted):
    situation = Change
    counted = ("put_and_remove_1000_times",)
