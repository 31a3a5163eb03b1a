"""Bounded FIFO in three disciplines; see ring.pxd."""

from cpython.exc cimport PyErr_SetFromErrno
from cpython.list cimport PyList_GET_SIZE, PyList_New
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.string cimport memcpy
from posix.fcntl cimport F_GETFL, O_NONBLOCK, fcntl
from posix.unistd cimport write

from erlmcp._core.memory cimport hold_objects, mem_alloc, mem_free, visit_t

from erlmcp.errors import LimitError


cdef extern from "Python.h":
    PyObject** PySequence_Fast_ITEMS(object sequence) noexcept
    Py_ssize_t PySequence_Fast_GET_SIZE(object sequence) noexcept


cdef extern from *:
    """
    /* Hands a reference that C memory held over to Python, without counting it up and down again. */
    static inline PyObject *hand_over(void *owned) { return (PyObject *)owned; }
    """
    object hand_over(void* owned)


cdef extern from "<sched.h>" nogil:
    int sched_yield() noexcept


cdef int raise_limit(size_t wanted) except -1 with gil:
    raise LimitError("capacity", RING_CAPACITY_MAX, f"{wanted} places")


cdef int ring_init(ring_t* self, size_t capacity, bint is_mpmc) except -1 nogil:
    cdef size_t count = 2
    cdef size_t i
    self.items = NULL
    self.slots = NULL
    self.mask = self.head = self.tail = self.head_seen = self.tail_seen = 0
    if capacity > RING_CAPACITY_MAX:
        raise_limit(capacity)
    while count < capacity:
        count *= 2
    if is_mpmc:
        self.slots = <ring_slot_t*>mem_alloc(count * sizeof(ring_slot_t))
    else:
        self.items = <void**>mem_alloc(count * sizeof(void*))
    if self.slots == NULL and self.items == NULL:
        with gil:
            raise MemoryError()
    self.mask = count - 1
    if is_mpmc:
        for i in range(count):
            self.slots[i].sequence = i
    return 0


cdef void ring_free(ring_t* self) noexcept nogil:
    mem_free(self.slots)
    mem_free(self.items)
    self.slots = NULL
    self.items = NULL
    self.mask = self.head = self.tail = self.head_seen = self.tail_seen = 0


cdef inline void copy_in(ring_t* self, size_t mark, void** items, size_t count) noexcept nogil:
    """In one piece, or in two where the run passes the end of the places."""
    cdef size_t first = mark & self.mask
    cdef size_t before_end = self.mask + 1 - first
    if count <= before_end:
        memcpy(self.items + first, items, count * sizeof(void*))
    else:
        memcpy(self.items + first, items, before_end * sizeof(void*))
        memcpy(self.items, items + before_end, (count - before_end) * sizeof(void*))


cdef inline void copy_out(ring_t* self, size_t mark, void** items, size_t count) noexcept nogil:
    cdef size_t first = mark & self.mask
    cdef size_t before_end = self.mask + 1 - first
    if count <= before_end:
        memcpy(items, self.items + first, count * sizeof(void*))
    else:
        memcpy(items, self.items + first, before_end * sizeof(void*))
        memcpy(items + before_end, self.items, (count - before_end) * sizeof(void*))


cdef size_t ring_push_many(ring_t* self, void** items, size_t count) noexcept nogil:
    count = min(count, self.mask + 1 - (self.tail - self.head))
    if count:  # the items of an empty list lie nowhere
        copy_in(self, self.tail, items, count)
        self.tail += count
    return count


cdef size_t ring_pop_many(ring_t* self, void** items, size_t count) noexcept nogil:
    count = min(count, self.tail - self.head)
    if count:
        copy_out(self, self.head, items, count)
        self.head += count
    return count


