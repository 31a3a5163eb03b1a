"""The batch in plain Python: the specification of ``erlmcp._core.batch``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from erlmcp.errors import LimitError

INT_MAX = 2**63 - 1
COUNT_LIMIT = 2**31 - 1
STEPS = 64


def _size(item: object, size: int | None = None) -> int:
    if size is None:
        return len(item) if isinstance(item, bytes) else 0
    if size < 0:
        raise ValueError(f"an item's size is 0 or more, got {size}")
    return size


class Batch:
    """Items in order; due by count, by bytes, by age, or because one is alone and ``lone`` is true."""

    def __init__(
        self,
        count_max: int = 64,
        bytes_max: int = 65536,
        age_ns: int = 1_000_000,
        *,
        lone: bool = False,
        count_min: int = 1,
        latency_goal_ns: int = 0,
        held_count_max: int = 1_048_576,
        held_bytes_max: int = 67_108_864,
        now_ns: int = 0,
    ) -> None:
        for name, value, low, high in (
            ("count_max", count_max, 1, COUNT_LIMIT),
            ("bytes_max", bytes_max, 1, INT_MAX),
            ("age_ns", age_ns, 0, INT_MAX),
            ("count_min", count_min, 1, count_max),
            ("latency_goal_ns", latency_goal_ns, 0, INT_MAX),
            ("held_count_max", held_count_max, 1, COUNT_LIMIT),
            ("held_bytes_max", held_bytes_max, 1, INT_MAX),
        ):
            if not low <= value <= high:
                raise ValueError(f"{name} is from {low} to {high}, got {value}")
        self._count_max = count_max
        self._bytes_max = bytes_max
        self._age_ns = age_ns
        self._count_min = count_min
        self._latency_goal_ns = latency_goal_ns
        self._held_count_max = held_count_max
        self._held_bytes_max = held_bytes_max
        self.lone = bool(lone)
        self._count_due = count_min if latency_goal_ns else count_max
        self._items: list[Any] = []
        self._byte_count = 0
        self._first_ns = 0
        self._now_ns = now_ns

    count_max = property(lambda self: self._count_max)
    bytes_max = property(lambda self: self._bytes_max)
    age_ns = property(lambda self: self._age_ns)
    count_min = property(lambda self: self._count_min)
    latency_goal_ns = property(lambda self: self._latency_goal_ns)
    held_count_max = property(lambda self: self._held_count_max)
    held_bytes_max = property(lambda self: self._held_bytes_max)
    count_due = property(lambda self: self._count_due)
    byte_count = property(lambda self: self._byte_count)

    @property
    def now_ns(self) -> int:
        return self._now_ns

    @now_ns.setter
    def now_ns(self, now_ns: int) -> None:
        if not -INT_MAX - 1 <= now_ns <= INT_MAX:
            raise OverflowError("a time has at most 64 bits")
        self._now_ns = max(self._now_ns, now_ns)

    def __len__(self) -> int:
        return len(self._items)

    def add(self, item: Any) -> bool:
        return self.put(item)

    def put(self, item: Any, now_ns: int | None = None, size: int | None = None) -> bool:
        size = _size(item, size)
        if now_ns is not None:
            self.now_ns = now_ns
        self._hold([item], size)
        return self.is_due()

    def add_many(self, items: Iterable[Any]) -> bool:
        held = list(items)
        self._hold(held, sum(map(_size, held)))
        return self.is_due()

    def is_due(self, now_ns: int | None = None) -> bool:
        if now_ns is not None:
            self.now_ns = now_ns
        return bool(self._items) and self._is_due_at(self._now_ns)

    def due_ns(self) -> int | None:
        if not self._items:
            return None
        return self._first_ns if self._is_due_at(self._first_ns) else self._first_ns + self._age_ns

    def take(self) -> list[Any]:
        items, self._items, self._byte_count = self._items, [], 0
        return items

    def take_bytes(self) -> bytes:
        for item in self._items:
            if not isinstance(item, bytes):
                raise TypeError(f"only bytes are joined, and an item is {type(item).__name__}")
        if len(self._items) == 1:
            whole: bytes = self._items[0]
        else:
            whole = b"".join(self._items)
        self.take()
        return whole

    def observe(self, latency_ns: int, count: int | None = None) -> int:
        if latency_ns < 0 or (count is not None and count < 0):
            raise ValueError(f"latency_ns and count are 0 or more, got {latency_ns} and {count}")
        if self._latency_goal_ns:
            if latency_ns > self._latency_goal_ns:
                self._count_due = max(self._count_due - max(self._count_due // 4, 1), self._count_min)
            elif count is None or count >= self._count_due:
                self._count_due = min(self._count_due + max(self._count_max // STEPS, 1), self._count_max)
        return self._count_due

    @staticmethod
    def split(items: Iterable[Any], results: Any) -> tuple[list[tuple[Any, Any]], list[tuple[Any, BaseException]]]:
        items = list(items)
        results = [results] * len(items) if isinstance(results, BaseException) else list(results)
        if len(items) != len(results):
            raise ValueError(f"there is one result for each item, got {len(items)} items and {len(results)} results")
        pairs = list(zip(items, results, strict=True))
        return (
            [pair for pair in pairs if not isinstance(pair[1], BaseException)],
            [pair for pair in pairs if isinstance(pair[1], BaseException)],
        )

    def check(self) -> None:
        assert self._byte_count <= self._held_bytes_max, "more bytes than held_bytes_max"
        assert len(self._items) <= self._held_count_max, "more items than held_count_max"
        assert self._count_min <= self._count_due <= self._count_max, "count_due is out of its bounds"

    def _hold(self, items: list[Any], size: int) -> None:
        if len(self._items) + len(items) > self._held_count_max:
            raise LimitError("held_count_max", self._held_count_max, "take what is held before more is put")
        if self._byte_count + size > self._held_bytes_max:
            raise LimitError("held_bytes_max", self._held_bytes_max, "take what is held before more is put")
        if not self._items:
            self._first_ns = self._now_ns
        self._items += items
        self._byte_count += size

    def _is_due_at(self, now_ns: int) -> bool:
        count = len(self._items)
        return (
            count >= self._count_due
            or self._byte_count >= self._bytes_max
            or now_ns - self._first_ns >= self._age_ns
            or (self.lone and count == 1)
        )
