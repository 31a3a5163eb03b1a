"""A work-stealing deque, in plain Python."""

from __future__ import annotations

import _thread
from collections import deque
from typing import Any

from erlmcp.errors import LimitError, WrongThreadError

CAPACITY_MAX = 0x40000000
ABSENT = object()


class WorkStealingDeque:
    def __init__(self, capacity: int = 65536) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity}")
        if capacity > CAPACITY_MAX:
            raise LimitError("capacity", CAPACITY_MAX, f"{capacity} places")
        self.capacity = max(2, 1 << (capacity - 1).bit_length())
        self._items: deque[Any] = deque()
        self.own()

    def own(self) -> None:
        self._owner = _thread.get_ident()

    @property
    def is_owner(self) -> bool:
        return self._owner == _thread.get_ident()

    def _owned(self) -> deque[Any]:
        if not self.is_owner:
            raise WrongThreadError(
                "only the deque's owner pushes and pops; others steal, or call own() to take it over"
            )
        return self._items

    def __len__(self) -> int:
        return len(self._items)

    def push(self, item: Any) -> bool:
        items = self._owned()
        if len(items) == self.capacity:
            return False
        items.append(item)
        return True

    def push_many(self, items: list[Any] | tuple[Any, ...]) -> int:
        if not isinstance(items, list | tuple):
            raise TypeError(f"items must be a list or a tuple, got {type(items).__name__}")
        held = self._owned()
        taken = items[: self.capacity - len(held)]
        held.extend(taken)
        return len(taken)

    def pop(self) -> Any:
        return self.pop_or(None)

    def pop_or(self, default: Any) -> Any:
        items = self._owned()
        try:
            return items.pop()
        except IndexError:
            return default

    def steal(self) -> Any:
        return self.steal_or(None)

    def steal_or(self, default: Any) -> Any:
        try:
            return self._items.popleft()
        except IndexError:
            return default

    def steal_many(self, count: int = CAPACITY_MAX) -> list[Any]:
        if count < 0:
            raise ValueError(f"count must be at least 0, got {count}")
        stolen = (self.steal_or(ABSENT) for _ in range(min(count, (len(self._items) + 1) // 2)))
        return [item for item in stolen if item is not ABSENT]

    def clear(self) -> None:
        for _ in range(len(self._items)):
            self.steal()

    def check(self) -> None:
        if len(self._items) > self.capacity:
            raise AssertionError("deque: more items than places")


class WordDeque:
    """The tester of the C face; here the GIL makes each step one."""

    def __init__(self, capacity: int = 65536) -> None:
        self._words = WorkStealingDeque(capacity)
        self._is_done = False

    def work(self, first: int, count: int, pop_every: int = 0) -> tuple[int, int, int]:
        self._words.own()
        words = []
        for word in range(first, first + count):
            while not self._words.push(word):
                words.append(self._words.pop_or(0))
            if pop_every and word % pop_every == 0:
                words.append(self._words.pop_or(0))
        while (word := self._words.pop_or(0)) != 0:
            words.append(word)
        self._is_done = True
        return tally(words)

    def steal(self, half: bool = False) -> tuple[int, int, int]:
        words: list[int] = []
        while True:
            is_last = self._is_done
            got = self._words.steal_many() if half else [self._words.steal_or(0)]
            words += got
            if is_last and not any(got):
                return tally(words)

    def check(self) -> None:
        self._words.check()


def tally(words: list[int]) -> tuple[int, int, int]:
    """How many, their sum, and the sum of their squares, modulo 2**64. 0 is no word."""
    words = [word for word in words if word]
    return len(words), sum(words) % (1 << 64), sum(word * word for word in words) % (1 << 64)
