"""Room wheel."""

from __future__ import annotations

import random
from types import ModuleType

from asv_benchmarks import Room
from asv_benchmarks.instruction import Counted

MS = 1_000_000


class Wheel(Room):
    """10,000 deadlines within 30 s."""

    room = "wheel"

    def prepare(self, room: ModuleType) -> None:
        draw = random.Random(1)
        self.make = room.TimingWheel
        self.wheel = room.TimingWheel(MS)
        for key in range(10_000):
            self.wheel.add(key, draw.randrange(30_000 * MS))
        self.deadlines = [draw.randrange(30_000 * MS) for _ in range(1000)]

    def time_add_and_cancel_1000_times(self, implementation: str) -> None:
        wheel = self.wheel
        for key, deadline in enumerate(self.deadlines, 10_000):
            wheel.add(key, deadline)
            wheel.cancel(key)

    def time_move_1000_times(self, implementation: str) -> None:
        wheel = self.wheel
        for key, deadline in enumerate(self.deadlines):
            wheel.move(key, deadline)

    def time_fire_1000_in_300_steps(self, implementation: str) -> None:
        wheel = self.make(MS)
        for key, deadline in enumerate(self.deadlines):
            wheel.add(key, deadline)
        for step in range(301):
            wheel.advance(step * 100 * MS)


class Memory(Room):
    room = "wheel"

    def prepare(self, room: ModuleType) -> None:
        self.make = room.TimingWheel

    def peakmem_100000_deadlines(self, implementation: str) -> None:
        wheel = self.make(MS)
        for key in range(100_000):
            wheel.add(key, key * MS)


class Instructions(Counted):
    situation = Wheel
    counted = ("add_and_cancel_1000_times", "move_1000_times")
