"""Room buffer."""

from __future__ import annotations

from types import ModuleType

from asv_benchmarks import Room
from asv_benchmarks.instruction import Counted


class Buffer(Room):
    room = "buffer"

    def prepare(self, room: ModuleType) -> None:
        self.buffer = room.Buffer()
        self.line = b"x" * 100
        self.block = b"x" * 65536

    def time_put_and_take_100_bytes_1000_times(self, implementation: str) -> None:
        buffer, line = self.buffer, self.line
        for _ in range(1000):
            buffer.put(line)
            buffer.take(100)

    def time_gather_1000_lines_and_take_them(self, implementation: str) -> None:
        buffer, line = self.buffer, self.line
        for _ in range(1000):
            buffer.put(line)
        buffer.take()

    def time_put_and_take_64_kib_16_times(self, implementation: str) -> None:
        for _ in range(16):
            self.buffer.put(self.block)
            self.buffer.take()


class Instructions(Counted):
    situation = Buffer
    counted = ("put_and_take_100_bytes_1000_times",)
