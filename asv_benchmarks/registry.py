"""Room registry."""

from __future__ import annotations

import random
from types import ModuleType

from asv_benchmarks import Room, tool_names
from asv_benchmarks.instruction import Counted


class Lookup(Room):
    """1,000 hot names, asked with equal but not identical strings."""

    room = "registry"
    count = 1000

    def prepare(self, room: ModuleType) -> None:
        self.registry = room.Registry()
        known = tool_names(self.count)
        for name in known:
            self.registry[name] = object()
        self.asked = [name.encode().decode() for name in random.Random(1).choices(known, k=1024)]
        self.asked_bytes = [name.encode() for name in self.asked]
        self.hashes = self.registry.hashes(self.asked)
        self.indices = self.registry.find_hashes(self.hashes)

    def time_getitem_1024_times(self, implementation: str) -> None:
        registry = self.registry
        for name in self.asked:
            registry[name]

    def time_get_1024_times(self, implementation: str) -> None:
        get = self.registry.get
        for name in self.asked:
            get(name)

    def time_get_many_1024(self, implementation: str) -> None:
        self.registry.get_many(self.asked)

    def time_get_many_1024_bytes(self, implementation: str) -> None:
        self.registry.get_many(self.asked_bytes)

    def time_hashes_of_1024(self, implementation: str) -> None:
        self.registry.hashes(self.asked)

    def time_find_1024_hashes(self, implementation: str) -> None:
        self.registry.find_hashes(self.hashes, self.indices)

    def time_entries_at_1024_indices(self, implementation: str) -> None:
        self.registry.entries_at(self.indices)

    def time_scan_all_in_pages_of_100(self, implementation: str) -> None:
        cursor = -1
        while cursor:
            cursor, _ = self.registry.scan(max(cursor, 0), 100)


class LookupLarge(Lookup):
    """100,000 names, asked at random."""

    count = 100_000


class Change(Room):
    room = "registry"

    def prepare(self, room: ModuleType) -> None:
        self.registry = room.Registry()
        self.names = tool_names(1000)

    def time_put_and_remove_1000_times(self, implementation: str) -> None:
        registry = self.registry
        for name in self.names:
            registry.put(name, name)
            registry.remove(name)

    def time_put_1000_of_an_owner_and_drop_it(self, implementation: str) -> None:
        for name in self.names:
            self.registry.put(name, name, "owner")
        self.registry.drop_owner("owner")


class Tied(Room):
    """Names are tied to others, and each change is told to a watch."""

    room = "registry"

    def prepare(self, room: ModuleType) -> None:
        self.registry = room.Registry()
        self.names = tool_names(1000)
        self.registry.put("server", 1)
        self.registry.watch("tool_", None, True)

    def time_put_bind_join_and_drop_1000(self, implementation: str) -> None:
        registry = self.registry
        for name in self.names:
            registry.put(name, name, "owner")
            registry.bind(name, "server")
            registry.join("group", name)
        registry.drop_owner("owner")
        registry.take_events()


class Memory(Room):
    room = "registry"

    def prepare(self, room: ModuleType) -> None:
        self.make = room.Registry
        self.names = tool_names(100_000)

    def peakmem_100000_names(self, implementation: str) -> None:
        registry = self.make()
        for name in self.names:
            registry[name] = None


class InstructionsLookup(Counted):
    situation = Lookup
    counted = ("getitem_1024_times", "get_many_1024")


class InstructionsChange(Counted):
    situation = Change
    counted = ("put_and_remove_1000_times",)
