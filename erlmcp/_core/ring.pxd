"""Bounded FIFO of pointers over a power of two of places, in three disciplines.

    local   one thread (or all under one lock): plain loads and stores
    spsc    one pushing and one popping thread: each side owns its mark and publishes it with a release store; it
            keeps a copy of the other's mark and looks at the real one only where the copy says full or empty
    mpmc    any number of threads: each slot carries a sequence number that says whose turn it is (Vyukov's bounded
            queue); a turn, or a run of turns, is claimed by one compare-and-swap on the mark

Marks only ever grow and wrap with ``size_t``; a place is ``mark & mask``. "Full" and "empty" are answers, not errors.
Each side's marks have cache lines of their own, two apart, as processors fetch lines in pairs.

A side that has nothing to do may sleep: it arms its ``ring_wake_t``, looks once more, and waits on a file descriptor
(an eventfd, or a pipe) that the other side writes to only where it finds the wake armed.
"""

from cpython.object cimport PyObject


cdef extern from "atomic.h" nogil:
    size_t atomic_get_relaxed(const size_t* word) noexcept
    size_t atomic_get_acquire(const size_t* word) noexcept
    size_t atomic_get_ordered(const size_t* word) noexcept
    void atomic_set_relaxed(size_t* word, size_t value) noexcept
    void atomic_set_release(size_t* word, size_t value) noexcept
    void atomic_set_ordered(size_t* word, size_t value) noexcept
    size_t atomic_swap_ordered(size_t* word, size_t value) noexcept
    size_t atomic_add_ordered(size_t* word, size_t change) noexcept
    int atomic_swap_if(size_t* word, size_t* expected, size_t wanted) noexcept
    void atomic_fence_ordered() noexcept


ctypedef struct ring_slot_t:
    size_t sequence  # equals the mark of the push that may fill it, or that mark + 1 once filled
    void* item


ctypedef struct ring_t:
    void** items  # local, spsc; NULL in a ring for mpmc
    ring_slot_t* slots  # mpmc; else NULL
    size_t mask
    char _line_0[128]
    size_t head  # next pop
    size_t tail_seen  # spsc: the popping side's copy of tail
    char _line_1[112]
    size_t tail  # next push
    size_t head_seen  # spsc: the pushing side's copy of head
    char _line_2[112]


ctypedef struct ring_wake_t:
    size_t is_armed  # a side sleeps, or is about to
    size_t fd_plus_1  # 0: none
    size_t writer_count  # threads between reading the descriptor and having written to it


cdef enum:
    RING_CAPACITY_MAX = 0x40000000

# A ring for mpmc, or one for local and spsc: the functions of one kind must not be used on a ring of the other.
# ``capacity`` is rounded up to a power of two, at least 2. MemoryError; LimitError above RING_CAPACITY_MAX.
cdef int ring_init(ring_t* self, size_t capacity, bint is_mpmc) except -1 nogil

# Tolerates a zeroed struct and a second call. The items are the owner's: pop them first.
cdef void ring_free(ring_t* self) noexcept nogil

# Each returns how many were pushed (from the front of ``items``) or popped (into ``items``): 0 is full, or empty.
cdef size_t ring_push_many(ring_t* self, void** items, size_t count) noexcept nogil
cdef size_t ring_pop_many(ring_t* self, void** items, size_t count) noexcept nogil
cdef size_t ring_spsc_push_many(ring_t* self, void** items, size_t count) noexcept nogil
cdef size_t ring_spsc_pop_many(ring_t* self, void** items, size_t count) noexcept nogil
cdef size_t ring_mpmc_push_many(ring_t* self, void** items, size_t count) noexcept nogil
cdef size_t ring_mpmc_pop_many(ring_t* self, void** items, size_t count) noexcept nogil

# 0, or the number of the first broken invariant; while no other thread is in the ring. Either kind.
cdef int ring_check(const ring_t* self) noexcept nogil

# The other side of an armed wake: disarms it and writes 8 bytes to its descriptor. Where several do it at once, one
# writes. Never waits: the descriptor does not block, and one that is full has woken its reader already.
cdef void ring_wake(ring_wake_t* self) noexcept nogil


cdef inline void ring_wake_if_armed(ring_wake_t* self) noexcept nogil:
    """After a push or a pop, where both sides hold the GIL (or another lock): the lock orders it."""
    if atomic_get_relaxed(&self.is_armed):
        ring_wake(self)


cdef inline void ring_wake_unlocked(ring_wake_t* self) noexcept nogil:
    """After a push without the GIL: the fence keeps the look at the flag behind the push that it follows."""
    if atomic_get_relaxed(&self.fd_plus_1):
        atomic_fence_ordered()
        ring_wake_if_armed(self)


cdef inline size_t ring_capacity(const ring_t* self) noexcept nogil:
    return self.mask + 1


cdef inline size_t ring_count(const ring_t* self) noexcept nogil:
    """Items held; while other threads push and pop, some recent value between 0 and the capacity."""
    # Head first: it never passes the tail read after it, however many pops come between.
    cdef size_t head = atomic_get_acquire(&self.head)
    cdef size_t held = atomic_get_acquire(&self.tail) - head
    return held if held <= self.mask else self.mask + 1


