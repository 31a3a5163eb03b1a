"""Room corridor: bytes of a stream to calls."""

from __future__ import annotations

from types import ModuleType

from asv_benchmarks import Room
from asv_benchmarks.instruction import Counted
from asv_benchmarks.message import CALL


class Inbound(Room):
    """Calls of one tool among 100, all from one client."""

    room = "corridor"

    def prepare(self, room: ModuleType) -> None:
        routes = room.Routes()
        routes.set_method("tools/call", object(), "name")
        routes.set_entry("tools/call", "echo", object())
        for i in range(99):
            routes.set_entry("tools/call", f"tool_{i}", object())
        self.inbound = room.Inbound(routes)
        self.one = CALL + b"\n"
        self.many = self.one * 100

    def time_100_calls_one_a_read(self, implementation: str) -> None:
        feed = self.inbound.feed
        for _ in range(100):
            feed(self.one)

    def time_100_calls_in_one_read(self, implementation: str) -> None:
        self.inbound.feed(self.many)

    def time_100_calls_and_their_arguments(self, implementation: str) -> None:
        for call in self.inbound.feed(self.many):
            assert call.arguments


class Instructions(Counted):
    situation = Inbound
    counted = ("100_calls_one_a_read", "100_calls_in_one_read")
