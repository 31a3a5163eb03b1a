"""Room correlation."""

from __future__ import annotations

from types import ModuleType

from asv_benchmarks import Room
from asv_benchmarks.instruction import Counted

SECOND = 1_000_000_000


class Correlation(Room):
    """1,000 calls wait while others come and go."""

    room = "correlation"

    def prepare(self, room: ModuleType) -> None:
        self.make = room.Correlation
        self.correlation = room.Correlation()
        for _ in range(1000):
            self.correlation.put(self.correlation.next_id(), None, 30 * SECOND)

    def time_put_and_take_1000_times(self, implementation: str) -> None:
        correlation = self.correlation
        for _ in range(1000):
            id = correlation.next_id()
            correlation.put(id, None)
            correlation.take(id)

    def time_put_with_a_deadline_and_take_1000_times(self, implementation: str) -> None:
        correlation = self.correlation
        for _ in range(1000):
            id = correlation.next_id()
            correlation.put(id, None, 60 * SECOND)
            correlation.take(id)

    def time_scan_of_1000(self, implementation: str) -> None:
        scan = self.correlation.scan
        cursor, _found = scan(0, 100)
        while cursor:
            cursor, _found = scan(cursor, 100)

    def time_put_1000_and_drain(self, implementation: str) -> None:
        correlation = self.make()
        for id in range(1000):
            correlation.put(id, None)
        correlation.drain()

    def time_put_1000_and_expire(self, implementation: str) -> None:
        correlation = self.make()
        for id in range(1000):
            correlation.put(id, None, id)
        correlation.expire(1000)


class Memory(Room):
    """Pending calls, each with a deadline."""

    room = "correlation"

    def prepare(self, room: ModuleType) -> None:
        self.make = room.Correlation

    def peakmem_100000_pending(self, implementation: str) -> None:
        correlation = self.make()
        for id in range(100_000):
            correlation.put(id, None, 60 * SECOND)


class Instructions(Counted):
    situation = Correlation
    counted = ("put_and_take_1000_times", "put_with_a_deadline_and_take_1000_times")
