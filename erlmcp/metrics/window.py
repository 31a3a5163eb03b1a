"""The durations of the last second, minute, five minutes and hour, kept sparse.

Operations wanted: put what a second brought (some dozens of buckets of a histogram), and ask at any time how many there
were in a span and which percentiles they have. A span is cut into sixty slots of one, five or sixty seconds; what is
asked for is the sum of the slots, kept up to date by adding the newest and taking away those that have left. So a
second costs what it brought, an idle series costs nothing, and a question costs a walk over the buckets in use.

Invariant: ``total`` of a level is the sum of its slots, and no slot is empty. A span covers its last 59 whole slots and
the one under way: it slides by a slot, which is at most 1/60 of it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

# Twice the middle of a bucket (a whole number) -> how many values fell into it.
Counts = dict[int, int]

SECOND, MINUTE, FIVE_MINUTES, HOUR = "1s", "1m", "5m", "1h"
SPANS: Final = (SECOND, MINUTE, FIVE_MINUTES, HOUR)
SLOT_COUNT: Final = 60
WIDTH_S: Final = {MINUTE: 1, FIVE_MINUTES: 5, HOUR: 60}
PERCENTS: Final = (50.0, 95.0, 99.0, 99.9)
NOTHING: Final[Mapping[int, int]] = {}


def add(counts: Counts, more: Mapping[int, int]) -> None:
    """Add ``more`` to ``counts``."""
    for key, count in more.items():
        counts[key] = counts.get(key, 0) + count


def percentiles(counts: Mapping[int, int], percents: Sequence[float] = PERCENTS) -> list[float]:
    """The smallest value that each percent (ascending) of all values do not exceed, to the middle of its bucket; zeros
    where there are none."""
    total = sum(counts.values())
    if not total:
        return [0.0] * len(percents)
    found: list[float] = []
    wanted = [max(1, math.ceil(percent / 100 * total)) for percent in percents]
    seen = 0
    for key in sorted(counts):
        seen += counts[key]
        while len(found) < len(wanted) and seen >= wanted[len(found)]:
            found.append(key / 2)
        if len(found) == len(wanted):
            break
    return found


class Level:
    """One span: slots of ``width`` seconds, and their sum."""

    __slots__ = ("slots", "total", "width")

    def __init__(self, width: int) -> None:
        self.width = width
        self.slots: deque[tuple[int, Counts]] = deque()
        self.total: Counts = {}

    def put(self, second: int, fresh: Mapping[int, int]) -> None:
        slot = second // self.width
        self.expire(second)
        if self.slots and self.slots[-1][0] == slot:
            add(self.slots[-1][1], fresh)
        else:
            self.slots.append((slot, dict(fresh)))
        add(self.total, fresh)

    def expire(self, second: int) -> None:
        """Take away what has left the span."""
        oldest = second // self.width - SLOT_COUNT
        while self.slots and self.slots[0][0] <= oldest:
            for key, count in self.slots.popleft()[1].items():
                left = self.total[key] - count
                if left:
                    self.total[key] = left
                else:
                    del self.total[key]


class Window:
    """The sliding spans of one series. ``second`` counts up from the recorder's beginning and never goes back."""

    __slots__ = ("last", "last_second", "levels")

    def __init__(self) -> None:
        self.last: Mapping[int, int] = NOTHING
        self.last_second = -1
        self.levels = {span: Level(width) for span, width in WIDTH_S.items()}

    def put(self, second: int, fresh: Mapping[int, int]) -> None:
        """What the second brought."""
        self.last, self.last_second = fresh, second
        for level in self.levels.values():
            level.put(second, fresh)

    def counts(self, span: str, second: int) -> Mapping[int, int]:
        """The counts of a span that ends with ``second``: borrowed, until the next call."""
        if span == SECOND:
            return self.last if self.last_second == second else NOTHING
        level = self.levels[span]
        level.expire(second)
        return level.total


def seconds_of(span: str, second: int) -> int:
    """How many seconds a span covers that ends with ``second``: fewer than its name says where there were not as many
    yet."""
    if span == SECOND:
        return 1
    width = WIDTH_S[span]
    return min(second + 1, (SLOT_COUNT - 1) * width + second % width + 1)


def merged(parts: Iterable[Mapping[int, int]]) -> Counts:
    """The sum of several counts."""
    found: Counts = {}
    for part in parts:
        add(found, part)
    return found


def check(window: Window) -> None:
    """AssertionError where a level's sum is not that of its slots."""
    for span, level in window.levels.items():
        assert level.total == merged(counts for _, counts in level.slots), f"{span}: the sum is wrong"
        assert all(counts and all(counts.values()) for _, counts in level.slots), f"{span}: a slot is empty"
        assert [slot for slot, _ in level.slots] == sorted({slot for slot, _ in level.slots}), f"{span}: out of order"
