"""Room sessions."""

from __future__ import annotations

import random
from types import ModuleType

from asv_benchmarks import Room, tool_names
from asv_benchmarks.instruction import Counted


class Live(Room):
    """1,000 live sessions."""

    room = "sessions"
    count = 1000

    def prepare(self, room: ModuleType) -> None:
        self.store = room.SessionStore(self.count)
        self.ids = tool_names(self.count)
        for id in self.ids:
            self.store.put(id, object())
        self.asked = [id.encode().decode() for id in random.Random(1).choices(self.ids, k=1024)]


class Use(Live):
    """Each look touches the session."""

    def time_getitem_1024_times(self, implementation: str) -> None:
        store = self.store
        for id in self.asked:
            store[id]

    def time_get_many_1024(self, implementation: str) -> None:
        self.store.get_many(self.asked)

    def time_replace_1024_times(self, implementation: str) -> None:
        put = self.store.put
        for id in self.asked:
            put(id, id)


class Expire(Live):
    """The look for what has expired, while nothing has."""

    def time_expire_1024_times(self, implementation: str) -> None:
        expire = self.store.expire
        for _ in range(1024):
            expire(1)


class UseLarge(Use):
    """100,000 live sessions, touched at random."""

    count = 100_000


class Turnover(Room):
    """A full store, where each new session puts out the longest idle one."""

    room = "sessions"

    def prepare(self, room: ModuleType) -> None:
        self.store = room.SessionStore(500)
        self.ids = tool_names(1000)

    def time_put_1000_new_ones(self, implementation: str) -> None:
        put = self.store.put
        for id in self.ids:
            put(id, id)


class Memory(Room):
    """100,000 live sessions, each with an expiry."""

    room = "sessions"

    def prepare(self, room: ModuleType) -> None:
        self.make = room.SessionStore
        self.ids = tool_names(100_000)

    def peakmem_100000_sessions(self, implementation: str) -> None:
        store = self.make(100_000)
        for id in self.ids:
            store.put(id, None)


class InstructionsUse(Counted):
    situation = Use
    counted = ("getitem_1024_times", "get_many_1024")


class InstructionsTurnover(Counted):
    situation = Turnover
    counted = ("put_1000_new_ones",)
