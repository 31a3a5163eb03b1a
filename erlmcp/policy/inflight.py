"""How many requests to have in flight on one connection: more while answers stay fast, fewer when they become slow.

One request at a time is timed, which makes a step a round trip. The fastest of two windows is what the server needs
when it is not crowded; an answer that takes ``tolerance`` times as long came out of a line, and the limit shrinks by a
factor. Otherwise, and only while more wait than may be sent, it grows: twice as many each time until the first shrink,
one more each time after it (additive increase, multiplicative decrease: Chiu and Jain, 1989).

What is not known: whether an answer was slow for its own sake. Calls of very different length on one connection make
the limit smaller than it could be, never smaller than ``count_min``. A server that stays slow for two windows is taken
for one that is so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Final

SECOND_NS: Final = 1_000_000_000
NEVER: Final = 1 << 62


@dataclass(slots=True)
class InflightSize:
    """The limit of one connection: ``count_min`` <= ``limit`` <= ``count_max``."""

    count_min: int
    count_max: int
    tolerance: float = 4.0
    shrink: float = 0.75
    window_ns: int = 10 * SECOND_NS
    overdue_ns: ClassVar[float] = 0.0  # a timed request is counted when it is answered, and not before
    limit: int = field(default=0, init=False)
    _is_starting: bool = field(default=True, init=False)
    _fastest_ns: int = field(default=NEVER, init=False)
    _fastest_before_ns: int = field(default=NEVER, init=False)
    _window_from_ns: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if not 1 <= self.count_min <= self.count_max:
            raise ValueError(f"1 <= count_min <= count_max wanted: {self.count_min}, {self.count_max}")
        if self.tolerance <= 1 or not 0 < self.shrink < 1 or self.window_ns < 1:
            raise ValueError("tolerance is above 1, shrink between 0 and 1, window_ns at least 1")
        self.limit = self.count_min

    def answered(self, now_ns: int, latency_ns: int, *, is_full: bool, inflight: int = 0) -> int:
        """A timed request was answered; the limit from now on. ``is_full``: others wait for their turn; how many are
        in flight makes no difference here."""
        passed = now_ns - self._window_from_ns
        if passed >= self.window_ns:
            self._fastest_before_ns = self._fastest_ns if passed < 2 * self.window_ns else NEVER
            self._fastest_ns = NEVER
            self._window_from_ns = now_ns
        self._fastest_ns = min(self._fastest_ns, latency_ns)
        if latency_ns > self.tolerance * min(self._fastest_ns, self._fastest_before_ns):
            return self.slowed()
        if is_full:
            self.limit = min(self.count_max, 2 * self.limit if self._is_starting else self.limit + 1)
        return self.limit

    def slowed(self) -> int:
        """Requests were not answered in time, or slowly; the limit from now on."""
        self._is_starting = False
        self.limit = max(self.count_min, int(self.limit * self.shrink))
        return self.limit
