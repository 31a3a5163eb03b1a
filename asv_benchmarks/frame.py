"""Room frame."""

from __future__ import annotations

from types import ModuleType

from asv_benchmarks import Room
from asv_benchmarks.instruction import Counted
from asv_benchmarks.message import ANSWER


class Lines(Room):
    room = "frame"

    def prepare(self, room: ModuleType) -> None:
        self.framer = room.LineFramer()
        self.data = (ANSWER + b"\n") * 1024
        self.pieces = [self.data[i : i + 1000] for i in range(0, len(self.data), 1000)]

    def time_1024_lines_in_one_read(self, implementation: str) -> None:
        self.framer.feed(self.data)

    def time_1024_lines_in_reads_of_1000_bytes(self, implementation: str) -> None:
        feed = self.framer.feed
        for piece in self.pieces:
            feed(piece)


class Lengths(Room):
    room = "frame"

    def prepare(self, room: ModuleType) -> None:
        self.framer = room.LengthFramer()
        self.data = (b"Content-Length: %d\r\n\r\n" % len(ANSWER) + ANSWER) * 1024

    def time_1024_messages_in_one_read(self, implementation: str) -> None:
        self.framer.feed(self.data)


class Events(Room):
    room = "frame"

    def prepare(self, room: ModuleType) -> None:
        self.write = room.frame_sse
        self.framer = room.SseFramer()
        self.data = room.frame_sse(ANSWER, id="1") * 256

    def time_read_256_events(self, implementation: str) -> None:
        self.framer.feed(self.data)

    def time_write_256_events(self, implementation: str) -> None:
        write = self.write
        for _ in range(256):
            write(ANSWER, id="1")


class InstructionsLines(Counted):
    situation = Lines
    counted = ("1024_lines_in_one_read",)


class InstructionsEvents(Counted):
    situation = Events
    counted = ("write_256_events",)
