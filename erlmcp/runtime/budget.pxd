"""The C face of ``budget``."""

from libc.stdint cimport int64_t


cdef class Budget:
    cdef Py_ssize_t used  # messages of this turn, up to the last look
    cdef int64_t busy_ns
    cdef int64_t began_ns
    cdef int64_t ended_ns
    cdef int64_t time_max_ns
    cdef public int64_t gap_ns  # a pause after which a turn of the loop has surely ended
    cdef Py_ssize_t count_max
    cdef Py_ssize_t step  # messages between two looks, by what they cost
    cdef Py_ssize_t planned  # of these messages, until the next look
    cdef Py_ssize_t due  # of those, how many are left
    cdef public int refused_from  # the first lane whose calls may be refused, which the general way decides


cdef void budget_begin(Budget self) noexcept
cdef void budget_end(Budget self) noexcept
# One more message was handled; whether the next one has to wait. ``slow`` is what is known of its kind, and is learned
# here: the clock is looked at after each that is slow, and after a few of the others. NULL: nothing is known.
cdef bint budget_passed(Budget self, bint* slow) noexcept

cdef inline bint budget_is_spent(Budget self) noexcept:
    return self.busy_ns >= self.time_max_ns or self.used >= self.count_max
