"""How many calls a server should have in flight, by the gradient of their latency.

Each answer's latency is compared with the mean of the last hundreds. Their ratio, the gradient, says whether a line is
forming: 1 where answers take what they always took, 0.5 where they take twice as long or more. The limit follows
``limit * gradient + headroom``, where the headroom (the root of the limit) is the line that is allowed for bursts; the
fixed point of it is a line of about that length (Netflix's concurrency-limits, Gradient2, 2018; in the line of TCP
Vegas: Brakmo and Peterson, 1995). ``tolerance`` times as long is taken for the usual spread. One call at a time is to
be timed, which makes a step a round trip: the answers of one crowd all say the same.

A server that stays slow is taken for one that is so: the mean follows. One that becomes fast again is believed at once:
the mean is drawn down where it is far above what is seen.

What is not known: whether an answer was slow for its own sake. Whoever feeds it latencies of different kinds of calls
divides each by what is usual for its kind.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass(slots=True)
class GradientSize:
    """The limit of one server: ``count_min`` <= ``limit`` <= ``count_max``. The same face as ``InflightSize``."""

    count_min: int
    count_max: int
    tolerance: float = 1.5
    smoothing: float = 0.2
    memory: int = 600  # answers that the mean is over
    _limit: float = field(default=0.0, init=False)
    _mean_ns: float = field(default=0.0, init=False)
    _seen: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if not 1 <= self.count_min <= self.count_max:
            raise ValueError(f"1 <= count_min <= count_max wanted: {self.count_min}, {self.count_max}")
        if self.tolerance < 1 or not 0 < self.smoothing <= 1 or self.memory < 1:
            raise ValueError("tolerance is at least 1, smoothing above 0 and at most 1, memory at least 1")
        self._limit = float(self.count_max)

    @property
    def limit(self) -> int:
        return int(self._limit)

    def answered(self, now_ns: int, latency_ns: float, *, is_full: bool) -> int:
        """An answer came; the limit from now on. ``is_full``: the limit is what held calls back, or near it."""
        self._seen += 1
        weight = 1 / min(self._seen, self.memory)
        self._mean_ns += (latency_ns - self._mean_ns) * weight
        if self._mean_ns > 2 * latency_ns:
            self._mean_ns *= 0.95
        gradient = max(0.5, min(1.0, self.tolerance * self._mean_ns / max(latency_ns, 1)))
        if gradient == 1.0 and not is_full:
            return self.limit  # nothing is learned of a server that is not asked for more
        wanted = self._limit * gradient + math.sqrt(self._limit)
        self._limit += (wanted - self._limit) * self.smoothing
        self._limit = max(float(self.count_min), min(float(self.count_max), self._limit))
        return self.limit

    def slowed(self) -> int:
        """Calls were not answered in time; the limit from now on."""
        self._limit = max(float(self.count_min), self._limit * 0.9)
        return self.limit
