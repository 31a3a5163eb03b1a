"""Counts of durations, log-linear: each power of two is cut into 128 equal buckets, so a value is known within 0.8 %.

What is reported is the middle of a bucket, which halves the error. The buckets lie in one flat array (36 KB): recording
is a count of leading zeros, a shift and an increment.
"""

cimport cython
from libc.stdint cimport int64_t


cdef extern from *:
    int __builtin_clzll(unsigned long long value) nogil


cdef int64_t VALUE_MAX = (<int64_t>1 << VALUE_BITS) - 1


cdef inline int bucket_of(int64_t value) noexcept nogil:
    """Below 2 * SUB_COUNT each value has a bucket; above, each power of two has SUB_COUNT of them."""
    if value < 2 * SUB_COUNT:
        return <int>value
    cdef int shift = 63 - SUB_BITS - __builtin_clzll(<unsigned long long>value)
    return shift * SUB_COUNT + <int>(value >> shift)


cdef inline int64_t bucket_first(int bucket) noexcept nogil:
    """The smallest value of the bucket."""
    if bucket < 2 * SUB_COUNT:
        return bucket
    cdef int shift = (bucket >> SUB_BITS) - 1
    return <int64_t>(bucket - shift * SUB_COUNT) << shift


@cython.final
cdef class Histogram:
    cdef void add(self, int64_t value) noexcept nogil:
        if value < 0:
            value = 0
        elif value > VALUE_MAX:
            value = VALUE_MAX
        self.counts[bucket_of(value)] += 1
        if self.total == 0 or value < self.smallest:
            self.smallest = value
        if value > self.largest:
            self.largest = value
        self.total += 1
        self.summed += <double>value

    def record(self, int64_t value_ns):
        self.add(value_ns)

    def record_many(self, values_ns):
        cdef int64_t value
        for value in values_ns:
            self.add(value)

    def merge(self, Histogram other not None):
        cdef int i
        if other.total == 0:
            return
        for i in range(BUCKET_COUNT):
            self.counts[i] += other.counts[i]
        if self.total == 0 or other.smallest < self.smallest:
            self.smallest = other.smallest
        self.largest = max(self.largest, other.largest)
        self.total += other.total
        self.summed += other.summed

    def percentile(self, double percent):
        if not 0.0 <= percent <= 100.0:
            raise ValueError(f"percent must be within 0..100, got {percent}")
        if self.total == 0:
            return 0.0
        cdef double wanted = percent / 100.0 * self.total
        cdef int64_t seen = 0
        cdef int64_t first
        cdef int i
        for i in range(BUCKET_COUNT):
            seen += self.counts[i]
            if seen > 0 and seen >= wanted:
                first = bucket_first(i)
                # The middle of the bucket, which may lie outside of what was recorded at either end.
                return float(min(max((first + bucket_first(i + 1) - 1) / 2.0, self.smallest), self.largest))
        return float(self.largest)

    def buckets(self):
        filled = [i for i in range(BUCKET_COUNT) if self.counts[i]]
        return [(bucket_first(i), bucket_first(i + 1) - 1, self.counts[i]) for i in filled]

    @property
    def count(self):
        return self.total

    @property
    def min(self):
        return self.smallest

    @property
    def max(self):
        return self.largest

    @property
    def mean(self):
        return self.summed / self.total if self.total else 0.0
