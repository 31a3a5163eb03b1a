"""A work-stealing deque; see deque.pxd."""

from cpython.list cimport PyList_GET_SIZE, PyList_New
from cpython.object cimport PyObject
from cpython.pythread cimport PyThread_get_thread_ident
from cpython.ref cimport Py_DECREF, Py_INCREF

from erlmcp._core.memory cimport hold_objects, mem_alloc, mem_free, visit_t

from erlmcp.errors import LimitError, WrongThreadError


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


cdef extern from "atomic.h" nogil:
    size_t atomic_get_relaxed(const size_t* word) noexcept
    size_t atomic_get_acquire(const size_t* word) noexcept
    size_t atomic_get_ordered(const size_t* word) noexcept
    void atomic_set_relaxed(size_t* word, size_t value) noexcept
    void atomic_set_release(size_t* word, size_t value) noexcept
    void atomic_set_ordered(size_t* word, size_t value) noexcept
    int atomic_swap_if_ordered(size_t* word, size_t expected, size_t wanted) noexcept


cdef enum:
    CAPACITY_FIRST = 64
    WORD_BATCH = 64


cdef int raise_limit(size_t wanted) except -1 with gil:
    raise LimitError("capacity", DEQUE_CAPACITY_MAX, f"{wanted} places")


cdef deque_array_t* make_array(size_t count, deque_array_t* older) except NULL nogil:
    cdef deque_array_t* array = <deque_array_t*>mem_alloc(sizeof(deque_array_t) + (count - 1) * sizeof(size_t))
    if array == NULL:
        with gil:
            raise MemoryError()
    array.older = older
    array.mask = count - 1
    return array


cdef int deque_init(deque_t* self, size_t capacity) except -1 nogil:
    cdef size_t count = 2
    self.top = self.bottom = self.array = 0
    if capacity > DEQUE_CAPACITY_MAX:
        raise_limit(capacity)
    while count < capacity:
        count *= 2
    self.capacity = count
    self.array = <size_t>make_array(min(count, <size_t>CAPACITY_FIRST), NULL)
    return 0


cdef void deque_free(deque_t* self) noexcept nogil:
    cdef deque_array_t* array = <deque_array_t*>self.array
    cdef deque_array_t* older
    while array != NULL:
        older = array.older
        mem_free(array)
        array = older
    self.top = self.bottom = self.array = 0


cdef deque_array_t* grow(deque_t* self, deque_array_t* old, size_t top, size_t bottom, size_t more) except NULL nogil:
    """An array with places for ``more`` items besides; they do not pass the capacity."""
    cdef deque_array_t* array
    cdef size_t count = old.mask + 1
    while count < bottom - top + more:
        count *= 2
    array = make_array(count, old)
    while top != bottom:
        array.words[top & array.mask] = old.words[top & old.mask]
        top += 1
    # Release: a thief that finds this array finds the words in it.
    atomic_set_release(&self.array, <size_t>array)
    return array


cdef int deque_push(deque_t* self, void* item) except -1 nogil:
    cdef size_t bottom = atomic_get_relaxed(&self.bottom)
    # Acquire: who raised top has read the slot that may be filled again now.
    cdef size_t top = atomic_get_acquire(&self.top)
    cdef deque_array_t* array = <deque_array_t*>atomic_get_relaxed(&self.array)
    if bottom - top > array.mask:
        if bottom - top >= self.capacity:
            return 0
        array = grow(self, array, top, bottom, 1)
    atomic_set_relaxed(&array.words[bottom & array.mask], <size_t>item)
    atomic_set_release(&self.bottom, bottom + 1)
    return 1


cdef size_t deque_push_many(deque_t* self, void** items, size_t count) except <size_t>-1 nogil:
    cdef size_t bottom = atomic_get_relaxed(&self.bottom)
    cdef size_t top = atomic_get_acquire(&self.top)  # as in ``deque_push``
    cdef deque_array_t* array = <deque_array_t*>atomic_get_relaxed(&self.array)
    cdef size_t i
    count = min(count, self.capacity - (bottom - top))
    if bottom - top + count > array.mask + 1:
        array = grow(self, array, top, bottom, count)
    for i in range(count):
        atomic_set_relaxed(&array.words[(bottom + i) & array.mask], <size_t>items[i])
    atomic_set_release(&self.bottom, bottom + count)
    return count


