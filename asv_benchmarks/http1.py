"""Room http1."""

from __future__ import annotations

from types import ModuleType

from asv_benchmarks import Room
from asv_benchmarks.instruction import Counted
from asv_benchmarks.message import HTTP_ANSWER, HTTP_CALL

FIELDS = [("Content-Type", "application/json"), ("Content-Length", "123"), ("Cache-Control", "no-store")]


class Requests(Room):
    room = "http1"

    def prepare(self, room: ModuleType) -> None:
        self.parser = room.RequestParser()
        self.pipelined = HTTP_CALL * 100
        self.pieces = [HTTP_CALL[i : i + 16] for i in range(0, len(HTTP_CALL), 16)]

    def time_100_requests_one_a_read(self, implementation: str) -> None:
        feed = self.parser.feed
        for _ in range(100):
            feed(HTTP_CALL)

    def time_100_requests_in_one_read(self, implementation: str) -> None:
        self.parser.feed(self.pipelined)

    def time_a_request_in_reads_of_16_bytes(self, implementation: str) -> None:
        feed = self.parser.feed
        for piece in self.pieces:
            feed(piece)


class Responses(Room):
    room = "http1"

    def prepare(self, room: ModuleType) -> None:
        self.parser = room.ResponseParser()
        self.response_head = room.response_head

    def time_100_responses_one_a_read(self, implementation: str) -> None:
        feed = self.parser.feed
        for _ in range(100):
            feed(HTTP_ANSWER)

    def time_write_100_heads(self, implementation: str) -> None:
        write = self.response_head
        for _ in range(100):
            write(200, FIELDS)


class Chunks(Room):
    room = "http1"

    def prepare(self, room: ModuleType) -> None:
        self.decode = room.decode_chunked
        self.data = (b"400\r\n" + b"x" * 1024 + b"\r\n") * 64 + b"0\r\n\r\n"

    def time_64_chunks_of_1_kib(self, implementation: str) -> None:
        self.decode(self.data)


class InstructionsRequests(Counted):
    situation = Requests
    counted = ("100_requests_in_one_read",)


class InstructionsResponses(Counted):
    situation = Responses
    counted = ("write_100_heads",)
