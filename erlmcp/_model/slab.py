"""Slots with handles that notice their own age, in plain Python."""

from __future__ import annotations

from typing import Any

from erlmcp.errors import LimitError, StaleHandleError

GENERATION_MAX = 0xFFFFFFFF


class Slab:
    def __init__(self, capacity_max: int = 65536) -> None:
        if not 1 <= capacity_max < 0xFFFFFFFF:
            raise ValueError(f"capacity_max must be 1 to {0xFFFFFFFE}, got {capacity_max}")
        self.capacity_max = capacity_max
        self._items: dict[int, Any] = {}
        self._generations: list[int] = []
        self._free: list[int] = []

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, handle: int) -> bool:
        return self._known(handle) in self._items

    def put(self, item: Any) -> int:
        if not self._free:
            self._grow()
        index = self._free.pop()
        handle = self._generations[index] << 32 | index
        self._items[handle] = item
        return handle

    def get(self, handle: int) -> Any:
        if self._known(handle) not in self._items:
            raise StaleHandleError(f"no item has the handle {handle:#x}; it was taken, or never given out")
        return self._items[handle]

    def take(self, handle: int) -> Any:
        item = self.get(handle)
        index = handle & 0xFFFFFFFF
        self._generations[index] = self._generations[index] % GENERATION_MAX + 1
        self._free.append(index)
        del self._items[handle]
        return item

    def scan(self, cursor: int = 0, count: int = 100) -> tuple[int, list[tuple[int, Any]]]:
        if cursor < 0 or count < 1:
            raise ValueError(f"cursor is 0 or more and count is 1 or more, got {cursor} and {count}")
        found: list[tuple[int, Any]] = []
        for index in range(cursor, len(self._generations)):
            handle = self._generations[index] << 32 | index
            if handle in self._items:
                if len(found) == count:
                    return index, found
                found.append((handle, self._items[handle]))
        return 0, found

    def clear(self) -> None:
        for handle in sorted(self._items, key=lambda handle: handle & 0xFFFFFFFF):
            self.take(handle)

    def check(self) -> None:
        if len(self._items) + len(self._free) != len(self._generations):
            raise AssertionError("slab: slots are missing")

    def _known(self, handle: int) -> int:
        if not 0 <= handle < 1 << 64:
            raise OverflowError(f"a handle has 64 bits, got {handle}")
        return handle

    def _grow(self) -> None:
        old = len(self._generations)
        if old >= self.capacity_max:
            raise LimitError("capacity_max", self.capacity_max, "the slab is full")
        new = min(max(2 * old, 16), self.capacity_max)
        self._generations.extend([1] * (new - old))
        self._free.extend(reversed(range(old, new)))
