"""Deadlines of hashable keys, in plain Python: a dict that is searched whole."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

TIME_MAX = (1 << 64) - 1


def _time(value: int) -> int:
    if not 0 <= value <= TIME_MAX:
        raise OverflowError(f"a time must be 0 to 2**64 - 1 nanoseconds, got {value}")
    return value


class TimingWheel:
    def __init__(self, tick_ns: int = 1_000_000, now_ns: int = 0) -> None:
        if _time(now_ns) >= 0 and tick_ns < 1:
            raise ValueError(f"tick_ns must be at least 1, got {tick_ns}")
        self.tick_ns = _time(tick_ns)
        self._now = now_ns // tick_ns
        self._added = 0
        self._timers: dict[Any, tuple[int, int, Any]] = {}

    def __len__(self) -> int:
        return len(self._timers)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._timers

    def add(self, key: Any, deadline_ns: int) -> None:
        _time(deadline_ns)
        if key in self._timers:
            raise ValueError(f"{key!r} is in the wheel already; move() changes its deadline")
        self._set(key, key, deadline_ns)

    def cancel(self, key: Hashable) -> bool:
        return self._timers.pop(key, None) is not None

    def move(self, key: Any, deadline_ns: int) -> bool:
        _time(deadline_ns)
        timer = self._timers.get(key)
        if timer is None:
            return False
        self._set(key, timer[2], deadline_ns)
        return True

    def advance(self, now_ns: int) -> list[Any]:
        self._now = max(self._now, _time(now_ns) // self.tick_ns)
        due = [timer for timer in self._timers.values() if self._tick(timer[0]) <= self._now]
        due.sort(key=lambda timer: timer[:2])
        for timer in due:
            del self._timers[timer[2]]
        return [timer[2] for timer in due]

    def next_deadline_ns(self) -> int | None:
        if not self._timers:
            return None
        first = min(self._tick(timer[0]) for timer in self._timers.values())
        return max(first, self._now) * self.tick_ns

    def clear(self) -> None:
        old, self._timers = self._timers, {}
        old.clear()

    def check(self) -> None:
        pass

    def _set(self, key: Any, held: Any, deadline_ns: int) -> None:
        self._timers[key] = (deadline_ns, self._added, held)
        self._added += 1

    def _tick(self, time_ns: int) -> int:
        """The first tick that is not before a time."""
        return -(-time_ns // self.tick_ns)
