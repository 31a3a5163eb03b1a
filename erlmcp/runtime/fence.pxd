"""What stands before a guarded call, as C: in by ``fence_enter``, out by ``fence_leave`` or ``fence_cancel``."""

from libc.stdint cimport int64_t, uint64_t

from erlmcp._core.gate cimport BreakerWindow, InflightLimit, TokenBucket
from erlmcp._core.meter cimport Histogram

cdef enum:
    BY_BREAKER = 0
    BY_BULKHEAD = -1
    BY_RATE = -2
    BY_TOTAL_RATE = -3


# Until when there is time: what DEADLINE, a context variable, holds; None: nobody waits.
cdef class Until:
    cdef public int64_t due_ns


# For a call that may take so long, within the time of the one it is made in.
cdef Until fence_until(int64_t span_ns)


# What is left of a call of a coroutine function after its first step: to be awaited, or (``token`` zero and below) a
# call that was not let in.
cdef class Rest:
    cdef readonly int64_t token
    cdef readonly int64_t began_ns  # 0: its time is not limited
    cdef object coroutine
    cdef object first  # what the first step waits for
    cdef bint is_new  # ``first`` was not handed up yet


cdef class Fence:
    cdef BreakerWindow window  # None: there is none, or it is switched off; so for all of these
    cdef InflightLimit places
    cdef TokenBucket bucket
    cdef TokenBucket total  # shared with others
    cdef Histogram durations
    cdef object breaker  # the policy of ``window``
    cdef object line  # who waits for one of ``places``
    cdef bint is_precise
    cdef int64_t due_ns  # the next adaptation
    cdef public int64_t span_ns
    cdef public bint asks_callers  # ``enter`` does not do: each caller has a rate of its own
    cdef readonly uint64_t ok_count
    cdef readonly uint64_t failure_count
    cdef int set_parts(self, window, breaker, places, line, bucket, total, durations) except -1


# A token above zero, or BY_BREAKER ... where the call must not be made. It holds the time of the call in units of 256
# ns, and in its lowest byte the ticket of the breaker.
cdef int64_t fence_enter(Fence self) except? -9

# What became of a call that was let in.
cdef int fence_leave(Fence self, int64_t token, bint is_ok) except -1

# The same without giving the place back: for a call that was given up, and goes on.
cdef int fence_settle(Fence self, int64_t token, bint is_ok) except -1

# A call that came to no outcome gives back what it got.
cdef int fence_cancel(Fence self, int64_t token) except -1

# The clock of the fences: CLOCK_MONOTONIC, or its coarse reading.
cdef int64_t fence_now(bint is_precise) noexcept nogil