cdef size_t ring_spsc_push_many(ring_t* self, void** items, size_t count) noexcept nogil:
    cdef size_t tail = atomic_get_relaxed(&self.tail)
    if self.mask + 1 - (tail - self.head_seen) < count:
        # Acquire: the popping side has read the places that it gave back.
        self.head_seen = atomic_get_acquire(&self.head)
        count = min(count, self.mask + 1 - (tail - self.head_seen))
    if count:
        copy_in(self, tail, items, count)
        atomic_set_release(&self.tail, tail + count)
    return count


cdef size_t ring_spsc_pop_many(ring_t* self, void** items, size_t count) noexcept nogil:
    cdef size_t head = atomic_get_relaxed(&self.head)
    if self.tail_seen - head < count:
        # Acquire: what the pushing side wrote into the places is visible.
        self.tail_seen = atomic_get_acquire(&self.tail)
        count = min(count, self.tail_seen - head)
    if count:
        copy_out(self, head, items, count)
        atomic_set_release(&self.head, head + count)
    return count


cdef inline size_t ready_run(ring_t* self, size_t mark, size_t wanted, size_t count) noexcept nogil:
    """How many slots from ``mark`` on have the sequence number ``wanted``, ``wanted + 1`` ...; at most ``count``."""
    cdef size_t run = 0
    while run < count and atomic_get_acquire(&self.slots[(mark + run) & self.mask].sequence) == wanted + run:
        run += 1
    return run


cdef size_t ring_mpmc_push_many(ring_t* self, void** items, size_t count) noexcept nogil:
    cdef size_t tail = atomic_get_relaxed(&self.tail)
    cdef ring_slot_t* slot
    cdef size_t run, i
    while count:
        # Slots that are ready stay so until the mark passes them: the swap claims them all, or none.
        run = ready_run(self, tail, tail, count)
        if run:
            if atomic_swap_if(&self.tail, &tail, tail + run):
                for i in range(run):
                    slot = &self.slots[(tail + i) & self.mask]
                    slot.item = items[i]
                    atomic_set_release(&slot.sequence, tail + i + 1)
                return run
        elif <Py_ssize_t>(atomic_get_acquire(&self.slots[tail & self.mask].sequence) - tail) < 0:
            return 0
        else:
            tail = atomic_get_relaxed(&self.tail)
    return 0


cdef size_t ring_mpmc_pop_many(ring_t* self, void** items, size_t count) noexcept nogil:
    cdef size_t head = atomic_get_relaxed(&self.head)
    cdef ring_slot_t* slot
    cdef size_t run, i
    while count:
        run = ready_run(self, head, head + 1, count)
        if run:
            if atomic_swap_if(&self.head, &head, head + run):
                for i in range(run):
                    slot = &self.slots[(head + i) & self.mask]
                    items[i] = slot.item
                    atomic_set_release(&slot.sequence, head + i + self.mask + 1)
                return run
        elif <Py_ssize_t>(atomic_get_acquire(&self.slots[head & self.mask].sequence) - (head + 1)) < 0:
            return 0
        else:
            head = atomic_get_relaxed(&self.head)
    return 0


cdef int ring_check(const ring_t* self) noexcept nogil:
    cdef size_t mark = self.head
    if (self.slots == NULL) == (self.items == NULL) or self.mask & (self.mask + 1):
        return 1
    if self.tail - self.head > self.mask + 1:
        return 2
    if self.slots == NULL:
        return 0
    while mark != self.tail:
        if self.slots[mark & self.mask].sequence != mark + 1:
            return 3
        mark += 1
    while mark != self.head + self.mask + 1:
        if self.slots[mark & self.mask].sequence != mark:
            return 4
        mark += 1
    return 0


cdef void ring_wake(ring_wake_t* self) noexcept nogil:
    cdef unsigned long long one = 1
    cdef size_t fd_plus_1
    # Counted in before the descriptor is read: who takes it away waits for those who may still write to it.
    atomic_add_ordered(&self.writer_count, 1)
    if atomic_swap_ordered(&self.is_armed, 0):
        fd_plus_1 = atomic_get_ordered(&self.fd_plus_1)
        if fd_plus_1:
            write(<int>(fd_plus_1 - 1), &one, sizeof(one))
    atomic_add_ordered(&self.writer_count, <size_t>-1)


