"""Room corridor_out: answers to bytes."""

from __future__ import annotations

from types import ModuleType

from asv_benchmarks import Room
from asv_benchmarks.instruction import Counted
from asv_benchmarks.message import RESULT

PREFIX = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: "


class Outbound(Room):
    room = "corridor_out"

    def prepare(self, room: ModuleType) -> None:
        self.lines = room.Outbound()
        self.http = room.Outbound(framing="http")
        self.http.prefix = PREFIX
        pieces = [b'{"content":[{"type":"text","text":', (room.TEXT, 0), b'}],"structuredContent":{"result":']
        pieces += [(room.VALUE, 0), b'},"isError":false,"resultType":"complete"}']
        self.template = room.Template(pieces)

    def time_fill_100_and_take(self, implementation: str) -> None:
        out, template, values = self.lines, self.template, ("the quick brown fox",)
        for _ in range(100):
            out.fill(b"42", template, values)
        out.take()

    def time_fill_and_take_100_times_over_http(self, implementation: str) -> None:
        out, template, values = self.http, self.template, ("the quick brown fox",)
        for _ in range(100):
            out.fill(b"42", template, values)
            out.take()

    def time_100_results(self, implementation: str) -> None:
        out = self.lines
        for _ in range(100):
            out.result(b"42", RESULT)
        out.take()

    def time_100_errors(self, implementation: str) -> None:
        out = self.lines
        for _ in range(100):
            out.error(b"42", -32602, "Invalid params")
        out.take()


class Instructions(Counted):
    situation = Outbound
    counted = ("fill_100_and_take", "100_results")
