"""A bounded FIFO, in plain Python."""

from __future__ import annotations

import queue
from collections import deque
from typing import Any

from erlmcp.errors import LimitError

RING_CAPACITY_MAX = 0x40000000


class Ring:
    def __init__(self, capacity: int, mode: str = "local") -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity}")
        if mode not in ("local", "spsc", "mpmc"):
            raise ValueError(f"mode must be 'local', 'spsc' or 'mpmc', got {mode!r}")
        if capacity > RING_CAPACITY_MAX:
            raise LimitError("capacity", RING_CAPACITY_MAX, f"{capacity} slots")
        self.capacity = max(2, 1 << (capacity - 1).bit_length())
        self.mode = mode
        self._items: deque[Any] = deque()

    def __len__(self) -> int:
        return len(self._items)

    @property
    def is_full(self) -> bool:
        return len(self._items) == self.capacity

    def push(self, item: Any) -> bool:
        if len(self._items) == self.capacity:
            return False
        self._items.append(item)
        return True

    def pop(self, default: Any = None) -> Any:
        return self._items.popleft() if self._items else default

    def push_many(self, items: list[Any]) -> int:
        if not isinstance(items, list):
            raise TypeError(f"items must be a list, got {type(items).__name__}")
        taken = items[: self.capacity - len(self._items)]
        self._items.extend(taken)
        return len(taken)

    def pop_many(self, count: int) -> list[Any]:
        if count < 0:
            raise ValueError(f"count must be at least 0, got {count}")
        return [self._items.popleft() for _ in range(min(count, len(self._items)))]

    def clear(self) -> None:
        while self._items:
            self._items.popleft()

    def check(self) -> None:
        if len(self._items) > self.capacity:
            raise AssertionError("ring: more items than places")


class WordRing:
    def __init__(self, capacity: int, mode: str = "mpmc") -> None:
        if mode not in ("spsc", "mpmc"):
            raise ValueError(f"mode must be 'spsc' or 'mpmc', got {mode!r}")
        self._words: queue.Queue[int] = queue.Queue(Ring(capacity).capacity)

    def push_range(self, first: int, count: int, batch: int = 1) -> None:
        for word in range(first, first + count):
            self._words.put(word)

    def pop_sum(self, count: int, batch: int = 1) -> tuple[int, bool]:
        words = [self._words.get() for _ in range(count)]
        return sum(words) % (1 << 64), words == sorted(words)

    def check(self) -> None:
        pass