# ---- The class. Its methods run under the GIL, which makes each of them one step for other Python threads; the
# discipline says which C functions serve it.

cdef enum:
    LOCAL = 0
    SPSC = 1
    MPMC = 2
    WORD_BATCH = 64


cdef inline int push_one(RingQueue self, void* item) noexcept nogil:
    if self.discipline == LOCAL:
        return ring_push(&self.ring, item)
    if self.discipline == SPSC:
        return ring_spsc_push(&self.ring, item)
    return ring_mpmc_push(&self.ring, item)


cdef inline int pop_one(RingQueue self, void** item) noexcept nogil:
    if self.discipline == LOCAL:
        return ring_pop(&self.ring, item)
    if self.discipline == SPSC:
        return ring_spsc_pop(&self.ring, item)
    return ring_mpmc_pop(&self.ring, item)


cdef inline size_t push_some(RingQueue self, void** items, size_t count) noexcept nogil:
    if self.discipline == LOCAL:
        return ring_push_many(&self.ring, items, count)
    if self.discipline == SPSC:
        return ring_spsc_push_many(&self.ring, items, count)
    return ring_mpmc_push_many(&self.ring, items, count)


cdef inline size_t pop_some(RingQueue self, void** items, size_t count) noexcept nogil:
    if self.discipline == LOCAL:
        return ring_pop_many(&self.ring, items, count)
    if self.discipline == SPSC:
        return ring_spsc_pop_many(&self.ring, items, count)
    return ring_mpmc_pop_many(&self.ring, items, count)


cdef int queue_push_owned(RingQueue self, PyObject* item) noexcept nogil:
    if atomic_get_acquire(&self.closed):
        return -1
    if not push_one(self, item):
        return 0
    ring_wake_unlocked(&self.item_wake)
    return 1


cdef int set_fd(ring_wake_t* wake, fd) except -1:
    cdef int flags
    if not -1 <= fd <= 0x7FFFFFFF:
        raise ValueError(f"a file descriptor must be -1 (none) or at least 0, got {fd}")
    if fd >= 0:
        flags = fcntl(fd, F_GETFL)
        if flags < 0:
            PyErr_SetFromErrno(OSError)
        if not flags & O_NONBLOCK:
            raise ValueError(f"the file descriptor {fd} must not block: os.set_blocking({fd}, False)")
    atomic_set_ordered(&wake.fd_plus_1, 0)
    while atomic_get_ordered(&wake.writer_count):
        sched_yield()  # a thread without the GIL is within ring_wake
    atomic_set_ordered(&wake.is_armed, 0)
    atomic_set_ordered(&wake.fd_plus_1, fd + 1)
    return 0


cdef bint may_sleep(ring_wake_t* wake, const ring_t* ring, bint is_for_items) except -1:
    """Armed first, then looked once more: a push without the GIL does it the other way round."""
    if not wake.fd_plus_1:
        raise ValueError("nobody would be woken: set wake_fd (or space_fd) first")
    atomic_set_ordered(&wake.is_armed, 1)
    atomic_fence_ordered()
    if ring_has_item(ring) if is_for_items else ring_has_room(ring):
        atomic_set_relaxed(&wake.is_armed, 0)
        return False
    return True


cdef int traverse_ring(PyObject* self, visit_t visit, void* arg) noexcept:
    cdef ring_t* ring = &(<RingQueue>self).ring
    cdef size_t at = ring.head
    cdef size_t tail = atomic_get_acquire(&ring.tail)
    cdef int answer
    while at != tail:
        # A slot that a thread without the GIL is about to fill holds nothing yet.
        if ring.slots == NULL:
            answer = visit(<PyObject*>ring.items[at & ring.mask], arg)
        elif atomic_get_acquire(&ring.slots[at & ring.mask].sequence) == at + 1:
            answer = visit(<PyObject*>ring.slots[at & ring.mask].item, arg)
        else:
            answer = 0
        if answer:
            return answer
        at += 1
    return 0


