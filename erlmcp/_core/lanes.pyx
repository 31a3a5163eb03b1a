"""Three priority lanes with ageing; see lanes.pxd."""

from cpython.list cimport PyList_GET_SIZE, PyList_New
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF

from erlmcp._core.memory cimport hold_objects, visit_t
from erlmcp._core.ring cimport (
    RING_CAPACITY_MAX, ring_capacity, ring_check, ring_free, ring_init, ring_pop_many, ring_push_many,
)

CRITICAL = LANE_CRITICAL
NORMAL = LANE_NORMAL
BULK = LANE_BULK


cdef extern from "Python.h":
    PyObject** PySequence_Fast_ITEMS(object sequence) noexcept
    Py_ssize_t PySequence_Fast_GET_SIZE(object sequence) noexcept


cdef extern from *:
    """
    /* Hands a reference that C memory held over to Python, without counting it up and down again. */
    static inline PyObject *hand_over(void *owned) { return (PyObject *)owned; }
    """
    object hand_over(void* owned)


cdef int lanes_init(lanes_t* self, size_t capacity, uint32_t age_pops) except -1 nogil:
    cdef int lane
    self.age_pops = age_pops
    for lane in range(LANE_COUNT):
        self.passed[lane] = 0
        self.rings[lane].items = NULL
        self.rings[lane].slots = NULL
    for lane in range(LANE_COUNT):
        ring_init(&self.rings[lane], capacity, False)
    return 0


cdef void lanes_free(lanes_t* self) noexcept nogil:
    cdef int lane
    for lane in range(LANE_COUNT):
        ring_free(&self.rings[lane])
        self.passed[lane] = 0


cdef size_t lanes_pop_many(lanes_t* self, void** items, size_t count) noexcept nogil:
    cdef size_t done = 0
    cdef size_t run
    cdef int chosen, lower
    while done < count:
        chosen = lanes_due(self)
        if chosen != LANE_NONE:
            self.passed[chosen] = 0
            done += <size_t>ring_pop(&self.rings[chosen], items + done)
            continue
        chosen = LANE_CRITICAL
        while not lanes_holds(self, chosen):
            chosen += 1
            if chosen == LANE_COUNT:
                return done
        # The highest lane, until it is empty or a lower one is due.
        run = count - done
        for lower in range(chosen + 1, LANE_COUNT):
            if lanes_holds(self, lower):
                run = min(run, <size_t>(self.age_pops - self.passed[lower]))
        run = ring_pop_many(&self.rings[chosen], items + done, run)
        lanes_pass(self, chosen, <uint32_t>run)
        self.passed[chosen] = 0
        done += run
    return done


cdef int lanes_pop_of(lanes_t* self, int lane, void** item) noexcept nogil:
    cdef int popped = ring_pop(&self.rings[lane], item)
    if not lanes_holds(self, lane):
        self.passed[lane] = 0
    return popped


cdef int lanes_check(const lanes_t* self) noexcept nogil:
    cdef int lane, broken
    for lane in range(LANE_COUNT):
        broken = ring_check(&self.rings[lane])
        if broken:
            return broken
        if self.passed[lane] > self.age_pops or (self.passed[lane] and not lanes_holds(self, lane)):
            return 5
    return 6 if self.passed[LANE_CRITICAL] else 0


cdef int traverse_lanes(PyObject* self, visit_t visit, void* arg) noexcept:
    cdef ring_t* ring
    cdef size_t at
    cdef int lane, answer
    for lane in range(LANE_COUNT):
        ring = &(<Lanes>self).lanes.rings[lane]
        at = ring.head
        while at != ring.tail:
            answer = visit(<PyObject*>ring.items[at & ring.mask], arg)
            if answer:
                return answer
            at += 1
    return 0


cdef int drop_all(Lanes self) noexcept:
    """What is there now, each out of its lane before it is dropped: a destructor may call back into them."""
    cdef void* item
    cdef size_t left
    cdef int lane
    for lane in range(LANE_COUNT):
        left = ring_count(&self.lanes.rings[lane])
        while left and lanes_pop_of(&self.lanes, lane, &item):
            left -= 1
            Py_DECREF(<object><PyObject*>item)
    return 0


cdef int clear_lanes(PyObject* self) noexcept:
    return drop_all(<Lanes>self)


cdef int lane_of(lane) except -1:
    if not 0 <= lane < LANE_COUNT:
        raise ValueError(f"lane must be CRITICAL (0), NORMAL (1) or BULK (2), got {lane}")
    return lane


cdef class Lanes:
    def __cinit__(self, capacity, *, age_pops=64):
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity}")
        if not 1 <= age_pops <= 0xFFFFFFFF:
            raise ValueError(f"age_pops must be 1 to {0xFFFFFFFF}, got {age_pops}")
        lanes_init(&self.lanes, min(capacity, RING_CAPACITY_MAX + 1), age_pops)

    def __dealloc__(self):
        drop_all(self)
        lanes_free(&self.lanes)

    def __len__(self):
        return <Py_ssize_t>lanes_count(&self.lanes)

    @property
    def capacity(self):
        return ring_capacity(&self.lanes.rings[0])

    @property
    def age_pops(self):
        return self.lanes.age_pops

    @property
    def counts(self):
        return (ring_count(&self.lanes.rings[0]), ring_count(&self.lanes.rings[1]), ring_count(&self.lanes.rings[2]))

    def count(self, lane):
        return ring_count(&self.lanes.rings[lane_of(lane)])

    def push(self, item, lane=LANE_NORMAL):
        if not lanes_push(&self.lanes, <void*><PyObject*>item, lane_of(lane)):
            return False
        Py_INCREF(item)
        return True

    def push_many(self, items, lane=LANE_NORMAL):
        cdef ring_t* ring
        cdef PyObject** given
        cdef Py_ssize_t count, i
        if not isinstance(items, (list, tuple)):
            raise TypeError(f"items must be a list or a tuple, got {type(items).__name__}")
        ring = &self.lanes.rings[lane_of(lane)]
        given = PySequence_Fast_ITEMS(items)
        count = <Py_ssize_t>ring_push_many(ring, <void**>given, <size_t>PySequence_Fast_GET_SIZE(items))
        for i in range(count):
            Py_INCREF(<object>given[i])
        return count

    def pop(self):
        cdef void* item
        return hand_over(item) if lanes_pop(&self.lanes, &item) else None

    def pop_or(self, default):
        cdef void* item
        return hand_over(item) if lanes_pop(&self.lanes, &item) else default

    def pop_many(self, count):
        cdef Py_ssize_t wanted = count
        cdef Py_ssize_t held = <Py_ssize_t>lanes_count(&self.lanes)
        cdef Py_ssize_t got
        cdef list popped
        if wanted < 0:
            raise ValueError(f"count must be at least 0, got {wanted}")
        # Making the list may run the collector, and that a destructor that pops: then fewer come than were counted.
        popped = PyList_New(wanted if wanted < held else held)
        got = <Py_ssize_t>lanes_pop_many(
            &self.lanes, <void**>PySequence_Fast_ITEMS(popped), <size_t>PyList_GET_SIZE(popped))
        if got < PyList_GET_SIZE(popped):
            del popped[got:]
        return popped

    def clear(self):
        drop_all(self)

    def check(self):
        cdef int broken = lanes_check(&self.lanes)
        if broken:
            raise AssertionError(f"lanes: invariant {broken} is broken")


hold_objects(Lanes, traverse_lanes, clear_lanes)
