"""How many calls a server should have in flight, by the gradient of their latency.

The mean of ten answers' latencies is compared with that of the last minute. Their ratio, the gradient, says whether a
line is forming: 1 where answers take what they always took, 0.5 where they take twice as long or more. The limit
follows ``limit * gradient + headroom``, where the headroom (the root of the limit) is the line that is allowed for
bursts; the fixed point of it is a line of about that length (Netflix's concurrency-limits, Gradient2, 2018; in the line
of TCP Vegas: Brakmo and Peterson, 1995). ``tolerance`` times as long is taken for the usual spread.

Two things make it quick where a crowd comes out of nothing. What is allowed and not used says nothing: a limit that
falls begins at twice what is in flight (as TCP halves what is in flight, and not its window: RFC 5681, 3.1). And nobody
waits for the end of a call to see the line: one that already took ``overdue_ns`` may be counted with that.

A server that stays slow is taken for one that is so: the mean follows. One that becomes fast again is believed at once:
the mean is drawn down where it is far above what is seen.

What is not known: whether an answer was slow for its own sake. Whoever feeds it latencies of different kinds of calls
divides each by what is usual for its kind.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

SECOND_NS: Final = 1_000_000_000
NEVER: Final = 1 << 62


@dataclass(slots=True)
class GradientSize:
    """The limit of one server: ``count_min`` <= ``limit`` <= ``count_max``. The same face as ``InflightSize``."""

    count_min: int
    count_max: int
    tolerance: float = 1.5
    step_count: int = 10  # answers that make a step
    memory_ns: int = 60 * SECOND_NS  # what the mean is over
    _limit: float = field(default=0.0, init=False)
    _mean_ns: float = field(default=0.0, init=False)
    _followed_ns: int = field(default=0, init=False)  # when the mean was last
    _followed_count: int = field(default=0, init=False)
    _sum_ns: float = field(default=0.0, init=False)  # of the answers since the last step
    _count: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if not 1 <= self.count_min <= self.count_max:
            raise ValueError(f"1 <= count_min <= count_max wanted: {self.count_min}, {self.count_max}")
        if self.tolerance < 1 or self.step_count < 1 or self.memory_ns < 1:
            raise ValueError("tolerance, step_count and memory_ns are at least 1")
        self._limit = float(self.count_max)

    @property
    def limit(self) -> int:
        return int(self._limit)

    @property
    def overdue_ns(self) -> float:
        """A call that took longer so far is to be counted as answered now: its end would say no more. 0: not known."""
        return 2 * self.tolerance * self._mean_ns

    def answered(self, now_ns: int, latency_ns: float, *, is_full: bool, inflight: int = NEVER) -> int:
        """An answer came; the limit from now on. ``is_full``: the limit is what held calls back, or near it;
        ``inflight``: the calls in flight with it."""
        self._sum_ns += latency_ns
        self._count += 1
        if self._count < self.step_count:
            return self.limit
        seen_ns = max(self._sum_ns / self._count, 1.0)
        self._sum_ns, self._count = 0.0, 0
        self._follow(now_ns, seen_ns)
        gradient = max(0.5, min(1.0, self.tolerance * self._mean_ns / seen_ns))
        if gradient == 1.0 and not is_full:
            return self.limit  # nothing is learned of a server that is not asked for more
        base = self._limit if gradient == 1.0 else min(self._limit, 2.0 * inflight)
        self._limit = max(float(self.count_min), min(float(self.count_max), base * gradient + math.sqrt(base)))
        return self.limit

    def _follow(self, now_ns: int, seen_ns: float) -> None:
        """The mean, by what was seen since the last step."""
        self._followed_count += 1
        weight = max(1 / self._followed_count, (now_ns - self._followed_ns) / self.memory_ns)
        self._followed_ns = now_ns
        self._mean_ns += (seen_ns - self._mean_ns) * min(1.0, weight)
        if self._mean_ns > 2 * seen_ns:
            self._mean_ns *= 0.95

    def slowed(self) -> int:
        """Calls were not answered in time; the limit from now on."""
        self._limit = max(float(self.count_min), self._limit * 0.9)
        return self.limit
