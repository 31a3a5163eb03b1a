"""Room table."""

from __future__ import annotations

import random
from types import ModuleType

from asv_benchmarks import Room, tool_names
from asv_benchmarks.instruction import Counted


class Lookup(Room):
    """1,000 keys that stay in the cache."""

    room = "table"
    count = 1000

    def prepare(self, room: ModuleType) -> None:
        self.keys = tool_names(self.count)
        self.table = room.Table(seed=1)
        for key in self.keys:
            self.table[key] = key
        self.asked = random.Random(1).choices(self.keys, k=1000)
        self.absent = tool_names(1000, seed=8)

    def time_getitem_1000_times(self, implementation: str) -> None:
        table = self.table
        for key in self.asked:
            table[key]

    def time_get_of_an_absent_key_1000_times(self, implementation: str) -> None:
        get = self.table.get
        for key in self.absent:
            get(key)

    def time_iterate(self, implementation: str) -> None:
        for _ in self.table:
            pass


class LookupLarge(Lookup):
    """100,000 keys, asked at random."""

    count = 100_000


class Change(Room):
    room = "table"

    def prepare(self, room: ModuleType) -> None:
        self.make = room.Table
        self.keys = tool_names(1000)
        self.table = room.Table(seed=1)

    def time_fill_a_new_table_with_1000(self, implementation: str) -> None:
        table = self.make(seed=1)
        for key in self.keys:
            table[key] = key

    def time_put_and_remove_1000_times(self, implementation: str) -> None:
        table = self.table
        for key in self.keys:
            table.put(key, key)
            table.remove(key)


class Memory(Room):
    room = "table"

    def prepare(self, room: ModuleType) -> None:
        self.make = room.Table
        self.keys = tool_names(100_000)

    def peakmem_100000_keys(self, implementation: str) -> None:
        table = self.make(seed=1)
        for key in self.keys:
            table[key] = None


class InstructionsLookup(Counted):
    situation = Lookup
    counted = ("getitem_1000_times",)


class InstructionsChange(Counted):
    situation = Change
    counted = ("put_and_remove_1000_times",)