cdef inline bint ring_has_item(const ring_t* self) noexcept nogil:
    """Whether the next pop finds an item. An mpmc push that another thread has begun does not count."""
    cdef size_t head = atomic_get_acquire(&self.head)
    if self.slots == NULL:
        return atomic_get_acquire(&self.tail) != head
    return atomic_get_acquire(&self.slots[head & self.mask].sequence) == head + 1


cdef inline bint ring_has_room(const ring_t* self) noexcept nogil:
    """Whether the next push finds a place. An mpmc pop that another thread has begun does not count."""
    cdef size_t tail = atomic_get_acquire(&self.tail)
    if self.slots == NULL:
        return tail - atomic_get_acquire(&self.head) <= self.mask
    return atomic_get_acquire(&self.slots[tail & self.mask].sequence) == tail


cdef inline int ring_push(ring_t* self, void* item) noexcept nogil:
    """local: 1, or 0 where the ring is full."""
    if self.tail - self.head > self.mask:
        return 0
    self.items[self.tail & self.mask] = item
    self.tail += 1
    return 1


cdef inline int ring_pop(ring_t* self, void** item) noexcept nogil:
    """local: 1, or 0 where the ring is empty."""
    if self.tail == self.head:
        return 0
    item[0] = self.items[self.head & self.mask]
    self.head += 1
    return 1


cdef inline int ring_spsc_push(ring_t* self, void* item) noexcept nogil:
    """spsc, pushing side: 1, or 0 where the ring is full."""
    cdef size_t tail = atomic_get_relaxed(&self.tail)
    if tail - self.head_seen > self.mask:
        # Acquire: the popping side has read the places that it gave back.
        self.head_seen = atomic_get_acquire(&self.head)
        if tail - self.head_seen > self.mask:
            return 0
    self.items[tail & self.mask] = item
    atomic_set_release(&self.tail, tail + 1)
    return 1


cdef inline int ring_spsc_pop(ring_t* self, void** item) noexcept nogil:
    """spsc, popping side: 1, or 0 where the ring is empty."""
    cdef size_t head = atomic_get_relaxed(&self.head)
    if self.tail_seen == head:
        # Acquire: what the pushing side wrote into the places is visible.
        self.tail_seen = atomic_get_acquire(&self.tail)
        if self.tail_seen == head:
            return 0
    item[0] = self.items[head & self.mask]
    atomic_set_release(&self.head, head + 1)
    return 1


cdef inline int ring_mpmc_push(ring_t* self, void* item) noexcept nogil:
    """mpmc: 1, or 0 where the ring is full."""
    cdef size_t tail = atomic_get_relaxed(&self.tail)
    cdef ring_slot_t* slot
    cdef Py_ssize_t turn
    while True:
        slot = &self.slots[tail & self.mask]
        turn = <Py_ssize_t>(atomic_get_acquire(&slot.sequence) - tail)
        if turn == 0:
            if atomic_swap_if(&self.tail, &tail, tail + 1):
                break
        elif turn < 0:
            return 0
        else:
            tail = atomic_get_relaxed(&self.tail)
    slot.item = item
    atomic_set_release(&slot.sequence, tail + 1)
    return 1


cdef inline int ring_mpmc_pop(ring_t* self, void** item) noexcept nogil:
    """mpmc: 1, or 0 where the ring is empty."""
    cdef size_t head = atomic_get_relaxed(&self.head)
    cdef ring_slot_t* slot
    cdef Py_ssize_t turn
    while True:
        slot = &self.slots[head & self.mask]
        turn = <Py_ssize_t>(atomic_get_acquire(&slot.sequence) - (head + 1))
        if turn == 0:
            if atomic_swap_if(&self.head, &head, head + 1):
                break
        elif turn < 0:
            return 0
        else:
            head = atomic_get_relaxed(&self.head)
    item[0] = slot.item
    atomic_set_release(&slot.sequence, head + self.mask + 1)
    return 1


cdef class RingQueue:
    """Python objects. They are popped with the GIL held, always: the garbage collector must find an object in the
    ring for as long as the ring's reference to it lives. They may be pushed without it: see ``queue_push_owned``."""
    cdef ring_t ring
    cdef ring_wake_t item_wake
    cdef ring_wake_t space_wake
    cdef int discipline
    cdef size_t closed  # read and written as one word by several threads
    cdef object _tracked  # None; see memory.hold_objects


# A push from a thread that need not hold the GIL (mode spsc or mpmc), waking who sleeps on ``wake_fd``. 1: the ring has
# taken over the caller's reference to ``item``. 0: full, -1: closed; the reference is the caller's still. A push that
# began before ``close()`` may end after it. The caller keeps the queue alive.
cdef int queue_push_owned(RingQueue self, PyObject* item) noexcept nogil


cdef class WordRing:
    cdef ring_t ring
    cdef bint is_spsc
