"""Counters and log-linear histograms in plain Python: the specification of ``erlmcp._core.meter``."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Any

from erlmcp.errors import ConfigurationError

WORD = 1 << 64
VALUE_LIMIT = (1 << 61) - 1
SUB_BITS_LIMIT = 14
TEXT_CHARS_MAX = 200
LABELS_MAX = 16
OTHER = "other"
NEVER = 1 << 63  # above every value


class Counter:
    """A count that only grows, modulo 2**64."""

    def __init__(self) -> None:
        self._value = 0

    @property
    def value(self) -> int:
        return self._value % WORD

    def inc(self) -> None:
        self._value += 1

    def inc_many(self, times: int) -> None:
        self.add(times)

    def add(self, count: int) -> None:
        count = operator.index(count)
        if not 0 <= count < 1 << 63:
            raise ValueError(f"a counter grows by 0 to {(1 << 63) - 1}, got {count}")
        self._value += count

    def take(self) -> int:
        taken, self._value = self._value, 0
        return taken % WORD


class Histogram:
    """Below ``2 * 2**sub_bits`` each value has a bucket of its own; above, each power of two has ``2**sub_bits``."""

    def __init__(self, value_max: int = (1 << 44) - 1, sub_bits: int = 7) -> None:
        if not 1 <= sub_bits <= SUB_BITS_LIMIT:
            raise ValueError(f"sub_bits is from 1 to {SUB_BITS_LIMIT}, got {sub_bits}")
        if not 1 <= value_max <= VALUE_LIMIT:
            raise ValueError(f"value_max is from 1 to {VALUE_LIMIT}, got {value_max}")
        self._value_max, self._sub_bits = value_max, sub_bits
        self.reset()

    @property
    def value_max(self) -> int:
        return self._value_max

    @property
    def sub_bits(self) -> int:
        return self._sub_bits

    @property
    def bucket_count(self) -> int:
        return self._bucket_of(self._value_max) + 1

    def _bucket_of(self, value: int) -> int:
        shift = max(0, value.bit_length() - 1 - self._sub_bits)
        return (shift << self._sub_bits) + (value >> shift)

    def _first(self, bucket: int) -> int:
        shift = max(0, (bucket >> self._sub_bits) - 1)
        return (bucket - (shift << self._sub_bits)) << shift

    def reset(self) -> None:
        self._counts = [0] * self.bucket_count
        self._sum = self._clamped = 0
        self._smallest, self._largest = NEVER, -1

    def record(self, value: int) -> None:
        kept = min(max(operator.index(value), 0), self._value_max)
        self._clamped += kept != value
        self._smallest, self._largest = min(self._smallest, kept), max(self._largest, kept)
        self._sum += kept
        self._counts[self._bucket_of(kept)] += 1

    def record_many(self, values: Any) -> None:
        if isinstance(values, list | tuple):
            for value in values:
                self.record(value)
            return
        view = memoryview(values)
        if view.itemsize != 8 or view.format not in ("d", "l", "q"):
            raise TypeError(f"record_many takes int64 or float64, got a buffer of format {view.format}")
        if not view.c_contiguous:
            raise BufferError("record_many takes a contiguous buffer")
        numbers: list[Any] = view.cast("B").cast("d" if view.format == "d" else "q").tolist() if view.nbytes else []
        if any(number != number for number in numbers):
            raise ValueError("record_many got a value that is not a number")
        for number in numbers:
            self.record(int(min(max(number, -1 << 62), 1 << 62)))

    def record_range(self, first: int, count: int) -> None:
        for value in range(first, first + count):
            self.record(value)

    def _span(self) -> tuple[int, int, int]:
        """The number of values, and the smallest and the largest as exactly as they are known."""
        filled = [bucket for bucket, count in enumerate(self._counts) if count]
        if not filled:
            return 0, 0, 0
        low, high = filled[0], filled[-1]
        smallest = max(self._first(low), min(self._smallest, self._first(low + 1) - 1, self._value_max))
        largest = max(self._first(high), min(self._largest, self._first(high + 1) - 1, self._value_max))
        return sum(self._counts), smallest, largest

    @property
    def count(self) -> int:
        return sum(self._counts)

    @property
    def min(self) -> int:
        return self._span()[1]

    @property
    def max(self) -> int:
        return self._span()[2]

    @property
    def sum(self) -> int:
        return self._sum % WORD

    @property
    def mean(self) -> float:
        count = self.count
        return float(self.sum) / count if count else 0.0

    @property
    def clamped(self) -> int:
        return self._clamped

    def percentile(self, percent: float) -> float:
        if not 0.0 <= percent <= 100.0:
            raise ValueError(f"percent is from 0 to 100, got {percent}")
        count, smallest, largest = self._span()
        wanted, seen = percent / 100.0 * count, 0
        for bucket, held in enumerate(self._counts):
            seen += held
            if seen and seen >= wanted:
                middle = (self._first(bucket) + self._first(bucket + 1) - 1) / 2.0
                return min(max(middle, float(smallest)), float(largest))
        return 0.0

    def percentiles(self, percents: Iterable[float]) -> list[float]:
        return [self.percentile(percent) for percent in percents]

    def counts_upto(self, bounds: Sequence[int]) -> list[int]:
        if list(bounds) != sorted(bounds):
            raise ValueError("bounds must ascend")
        held = [(first + last, count) for first, last, count in self.buckets()]
        return [sum(count for ends, count in held if ends <= 2 * bound) for bound in map(operator.index, bounds)]

    def _same_shape(self, other: Histogram) -> None:
        if not isinstance(other, Histogram):
            raise TypeError(f"a Histogram is wanted, not {type(other).__name__}")
        if (other.value_max, other.sub_bits) != (self.value_max, self.sub_bits):
            raise ValueError(
                f"histograms must have the same value_max and sub_bits: {self.value_max}, {self.sub_bits} "
                f"and {other.value_max}, {other.sub_bits}"
            )

    def merge(self, other: Histogram) -> None:
        self._same_shape(other)
        self._counts = [mine + more for mine, more in zip(self._counts, other._counts, strict=True)]
        self._sum += other._sum
        self._clamped += other._clamped
        self._smallest = min(self._smallest, other._smallest)
        self._largest = max(self._largest, other._largest)

    def subtract(self, other: Histogram) -> None:
        self._same_shape(other)
        if any(mine < less for mine, less in zip(self._counts, other._counts, strict=True)):
            raise ValueError("the other histogram holds values that this one does not")
        if not 0 <= self._clamped - other._clamped <= self.count - other.count:
            raise ValueError("the other histogram holds values that this one does not")
        self._counts = [mine - less for mine, less in zip(self._counts, other._counts, strict=True)]
        self._sum -= other._sum
        self._clamped -= other._clamped

    def copy(self) -> Histogram:
        made = Histogram(self.value_max, self.sub_bits)
        made.merge(self)
        return made

    def take(self) -> Histogram:
        taken = self.copy()
        self.reset()
        return taken

    def snapshot(self) -> Any:
        import numpy

        return numpy.array(self._counts, dtype=numpy.uint64)

    def bounds(self) -> Any:
        import numpy

        return numpy.array([self._first(bucket) for bucket in range(self.bucket_count + 1)], dtype=numpy.int64)

    def buckets(self) -> list[tuple[int, int, int]]:
        held = [(bucket, count) for bucket, count in enumerate(self._counts) if count]
        return [(self._first(bucket), self._first(bucket + 1) - 1, count) for bucket, count in held]

    def check(self) -> None:
        assert len(self._counts) == self.bucket_count, "buckets are missing"
        assert self._bucket_of(self._value_max) == self.bucket_count - 1, "the last bucket is not that of value_max"
        assert min(self._counts) >= 0, "a count is negative"
        assert 0 <= self._clamped <= self.count, "more values were clamped than recorded"


Labels = tuple[tuple[str, str], ...]


def _check_text(what: str, text: str) -> None:
    if type(text) is not str:
        raise TypeError(f"a {what} is a str, not {type(text).__name__}")
    if not 1 <= len(text) <= TEXT_CHARS_MAX:
        raise ValueError(f"a {what} has 1 to {TEXT_CHARS_MAX} characters, got {len(text)}")


def _check_labels(labels: dict[str, str] | None) -> tuple[Labels, bool]:
    """The labels in order, and whether each value is short enough to be one."""
    if labels is None:
        return (), True
    if type(labels) is not dict:
        raise TypeError(f"labels are a dict, not {type(labels).__name__}")
    if len(labels) > LABELS_MAX:
        raise ValueError(f"a series has at most {LABELS_MAX} labels, got {len(labels)}")
    for key, value in labels.items():
        _check_text("label", key)
        if type(value) is not str:
            raise TypeError(f"a label's value is a str, not {type(value).__name__}")
    return tuple(sorted(labels.items())), all(len(value) <= TEXT_CHARS_MAX for value in labels.values())


class Meter:
    """Counters and histograms by name and labels, a bounded number of them."""

    def __init__(
        self, names_max: int = 256, series_max: int = 256, *, value_max: int = (1 << 44) - 1, sub_bits: int = 7
    ) -> None:
        if names_max < 1 or series_max < 1:
            raise ValueError(f"names_max and series_max are at least 1, got {names_max} and {series_max}")
        Histogram(value_max, sub_bits)
        self._names_max, self._series_max = names_max, series_max
        self._value_max, self._sub_bits = value_max, sub_bits
        self._collapsed = 0
        self._kinds: dict[str, type] = {}
        self._families: dict[str, dict[Labels, Any]] = {}

    @property
    def names_max(self) -> int:
        return self._names_max

    @property
    def series_max(self) -> int:
        return self._series_max

    @property
    def collapsed(self) -> int:
        return self._collapsed

    def __len__(self) -> int:
        return sum(len(family) for family in self._families.values())

    def counter(self, name: str, labels: dict[str, str] | None = None) -> Counter:
        found: Counter = self._find(Counter, name, labels)
        return found

    def histogram(self, name: str, labels: dict[str, str] | None = None) -> Histogram:
        found: Histogram = self._find(Histogram, name, labels)
        return found

    def _find(self, kind: type, name: str, labels: dict[str, str] | None) -> Any:
        _check_text("name", name)
        wanted, is_short = _check_labels(labels)
        others = {"other_counter": Counter, "other_histogram": Histogram}
        if self._kinds.get(name, kind) is not kind or others.get(name, kind) is not kind:
            raise ConfigurationError(f"{name!r} is not the name of a {kind.__name__.lower()}; take another name")
        is_known = name in self._families or name in others
        if not is_known and len(self._families.keys() - others.keys()) >= self._names_max:
            self._collapsed += 1
            name, wanted = f"other_{kind.__name__.lower()}", ()
        family = self._families.get(name, {})
        keys = [key for key, _ in wanted]
        for first in family:
            if [key for key, _ in first] != keys:
                raise ConfigurationError(f"{name!r} has the labels {[key for key, _ in first]}, not {keys}")
            break
        if wanted not in family and (len(family) >= self._series_max or not is_short):
            self._collapsed += 1
            wanted = tuple((key, OTHER) for key in keys)
        if wanted not in family:
            made = Counter() if kind is Counter else Histogram(self._value_max, self._sub_bits)
            self._kinds.setdefault(name, kind)
            family = self._families.setdefault(name, family)
            return family.setdefault(wanted, made)
        return family[wanted]

    def series(self) -> list[tuple[str, Labels, Any]]:
        families = list(self._families.items())
        return [(name, labels, kept) for name, family in families for labels, kept in list(family.items())]

    def snapshot(self) -> list[tuple[str, Labels, Any]]:
        return [
            (name, labels, kept.value if isinstance(kept, Counter) else kept.copy())
            for name, labels, kept in self.series()
        ]

    def check(self) -> None:
        assert self._kinds.keys() == self._families.keys(), "a family has no kind"
        assert len(self._families) <= self._names_max + 2, "more names than names_max"
        for name, family in self._families.items():
            assert 1 <= len(family) <= self._series_max + 1, f"{name} has more series than series_max"
