"""Room bonds."""

from __future__ import annotations

from types import ModuleType

from asv_benchmarks import Room, tool_names
from asv_benchmarks.instruction import Counted


class Tie(Room):
    """100 servers with 10 transports each, in 10 groups."""

    room = "bonds"

    def prepare(self, room: ModuleType) -> None:
        self.bonds = room.Bonds()
        self.keys = tool_names(1000)
        self.servers = tool_names(100, seed=8)
        for number, key in enumerate(self.keys):
            self.bonds.bind(key, self.servers[number % 100])
        for number, server in enumerate(self.servers):
            self.bonds.join(f"group-{number % 10}", server)

    def time_binding_of_1000_keys(self, implementation: str) -> None:
        binding = self.bonds.binding
        for key in self.keys:
            binding(key)

    def time_bind_1000_keys_to_another(self, implementation: str) -> None:
        bind = self.bonds.bind
        for number, key in enumerate(self.keys):
            bind(key, self.servers[(number + 1) % 100])
        for number, key in enumerate(self.keys):
            bind(key, self.servers[number % 100])

    def time_members_of_10_groups(self, implementation: str) -> None:
        for number in range(10):
            self.bonds.members(f"group-{number}")

    def time_join_and_forget_100_names(self, implementation: str) -> None:
        for name in self.keys[:100]:
            self.bonds.join("group-0", name)
            self.bonds.forget(name)
            self.bonds.bind(name, self.servers[0])


class Watch(Room):
    """1,000 watches of names and 10 of prefixes, of which each name meets two."""

    room = "bonds"

    def prepare(self, room: ModuleType) -> None:
        self.bonds = room.Bonds()
        self.names = tool_names(1000)
        for name in self.names:
            self.bonds.watch(name, None)
        for prefix in ("tool_", *(f"other_{number}" for number in range(9))):
            self.bonds.watch(prefix, None, True)

    def time_tell_of_1000_names_and_take_the_events(self, implementation: str) -> None:
        tell = self.bonds.tell
        for name in self.names:
            tell("added", name)
        self.bonds.take_events()


class InstructionsTie(Counted):
    situation = Tie
    counted = ("bind_1000_keys_to_another",)


class InstructionsWatch(Counted):
    situation = Watch
    counted = ("tell_of_1000_names_and_take_the_events",)
