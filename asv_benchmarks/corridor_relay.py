"""Room corridor_relay: messages that are handed on."""

from __future__ import annotations

from types import ModuleType

from asv_benchmarks import Room, load
from asv_benchmarks.instruction import Counted
from asv_benchmarks.message import ANSWER, CALL, META


class Relay(Room):
    """A call under another name, and its answer under another id."""

    room = "corridor_relay"

    def prepare(self, room: ModuleType) -> None:
        rooms = load(room.__name__.split(".")[1].strip("_"), "corridor")
        routes = rooms.Routes()
        routes.set_method("tools/call", object(), "name")
        (self.call,) = rooms.Inbound(routes).feed(CALL + b"\n")
        (self.answer,) = rooms.Inbound().feed(ANSWER + b"\n")
        self.params, self.under = room.relay_params, room.relay_answer

    def time_100_calls_under_another_name(self, implementation: str) -> None:
        for _ in range(100):
            self.params(self.call, b'"shop_echo"')

    def time_100_calls_under_another_name_and_meta(self, implementation: str) -> None:
        for _ in range(100):
            self.params(self.call, b'"shop_echo"', META)

    def time_100_answers_under_another_id(self, implementation: str) -> None:
        for _ in range(100):
            self.under(self.answer, b"4711")


class Instructions(Counted):
    situation = Relay
    counted = ("100_calls_under_another_name", "100_answers_under_another_id")
