"""Counts of durations, log-linear."""

from collections.abc import Iterable

class Histogram:
    """Counts of durations in nanoseconds, log-linear: any value it reports is within 0.4 % of one that was recorded.

    Values are clamped to 0 .. 2**42 - 1 (73 minutes).
    """

    def record(self, value_ns: int) -> None: ...
    def record_many(self, values_ns: Iterable[int]) -> None: ...
    def merge(self, other: Histogram) -> None:
        """Add all that ``other`` counted."""
    def percentile(self, percent: float) -> float:
        """The smallest recorded value (ns) that ``percent`` of all values do not exceed; 0.0 where there is none.

        Raises ValueError for a percent outside 0..100.
        """
    def buckets(self) -> list[tuple[int, int, int]]:
        """(first ns, last ns, count) of each bucket that holds something, ascending."""
    @property
    def count(self) -> int: ...
    @property
    def min(self) -> int:
        """Exact; 0 where nothing was recorded."""
    @property
    def max(self) -> int:
        """Exact; 0 where nothing was recorded."""
    @property
    def mean(self) -> float: ...
