"""Counters and log-linear histograms that many threads write without a lock.

Every word is a relaxed atomic, so nothing that is recorded is lost, with or without the GIL, and a reader stops no
writer. What a reader sees of a histogram under writers is a recent state of each word: its buckets are exact, and the
sum and the extremes may be ahead of them by the records that are under way.

A histogram is a ``histogram_t`` of the caller's own: ``histogram_init``, ``histogram_record``, ``histogram_free``. Or
borrow that of a ``Histogram`` or the ``counter_t`` of a ``Counter``, which live as long as their objects.
"""

cimport cython
from libc.stdint cimport int64_t, uint64_t


cdef extern from "meter.h" nogil:
    uint64_t meter_get(const uint64_t* word) noexcept
    void meter_set(uint64_t* word, uint64_t value) noexcept
    void meter_add(uint64_t* word, uint64_t count) noexcept
    uint64_t meter_swap(uint64_t* word, uint64_t value) noexcept
    int64_t meter_get_signed(const int64_t* word) noexcept
    int64_t meter_swap_signed(int64_t* word, int64_t value) noexcept
    void meter_lower(int64_t* word, int64_t value) noexcept
    void meter_raise(int64_t* word, int64_t value) noexcept
    int64_t meter_bucket(int64_t value, int sub_bits) noexcept
    int64_t meter_bucket_first(int64_t bucket, int sub_bits) noexcept


ctypedef struct counter_t:
    uint64_t value


ctypedef struct histogram_t:
    uint64_t* counts
    int64_t value_max
    int64_t bucket_count
    int sub_bits
    int64_t smallest  # INT64_MAX where there is none
    int64_t largest  # -1 where there is none
    uint64_t sum  # modulo 2**64
    uint64_t clamped


# What is known of all values at once; smallest and largest are 0 where count is.
ctypedef struct histogram_span_t:
    uint64_t count
    int64_t smallest
    int64_t largest


cdef enum:
    SUB_BITS_MAX = 14


# Zeroed buckets. ``value_max`` is from 1 to 2**61 - 1 and ``sub_bits`` from 1 to SUB_BITS_MAX. MemoryError.
cdef int histogram_init(histogram_t* self, int64_t value_max, int sub_bits) except -1 nogil

# Tolerates a zeroed struct and a second call.
cdef void histogram_free(histogram_t* self) noexcept nogil

# Many values in one go: cheaper by half.
cdef void histogram_record_many(histogram_t* self, const int64_t* values, size_t count) noexcept nogil

# Adds all of ``other``, which has the same value_max and sub_bits.
cdef void histogram_merge(histogram_t* self, const histogram_t* other) noexcept nogil

# Moves everything into ``into`` (of the same shape; NULL drops it). A record under way lands here or there, never in
# both or in none.
cdef void histogram_take(histogram_t* self, histogram_t* into) noexcept nogil

cdef void histogram_span(const histogram_t* self, histogram_span_t* span) noexcept nogil


cdef inline void counter_add(counter_t* self, uint64_t count) noexcept nogil:
    meter_add(&self.value, count)


cdef inline uint64_t counter_value(const counter_t* self) noexcept nogil:
    return meter_get(&self.value)


cdef inline int64_t histogram_clamp(histogram_t* self, int64_t value) noexcept nogil:
    """What is recorded in the place of a value out of range. Counts it."""
    meter_add(&self.clamped, 1)
    return 0 if value < 0 else self.value_max


cdef inline void histogram_record(histogram_t* self, int64_t value) noexcept nogil:
    """Any number of threads. Out of range, the nearest value in range is recorded, and ``clamped`` grows."""
    if <uint64_t>value > <uint64_t>self.value_max:
        value = histogram_clamp(self, value)
    if value < meter_get_signed(&self.smallest):
        meter_lower(&self.smallest, value)
    if value > meter_get_signed(&self.largest):
        meter_raise(&self.largest, value)
    meter_add(&self.sum, <uint64_t>value)
    meter_add(&self.counts[meter_bucket(value, self.sub_bits)], 1)


cdef inline void histogram_record_alone(histogram_t* self, int64_t value) noexcept nogil:
    """The same for the only thread that writes: a few times cheaper. Others may read meanwhile."""
    cdef uint64_t* tally
    if <uint64_t>value > <uint64_t>self.value_max:
        value = histogram_clamp(self, value)
    if value < meter_get_signed(&self.smallest):
        meter_lower(&self.smallest, value)
    if value > meter_get_signed(&self.largest):
        meter_raise(&self.largest, value)
    meter_set(&self.sum, meter_get(&self.sum) + <uint64_t>value)
    tally = &self.counts[meter_bucket(value, self.sub_bits)]
    meter_set(tally, meter_get(tally) + 1)


cdef inline void histogram_record_times_alone(histogram_t* self, int64_t value, uint64_t times) noexcept nogil:
    """The same value several times, for the only thread that writes."""
    cdef uint64_t* tally
    if times == 0:
        return
    histogram_record_alone(self, value)
    value = min(max(value, 0), self.value_max)
    meter_set(&self.sum, meter_get(&self.sum) + <uint64_t>value * (times - 1))
    tally = &self.counts[meter_bucket(value, self.sub_bits)]
    meter_set(tally, meter_get(tally) + times - 1)


@cython.final
cdef class Counter:
    cdef counter_t counter


@cython.final
cdef class Histogram:
    cdef histogram_t histogram
    cdef Histogram twin(self)
    cdef int same_shape(self, other) except -1
    cdef int record_buffer(self, values) except -1


@cython.final
cdef class Meter:
    cdef dict families  # name -> {labels: Counter or Histogram}
    cdef dict kinds  # name -> the class
    cdef readonly Py_ssize_t names_max
    cdef readonly Py_ssize_t series_max
    cdef int64_t value_max
    cdef int sub_bits
    cdef uint64_t collapses
    cdef object find(self, type kind, name, labels)
    cdef Py_ssize_t own_names(self) except -1
    cdef object keep(self, type kind, str name, tuple labels)
