"""How many connections a pool should have: opened as they are asked for, kept as long as the demand was that high.

Demand is what was busy or waited at the same time. Its peak is remembered over two windows, the current and the one
before, so that a pause of less than a window does not throw away what the next burst needs, and so that one burst of
long ago keeps nothing open. After a failure to open, nothing more is opened for a while that doubles up to
``retry_ns_max``: who waits is served by what is open already.
"""

from __future__ import annotations

from dataclasses import dataclass, field

SECOND_NS = 1_000_000_000


@dataclass(slots=True)
class PoolSize:
    """The verdicts for one pool. ``count_min`` <= wanted <= ``count_max``; at most ``opening_count_max`` are opened at
    the same time."""

    count_min: int
    count_max: int
    opening_count_max: int = 16
    window_ns: int = 30 * SECOND_NS
    retry_ns: int = SECOND_NS // 10
    retry_ns_max: int = 10 * SECOND_NS
    _peak: int = field(default=0, init=False)
    _peak_before: int = field(default=0, init=False)
    _window_from_ns: int = field(default=0, init=False)
    _pause_ns: int = field(default=0, init=False)
    _closed_until_ns: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if not 0 <= self.count_min <= self.count_max or self.count_max < 1:
            raise ValueError(
                f"0 <= count_min <= count_max and count_max >= 1 wanted: {self.count_min}, {self.count_max}"
            )
        if self.opening_count_max < 1 or self.window_ns < 1:
            raise ValueError("opening_count_max and window_ns are at least 1")

    def observe(self, now_ns: int, demand: int) -> None:
        """``demand`` connections were, or would have been, in use at the same time."""
        self._turn(now_ns)
        self._peak = max(self._peak, demand)

    def wanted(self, now_ns: int) -> int:
        """How many should be open now."""
        self._turn(now_ns)
        return max(self.count_min, min(self.count_max, max(self._peak, self._peak_before)))

    def surplus(self, now_ns: int, count: int, idle_count: int) -> int:
        """How many of the idle ones to close."""
        return max(0, min(idle_count, count - self.wanted(now_ns)))

    def shortage(self, now_ns: int, count: int) -> int:
        """How many to open though nobody waits: up to ``count_min``, unless nothing was asked for in two windows."""
        self._turn(now_ns)
        if now_ns < self._closed_until_ns or not max(self._peak, self._peak_before):
            return 0
        return max(0, self.count_min - count)

    def growth(self, now_ns: int, count: int, opening_count: int, waiting_count: int, *, is_known: bool = True) -> int:
        """How many to begin to open now, for those that wait.

        ``is_known`` is false until one connection told whether it carries many exchanges at a time: until then there
        is one, as it may be enough for all.
        """
        if count and now_ns < self._closed_until_ns:
            return 0
        room = min(self.count_max - count, self.opening_count_max) - opening_count
        if not is_known:
            room = min(room, 1 - count - opening_count)
        return max(0, min(waiting_count - opening_count, room))

    def failed(self, now_ns: int) -> None:
        """One could not be opened."""
        self._pause_ns = min(max(self.retry_ns, 2 * self._pause_ns), self.retry_ns_max)
        self._closed_until_ns = now_ns + self._pause_ns

    def opened(self) -> None:
        """One was opened."""
        self._pause_ns = self._closed_until_ns = 0

    def _turn(self, now_ns: int) -> None:
        passed = now_ns - self._window_from_ns
        if passed >= self.window_ns:
            self._peak_before = self._peak if passed < 2 * self.window_ns else 0
            self._peak = 0
            self._window_from_ns = now_ns
