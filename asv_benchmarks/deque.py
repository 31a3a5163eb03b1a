"""Room deque."""

from __future__ import annotations

import threading
from types import ModuleType

from asv_benchmarks import Room
from asv_benchmarks.instruction import Counted


class Owner(Room):
    room = "deque"

    def prepare(self, room: ModuleType) -> None:
        self.deque = room.WorkStealingDeque(1024)
        self.items: list[object] = list(range(1000))

    def time_push_and_pop_1000_times(self, implementation: str) -> None:
        deque = self.deque
        for item in self.items:
            deque.push(item)
            deque.pop()

    def time_push_and_steal_1000_times(self, implementation: str) -> None:
        deque = self.deque
        for item in self.items:
            deque.push(item)
            deque.steal()

    def time_push_many_1000_and_steal_half_until_empty(self, implementation: str) -> None:
        deque = self.deque
        deque.push_many(self.items)
        while deque:
            deque.steal_many()


class Growing(Room):
    room = "deque"

    def prepare(self, room: ModuleType) -> None:
        self.kind = room.WorkStealingDeque
        self.items: list[object] = list(range(65536))

    def time_a_new_deque_filled_with_65536(self, implementation: str) -> None:
        self.kind(65536).push_many(self.items)


class Words(Room):
    """The C face: no Python object on the way."""

    room = "deque"

    def prepare(self, room: ModuleType) -> None:
        self.room_of = room

    def time_10000_words_pushed_and_popped(self, implementation: str) -> None:
        self.room_of.WordDeque(1024).work(1, 10_000, 1)

    def time_10000_words_worked_off_by_an_owner_and_a_thief(self, implementation: str) -> None:
        deque = self.room_of.WordDeque(1024)
        thief = threading.Thread(target=deque.steal)
        thief.start()
        deque.work(1, 10_000)
        thief.join()


class Instructions(Counted):
    situation = Owner
    counted = ("push_and_pop_1000_times", "push_and_steal_1000_times")
