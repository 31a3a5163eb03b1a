"""Room chain."""

from __future__ import annotations

import random
from types import ModuleType

from asv_benchmarks import Room, tool_names
from asv_benchmarks.instruction import Counted


class Chain(Room):
    """1,000 keys in order of use."""

    room = "chain"

    def prepare(self, room: ModuleType) -> None:
        self.chain = room.Chain()
        keys = tool_names(1000)
        for key in keys:
            self.chain.add(key)
        self.used = random.Random(1).choices(keys, k=1000)

    def time_move_to_end_1000_times(self, implementation: str) -> None:
        move = self.chain.move_to_end
        for key in self.used:
            move(key)

    def time_pop_oldest_and_add_1000_times(self, implementation: str) -> None:
        chain = self.chain
        for _ in range(1000):
            chain.add(chain.pop_oldest())

    def time_iterate(self, implementation: str) -> None:
        for _ in self.chain:
            pass


class Memory(Room):
    room = "chain"

    def prepare(self, room: ModuleType) -> None:
        self.make = room.Chain
        self.keys = tool_names(100_000)

    def peakmem_100000_keys(self, implementation: str) -> None:
        chain = self.make()
        for key in self.keys:
            chain.add(key)


class Instructions(Counted):
    situation = Chain
    counted = ("move_to_end_1000_times",)
