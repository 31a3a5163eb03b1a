"""Bounded FIFO of pointers over a power of two of slots, in three disciplines.

    local   one thread (or all under one lock): plain loads and stores
    spsc    one pushing and one popping thread: each side owns its mark and publishes it with a release store; it
    keeps a
            copy of the other's mark and looks at the real one only where the copy says full or empty
    mpmc    any number of threads: each slot carries a sequence number that says whose turn it is (Vyukov's bounded
    queue);
            a turn is claimed by compare-and-swap on the mark

Marks only ever grow and wrap with ``size_t``; a slot is ``mark & mask``. "Full" and "empty" are answers, not errors.
Each side's marks have a cache line of their own.
"""


ctypedef struct ring_slot_t:
    size_t sequence  # mpmc only: equals the mark of the push that may fill it, or that mark + 1 once filled
    void* item


ctypedef struct ring_t:
    ring_slot_t* slots
    size_t mask
    char _line_0[64]
    size_t head  # next pop
    size_t tail_seen  # spsc: the popping side's copy of tail
    char _line_1[64]
    size_t tail  # next push
    size_t head_seen  # spsc: the pushing side's copy of head
    char _line_2[64]


# ``capacity`` is rounded up to a power of two, at least 2. MemoryError; LimitError above RING_CAPACITY_MAX.
cdef int ring_init(ring_t* self, size_t capacity) except -1 nogil

# Tolerates a zeroed struct and a second call. The items are the owner's: pop them first.
cdef void ring_free(ring_t* self) noexcept nogil

# Each returns how many were pushed (from the front of ``items``) or popped (into ``items``): 0 is full, or empty.
cdef size_t ring_spsc_push_many(ring_t* self, void** items, size_t count) noexcept nogil
cdef size_t ring_spsc_pop_many(ring_t* self, void** items, size_t count) noexcept nogil
cdef size_t ring_mpmc_push_many(ring_t* self, void** items, size_t count) noexcept nogil
cdef size_t ring_mpmc_pop_many(ring_t* self, void** items, size_t count) noexcept nogil

# 1 or 0.
cdef int ring_mpmc_push(ring_t* self, void* item) noexcept nogil
cdef int ring_mpmc_pop(ring_t* self, void** item) noexcept nogil

# Items held; while other threads push and pop, some recent value between 0 and the capacity.
cdef size_t ring_count(const ring_t* self) noexcept nogil

# 0, or the number of the first broken invariant; while no other thread is in the ring.
cdef int ring_check(const ring_t* self) noexcept nogil
cdef int ring_mpmc_check(const ring_t* self) noexcept nogil


cdef enum:
    RING_CAPACITY_MAX = 0x40000000


cdef inline size_t ring_capacity(const ring_t* self) noexcept nogil:
    return self.mask + 1


cdef inline int ring_push(ring_t* self, void* item) noexcept nogil:
    """local: 1, or 0 where the ring is full."""
    if self.tail - self.head > self.mask:
        return 0
    self.slots[self.tail & self.mask].item = item
    self.tail += 1
    return 1


cdef inline int ring_pop(ring_t* self, void** item) noexcept nogil:
    """local: 1, or 0 where the ring is empty."""
    if self.tail == self.head:
        return 0
    item[0] = self.slots[self.head & self.mask].item
    self.head += 1
    return 1


cdef inline size_t ring_push_many(ring_t* self, void** items, size_t count) noexcept nogil:
    """local: how many of ``items`` went in."""
    cdef size_t room = self.mask + 1 - (self.tail - self.head)
    cdef size_t i
    if count > room:
        count = room
    for i in range(count):
        self.slots[(self.tail + i) & self.mask].item = items[i]
    self.tail += count
    return count


cdef inline size_t ring_pop_many(ring_t* self, void** items, size_t count) noexcept nogil:
    """local: how many came out into ``items``."""
    cdef size_t held = self.tail - self.head
    cdef size_t i
    if count > held:
        count = held
    for i in range(count):
        items[i] = self.slots[(self.head + i) & self.mask].item
    self.head += count
    return count


cdef inline int ring_spsc_push(ring_t* self, void* item) noexcept nogil:
    """spsc, pushing side: 1, or 0 where the ring is full."""
    return <int>ring_spsc_push_many(self, &item, 1)


cdef inline int ring_spsc_pop(ring_t* self, void** item) noexcept nogil:
    """spsc, popping side: 1, or 0 where the ring is empty."""
    return <int>ring_spsc_pop_many(self, item, 1)


cdef class Ring:
    cdef ring_t ring
    cdef int discipline
    cdef object _tracked  # None; see memory.hold_objects


cdef class WordRing:
    cdef ring_t ring
    cdef bint is_spsc
