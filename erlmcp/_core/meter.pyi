"""Counters, log-linear histograms, and a bounded set of them by name and labels."""

from collections.abc import Iterable, Sequence
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

@final
class Counter:
    """A count that only grows, modulo 2**64. Any number of threads may add, with or without the GIL."""

    def __init__(self) -> None: ...
    @property
    def value(self) -> int: ...
    def inc(self) -> None:
        """Adds 1."""
    def inc_many(self, times: int) -> None:
        """Adds 1 so often, one by one and without the GIL, as a loop of an embedder does: for tests and measuring."""
    def add(self, count: int, /) -> None:
        """ValueError for a negative count or one of more than 63 bits."""
    def take(self) -> int:
        """The value, and sets it to 0; what another thread adds meanwhile is in this value or in the next."""

@final
class Histogram:
    """Counts of whole numbers from 0 to ``value_max``, such as durations in nanoseconds, log-linear.

    Up to ``2 * 2**sub_bits`` each value has a bucket of its own; above, each power of two is cut into ``2**sub_bits``
    buckets. A percentile is the middle of the bucket that the exact one lies in, so it is off by at most
    ``2**-(sub_bits + 1)`` of it: 0.4 % with 7 bits, 0.8 % with 6. A histogram of the default shape takes 38 KiB; 19 KiB
    with 6 bits.

    A value out of range counts as the nearest one in range, and in ``clamped``.

    Any number of threads may record, read and take, with or without the GIL; no record is lost or counted twice. The
    reading methods walk over all buckets (some 2 us) and stop no writer: while others record, the buckets are exact,
    and ``sum``, ``mean``, ``min`` and ``max`` may be ahead of them by the records under way.
    """

    def __init__(self, value_max: int = 17592186044415, sub_bits: int = 7) -> None:
        """The default maximum is 2**44 - 1: in nanoseconds, 4.9 hours.

        ValueError where ``value_max`` is not from 1 to 2**61 - 1, or ``sub_bits`` not from 1 to 14.
        """
    @property
    def value_max(self) -> int: ...
    @property
    def sub_bits(self) -> int: ...
    @property
    def bucket_count(self) -> int: ...
    def record(self, value: int, /) -> None:
        """TypeError for what is no int."""
    def record_many(self, values: object) -> None:
        """A list or tuple of ints, or a contiguous buffer of int64 or float64 (``numpy.ndarray``, ``array.array``), of
        any shape; a buffer of 256 values or more without the GIL. Floats are cut to whole numbers.

        TypeError for another type: of a list, what came before it stays recorded. ValueError where a float is not a
        number, BufferError where the buffer is not contiguous; then nothing is recorded.
        """
    def record_range(self, first: int, count: int) -> None:
        """Records ``first``, ``first + 1`` ... one by one and without the GIL, as a loop of an embedder does: for tests
        and measuring.
        """
    @property
    def count(self) -> int:
        """How many values were recorded."""
    @property
    def min(self) -> int:
        """Exact, but after ``subtract``, or taken from under a writer, the first value of the lowest bucket in use.
        0 where nothing was recorded.
        """
    @property
    def max(self) -> int:
        """Exact, but after ``subtract``, or taken from under a writer, the last value of the highest bucket in use.
        0 where nothing was recorded.
        """
    @property
    def sum(self) -> int:
        """Exact, modulo 2**64."""
    @property
    def mean(self) -> float:
        """0.0 where nothing was recorded."""
    @property
    def clamped(self) -> int:
        """How many of the values were out of range."""
    def percentile(self, percent: float, /) -> float:
        """The smallest recorded value that ``percent`` of all values do not exceed, to the middle of its bucket; 0.0
        where nothing was recorded. ValueError for a percent that is not from 0 to 100.
        """
    def percentiles(self, percents: Iterable[float]) -> list[float]:
        """Several in one walk over the buckets."""
    def counts_upto(self, bounds: Sequence[int]) -> list[int]:
        """How many values do not exceed each bound, to the bucket that it lies in: what a Prometheus histogram gives as
        ``le``. ValueError where the bounds do not ascend.
        """
    def merge(self, other: Histogram, /) -> None:
        """Adds all that ``other`` holds. ValueError where it has another ``value_max`` or ``sub_bits``."""
    def subtract(self, other: Histogram, /) -> None:
        """Takes away what ``other``, an earlier ``copy`` of this histogram, holds; what is left came after it.

        ValueError where it has another shape, or holds what this one does not; then nothing is changed.
        """
    def copy(self) -> Histogram:
        """A histogram of its own with the same values."""
    def take(self) -> Histogram:
        """Moves all values out into a new histogram; what another thread records meanwhile is in it or stays here."""
    def reset(self) -> None:
        """Drops all values."""
    def snapshot(self) -> NDArray[np.uint64]:
        """The count of each bucket."""
    def bounds(self) -> NDArray[np.int64]:
        """The edges of the buckets, one more than there are buckets: bucket i is from ``bounds[i]`` to below
        ``bounds[i + 1]``, as ``numpy.histogram`` has it.
        """
    def buckets(self) -> list[tuple[int, int, int]]:
        """(first value, last value, count) of each bucket that holds something, ascending."""
    def check(self) -> None:
        """AssertionError where an invariant is broken; while no other thread records."""

Labels = tuple[tuple[str, str], ...]

@final
class Meter:
    """Counters and histograms by name and labels, for an exporter to read.

    Ask once and keep the ``Counter`` or ``Histogram``: the same name and labels give the same object. Bounded, however
    many names and label values arrive from outside: beyond ``series_max`` label sets of a name, or with a value of more
    than 200 characters, the series is the one whose labels are all "other"; beyond ``names_max`` names it is
    "other_counter" or "other_histogram", without labels. ``collapsed`` counts how often that was the answer. With the
    OpenTelemetry SDK this is the overflow attribute of its cardinality limit.

    Safe from several threads that hold the GIL; what it gives is safe from all.
    """

    names_max: Final[int]
    series_max: Final[int]
    def __init__(
        self, names_max: int = 256, series_max: int = 256, *, value_max: int = 17592186044415, sub_bits: int = 7
    ) -> None:
        """``value_max`` and ``sub_bits`` are those of the histograms. ValueError for what is out of range."""
    @property
    def collapsed(self) -> int: ...
    def __len__(self) -> int:
        """The number of series."""
    def counter(self, name: str, labels: dict[str, str] | None = None) -> Counter:
        """The counter of this name and these labels, new where there is none.

        ConfigurationError where the name is a histogram's, or its series have other label names. TypeError and
        ValueError for names that are not str of 1 to 200 characters, and for more than 16 labels.
        """
    def histogram(self, name: str, labels: dict[str, str] | None = None) -> Histogram:
        """The same for a histogram. MemoryError leaves the meter as it was."""
    def series(self) -> list[tuple[str, Labels, Counter | Histogram]]:
        """(name, labels in order, the object) of each series: all of a name together, in the order of their making."""
    def snapshot(self) -> list[tuple[str, Labels, int | Histogram]]:
        """As ``series``, with the value of each counter and a copy of each histogram."""
    def check(self) -> None:
        """AssertionError where an invariant is broken."""
