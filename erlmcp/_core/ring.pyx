"""Bounded FIFO in three disciplines; see ring.pxd."""

from cpython.list cimport PyList_GET_SIZE, PyList_New
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF

from erlmcp._core.memory cimport hold_objects, mem_free, mem_zalloc, visit_t

from erlmcp.errors import LimitError


cdef extern from "Python.h":
    PyObject** PySequence_Fast_ITEMS(object sequence) noexcept


cdef extern from "<sched.h>" nogil:
    int sched_yield() noexcept


cdef extern from "atomic.h" nogil:
    size_t atomic_get_relaxed(const size_t* word) noexcept
    size_t atomic_get_acquire(const size_t* word) noexcept
    void atomic_set_release(size_t* word, size_t value) noexcept
    int atomic_swap_if(size_t* word, size_t* expected, size_t wanted) noexcept


cdef int raise_limit(size_t wanted) except -1 with gil:
    raise LimitError("capacity", RING_CAPACITY_MAX, f"{wanted} slots")


cdef int ring_init(ring_t* self, size_t capacity) except -1 nogil:
    cdef size_t slot_count = 2
    cdef size_t i
    self.slots = NULL
    self.mask = self.head = self.tail = self.head_seen = self.tail_seen = 0
    if capacity > RING_CAPACITY_MAX:
        raise_limit(capacity)
    while slot_count < capacity:
        slot_count *= 2
    self.slots = <ring_slot_t*>mem_zalloc(slot_count, sizeof(ring_slot_t))
    if self.slots == NULL:
        with gil:
            raise MemoryError()
    self.mask = slot_count - 1
    for i in range(slot_count):
        self.slots[i].sequence = i
    return 0


cdef void ring_free(ring_t* self) noexcept nogil:
    mem_free(self.slots)
    self.slots = NULL
    self.mask = self.head = self.tail = self.head_seen = self.tail_seen = 0


cdef size_t ring_spsc_push_many(ring_t* self, void** items, size_t count) noexcept nogil:
    cdef size_t tail = atomic_get_relaxed(&self.tail)
    cdef size_t room = self.mask + 1 - (tail - self.head_seen)
    cdef size_t i
    if room < count:
        # Acquire: the popping side has read the slots that it gave back.
        self.head_seen = atomic_get_acquire(&self.head)
        room = self.mask + 1 - (tail - self.head_seen)
        if room < count:
            count = room
    for i in range(count):
        self.slots[(tail + i) & self.mask].item = items[i]
    if count:
        atomic_set_release(&self.tail, tail + count)
    return count


cdef size_t ring_spsc_pop_many(ring_t* self, void** items, size_t count) noexcept nogil:
    cdef size_t head = atomic_get_relaxed(&self.head)
    cdef size_t held = self.tail_seen - head
    cdef size_t i
    if held < count:
        # Acquire: what the pushing side wrote into the slots is visible.
        self.tail_seen = atomic_get_acquire(&self.tail)
        held = self.tail_seen - head
        if held < count:
            count = held
    for i in range(count):
        items[i] = self.slots[(head + i) & self.mask].item
    if count:
        atomic_set_release(&self.head, head + count)
    return count


cdef int ring_mpmc_push(ring_t* self, void* item) noexcept nogil:
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


cdef int ring_mpmc_pop(ring_t* self, void** item) noexcept nogil:
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


cdef size_t ring_mpmc_push_many(ring_t* self, void** items, size_t count) noexcept nogil:
    cdef size_t done = 0
    while done < count and ring_mpmc_push(self, items[done]):
        done += 1
    return done


cdef size_t ring_mpmc_pop_many(ring_t* self, void** items, size_t count) noexcept nogil:
    cdef size_t done = 0
    while done < count and ring_mpmc_pop(self, &items[done]):
        done += 1
    return done


cdef size_t ring_count(const ring_t* self) noexcept nogil:
    # Head first: it never passes the tail read after it, however many pops come between.
    cdef size_t head = atomic_get_acquire(&self.head)
    cdef size_t held = atomic_get_acquire(&self.tail) - head
    return held if held <= self.mask + 1 else self.mask + 1


