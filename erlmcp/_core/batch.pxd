"""C face of the batch. Hold the GIL.

Items are kept as references in an array that is lent from take to take, so a put is a store and a count. With the
counts in the struct, an embedder may read ``count``, ``byte_count`` and ``count_due`` by itself.
"""

from cpython.object cimport PyObject
from libc.stdint cimport int64_t


cdef class Batch:
    cdef readonly Py_ssize_t count_max
    cdef readonly Py_ssize_t bytes_max
    cdef readonly int64_t age_ns
    cdef readonly Py_ssize_t count_min
    cdef readonly int64_t latency_goal_ns
    cdef readonly Py_ssize_t held_count_max
    cdef readonly Py_ssize_t held_bytes_max
    cdef readonly Py_ssize_t count_due
    cdef readonly Py_ssize_t byte_count
    cdef public bint lone
    cdef PyObject** items
    cdef Py_ssize_t count
    cdef Py_ssize_t capacity  # of ``items``
    cdef int64_t first_ns
    cdef int64_t now
    cdef object _tracked  # gives instances a collector header


# Tells the time; one before the last told counts as the last.
cdef inline void batch_set_now(Batch batch, int64_t now_ns) noexcept nogil:
    if now_ns > batch.now:
        batch.now = now_ns


# Whether it is due at the time last told.
cdef inline bint batch_is_due(Batch batch) noexcept nogil:
    return batch.count != 0 and (
        batch.count >= batch.count_due or batch.byte_count >= batch.bytes_max
        or <unsigned long long>batch.now - <unsigned long long>batch.first_ns >= <unsigned long long>batch.age_ns
        or (batch.lone and batch.count == 1)
    )


# Adds an item that counts for ``size`` bytes (0 or more) at the time last told: 1 where the batch is due now, else 0;
# -1 with LimitError or MemoryError, and the batch is unchanged.
cdef int batch_put(Batch batch, object item, Py_ssize_t size) except -1

# All items in order, which are gone from the batch then. MemoryError: it is unchanged.
cdef list batch_take(Batch batch)

# All items joined; b"" where there are none. TypeError where one is not bytes, or MemoryError: it is unchanged.
cdef bytes batch_take_bytes(Batch batch)

# The new count_due. ``latency_ns`` is 0 or more; ``count`` the items the batch had, or -1 where that is not known.
cdef Py_ssize_t batch_observe(Batch batch, int64_t latency_ns, Py_ssize_t count) noexcept nogil

# Appends the (item, result) pairs of a batch to ``done``, or to ``failed`` where the result is an exception.
# ``results`` is a list as long as ``items`` (ValueError otherwise), or one exception for all.
cdef int batch_split(list items, object results, list done, list failed) except -1
