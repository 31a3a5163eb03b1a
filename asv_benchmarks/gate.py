"""Room gate."""

from __future__ import annotations

from types import ModuleType

from asv_benchmarks import Room, tool_names
from asv_benchmarks.instruction import Counted


class Bucket(Room):
    """A token bucket that has tokens for everybody."""

    room = "gate"

    def prepare(self, room: ModuleType) -> None:
        self.bucket = room.TokenBucket(10**9, 10**9)

    def time_allow_1000_times(self, implementation: str) -> None:
        allow = self.bucket.allow
        for _ in range(1000):
            allow()

    def time_allow_at_1000_times(self, implementation: str) -> None:
        allow_at, now_ns = self.bucket.allow_at, self.bucket.now_ns
        for passed in range(1000):
            allow_at(now_ns + passed)


class Buckets(Room):
    """1,000 clients, each known."""

    room = "gate"
    count_max = 1000

    def prepare(self, room: ModuleType) -> None:
        self.keys = tool_names(1000)
        self.buckets = room.TokenBuckets(10**6, 10**9, self.count_max)
        self.buckets.allow_many(self.keys)

    def time_allow_1000_times(self, implementation: str) -> None:
        allow = self.buckets.allow
        for key in self.keys:
            allow(key)

    def time_allow_many_1000(self, implementation: str) -> None:
        self.buckets.allow_many(self.keys)


class BucketsFlood(Buckets):
    """1,000 keys for 100 places, and full buckets to evict: the time goes on."""

    count_max = 100

    def time_allow_1000_times(self, implementation: str) -> None:
        buckets = self.buckets
        for key in self.keys:
            buckets.take(key, 1, buckets.now_ns + 10_000)


class Inflight(Room):
    room = "gate"

    def prepare(self, room: ModuleType) -> None:
        self.limit = room.InflightLimit(10)

    def time_enter_and_leave_1000_times(self, implementation: str) -> None:
        enter, leave = self.limit.enter, self.limit.leave
        for _ in range(1000):
            enter()
            leave()


class Breaker(Room):
    """A closed breaker, one call in ten fails."""

    room = "gate"

    def prepare(self, room: ModuleType) -> None:
        self.breaker = room.BreakerWindow()
        self.outcomes = [number % 10 > 0 for number in range(1000)]

    def time_allow_and_record_1000_times(self, implementation: str) -> None:
        allow, record = self.breaker.allow, self.breaker.record
        for is_ok in self.outcomes:
            record(is_ok, 1000, allow())


class Memory(Room):
    """A bucket for each of 20,000 clients."""

    room = "gate"

    def prepare(self, room: ModuleType) -> None:
        self.make = room.TokenBuckets
        self.keys = tool_names(20_000)

    def peakmem_20000_buckets(self, implementation: str) -> None:
        buckets = self.make(10**6, 10**9, 20_000)
        for key in self.keys:
            buckets.allow(key)


class InstructionsBucket(Counted):
    situation = Bucket
    counted = ("allow_1000_times",)


class InstructionsBuckets(Counted):
    situation = Buckets
    counted = ("allow_1000_times",)