cdef int ring_check(const ring_t* self) noexcept nogil:
    cdef size_t held = self.tail - self.head
    if self.slots == NULL or self.mask & (self.mask + 1):
        return 1
    if held > self.mask + 1:
        return 2
    return 0


cdef int ring_mpmc_check(const ring_t* self) noexcept nogil:
    cdef size_t mark = self.head
    cdef int broken = ring_check(self)
    if broken:
        return broken
    while mark != self.tail:
        if self.slots[mark & self.mask].sequence != mark + 1:
            return 3
        mark += 1
    while mark != self.head + self.mask + 1:
        if self.slots[mark & self.mask].sequence != mark:
            return 4
        mark += 1
    return 0


# ---- The class. Its methods run under the GIL, which makes each of them one step for other Python threads; the
# discipline says which C functions serve it.

cdef enum:
    LOCAL = 0
    SPSC = 1
    MPMC = 2
    WORD_BATCH = 64


cdef inline int push_one(Ring self, void* item) noexcept:
    if self.discipline == LOCAL:
        return ring_push(&self.ring, item)
    if self.discipline == SPSC:
        return ring_spsc_push(&self.ring, item)
    return ring_mpmc_push(&self.ring, item)


cdef inline int pop_one(Ring self, void** item) noexcept:
    if self.discipline == LOCAL:
        return ring_pop(&self.ring, item)
    if self.discipline == SPSC:
        return ring_spsc_pop(&self.ring, item)
    return ring_mpmc_pop(&self.ring, item)


cdef inline size_t push_some(Ring self, void** items, size_t count) noexcept:
    if self.discipline == LOCAL:
        return ring_push_many(&self.ring, items, count)
    if self.discipline == SPSC:
        return ring_spsc_push_many(&self.ring, items, count)
    return ring_mpmc_push_many(&self.ring, items, count)


cdef inline size_t pop_some(Ring self, void** items, size_t count) noexcept:
    if self.discipline == LOCAL:
        return ring_pop_many(&self.ring, items, count)
    if self.discipline == SPSC:
        return ring_spsc_pop_many(&self.ring, items, count)
    return ring_mpmc_pop_many(&self.ring, items, count)


cdef int traverse_ring(PyObject* self, visit_t visit, void* arg) noexcept:
    cdef ring_t* ring = &(<Ring>self).ring
    cdef size_t at = ring.head
    cdef int answer
    while at != ring.tail:
        answer = visit(<PyObject*>ring.slots[at & ring.mask].item, arg)
        if answer:
            return answer
        at += 1
    return 0


cdef int clear_ring(PyObject* self) noexcept:
    cdef void* item
    while pop_one(<Ring>self, &item):
        Py_DECREF(<object><PyObject*>item)
    return 0