cdef int deque_pop(deque_t* self, void** item) noexcept nogil:
    cdef size_t bottom = atomic_get_relaxed(&self.bottom) - 1
    cdef deque_array_t* array = <deque_array_t*>atomic_get_relaxed(&self.array)
    cdef size_t top
    cdef int is_won
    atomic_set_ordered(&self.bottom, bottom)
    top = atomic_get_ordered(&self.top)
    if <Py_ssize_t>(bottom - top) < 0:
        atomic_set_release(&self.bottom, bottom + 1)
        return 0
    item[0] = <void*>atomic_get_relaxed(&array.words[bottom & array.mask])
    if bottom != top:
        return 1
    # The last item: a thief may be about to claim it.
    is_won = atomic_swap_if_ordered(&self.top, top, top + 1)
    atomic_set_release(&self.bottom, bottom + 1)
    return is_won


cdef int deque_steal(deque_t* self, void** item) noexcept nogil:
    cdef size_t top = atomic_get_ordered(&self.top)
    cdef size_t bottom = atomic_get_ordered(&self.bottom)
    cdef deque_array_t* array
    if <Py_ssize_t>(bottom - top) <= 0:
        return 0
    array = <deque_array_t*>atomic_get_acquire(&self.array)
    item[0] = <void*>atomic_get_relaxed(&array.words[top & array.mask])
    return 1 if atomic_swap_if_ordered(&self.top, top, top + 1) else DEQUE_LOST


cdef size_t deque_steal_many(deque_t* self, void** items, size_t count) noexcept nogil:
    # One by one: the owner pops all but the last without asking, so a run cannot be claimed at once.
    cdef size_t done = 0
    cdef int got
    count = min(count, (deque_count(self) + 1) // 2)
    while done < count:
        got = deque_steal(self, items + done)
        if got == 0:
            break
        done += got == 1
    return done


cdef size_t deque_count(const deque_t* self) noexcept nogil:
    cdef size_t top = atomic_get_acquire(&self.top)
    cdef Py_ssize_t held = <Py_ssize_t>(atomic_get_acquire(&self.bottom) - top)
    return 0 if held < 0 else min(<size_t>held, self.capacity)


cdef int deque_check(const deque_t* self) noexcept nogil:
    cdef const deque_array_t* array = <const deque_array_t*>self.array
    if array == NULL or array.mask & (array.mask + 1) or array.mask >= self.capacity:
        return 1
    if self.bottom - self.top > array.mask + 1:
        return 2
    while array.older != NULL:
        if array.older.mask >= array.mask:
            return 3
        array = array.older
    return 0


# ---- The class. Its methods run under the GIL, which makes each of them one step for other Python threads, and all who
# use its deque hold it: nobody races for an item, and both ends may be moved without a fence.

cdef inline int pop_locked(deque_t* self, void** item) noexcept nogil:
    if self.bottom == self.top:
        return 0
    self.bottom -= 1
    item[0] = <void*>(<deque_array_t*>self.array).words[self.bottom & (<deque_array_t*>self.array).mask]
    return 1


cdef inline int steal_locked(deque_t* self, void** item) noexcept nogil:
    if self.bottom == self.top:
        return 0
    item[0] = <void*>(<deque_array_t*>self.array).words[self.top & (<deque_array_t*>self.array).mask]
    self.top += 1
    return 1


cdef int traverse_deque(PyObject* self, visit_t visit, void* arg) noexcept:
    cdef deque_t* deque = &(<WorkStealingDeque>self).deque
    cdef deque_array_t* array = <deque_array_t*>deque.array
    cdef size_t at = deque.top
    cdef int answer
    while at != deque.bottom:
        answer = visit(<PyObject*>array.words[at & array.mask], arg)
        if answer:
            return answer
        at += 1
    return 0


cdef int drop_all(WorkStealingDeque self) noexcept:
    """What is there now, each out of the deque before it is dropped: a destructor may call back into it."""
    cdef size_t left = deque_count(&self.deque)
    cdef void* item
    while left and steal_locked(&self.deque, &item):
        left -= 1
        Py_DECREF(<object><PyObject*>item)
    return 0


cdef int clear_deque(PyObject* self) noexcept:
    return drop_all(<WorkStealingDeque>self)


cdef int raise_wrong_thread() except -1:
    raise WrongThreadError("only the deque's owner pushes and pops; others steal, or call own() to take it over")


cdef inline int check_owner(WorkStealingDeque self) except -1:
    return 0 if self.owner == <unsigned long>PyThread_get_thread_ident() else raise_wrong_thread()


cdef class WorkStealingDeque:
    def __cinit__(self, capacity=65536):
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity}")
        deque_init(&self.deque, min(capacity, DEQUE_CAPACITY_MAX + 1))
        self.owner = <unsigned long>PyThread_get_thread_ident()

    def __dealloc__(self):
        drop_all(self)
        deque_free(&self.deque)

    def own(self):
        self.owner = <unsigned long>PyThread_get_thread_ident()

    @property
    def is_owner(self):
        return self.owner == <unsigned long>PyThread_get_thread_ident()

    def __len__(self):
        return <Py_ssize_t>deque_count(&self.deque)

    @property
    def capacity(self):
        return self.deque.capacity

    def push(self, item):
        check_owner(self)
        if not deque_push(&self.deque, <void*><PyObject*>item):
            return False
        Py_INCREF(item)
        return True

    def push_many(self, items):
        cdef PyObject** given
        cdef Py_ssize_t count, i
        if not isinstance(items, (list, tuple)):
            raise TypeError(f"items must be a list or a tuple, got {type(items).__name__}")
        check_owner(self)
        given = PySequence_Fast_ITEMS(items)
        count = <Py_ssize_t>deque_push_many(&self.deque, <void**>given, <size_t>PySequence_Fast_GET_SIZE(items))
        for i in range(count):
            Py_INCREF(<object>given[i])
        return count

    def pop(self):
        cdef void* item
        check_owner(self)
        return hand_over(item) if pop_locked(&self.deque, &item) else None

    def pop_or(self, default):
        cdef void* item
        check_owner(self)
        return hand_over(item) if pop_locked(&self.deque, &item) else default

    def steal(self):
        cdef void* item
        return hand_over(item) if steal_locked(&self.deque, &item) else None

    def steal_or(self, default):
        cdef void* item
        return hand_over(item) if steal_locked(&self.deque, &item) else default

    def steal_many(self, count=DEQUE_CAPACITY_MAX):
        cdef Py_ssize_t wanted = count
        cdef Py_ssize_t held = <Py_ssize_t>(deque_count(&self.deque) + 1) // 2
        cdef Py_ssize_t got
        cdef list stolen
        if wanted < 0:
            raise ValueError(f"count must be at least 0, got {wanted}")
        # Making the list may run the collector, and that a destructor that steals: then fewer come than were counted.
        stolen = PyList_New(wanted if wanted < held else held)
        got = <Py_ssize_t>deque_steal_many(
            &self.deque, <void**>PySequence_Fast_ITEMS(stolen), <size_t>PyList_GET_SIZE(stolen))
        if got < PyList_GET_SIZE(stolen):
            del stolen[got:]
        return stolen

    def clear(self):
        drop_all(self)

    def check(self):
        cdef int broken = deque_check(&self.deque)
        if broken:
            raise AssertionError(f"deque: invariant {broken} is broken")


