"""Room meter."""

from __future__ import annotations

import random
from types import ModuleType

import numpy as np

from asv_benchmarks import Room
from asv_benchmarks.instruction import Counted


def durations(count: int) -> list[int]:
    """Nanoseconds, as calls take them: most of some 60 us, a few of milliseconds."""
    drawn = random.Random(7)
    return [int(drawn.lognormvariate(11, 1.5)) for _ in range(count)]


class Count(Room):
    room = "meter"

    def prepare(self, room: ModuleType) -> None:
        self.counter = room.Counter()

    def time_inc_1000_times(self, implementation: str) -> None:
        inc = self.counter.inc
        for _ in range(1000):
            inc()

    def time_inc_many_1000(self, implementation: str) -> None:
        self.counter.inc_many(1000)


class Record(Room):
    room = "meter"

    def prepare(self, room: ModuleType) -> None:
        self.histogram = room.Histogram()
        self.values = durations(1000)
        self.array = np.array(self.values)

    def time_record_1000_times(self, implementation: str) -> None:
        record = self.histogram.record
        for value in self.values:
            record(value)

    def time_record_many_1000(self, implementation: str) -> None:
        self.histogram.record_many(self.values)

    def time_record_many_1000_of_an_array(self, implementation: str) -> None:
        self.histogram.record_many(self.array)

    def time_record_range_1000(self, implementation: str) -> None:
        self.histogram.record_range(50_000, 1000)


class Read(Room):
    """A histogram of 10,000 values."""

    room = "meter"

    def prepare(self, room: ModuleType) -> None:
        self.histogram = room.Histogram()
        self.histogram.record_many(durations(10_000))
        self.meter = room.Meter(sub_bits=6)
        for n in range(20):
            self.meter.counter("calls", {"tool": f"tool {n}"}).inc()
            self.meter.histogram("times", {"tool": f"tool {n}"}).record(n * 1000)

    def time_percentile(self, implementation: str) -> None:
        self.histogram.percentile(99.9)

    def time_4_percentiles(self, implementation: str) -> None:
        self.histogram.percentiles((50, 95, 99, 99.9))

    def time_snapshot(self, implementation: str) -> None:
        self.histogram.snapshot()

    def time_copy(self, implementation: str) -> None:
        self.histogram.copy()

    def time_find_a_series_of_a_meter(self, implementation: str) -> None:
        self.meter.counter("calls", {"tool": "tool 7"})

    def time_snapshot_of_a_meter_of_40_series(self, implementation: str) -> None:
        self.meter.snapshot()


class InstructionsCount(Counted):
    situation = Count
    counted = ("inc_1000_times",)


class InstructionsRecord(Counted):
    situation = Record
    counted = ("record_1000_times", "record_many_1000")
