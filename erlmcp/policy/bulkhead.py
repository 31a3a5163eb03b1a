"""At most so many calls of a tool at a time, and a bounded line of those that wait for a place.

A place that becomes free goes to who waits longest, without becoming free in between: nobody passes the line.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final

from erlmcp import core

SECOND_NS: Final = 1_000_000_000
RETRY_S: Final = 1.0  # what a refused caller is told while nothing is known of how long a call takes


@dataclass(frozen=True, slots=True)
class BulkheadRule:
    """``count_max`` calls at a time; ``queue_max`` more wait for up to ``wait_s``."""

    count_max: int
    queue_max: int = 0
    wait_s: float = 1.0

    def __post_init__(self) -> None:
        if self.count_max < 1 or self.queue_max < 0 or not self.wait_s > 0:
            raise ValueError(
                "count_max at least 1, queue_max not negative and wait_s positive wanted: "
                f"{self.count_max}, {self.queue_max}, {self.wait_s}"
            )


class Bulkhead:
    """The places of one tool. ``places`` is the core's counter, which whoever is in a hurry may ask directly."""

    __slots__ = ("line", "places", "refused_count", "rule")

    def __init__(self, rule: BulkheadRule) -> None:
        self.rule = rule
        self.places = core.InflightLimit(rule.count_max)
        self.line: OrderedDict[Hashable, None] = OrderedDict()  # who waits, the longest first
        self.refused_count = 0

    @property
    def count(self) -> int:
        """Calls that have a place."""
        return self.places.count

    @property
    def waiting_count(self) -> int:
        return len(self.line)

    def enter(self) -> bool:
        """Whether there was a place, and nobody before."""
        return not self.line and self.places.enter()

    def join(self, who: Hashable) -> bool:
        """Stand in line; False where that is full."""
        if len(self.line) >= self.rule.queue_max:
            self.refused_count += 1
            return False
        self.line[who] = None
        return True

    def abandon(self, who: Hashable) -> bool:
        """Leave the line; False where ``who`` is not in it (any more): it may have a place by now."""
        if who not in self.line:
            return False
        del self.line[who]
        return True

    def leave(self) -> Hashable | None:
        """Give a place back. Gives who has it now, where somebody waited."""
        if self.line:
            return self.line.popitem(last=False)[0]
        self.places.leave()
        return None

    def wait_ns(self, typical_ns: int) -> int:
        """What a refused caller may be told: how long until those before it are through, if a call takes that long."""
        typical_ns = typical_ns or int(RETRY_S * SECOND_NS)
        return typical_ns * (len(self.line) + 1) // self.rule.count_max + 1
