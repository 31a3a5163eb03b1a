"""The numbers that policies act through: token buckets, an in-flight limit, the window and the states of a breaker.

Time is an argument of the C functions, in nanoseconds from 0 to 2**62 - 1, and must not go back for one gate. Buckets
and breakers are for one thread at a time: hold the GIL, or a lock of your own. ``inflight_t`` is for any thread.
"""

cimport cython
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint64_t

from erlmcp._core.chain cimport chain_node_t, chain_t
from erlmcp._core.table cimport table_t


cdef extern from "atomic.h" nogil:
    size_t atomic_get_relaxed(const size_t* word) noexcept
    int atomic_swap_if(size_t* word, size_t* expected, size_t wanted) noexcept


# Tokens are counted in units of which ``gain`` come in a nanosecond and ``cost`` make a token: whole numbers, so that
# nothing is ever rounded. cap is the burst; after fill_ns any bucket is full.
ctypedef struct bucket_rule_t:
    int64_t gain
    int64_t cost
    int64_t cap
    int64_t fill_ns


ctypedef struct bucket_t:
    int64_t level
    int64_t at_ns


ctypedef struct inflight_t:
    size_t count
    size_t limit
    size_t refused


cdef inline void bucket_fill(const bucket_rule_t* rule, bucket_t* self, int64_t now_ns) noexcept nogil:
    cdef int64_t elapsed = now_ns - self.at_ns
    if elapsed <= 0:
        return
    self.at_ns = now_ns
    self.level = rule.cap if elapsed >= rule.fill_ns else min(rule.cap, self.level + elapsed * rule.gain)


cdef inline bint bucket_take(const bucket_rule_t* rule, bucket_t* self, int64_t units, int64_t now_ns) noexcept nogil:
    """Whether so many units (tokens times ``rule.cost``) were there; they are taken then."""
    bucket_fill(rule, self, now_ns)
    if self.level < units:
        return False
    self.level -= units
    return True


cdef inline int64_t bucket_wait(const bucket_rule_t* rule, bucket_t* self, int64_t units, int64_t now_ns
                                ) noexcept nogil:
    """How long until so many units (at most ``rule.cap``) are there: a take then succeeds, one nanosecond earlier not.
    """
    bucket_fill(rule, self, now_ns)
    return 0 if self.level >= units else (units - self.level - 1) // rule.gain + 1


cdef inline bint inflight_enter(inflight_t* self) noexcept nogil:
    """Any number of threads. Each that was let in leaves once."""
    cdef size_t seen = atomic_get_relaxed(&self.count)
    while seen < atomic_get_relaxed(&self.limit):
        if atomic_swap_if(&self.count, &seen, seen + 1):
            return True
    seen = atomic_get_relaxed(&self.refused)
    while not atomic_swap_if(&self.refused, &seen, seen + 1):
        pass
    return False


cdef inline bint inflight_leave(inflight_t* self) noexcept nogil:
    """False where nobody was in."""
    cdef size_t seen = atomic_get_relaxed(&self.count)
    while seen:
        if atomic_swap_if(&self.count, &seen, seen - 1):
            return True
    return False


# Outcomes of calls, or their sum.
ctypedef struct outcomes_t:
    int64_t start_ns
    uint64_t outcomes
    uint64_t failures
    uint64_t slow


# The outcomes of the last window_ns in a ring of buckets. A bucket is left when it is bucket_ns old or, unless that is
# 0, holds outcomes_max, and the oldest one leaves as a whole.
ctypedef struct window_t:
    outcomes_t* buckets
    int64_t bucket_count
    int64_t first  # the oldest bucket
    int64_t used
    int64_t window_ns
    int64_t bucket_ns
    uint64_t outcomes_max
    outcomes_t total


cdef inline outcomes_t* window_bucket(const window_t* self, int64_t place) noexcept nogil:
    """The ``place``-th oldest."""
    place += self.first
    return &self.buckets[place if place < self.bucket_count else place - self.bucket_count]


cdef inline void window_drop_oldest(window_t* self) noexcept nogil:
    cdef outcomes_t* oldest = window_bucket(self, 0)
    self.total.outcomes -= oldest.outcomes
    self.total.failures -= oldest.failures
    self.total.slow -= oldest.slow
    self.first = self.first + 1 if self.first + 1 < self.bucket_count else 0
    self.used -= 1


