"""Three bounded priority lanes over rings, with ageing so that the lower ones always move.

A pop takes from the highest lane that holds something. It passes over each lower lane that holds something too; a lane
that was passed over ``age_pops`` times since its last turn is due, and the next pop is its turn (of two due lanes the
higher one's first). Turns given for age pass over nobody. So, as long as a lane holds items:

    critical waits for at most 2 pops of other lanes, however much is queued below;
    of ``age_pops + 2`` pops in a row at least one is a normal item, and at least one a bulk item.

The discipline is the ring's ``local``: one thread, or all under one lock (the class: the GIL).
"""

from libc.stdint cimport uint32_t

from erlmcp._core.ring cimport ring_count, ring_pop, ring_push, ring_t


cdef enum:
    LANE_CRITICAL = 0
    LANE_NORMAL = 1
    LANE_BULK = 2
    LANE_COUNT = 3
    LANE_NONE = -1


ctypedef struct lanes_t:
    ring_t rings[3]
    uint32_t passed[3]  # pops that passed over the lane since its last turn; 0 while it is empty
    uint32_t age_pops


# ``capacity`` places for each lane, rounded up to a power of two. ``age_pops`` is at least 1. MemoryError, and
# LimitError above RING_CAPACITY_MAX; the struct may be freed then too.
cdef int lanes_init(lanes_t* self, size_t capacity, uint32_t age_pops) except -1 nogil

# Tolerates a zeroed struct and a second call. The items are the owner's: pop them first.
cdef void lanes_free(lanes_t* self) noexcept nogil

# How many came out into ``items``, in the order of so many single pops: 0 is empty.
cdef size_t lanes_pop_many(lanes_t* self, void** items, size_t count) noexcept nogil

# The next item of one lane, whatever waits in others: 1 or 0. For those who clear or drain it.
cdef int lanes_pop_of(lanes_t* self, int lane, void** item) noexcept nogil

# 0, or the number of the first broken invariant.
cdef int lanes_check(const lanes_t* self) noexcept nogil


cdef inline size_t lanes_count(const lanes_t* self) noexcept nogil:
    return ring_count(&self.rings[0]) + ring_count(&self.rings[1]) + ring_count(&self.rings[2])


cdef inline int lanes_push(lanes_t* self, void* item, int lane) noexcept nogil:
    """1, or 0 where the lane (0 to 2) is full."""
    return ring_push(&self.rings[lane], item)


cdef inline bint lanes_holds(const lanes_t* self, int lane) noexcept nogil:
    return self.rings[lane].tail != self.rings[lane].head


cdef inline int lanes_due(const lanes_t* self) noexcept nogil:
    """The lane whose age gives it the next turn, or LANE_NONE."""
    if self.passed[LANE_NORMAL] >= self.age_pops:
        return LANE_NORMAL
    return LANE_BULK if self.passed[LANE_BULK] >= self.age_pops else LANE_NONE


cdef inline void lanes_pass(lanes_t* self, int chosen, uint32_t count) noexcept nogil:
    """``count`` pops from ``chosen``, as the highest lane, passed over those below it."""
    if chosen < LANE_NORMAL and lanes_holds(self, LANE_NORMAL):
        self.passed[LANE_NORMAL] += count
    if chosen < LANE_BULK and lanes_holds(self, LANE_BULK):
        self.passed[LANE_BULK] += count


cdef inline int lanes_pop(lanes_t* self, void** item) noexcept nogil:
    """1, or 0 where all lanes are empty."""
    cdef int chosen = lanes_due(self)
    if chosen == LANE_NONE:
        chosen = LANE_CRITICAL
        while not lanes_holds(self, chosen):
            chosen += 1
            if chosen == LANE_COUNT:
                return 0
        lanes_pass(self, chosen, 1)
    self.passed[chosen] = 0
    return ring_pop(&self.rings[chosen], item)


cdef class Lanes:
    cdef lanes_t lanes
    cdef object _tracked  # None; see memory.hold_objects
