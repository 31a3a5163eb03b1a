"""What a recorder keeps: series of durations by labels, groups of them, and numbers that are asked for."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Mapping
from typing import Any, Final

from erlmcp import core
from erlmcp.metrics import family as f
from erlmcp.metrics.window import Counts, Window

VALUE_MAX: Final = (1 << 40) - 1  # nanoseconds: 18 minutes
SUB_BITS: Final = 6  # 0.8 %

Row = dict[str, Any]  # of a table that is shown
Labels = tuple[tuple[str, str], ...]
Values = float | Mapping[Labels, float]
NO_LABELS: Final[Labels] = ()


class Series:
    """One label set of a family. ``hot`` is written by the owner's thread alone, or by others through ``record``."""

    __slots__ = ("exemplars", "family", "groups", "hot", "labels", "texts", "total", "window")

    def __init__(self, family: f.Family, labels: Labels, total: core.Histogram) -> None:
        self.family = family
        self.labels = labels
        self.groups: list[Group] = []
        self.exemplars: dict[int, tuple[str, int, float]] = {}  # by bucket: trace id, nanoseconds, time of day
        self.texts: dict[str, str] = {}  # kept by an exporter
        self.total = total
        self.hot = core.Histogram(VALUE_MAX, SUB_BITS)
        self.window = Window() if family.is_windowed else None

    def drain(self, second: int) -> Counts | None:
        """Move what came since the last time to the total and the window; what that was, None where nothing came."""
        if not self.hot.sum:  # every recorded duration is 1 ns or more
            return None
        fresh = self.hot.take()
        self.total.merge(fresh)
        if self.window is None:
            return None
        counts = {first + last: count for first, last, count in fresh.buckets()}
        self.window.put(second, counts)
        return counts

    def keep(self, trace: str, duration_ns: int) -> None:
        """Remember a request of a trace as the example of its bucket."""
        if trace:
            bucket = bisect_left(f.MICROSECONDS_BOUNDS, duration_ns / 1000)
            self.exemplars[bucket] = trace, duration_ns, time.time()

    def whole(self) -> core.Histogram:
        """Everything since the beginning."""
        if not self.hot.sum:
            return self.total
        found = self.total.copy()
        found.merge(self.hot)
        return found

    def label(self, name: str) -> str:
        return dict(self.labels).get(name, "")


class Group:
    """All series of requests that have something in common, put together as they are drained: a question costs what one
    series does."""

    __slots__ = ("errors", "fresh", "fresh_errors", "window")

    def __init__(self) -> None:
        self.window, self.errors = Window(), Window()
        self.fresh: Counts = {}
        self.fresh_errors: Counts = {}

    def settle(self, second: int) -> None:
        """The second is over."""
        if self.fresh:
            self.window.put(second, self.fresh)
            self.fresh = {}
        if self.fresh_errors:
            self.errors.put(second, self.fresh_errors)
            self.fresh_errors = {}


class Gauge:
    """A number, or one for each label set, that is asked for when somebody reads. ``kind`` is gauge or counter."""

    __slots__ = ("help", "kind", "name", "read")

    def __init__(self, name: str, help: str, kind: str, read: Callable[[], Values]) -> None:
        self.name = name
        self.help = help
        self.kind = kind
        self.read = read


NO_GROUP: Final = Group()