cdef class Ring:
    def __cinit__(self, capacity, mode="local"):
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity}")
        if mode not in ("local", "spsc", "mpmc"):
            raise ValueError(f"mode must be 'local', 'spsc' or 'mpmc', got {mode!r}")
        self.discipline = ("local", "spsc", "mpmc").index(mode)
        ring_init(&self.ring, capacity)

    def __dealloc__(self):
        cdef void* item
        if self.ring.slots != NULL:
            while pop_one(self, &item):
                Py_DECREF(<object><PyObject*>item)
        ring_free(&self.ring)

    def __len__(self):
        return <Py_ssize_t>ring_count(&self.ring)

    @property
    def capacity(self):
        return ring_capacity(&self.ring)

    @property
    def mode(self):
        return ("local", "spsc", "mpmc")[self.discipline]

    @property
    def is_full(self):
        return ring_count(&self.ring) > self.ring.mask

    def push(self, item):
        # Counted before it is pushed: another thread may pop it at once.
        Py_INCREF(item)
        if push_one(self, <void*><PyObject*>item):
            return True
        Py_DECREF(item)
        return False

    def pop(self, default=None):
        cdef void* item
        cdef object popped
        if not pop_one(self, &item):
            return default
        popped = <object><PyObject*>item
        Py_DECREF(popped)
        return popped

    def push_many(self, list items not None):
        cdef PyObject** given = PySequence_Fast_ITEMS(items)
        cdef Py_ssize_t count = PyList_GET_SIZE(items)
        cdef Py_ssize_t room = <Py_ssize_t>(ring_capacity(&self.ring) - ring_count(&self.ring))
        cdef Py_ssize_t done
        cdef Py_ssize_t i
        if count > room:
            count = room
        for i in range(count):
            Py_INCREF(<object>given[i])
        done = <Py_ssize_t>push_some(self, <void**>given, count)
        for i in range(done, count):
            Py_DECREF(<object>given[i])
        return done

    def pop_many(self, count):
        cdef Py_ssize_t wanted = count
        cdef Py_ssize_t held = <Py_ssize_t>ring_count(&self.ring)
        cdef Py_ssize_t got
        cdef list popped
        if wanted < 0:
            raise ValueError(f"count must be at least 0, got {wanted}")
        # The list takes over the references, straight into its own slots. Making it may run the collector, and that a
        # destructor that pops: then fewer come than were counted.
        popped = PyList_New(wanted if wanted < held else held)
        got = <Py_ssize_t>pop_some(self, <void**>PySequence_Fast_ITEMS(popped), PyList_GET_SIZE(popped))
        if got < PyList_GET_SIZE(popped):
            del popped[got:]
        return popped

    def clear(self):
        cdef void* item
        while pop_one(self, &item):
            Py_DECREF(<object><PyObject*>item)

    def check(self):
        cdef int broken = ring_mpmc_check(&self.ring) if self.discipline == MPMC else ring_check(&self.ring)
        if broken:
            raise AssertionError(f"ring: invariant {broken} is broken")


hold_objects(Ring, traverse_ring, clear_ring)


cdef class WordRing:
    def __cinit__(self, capacity, mode="mpmc"):
        if mode not in ("spsc", "mpmc"):
            raise ValueError(f"mode must be 'spsc' or 'mpmc', got {mode!r}")
        self.is_spsc = mode == "spsc"
        ring_init(&self.ring, capacity)

    def __dealloc__(self):
        ring_free(&self.ring)

    def push_range(self, size_t first, size_t count, size_t batch=1):
        cdef void* words[WORD_BATCH]
        cdef size_t done = 0
        cdef size_t wanted
        cdef size_t i
        batch = min(max(batch, <size_t>1), <size_t>WORD_BATCH)
        # Without the GIL because it waits for the popping threads.
        with nogil:
            while done < count:
                wanted = min(batch, count - done)
                for i in range(wanted):
                    words[i] = <void*>(first + done + i)
                if self.is_spsc:
                    i = ring_spsc_push_many(&self.ring, words, wanted)
                else:
                    i = ring_mpmc_push_many(&self.ring, words, wanted)
                if i == 0:
                    sched_yield()
                done += i

    def pop_sum(self, size_t count, size_t batch=1):
        cdef void* words[WORD_BATCH]
        cdef size_t done = 0
        cdef size_t got
        cdef size_t i
        cdef size_t sum_ = 0
        cdef size_t last = 0
        cdef bint in_order = True
        batch = min(max(batch, <size_t>1), <size_t>WORD_BATCH)
        # Without the GIL because it waits for the pushing threads.
        with nogil:
            while done < count:
                got = min(batch, count - done)
                if self.is_spsc:
                    got = ring_spsc_pop_many(&self.ring, words, got)
                else:
                    got = ring_mpmc_pop_many(&self.ring, words, got)
                if got == 0:
                    sched_yield()
                for i in range(got):
                    in_order = in_order and <size_t>words[i] >= last
                    last = <size_t>words[i]
                    sum_ += last
                done += got
        return sum_, in_order

    def check(self):
        cdef int broken = ring_check(&self.ring) if self.is_spsc else ring_mpmc_check(&self.ring)
        if broken:
            raise AssertionError(f"ring: invariant {broken} is broken")
