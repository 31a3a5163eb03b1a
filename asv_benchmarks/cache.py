"""Room cache. Its lookups are the sieve's; what it adds costs those that use it."""

from __future__ import annotations

from types import ModuleType

from asv_benchmarks import Room, tool_names
from asv_benchmarks.instruction import Counted


class Full(Room):
    """1,000 places, all of them taken."""

    room = "cache"

    def prepare(self, room: ModuleType) -> None:
        self.make = room.Cache
        self.cache = room.Cache(1000)
        self.keys = tool_names(2000)
        self.held = [key.encode().decode() for key in self.keys[:1000]]
        for key in self.held:
            self.cache[key] = key

    def time_get_1000_hits(self, implementation: str) -> None:
        cache = self.cache
        for key in self.held:
            cache[key]

    def time_claim_1000_hits(self, implementation: str) -> None:
        claim = self.cache.claim
        for key in self.held:
            claim(key)

    def time_put_over_1000(self, implementation: str) -> None:
        cache = self.cache
        for key in self.held:
            cache[key] = key

    def time_put_2000_that_evict(self, implementation: str) -> None:
        cache = self.make(1000)
        for key in self.keys:
            cache[key] = key


class Loading(Room):
    room = "cache"

    def prepare(self, room: ModuleType) -> None:
        self.cache = room.Cache(1000)
        self.keys = tool_names(1000)

    def time_1000_misses_loaded_with_a_waiter_each(self, implementation: str) -> None:
        cache = self.cache
        for key in self.keys:
            ticket = cache.claim(key)[1]
            cache.claim(key, self)
            cache.finish(ticket, key)
        cache.clear()

    def time_1000_negative_entries(self, implementation: str) -> None:
        cache = self.cache
        for key in self.keys:
            cache.put_negative(key, "absent", 10**9)
            cache.claim(key)
        cache.clear()


class Tagged(Room):
    """Entries with two tags of fifty, and a time to live of their own."""

    room = "cache"

    def prepare(self, room: ModuleType) -> None:
        self.cache = room.Cache(1000)
        self.keys = tool_names(1000)
        self.tags = [(f"user_{i % 50}", f"kind_{i % 7}") for i in range(1000)]

    def fill(self) -> None:
        put = self.cache.put
        for key, tags in zip(self.keys, self.tags, strict=True):
            put(key, key, 0, 10**9, tags)

    def time_put_1000_and_invalidate_50_tags(self, implementation: str) -> None:
        self.fill()
        for i in range(50):
            self.cache.invalidate_tag(f"user_{i}")

    def time_put_1000_and_invalidate_their_prefix(self, implementation: str) -> None:
        self.fill()
        self.cache.invalidate_prefix("tool_")

    def track_memory_bytes_of_an_entry(self, implementation: str) -> float:
        self.fill()
        memory: int = self.cache.memory_bytes
        return memory / len(self.cache)


class InstructionsFull(Counted):
    situation = Full
    counted = ("get_1000_hits", "put_2000_that_evict")


class InstructionsTagged(Counted):
    situation = Tagged
    counted = ("put_1000_and_invalidate_50_tags",)
