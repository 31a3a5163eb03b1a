"""C face of the batch. Hold the GIL."""

from libc.stdint cimport int64_t


cdef class Batch:
    cdef readonly Py_ssize_t count_max
    cdef readonly Py_ssize_t bytes_max
    cdef readonly int64_t age_ns
    cdef readonly Py_ssize_t held_bytes_max
    cdef readonly Py_ssize_t byte_count
    cdef public bint lone
    cdef Py_ssize_t count
    cdef int64_t first_ns
    cdef object first  # kept apart, so that a lone frame touches no list; bytes or None
    cdef list others


# Adds a frame: 1 where the batch is due now, else 0; -1 with LimitError or MemoryError, and the batch is unchanged.
cdef int batch_put(Batch batch, bytes frame, int64_t now_ns) except -1

# All frames joined, which are gone from the batch then; b"" where there are none. MemoryError: it is unchanged.
cdef bytes batch_take(Batch batch)
