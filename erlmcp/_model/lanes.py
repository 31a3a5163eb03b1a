"""Three priority lanes with ageing, in plain Python."""

from __future__ import annotations

from collections import deque
from typing import Any

from erlmcp.errors import LimitError

CRITICAL, NORMAL, BULK = 0, 1, 2
CAPACITY_MAX = 0x40000000
ABSENT = object()


def lane_of(lane: int) -> int:
    if not 0 <= lane <= 2:
        raise ValueError(f"lane must be CRITICAL (0), NORMAL (1) or BULK (2), got {lane}")
    return lane


class Lanes:
    def __init__(self, capacity: int, *, age_pops: int = 64) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity}")
        if capacity > CAPACITY_MAX:
            raise LimitError("capacity", CAPACITY_MAX, f"{capacity} places")
        if not 1 <= age_pops <= 0xFFFFFFFF:
            raise ValueError(f"age_pops must be 1 to {0xFFFFFFFF}, got {age_pops}")
        self.capacity = max(2, 1 << (capacity - 1).bit_length())
        self.age_pops = age_pops
        self._lanes: list[deque[Any]] = [deque(), deque(), deque()]
        self._passed = [0, 0, 0]

    def __len__(self) -> int:
        return sum(self.counts)

    @property
    def counts(self) -> tuple[int, int, int]:
        critical, normal, bulk = map(len, self._lanes)
        return critical, normal, bulk

    def count(self, lane: int) -> int:
        return len(self._lanes[lane_of(lane)])

    def push(self, item: Any, lane: int = NORMAL) -> bool:
        return self.push_many([item], lane) == 1

    def push_many(self, items: list[Any] | tuple[Any, ...], lane: int = NORMAL) -> int:
        if not isinstance(items, list | tuple):
            raise TypeError(f"items must be a list or a tuple, got {type(items).__name__}")
        held = self._lanes[lane_of(lane)]
        taken = items[: self.capacity - len(held)]
        held.extend(taken)
        return len(taken)

    def pop(self) -> Any:
        return self.pop_or(None)

    def pop_or(self, default: Any) -> Any:
        waiting = [lane for lane in (CRITICAL, NORMAL, BULK) if self._lanes[lane]]
        if not waiting:
            return default
        due = [lane for lane in waiting if self._passed[lane] >= self.age_pops]
        chosen = due[0] if due else waiting[0]
        if not due:
            for lane in waiting[1:]:
                self._passed[lane] += 1
        self._passed[chosen] = 0
        try:
            return self._lanes[chosen].popleft()
        except IndexError:  # another thread was faster
            return self.pop_or(default)

    def pop_many(self, count: int) -> list[Any]:
        if count < 0:
            raise ValueError(f"count must be at least 0, got {count}")
        popped = (self.pop_or(ABSENT) for _ in range(min(count, len(self))))
        return [item for item in popped if item is not ABSENT]

    def clear(self) -> None:
        for held in self._lanes:
            for _ in range(len(held)):
                if held:  # a destructor may have popped
                    held.popleft()
        for lane in (CRITICAL, NORMAL, BULK):
            if not self._lanes[lane]:
                self._passed[lane] = 0

    def check(self) -> None:
        for lane, held in enumerate(self._lanes):
            if len(held) > self.capacity:
                raise AssertionError("lanes: more items than places")
            if self._passed[lane] > self.age_pops or (not held and self._passed[lane]):
                raise AssertionError("lanes: a lane was passed over too often, or while it was empty")