cdef inline void window_expire(window_t* self, int64_t now_ns) noexcept nogil:
    while self.used and now_ns - window_bucket(self, 0).start_ns >= self.window_ns:
        window_drop_oldest(self)


cdef inline void window_clear(window_t* self) noexcept nogil:
    while self.used:
        window_drop_oldest(self)


cdef inline void window_add(window_t* self, bint is_failure, bint is_slow, int64_t now_ns) noexcept nogil:
    cdef outcomes_t* last
    window_expire(self, now_ns)
    last = window_bucket(self, self.used - 1) if self.used else NULL
    if last == NULL or now_ns - last.start_ns >= self.bucket_ns or (
        self.outcomes_max and last.outcomes >= self.outcomes_max
    ):
        if self.used == self.bucket_count:
            window_drop_oldest(self)
        last = window_bucket(self, self.used)
        last.start_ns = now_ns
        last.outcomes = last.failures = last.slow = 0
        self.used += 1
    last.outcomes += 1
    last.failures += is_failure
    last.slow += is_slow
    self.total.outcomes += 1
    self.total.failures += is_failure
    self.total.slow += is_slow


@cython.final
cdef class Clock:
    cdef int64_t now
    cdef int64_t push(self, now_ns) except -1


cdef class Gate:
    cdef Clock time
    cdef int64_t read_time(self, now_ns) except -1


@cython.final
cdef class TokenBucket(Gate):
    cdef bucket_rule_t rule
    cdef bucket_t bucket
    cdef readonly object rate_per_s
    cdef readonly int64_t burst
    cdef readonly uint64_t allowed_count
    cdef readonly uint64_t refused_count
    cdef bint decide(self, int64_t units) noexcept nogil


# A bucket in TokenBuckets. The key's bytes follow.
ctypedef struct keyed_bucket_t:
    chain_node_t node  # the longest unasked first
    bucket_t bucket
    size_t size


cdef inline char* bucket_key(keyed_bucket_t* self) noexcept nogil:
    return <char*>(self + 1)


@cython.final
cdef class TokenBuckets(Gate):
    cdef bucket_rule_t rule
    cdef table_t table
    cdef chain_t chain
    cdef bucket_t shared
    cdef uint64_t seed
    cdef readonly object rate_per_s
    cdef readonly int64_t burst
    cdef readonly Py_ssize_t count_max
    cdef readonly uint64_t allowed_count
    cdef readonly uint64_t refused_count
    cdef readonly uint64_t evicted_count
    cdef readonly uint64_t shared_count
    cdef bucket_t* peek(self, key) except NULL
    cdef bucket_t* seat(self, key) except NULL
    cdef bint decide(self, key, int64_t units) except -1


@cython.final
cdef class InflightLimit:
    cdef inflight_t inflight


cdef enum:
    BREAKER_CLOSED = 0
    BREAKER_OPEN = 1
    BREAKER_HALF_OPEN = 2


@cython.final
cdef class BreakerWindow(Gate):
    cdef window_t window
    cdef int stands  # BREAKER_CLOSED ...
    cdef int64_t opens_until
    cdef int64_t probe_ns
    cdef int64_t successes
    cdef uint64_t changes
    cdef readonly int64_t outcomes_max
    cdef readonly int64_t outcomes_min
    cdef readonly double open_failure_rate
    cdef readonly double open_slow_rate
    cdef readonly int64_t open_failures_in_row
    cdef readonly int64_t slow_ns
    cdef readonly int64_t open_ns
    cdef readonly int64_t probe_max
    cdef readonly int64_t probe_successes
    cdef readonly int64_t failures_in_row
    cdef readonly int64_t probe_count
    cdef readonly uint64_t allowed_count
    cdef readonly uint64_t refused_count
    cdef readonly uint64_t late_count
    cdef readonly uint64_t opened_count


# A ticket from 1 to 255, or 0 where the call must not be made.
cdef int breaker_allow(BreakerWindow self, int64_t now_ns) noexcept nogil

# Whether the state changed by it. ``ticket`` is what breaker_allow gave, or 0 for one that was not kept.
cdef bint breaker_record(BreakerWindow self, bint is_ok, int64_t duration_ns, int ticket, int64_t now_ns) noexcept nogil
