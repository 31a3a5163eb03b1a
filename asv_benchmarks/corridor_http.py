"""Room corridor_http: bytes of an HTTP/1.1 connection to requests, their bodies scanned."""

from __future__ import annotations

from types import ModuleType

from asv_benchmarks import Room, load
from asv_benchmarks.instruction import Counted
from asv_benchmarks.message import HTTP_CALL


class Inbound(Room):
    """Calls of one tool, on a connection that sends the same head again and again."""

    room = "corridor_http"

    def setup(self, implementation: str) -> None:
        routes = load(implementation, "corridor").Routes()
        routes.set_method("tools/call", object(), "name")
        routes.set_entry("tools/call", "echo", object())
        self.routes = routes
        super().setup(implementation)

    def prepare(self, room: ModuleType) -> None:
        self.make = room.HttpInbound
        self.inbound = room.HttpInbound(self.routes)
        self.pipelined = HTTP_CALL * 64

    def time_64_requests_one_a_read(self, implementation: str) -> None:
        feed = self.inbound.feed
        for _ in range(64):
            feed(HTTP_CALL)

    def time_64_requests_in_one_read(self, implementation: str) -> None:
        self.inbound.feed(self.pipelined)

    def time_64_new_connections(self, implementation: str) -> None:
        make, routes = self.make, self.routes
        for _ in range(64):
            make(routes).feed(HTTP_CALL)


class Instructions(Counted):
    situation = Inbound
    counted = ("64_requests_in_one_read",)