cdef int drop_all(RingQueue self) noexcept:
    """What is there now, one by one, each out of the ring before it is dropped: a destructor may call back into it."""
    cdef size_t left = ring_count(&self.ring)
    cdef void* item
    while left and pop_one(self, &item):
        left -= 1
        ring_wake_if_armed(&self.space_wake)
        Py_DECREF(<object><PyObject*>item)
    return 0


cdef int clear_ring(PyObject* self) noexcept:
    return drop_all(<RingQueue>self)


cdef class RingQueue:
    def __cinit__(self, capacity, mode="local"):
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity}")
        if mode not in ("local", "spsc", "mpmc"):
            raise ValueError(f"mode must be 'local', 'spsc' or 'mpmc', got {mode!r}")
        self.discipline = ("local", "spsc", "mpmc").index(mode)
        capacity = min(capacity, RING_CAPACITY_MAX + 1)
        ring_init(&self.ring, capacity, self.discipline == MPMC)

    def __dealloc__(self):
        cdef void* item
        if self.ring.mask:
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

    @property
    def is_closed(self):
        return self.closed != 0

    def push(self, item):
        # Counted before it is pushed: another thread may pop it at once.
        Py_INCREF(item)
        if not self.closed and push_one(self, <void*><PyObject*>item):
            ring_wake_if_armed(&self.item_wake)
            return True
        Py_DECREF(item)
        return False

    def pop(self):
        cdef void* item
        if not pop_one(self, &item):
            return None
        ring_wake_if_armed(&self.space_wake)
        return hand_over(item)

    def pop_or(self, default):
        cdef void* item
        if not pop_one(self, &item):
            return default
        ring_wake_if_armed(&self.space_wake)
        return hand_over(item)

    def push_many(self, items):
        cdef PyObject** given
        cdef Py_ssize_t count
        cdef Py_ssize_t done
        cdef Py_ssize_t i
        if not isinstance(items, (list, tuple)):
            raise TypeError(f"items must be a list or a tuple, got {type(items).__name__}")
        if self.closed:
            return 0
        given = PySequence_Fast_ITEMS(items)
        count = min(PySequence_Fast_GET_SIZE(items), <Py_ssize_t>(self.ring.mask + 1 - ring_count(&self.ring)))
        for i in range(count):
            Py_INCREF(<object>given[i])
        done = <Py_ssize_t>push_some(self, <void**>given, count)
        for i in range(done, count):
            Py_DECREF(<object>given[i])
        if done:
            ring_wake_if_armed(&self.item_wake)
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
        if got:
            ring_wake_if_armed(&self.space_wake)
        return popped

    def clear(self):
        drop_all(self)

    def close(self):
        atomic_set_ordered(&self.closed, 1)

    @property
    def wake_fd(self):
        return <Py_ssize_t>self.item_wake.fd_plus_1 - 1

    @wake_fd.setter
    def wake_fd(self, fd):
        set_fd(&self.item_wake, fd)

    @property
    def space_fd(self):
        return <Py_ssize_t>self.space_wake.fd_plus_1 - 1

    @space_fd.setter
    def space_fd(self, fd):
        set_fd(&self.space_wake, fd)

    def arm_items(self):
        return may_sleep(&self.item_wake, &self.ring, True)

    def disarm_items(self):
        atomic_set_relaxed(&self.item_wake.is_armed, 0)

    def arm_space(self):
        return may_sleep(&self.space_wake, &self.ring, False)

    def disarm_space(self):
        atomic_set_relaxed(&self.space_wake.is_armed, 0)

    def check(self):
        cdef int broken = ring_check(&self.ring)
        if broken:
            raise AssertionError(f"ring: invariant {broken} is broken")


hold_objects(RingQueue, traverse_ring, clear_ring)


