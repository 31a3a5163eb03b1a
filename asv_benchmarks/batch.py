"""Room batch."""

from __future__ import annotations

from types import ModuleType

from asv_benchmarks import Room
from asv_benchmarks.instruction import Counted
from asv_benchmarks.message import ANSWER


class Batch(Room):
    room = "batch"

    def prepare(self, room: ModuleType) -> None:
        self.batch = room.Batch(64)
        self.large = room.Batch(1024, 2**30)
        self.lone = room.Batch(64, lone=True)
        self.adaptive = room.Batch(1024, count_min=4, latency_goal_ns=1000)
        self.frames = [ANSWER] * 1024
        self.results: list[object] = [1, ValueError("each its own")] * 512

    def time_1024_frames_64_a_write(self, implementation: str) -> None:
        batch = self.batch
        for _ in range(1024):
            if batch.add(ANSWER):
                batch.take_bytes()
        batch.take_bytes()

    def time_1024_items_64_a_take(self, implementation: str) -> None:
        batch = self.batch
        for _ in range(1024):
            if batch.add(None):
                batch.take()
        batch.take()

    def time_add_many_and_take_1024(self, implementation: str) -> None:
        self.large.add_many(self.frames)
        self.large.take()

    def time_1024_lone_frames(self, implementation: str) -> None:
        batch = self.lone
        for _ in range(1024):
            batch.add(ANSWER)
            batch.take_bytes()

    def time_observe_1024_times(self, implementation: str) -> None:
        observe = self.adaptive.observe
        for latency in range(1024):
            observe(latency)

    def time_split_1024(self, implementation: str) -> None:
        self.batch.split(self.frames, self.results)


class Instructions(Counted):
    situation = Batch
    counted = ("1024_frames_64_a_write", "add_many_and_take_1024")
