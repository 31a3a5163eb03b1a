"""Room batch."""

from __future__ import annotations

from types import ModuleType

from asv_benchmarks import Room
from asv_benchmarks.message import ANSWER


class Batch(Room):
    room = "batch"

    def prepare(self, room: ModuleType) -> None:
        self.batch = room.Batch(64)
        self.lone = room.Batch(64, lone=True)

    def time_1024_frames_64_a_write(self, implementation: str) -> None:
        batch = self.batch
        for _ in range(1024):
            if batch.put(ANSWER, 0):
                batch.take()
        batch.take()

    def time_1024_lone_frames(self, implementation: str) -> None:
        batch = self.lone
        for _ in range(1024):
            batch.put(ANSWER, 0)
            batch.take()
