"""A work-stealing deque: its owner pushes and pops at the bottom, last in, first out; thieves steal at the top.

Chase and Lev, "Dynamic circular work-stealing deque" (SPAA 2005), with the orders of Le, Pop, Cohen and Zappa Nardelli,
"Correct and efficient work-stealing for weak memory models" (PPoPP 2013). Where that paper has a fence between two
accesses, the accesses themselves are sequentially consistent here: the same cost on x86 and no more on ARMv8, and a
form that ThreadSanitizer understands.

    push   the slot, then ``bottom`` (release): a thief that sees the new bottom sees the item
    pop    ``bottom`` down, then a look at ``top``, in that one order: either the owner sees a thief's claim, or the
           thief sees that the item is gone. Only for the last item do they race, by compare-and-swap on ``top``
    steal  ``top``, then ``bottom``, in the one order; the slot; then ``top`` up by compare-and-swap, which fails where
           the item went to somebody else. ``top`` only grows, so a slot read in vain is never believed

The array doubles up to the capacity. An array that was outgrown is kept until the deque dies, as thieves may still read
in it: all of them together are no larger than the last.
"""


ctypedef struct deque_array_t:
    deque_array_t* older
    size_t mask
    size_t words[1]  # mask + 1 of them


ctypedef struct deque_t:
    char _line_0[128]
    size_t top  # next steal
    char _line_1[120]
    size_t bottom  # next push
    size_t array  # deque_array_t*, as a word for the atomic accesses
    size_t capacity
    char _line_2[104]


cdef enum:
    DEQUE_CAPACITY_MAX = 0x40000000
    DEQUE_LOST = -1

# ``capacity`` is rounded up to a power of two, at least 2. MemoryError; LimitError above DEQUE_CAPACITY_MAX.
cdef int deque_init(deque_t* self, size_t capacity) except -1 nogil

# Tolerates a zeroed struct and a second call; no thread is in the deque. The items are the owner's: pop them first.
cdef void deque_free(deque_t* self) noexcept nogil

# The owner: 1, or 0 where the deque is full. MemoryError where it could not grow, and it is as it was.
cdef int deque_push(deque_t* self, void* item) except -1 nogil

# The owner: how many of the items, from the first on, went in. All of them become visible at once, the last on top.
# ``<size_t>-1`` with MemoryError where it could not grow, and it is as it was.
cdef size_t deque_push_many(deque_t* self, void** items, size_t count) except <size_t>-1 nogil

# The owner: 1, or 0 where the deque is empty.
cdef int deque_pop(deque_t* self, void** item) noexcept nogil

# Any thread: 1, 0 where the deque is empty, DEQUE_LOST where another thread took the item first (try again).
cdef int deque_steal(deque_t* self, void** item) noexcept nogil

# Any thread: steals up to half of what there is, rounded up, and at most ``count``; how many, the oldest first. Fewer
# than that where other threads take at the same time.
cdef size_t deque_steal_many(deque_t* self, void** items, size_t count) noexcept nogil

# Items held; while other threads work on it, some recent value.
cdef size_t deque_count(const deque_t* self) noexcept nogil

# 0, or the number of the first broken invariant; while no other thread is in the deque.
cdef int deque_check(const deque_t* self) noexcept nogil


cdef class WorkStealingDeque:
    """Python objects. Whoever uses its ``deque`` holds the GIL, which the methods rely on instead of fences: the
    garbage collector must find an object in the deque for as long as the deque's reference to it lives."""
    cdef deque_t deque
    cdef unsigned long owner
    cdef object _tracked  # None; see memory.hold_objects


cdef class WordDeque:
    cdef deque_t deque
    cdef size_t is_done
