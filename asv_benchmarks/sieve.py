"""Room sieve."""

from __future__ import annotations

from types import ModuleType

from asv_benchmarks import Room, tool_names
from asv_benchmarks.instruction import Counted


class Full(Room):
    """1,000 places, all of them taken."""

    room = "sieve"

    def prepare(self, room: ModuleType) -> None:
        self.make = room.Sieve
        self.sieve = self.make(1000)
        self.keys = tool_names(2000)
        for key in self.keys[:1000]:
            self.sieve[key] = key
        self.held = [key.encode().decode() for key in self.keys[:1000]]

    def time_get_1000_hits(self, implementation: str) -> None:
        sieve = self.sieve
        for key in self.held:
            sieve[key]

    def time_get_many_of_1000_hits(self, implementation: str) -> None:
        self.sieve.get_many(self.held)

    def time_put_over_1000(self, implementation: str) -> None:
        sieve = self.sieve
        for key in self.held:
            sieve[key] = key

    def time_put_2000_that_evict(self, implementation: str) -> None:
        """On a sieve of its own, so that the hits of the others do not depend on it."""
        sieve = self.make(1000)
        for key in self.keys:
            sieve[key] = key

    def time_a_million_ns_pass_1000_times(self, implementation: str) -> None:
        sieve = self.make(1000, ttl_ns=10**6)
        now = 0
        for key in self.held:
            now += 10**6
            sieve.now_ns = now
            sieve[key] = key

    def track_memory_bytes_of_an_entry(self, implementation: str) -> float:
        memory: int = self.sieve.memory_bytes
        return memory / len(self.sieve)


class Skewed(Room):
    """What recency is worth: few of the names are asked for often, and a fifth of them has a place."""

    room = "sieve"

    def prepare(self, room: ModuleType) -> None:
        self.sieve = room.Sieve(200)
        keys = tool_names(1000)
        self.asked = [keys[int(1000 * (i * 7919 % 10007 / 10007) ** 3)] for i in range(5000)]

    def track_hit_rate(self, implementation: str) -> float:
        sieve = self.sieve
        for key in self.asked * 2:
            if sieve.get(key) is None:
                sieve[key] = key
        return float(sieve.hit_rate)


class Instructions(Counted):
    situation = Full
    counted = ("get_1000_hits", "put_2000_that_evict")