def feed(RingQueue ring not None, items):
    cdef Py_ssize_t count, done = 0
    cdef PyObject** given
    cdef int answer
    if ring.discipline == LOCAL:
        raise ValueError("feed needs a ring of mode 'spsc' or 'mpmc', got 'local'")
    if not isinstance(items, (list, tuple)):
        raise TypeError(f"items must be a list or a tuple, got {type(items).__name__}")
    items = tuple(items)
    count = PySequence_Fast_GET_SIZE(items)
    given = PySequence_Fast_ITEMS(items)
    for i in range(count):
        Py_INCREF(<object>given[i])
    # Without the GIL because it waits for the popping threads, which hold it.
    with nogil:
        while done < count:
            answer = queue_push_owned(ring, given[done])
            if answer > 0:
                done += 1
            elif answer == 0:
                sched_yield()
            else:
                break
    for i in range(done, count):
        Py_DECREF(<object>given[i])
    return done


ctypedef struct pop_tally_t:
    size_t sum_
    size_t last
    bint is_in_order


cdef void push_singly(WordRing self, size_t first, size_t count) noexcept nogil:
    cdef size_t word = first
    cdef int done
    while word != first + count:
        if self.is_spsc:
            done = ring_spsc_push(&self.ring, <void*>word)
        else:
            done = ring_mpmc_push(&self.ring, <void*>word)
        word += <size_t>done
        if not done:
            sched_yield()


cdef void push_batches(WordRing self, size_t first, size_t count, size_t batch) noexcept nogil:
    cdef void* words[WORD_BATCH]
    cdef size_t done = 0
    cdef size_t wanted
    cdef size_t i
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


cdef inline void tally_up(pop_tally_t* tally, size_t word) noexcept nogil:
    tally.is_in_order &= word >= tally.last
    tally.last = word
    tally.sum_ += word


cdef void pop_singly(WordRing self, pop_tally_t* tally, size_t count) noexcept nogil:
    cdef void* word
    cdef int done
    while count:
        done = ring_spsc_pop(&self.ring, &word) if self.is_spsc else ring_mpmc_pop(&self.ring, &word)
        if done:
            tally_up(tally, <size_t>word)
            count -= 1
        else:
            sched_yield()


cdef void pop_batches(WordRing self, pop_tally_t* tally, size_t count, size_t batch) noexcept nogil:
    cdef void* words[WORD_BATCH]
    cdef size_t got
    cdef size_t i
    while count:
        got = min(batch, count)
        if self.is_spsc:
            got = ring_spsc_pop_many(&self.ring, words, got)
        else:
            got = ring_mpmc_pop_many(&self.ring, words, got)
        if got == 0:
            sched_yield()
        for i in range(got):
            tally_up(tally, <size_t>words[i])
        count -= got


cdef class WordRing:
    def __cinit__(self, capacity, mode="mpmc"):
        if mode not in ("spsc", "mpmc"):
            raise ValueError(f"mode must be 'spsc' or 'mpmc', got {mode!r}")
        self.is_spsc = mode == "spsc"
        ring_init(&self.ring, capacity, not self.is_spsc)

    def __dealloc__(self):
        ring_free(&self.ring)

    def push_range(self, size_t first, size_t count, size_t batch=1):
        batch = min(max(batch, <size_t>1), <size_t>WORD_BATCH)
        # Without the GIL because it waits for the popping threads.
        with nogil:
            if batch == 1:
                push_singly(self, first, count)
            else:
                push_batches(self, first, count, batch)

    def pop_sum(self, size_t count, size_t batch=1):
        cdef pop_tally_t tally
        tally.sum_ = tally.last = 0
        tally.is_in_order = True
        batch = min(max(batch, <size_t>1), <size_t>WORD_BATCH)
        # Without the GIL because it waits for the pushing threads.
        with nogil:
            if batch == 1:
                pop_singly(self, &tally, count)
            else:
                pop_batches(self, &tally, count, batch)
        return tally.sum_, tally.is_in_order

    def check(self):
        cdef int broken = ring_check(&self.ring)
        if broken:
            raise AssertionError(f"ring: invariant {broken} is broken")
