"""Slots with handles that notice their own age.

A handle is ``generation << 32 | index``. Giving a slot back raises its generation, so a handle kept too long names a
generation that is no more and is told apart from the slot's new owner. Handles are never 0. Slots are allocated in
doublings up to ``capacity_max`` and reused last in, first out.
"""

from libc.stdint cimport UINT32_MAX, uint32_t, uint64_t

from erlmcp._core.memory cimport mem_free


ctypedef struct slab_slot_t:
    void* item  # NULL while the slot is free
    uint32_t generation  # of the present owner, or of the next one; 1 .. 2**32 - 1
    uint32_t next_free


ctypedef struct slab_t:
    slab_slot_t* slots
    uint32_t capacity
    uint32_t capacity_max
    uint32_t count
    uint32_t first_free  # an index, or UINT32_MAX
    const char* limit  # the name of capacity_max in a LimitError; static text, set by the owner after slab_init


# An empty slab; allocates nothing.
cdef void slab_init(slab_t* self, uint32_t capacity_max) noexcept nogil

# Makes the next put certain to succeed. LimitError or MemoryError, and the slab is as it was.
cdef int slab_reserve(slab_t* self) except -1 nogil

# 0, or the number of the first broken invariant. O(n).
cdef int slab_check(const slab_t* self) noexcept nogil


cdef inline void slab_free(slab_t* self) noexcept nogil:
    """Tolerates a zeroed struct and a second call. The items are the owner's."""
    mem_free(self.slots)
    self.slots = NULL
    self.capacity = self.count = 0
    self.first_free = UINT32_MAX


cdef inline uint64_t slab_put(slab_t* self, void* item) except 0 nogil:
    """The handle of ``item`` (not NULL). LimitError or MemoryError, and the slab is as it was."""
    cdef slab_slot_t* slot
    cdef uint32_t index
    if self.first_free == UINT32_MAX:
        slab_reserve(self)
    index = self.first_free
    slot = &self.slots[index]
    self.first_free = slot.next_free
    slot.item = item
    self.count += 1
    return <uint64_t>slot.generation << 32 | index


cdef inline void* slab_get(const slab_t* self, uint64_t handle) noexcept nogil:
    """The item, or NULL where the handle is stale or was never given out. Borrowed until it is taken."""
    cdef uint32_t index = <uint32_t>handle
    if index >= self.capacity or self.slots[index].generation != <uint32_t>(handle >> 32):
        return NULL
    return self.slots[index].item


cdef inline void* slab_take(slab_t* self, uint64_t handle) noexcept nogil:
    """Removes and gives the item, or NULL where the handle is stale or was never given out."""
    cdef void* item = slab_get(self, handle)
    cdef slab_slot_t* slot
    if item == NULL:
        return NULL
    slot = &self.slots[<uint32_t>handle]
    slot.item = NULL
    slot.generation += 1
    if slot.generation == 0:
        slot.generation = 1
    slot.next_free = self.first_free
    self.first_free = <uint32_t>handle
    self.count -= 1
    return item


cdef class Slab:
    cdef slab_t slab
    cdef object _tracked  # None; see memory.hold_objects
