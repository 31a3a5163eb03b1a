"""Counts of durations, log-linear."""

cimport cython
from libc.stdint cimport int64_t

cdef enum:
    SUB_BITS = 7
    SUB_COUNT = 1 << SUB_BITS
    VALUE_BITS = 42
    BUCKET_COUNT = (VALUE_BITS - SUB_BITS + 1) * SUB_COUNT


@cython.final
cdef class Histogram:
    cdef int64_t counts[BUCKET_COUNT]
    cdef int64_t total, smallest, largest
    cdef double summed

    cdef void add(self, int64_t value) noexcept nogil
