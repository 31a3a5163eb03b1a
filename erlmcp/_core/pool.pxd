"""C face of the pool: lends pointers, last in, first out, to threads that need no GIL.

A member lies in a place; a handle is ``generation << 32 | index`` of its place. The generation grows with each loan and
with each return, so it is odd while the member is lent, a handle is never 0, and one kept too long is told apart from
the next borrower's (until 2**31 loans of that place later).

Functions named ``pool_*`` take the lock of the pool, a word that is spun on; it is held for some nanoseconds, and
nothing under it calls out. Those named ``locked_*`` want it taken. A ``Pool`` may be used from Python and through
``&pool.pool`` at the same time; its members are owned references then, and ``who``, ``lease`` and ``spare`` are not for
others to write.
"""

from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint32_t, uint64_t


cdef extern from "pool_place.h" nogil:
    enum: PLACE_FREE
    enum: PLACE_HELD  # idle, or lent where the generation is odd
    enum: PLACE_LEAVING  # too old or idle too long: nobody gets it any more
    enum: PLACE_NONE

    ctypedef struct pool_place_t:
        void* member
        int64_t old_at_ns  # from then on it is not lent any more
        int64_t since_ns  # lent, idle or leaving since then
        uint32_t generation
        uint32_t state
        void* who  # the borrower; NULL for nobody
        void* lease  # of this loan or the last one, and the one before
        void* spare
        uint32_t next

    ctypedef struct pool_t:
        uint32_t lock
        uint32_t idle_count
        uint32_t* idle  # a stack of indices, the longest idle at the bottom
        pool_place_t* places
        int64_t now_ns
        uint64_t lent_total
        uint32_t capacity
        uint32_t count  # members: idle, lent and leaving
        uint32_t opening_count  # places reserved for members that are being made
        uint32_t leaving_count
        uint32_t leaving_first
        uint32_t leaving_last
        uint32_t free_first
        uint32_t count_max
        uint32_t count_min
        int64_t idle_ns  # 0 for no bound
        int64_t age_ns
        uint64_t added_total
        uint64_t retired_total
        uint64_t reclaimed_total

    # An empty pool without bounds on time; allocates nothing. 1 <= count_max < 2**31.
    void pool_init(pool_t* pool, uint32_t count_max) noexcept

    # Empty again, without the memory it had, which is the caller's.
    void pool_forget(pool_t* pool) noexcept
    # Coarse: once per batch of work. A smaller time than the last is taken as the last.
    void pool_push_clock(pool_t* pool, int64_t now_ns) noexcept

    void pool_lock(pool_t* pool) noexcept
    void pool_unlock(pool_t* pool) noexcept

    # A handle, and the member that came back last through ``member``; 0 where none is idle.
    uint64_t pool_lend(pool_t* pool, void** member) noexcept
    # 1 where the member is idle again, 0 where it was too old and is leaving, -1 where the handle is stale.
    int pool_return(pool_t* pool, uint64_t handle) noexcept
    # 1, and a place is kept for a member that is about to be made; 0 where the pool is full: wait.
    int pool_reserve(pool_t* pool) noexcept
    # Gives a reserved place up: 1, or 0 where none is reserved.
    int pool_unreserve(pool_t* pool) noexcept
    # Takes a lent member out: 1, or 0 where the handle is stale.
    int pool_retire(pool_t* pool, uint64_t handle, void** member) noexcept
    # No member is lent any more after its present loan.
    void pool_retire_all(pool_t* pool) noexcept
    # Decides at the time ``now_ns`` which idle members have to go: they are leaving then. O(idle).
    void pool_expire(pool_t* pool) noexcept
    # The next leaving member, out of the pool now: 1, or 0 where there is none.
    int pool_take_leaving(pool_t* pool, void** member) noexcept
    uint32_t pool_lent_count(pool_t* pool) noexcept
    # How many members there may be more, and how many there should be: the latter at most the former.
    uint32_t pool_room(pool_t* pool) noexcept
    uint32_t pool_shortage(pool_t* pool) noexcept
    # 0, or the number of the first broken invariant. O(n).
    int pool_check(pool_t* pool) noexcept

    # The handle of the member that came back last, lent now; 0 where none is idle.
    uint64_t locked_lend(pool_t* pool) noexcept
    # The place of a lent member, or NULL where the handle is stale or never was one. Borrowed until ``pool_add``.
    pool_place_t* locked_find(const pool_t* pool, uint64_t handle) noexcept
    # As pool_return, of a place that locked_find gave for a handle with this index.
    int locked_return(pool_t* pool, pool_place_t* place, uint32_t index) noexcept
    # Whether there is room for one more, or, for ``is_reserved``, whether there is a reserved place.
    int locked_may_add(const pool_t* pool, bint is_reserved) noexcept
    # Takes over a bigger copy of the places, none of the old ones free; ``idle`` is as long already.
    void locked_adopt(pool_t* pool, pool_place_t* places, uint32_t capacity) noexcept
    # A new member in a free place: idle, or at once lent where ``handle`` is not NULL.
    void locked_add(pool_t* pool, void* member, uint64_t* handle) noexcept
    # Takes a lent member out, and counts it in ``total``.
    void* locked_take(pool_t* pool, uint32_t index, uint64_t* total) noexcept


# Tolerates a zeroed struct and a second call. The members are the owner's.
cdef void pool_free(pool_t* self) noexcept nogil

# A new member. 1; 0 where the pool is full, or, for ``is_reserved``, where nothing is reserved; -1 where there is no
# memory, and the pool is as it was. It is idle; where ``handle`` is not NULL it is lent at once under that handle.
cdef int pool_add(pool_t* self, void* member, bint is_reserved, uint64_t* handle) noexcept nogil


cdef class Lease:
    cdef pool_t* pool  # borrowed; NULL while nothing is lent under it. A pool that goes sets it to NULL
    cdef uint64_t number


cdef class Leak:
    cdef readonly uint64_t handle
    cdef readonly object member
    cdef readonly object who
    cdef readonly int64_t age_ns
    cdef readonly bint is_lost


cdef class Pool:
    cdef pool_t pool
    cdef object _tracked  # None; see memory.hold_objects
