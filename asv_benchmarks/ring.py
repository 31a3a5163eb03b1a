"""Room ring."""

from __future__ import annotations

from types import ModuleType

from asv_benchmarks import Room
from asv_benchmarks.instruction import Counted


class Local(Room):
    room = "ring"
    mode = "local"

    def prepare(self, room: ModuleType) -> None:
        self.ring = room.RingQueue(1024, self.mode)
        self.items: list[object] = list(range(1000))

    def time_push_and_pop_1000_times(self, implementation: str) -> None:
        ring = self.ring
        for item in self.items:
            ring.push(item)
            ring.pop()

    def time_push_many_and_pop_many_1000(self, implementation: str) -> None:
        self.ring.push_many(self.items)
        self.ring.pop_many(1000)


class Spsc(Local):
    mode = "spsc"


class Mpmc(Local):
    mode = "mpmc"


class Words(Room):
    """The C face, on one thread: no Python object on the way."""

    room = "ring"

    def prepare(self, room: ModuleType) -> None:
        self.ring = room.WordRing(1024, "spsc")

    def time_1000_words_one_by_one(self, implementation: str) -> None:
        self.ring.push_range(0, 1000)
        self.ring.pop_sum(1000)

    def time_1000_words_64_at_a_time(self, implementation: str) -> None:
        self.ring.push_range(0, 1000, 64)
        self.ring.pop_sum(1000, 64)


class Memory(Room):
    """The ring's places; all items are one object."""

    room = "ring"

    def prepare(self, room: ModuleType) -> None:
        self.make = room.RingQueue

    def peakmem_100000_items(self, implementation: str) -> None:
        ring = self.make(131072, "mpmc")
        for _ in range(100_000):
            ring.push(None)


class InstructionsLocal(Counted):
    situation = Local
    counted = ("push_and_pop_1000_times", "push_many_and_pop_many_1000")


class InstructionsMpmc(Counted):
    situation = Mpmc
    counted = ("push_and_pop_1000_times", "push_many_and_pop_many_1000")