hold_objects(WorkStealingDeque, traverse_deque, clear_deque)


ctypedef struct tally_t:
    size_t count
    size_t sum_
    size_t squares


cdef inline void tally_up(tally_t* tally, void* item) noexcept nogil:
    tally.count += 1
    tally.sum_ += <size_t>item
    tally.squares += <size_t>item * <size_t>item


cdef int work_through(deque_t* deque, tally_t* tally, size_t first, size_t count, size_t pop_every) except -1 nogil:
    cdef size_t word = first
    cdef void* item
    while word != first + count:
        while not deque_push(deque, <void*>word):
            if deque_pop(deque, &item):
                tally_up(tally, item)
        if pop_every and word % pop_every == 0 and deque_pop(deque, &item):
            tally_up(tally, item)
        word += 1
    while deque_pop(deque, &item):
        tally_up(tally, item)
    return 0


cdef class WordDeque:
    def __cinit__(self, capacity=65536):
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity}")
        deque_init(&self.deque, min(capacity, DEQUE_CAPACITY_MAX + 1))

    def __dealloc__(self):
        deque_free(&self.deque)

    def work(self, size_t first, size_t count, size_t pop_every=0):
        cdef tally_t tally
        tally.count = tally.sum_ = tally.squares = 0
        try:
            # Without the GIL because thieves work at the same time.
            with nogil:
                work_through(&self.deque, &tally, first, count, pop_every)
        finally:
            atomic_set_release(&self.is_done, 1)
        return tally.count, tally.sum_, tally.squares

    def steal(self, bint half=False):
        cdef tally_t tally
        cdef void* words[WORD_BATCH]
        cdef bint is_last
        cdef size_t got, i
        cdef int won
        tally.count = tally.sum_ = tally.squares = 0
        # Without the GIL because the owner and other thieves work at the same time.
        with nogil:
            while True:
                # Before the look: what the owner pushed before it was done is seen.
                is_last = atomic_get_acquire(&self.is_done)
                won = 0
                if half:
                    got = deque_steal_many(&self.deque, words, WORD_BATCH)
                else:
                    won = deque_steal(&self.deque, words)
                    got = won == 1
                for i in range(got):
                    tally_up(&tally, words[i])
                if got == 0 and won != DEQUE_LOST:
                    if is_last:
                        break
                    sched_yield()
        return tally.count, tally.sum_, tally.squares

    def check(self):
        cdef int broken = deque_check(&self.deque)
        if broken:
            raise AssertionError(f"deque: invariant {broken} is broken")
