"""Fixed slots with generations in their handles; see slab.pxd."""

from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport UINT32_MAX

from erlmcp._core.memory cimport hold_objects, mem_realloc, visit_t

from erlmcp.errors import LimitError, StaleHandleError

cdef enum:
    CAPACITY_MIN = 16


cdef int raise_limit(const char* limit, uint32_t maximum) except -1 with gil:
    raise LimitError(limit.decode("ascii"), maximum, "the slab is full")


cdef void slab_init(slab_t* self, uint32_t capacity_max) noexcept nogil:
    self.slots = NULL
    self.capacity = self.count = 0
    self.capacity_max = capacity_max
    self.first_free = UINT32_MAX
    self.limit = "capacity_max"


cdef int slab_reserve(slab_t* self) except -1 nogil:
    cdef uint64_t capacity = <uint64_t>self.capacity * 2
    cdef slab_slot_t* slots
    cdef uint32_t i
    if self.first_free != UINT32_MAX:
        return 0
    if self.capacity >= self.capacity_max:
        raise_limit(self.limit, self.capacity_max)
    if capacity < CAPACITY_MIN:
        capacity = CAPACITY_MIN
    if capacity > self.capacity_max:
        capacity = self.capacity_max
    slots = <slab_slot_t*>mem_realloc(self.slots, capacity * sizeof(slab_slot_t))
    if slots == NULL:
        with gil:
            raise MemoryError()
    for i in range(self.capacity, <uint32_t>capacity):
        slots[i].item = NULL
        slots[i].generation = 1
        slots[i].next_free = i + 1
    slots[capacity - 1].next_free = UINT32_MAX
    self.first_free = self.capacity
    self.slots = slots
    self.capacity = <uint32_t>capacity
    return 0


cdef int slab_check(const slab_t* self) noexcept nogil:
    cdef uint32_t live = 0
    cdef uint32_t free_count = 0
    cdef uint32_t i
    if self.capacity > self.capacity_max or (self.slots == NULL) != (self.capacity == 0):
        return 1
    for i in range(self.capacity):
        if self.slots[i].generation == 0:
            return 2
        live += self.slots[i].item != NULL
    if live != self.count:
        return 3
    i = self.first_free
    while i != UINT32_MAX:
        if i >= self.capacity or self.slots[i].item != NULL:
            return 4
        free_count += 1
        if free_count > self.capacity:
            return 5
        i = self.slots[i].next_free
    return 0 if live + free_count == self.capacity else 6


cdef void drop_all(slab_t* slab) noexcept:
    """Empties the slab slot by slot, each before its object is dropped: a destructor may call back into it."""
    cdef PyObject* item
    cdef uint32_t i = 0
    while i < slab.capacity:
        if slab.slots[i].item != NULL:
            item = <PyObject*>slab_take(slab, <uint64_t>slab.slots[i].generation << 32 | i)
            Py_DECREF(<object>item)
        i += 1


cdef int traverse_slab(PyObject* self, visit_t visit, void* arg) noexcept:
    cdef slab_t* slab = &(<Slab>self).slab
    cdef uint32_t i
    cdef int answer
    for i in range(slab.capacity):
        if slab.slots[i].item != NULL:
            answer = visit(<PyObject*>slab.slots[i].item, arg)
            if answer:
                return answer
    return 0


cdef int clear_slab(PyObject* self) noexcept:
    drop_all(&(<Slab>self).slab)
    return 0


cdef class Slab:
    def __cinit__(self, capacity_max=65536):
        if not 1 <= capacity_max < 0xFFFFFFFF:
            raise ValueError(f"capacity_max must be 1 to {0xFFFFFFFE}, got {capacity_max}")
        slab_init(&self.slab, capacity_max)

    def __dealloc__(self):
        drop_all(&self.slab)
        slab_free(&self.slab)

    def __len__(self):
        return self.slab.count

    def __contains__(self, uint64_t handle):
        return slab_get(&self.slab, handle) != NULL

    @property
    def capacity_max(self):
        return self.slab.capacity_max

    def put(self, item):
        cdef uint64_t handle = slab_put(&self.slab, <void*><PyObject*>item)
        Py_INCREF(item)
        return handle

    def get(self, uint64_t handle):
        cdef void* item = slab_get(&self.slab, handle)
        if item == NULL:
            raise StaleHandleError(f"no item has the handle {handle:#x}; it was taken, or never given out")
        return <object><PyObject*>item

    def take(self, uint64_t handle):
        cdef void* item = slab_take(&self.slab, handle)
        cdef object taken
        if item == NULL:
            raise StaleHandleError(f"no item has the handle {handle:#x}; it was taken, or never given out")
        taken = <object><PyObject*>item
        Py_DECREF(taken)
        return taken

    def scan(self, Py_ssize_t cursor=0, Py_ssize_t count=100):
        cdef list found = []
        cdef slab_slot_t* slot
        cdef uint64_t handle
        cdef object item
        if cursor < 0 or count < 1:
            raise ValueError(f"cursor is 0 or more and count is 1 or more, got {cursor} and {count}")
        while cursor < <Py_ssize_t>self.slab.capacity:
            slot = &self.slab.slots[cursor]
            if slot.item != NULL:
                if count == 0:
                    return cursor, found
                count -= 1
                item = <object><PyObject*>slot.item
                handle = <uint64_t>slot.generation << 32 | <uint64_t>cursor
                found.append((handle, item))  # may run the collector, and with it what changes the slab
            cursor += 1
        return 0, found

    def clear(self):
        drop_all(&self.slab)

    def check(self):
        cdef int broken = slab_check(&self.slab)
        if broken:
            raise AssertionError(f"slab: invariant {broken} is broken")


hold_objects(Slab, traverse_slab, clear_slab)
