"""A bounded FIFO, in plain Python."""

from __future__ import annotations

import os
import queue
from collections import deque
from typing import Any

from erlmcp.errors import LimitError

RING_CAPACITY_MAX = 0x40000000
MODES = ("local", "spsc", "mpmc")


def sequence(items: Any) -> list[Any] | tuple[Any, ...]:
    if not isinstance(items, list | tuple):
        raise TypeError(f"items must be a list or a tuple, got {type(items).__name__}")
    return items


class Wake:
    """One side's sleep: a push (or a pop) writes to ``fd`` once for each time that the side said it sleeps."""

    def __init__(self) -> None:
        self.fd = -1
        self.is_armed = False

    def set_fd(self, fd: int) -> None:
        if not -1 <= fd <= 0x7FFFFFFF:
            raise ValueError(f"a file descriptor must be -1 (none) or at least 0, got {fd}")
        if fd >= 0 and os.get_blocking(fd):
            raise ValueError(f"the file descriptor {fd} must not block: os.set_blocking({fd}, False)")
        self.fd = fd
        self.is_armed = False

    def arm(self, is_idle: bool) -> bool:
        if self.fd < 0:
            raise ValueError("nobody would be woken: set wake_fd (or space_fd) first")
        self.is_armed = is_idle
        return is_idle

    def ring(self) -> None:
        if self.is_armed:
            self.is_armed = False
            if self.fd >= 0:
                try:
                    os.write(self.fd, b"\x01\0\0\0\0\0\0\0")
                except OSError:
                    pass  # full: the sleeper has more than one wake to read already


class RingQueue:
    def __init__(self, capacity: int, mode: str = "local") -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity}")
        if mode not in MODES:
            raise ValueError(f"mode must be 'local', 'spsc' or 'mpmc', got {mode!r}")
        if capacity > RING_CAPACITY_MAX:
            raise LimitError("capacity", RING_CAPACITY_MAX, f"{capacity} places")
        self.capacity = max(2, 1 << (capacity - 1).bit_length())
        self.mode = mode
        self.is_closed = False
        self._items: deque[Any] = deque()
        self._item_wake = Wake()
        self._space_wake = Wake()

    def __len__(self) -> int:
        return len(self._items)

    @property
    def is_full(self) -> bool:
        return len(self._items) == self.capacity

    def push(self, item: Any) -> bool:
        return self.push_many([item]) == 1

    def pop(self) -> Any:
        return self.pop_or(None)

    def pop_or(self, default: Any) -> Any:
        try:
            item = self._items.popleft()
        except IndexError:
            return default
        self._space_wake.ring()
        return item

    def push_many(self, items: list[Any] | tuple[Any, ...]) -> int:
        room = 0 if self.is_closed else self.capacity - len(self._items)
        taken = sequence(items)[:room]
        self._items.extend(taken)
        if taken:
            self._item_wake.ring()
        return len(taken)

    def pop_many(self, count: int) -> list[Any]:
        if count < 0:
            raise ValueError(f"count must be at least 0, got {count}")
        popped: list[Any] = []
        while len(popped) < count and self._items:
            try:
                popped.append(self._items.popleft())
            except IndexError:  # another thread was faster
                break
        if popped:
            self._space_wake.ring()
        return popped

    def clear(self) -> None:
        for _ in range(len(self._items)):
            self.pop()

    def close(self) -> None:
        self.is_closed = True

    @property
    def wake_fd(self) -> int:
        return self._item_wake.fd

    @wake_fd.setter
    def wake_fd(self, fd: int) -> None:
        self._item_wake.set_fd(fd)

    @property
    def space_fd(self) -> int:
        return self._space_wake.fd

    @space_fd.setter
    def space_fd(self, fd: int) -> None:
        self._space_wake.set_fd(fd)

    def arm_items(self) -> bool:
        return self._item_wake.arm(not self._items)

    def disarm_items(self) -> None:
        self._item_wake.is_armed = False

    def arm_space(self) -> bool:
        return self._space_wake.arm(self.is_full)

    def disarm_space(self) -> None:
        self._space_wake.is_armed = False

    def check(self) -> None:
        if len(self._items) > self.capacity:
            raise AssertionError("ring: more items than places")


def feed(ring: RingQueue, items: list[Any] | tuple[Any, ...]) -> int:
    if ring.mode == "local":
        raise ValueError("feed needs a ring of mode 'spsc' or 'mpmc', got 'local'")
    for done, item in enumerate(tuple(sequence(items))):
        while not ring.push(item):
            if ring.is_closed:
                return done
    return len(items)


class WordRing:
    def __init__(self, capacity: int, mode: str = "mpmc") -> None:
        if mode not in ("spsc", "mpmc"):
            raise ValueError(f"mode must be 'spsc' or 'mpmc', got {mode!r}")
        self._words: queue.Queue[int] = queue.Queue(RingQueue(capacity).capacity)

    def push_range(self, first: int, count: int, batch: int = 1) -> None:
        for word in range(first, first + count):
            self._words.put(word)

    def pop_sum(self, count: int, batch: int = 1) -> tuple[int, bool]:
        words = [self._words.get() for _ in range(count)]
        return sum(words) % (1 << 64), words == sorted(words)

    def check(self) -> None:
        pass
