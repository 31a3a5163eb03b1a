"""Room pool."""

from __future__ import annotations

from types import ModuleType

from asv_benchmarks import Room
from asv_benchmarks.instruction import Counted


class Lend(Room):
    """1,024 members; limits of age and idleness are set, and loans are written down."""

    room = "pool"

    def prepare(self, room: ModuleType) -> None:
        self.pool = room.Pool(1024, idle_ns=10**12, age_ns=10**12)
        for number in range(1024):
            self.pool.add(("member", number))

    def time_lend_and_take_back_1000_times(self, implementation: str) -> None:
        pool = self.pool
        for _ in range(1000):
            lease = pool.lend()
            pool.take_back(lease)

    def time_lend_read_member_and_take_back_1000_times(self, implementation: str) -> None:
        pool = self.pool
        for _ in range(1000):
            lease = pool.lend()
            _ = lease.member
            pool.take_back(lease)

    def time_lend_as_with_1000_times(self, implementation: str) -> None:
        pool = self.pool
        for _ in range(1000):
            with pool.lend():
                pass

    def time_lend_to_a_borrower_and_take_back_1000_times(self, implementation: str) -> None:
        pool = self.pool
        for number in range(1000):
            lease = pool.lend_to(number)
            pool.take_back(lease)

    def time_lend_many_and_take_back_many_1024(self, implementation: str) -> None:
        self.pool.take_back_many(self.pool.lend_many(1024))

    def time_leaks_of_1024_lent(self, implementation: str) -> None:
        leases = self.pool.lend_many(1024)
        self.pool.leaks(1)
        self.pool.take_back_many(leases)


class Upkeep(Room):
    room = "pool"

    def prepare(self, room: ModuleType) -> None:
        self.room_module = room

    def time_add_1000_and_expire_them(self, implementation: str) -> None:
        pool = self.room_module.Pool(1000, idle_ns=1)
        for number in range(1000):
            pool.add(number)
        pool.expire(5)


class Memory(Room):
    room = "pool"

    def prepare(self, room: ModuleType) -> None:
        self.make = room.Pool

    def peakmem_100000_members(self, implementation: str) -> None:
        pool = self.make(100_000, idle_ns=10**12, age_ns=10**12)
        for number in range(100_000):
            pool.add(number)


class Instructions(Counted):
    situation = Lend
    counted = ("lend_and_take_back_1000_times",)
