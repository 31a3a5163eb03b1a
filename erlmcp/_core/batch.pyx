"""Items on their way out, gathered until one write or one call is worth it.

Wanted: an item costs a store and a comparison; one that is alone costs nothing more; what was put comes out in order
and once, as the objects that went in, so that each can have its own result.

The array of references stays from one take to the next: a take moves them into a list of their size, and the array is
given back only where it has grown large. Making a list may run the collector and with it foreign code that comes back
here, so it is made first, and the items are moved when the count is still the same.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_Check, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_New
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport INT64_MAX
from libc.string cimport memcpy

from erlmcp._core.memory cimport clear_t, hold_objects, mem_free, mem_realloc, traverse_t, visit_t

from erlmcp.errors import LimitError


cdef extern from "Python.h":
    PyObject** PySequence_Fast_ITEMS(object o) noexcept
    Py_ssize_t PySequence_Fast_GET_SIZE(object o) noexcept
    object PySequence_Fast(object o, const char* message)
    bint PyExceptionInstance_Check(object o) noexcept
    Py_ssize_t PY_SSIZE_T_MAX


cdef enum:
    CAPACITY_MIN = 16
    CAPACITY_KEPT = 8192  # an array that is larger is freed when it is empty
    COUNT_LIMIT = 0x7FFFFFFF
    STEPS = 64  # observations that lead from nothing to count_max


cdef int raise_limit(str name, Py_ssize_t maximum) except -1:
    raise LimitError(name, maximum, "take what is held before more is put")


cdef int grow(Batch self, Py_ssize_t count) except -1:
    """Room for ``count`` items in all."""
    cdef Py_ssize_t capacity = max(self.capacity, <Py_ssize_t>CAPACITY_MIN)
    cdef PyObject** items
    while capacity < count:
        capacity *= 2
    items = <PyObject**>mem_realloc(self.items, <size_t>capacity * sizeof(PyObject*))
    if items == NULL:
        raise MemoryError
    self.items = items
    self.capacity = capacity
    return 0


cdef inline int put(Batch self, object item, Py_ssize_t size) except -1:
    if size > self.held_bytes_max - self.byte_count:
        raise_limit("held_bytes_max", self.held_bytes_max)
    if self.count == self.capacity or self.count >= self.held_count_max:
        if self.count >= self.held_count_max:
            raise_limit("held_count_max", self.held_count_max)
        grow(self, self.count + 1)
    if self.count == 0:
        self.first_ns = self.now
    Py_INCREF(item)
    self.items[self.count] = <PyObject*>item
    self.count += 1
    self.byte_count += size
    return batch_is_due(self)


cdef inline Py_ssize_t size_of(object item) noexcept:
    return PyBytes_GET_SIZE(item) if PyBytes_Check(item) else 0


cdef int batch_put(Batch batch, object item, Py_ssize_t size) except -1:
    return put(batch, item, size)


cdef inline void reset(Batch self) noexcept:
    """After the items were moved out."""
    self.count = self.byte_count = 0
    if self.capacity > CAPACITY_KEPT:
        mem_free(self.items)
        self.items = NULL
        self.capacity = 0


cdef list batch_take(Batch batch):
    cdef list taken
    cdef Py_ssize_t count
    while True:
        count = batch.count
        taken = PyList_New(count)
        if count == batch.count:
            break
    if count:
        memcpy(PySequence_Fast_ITEMS(taken), batch.items, <size_t>count * sizeof(PyObject*))
    reset(batch)
    return taken


cdef bytes batch_take_bytes(Batch batch):
    cdef bytes whole
    cdef PyObject** items
    cdef char* to
    cdef Py_ssize_t count = batch.count
    cdef Py_ssize_t capacity
    cdef Py_ssize_t total = 0
    cdef Py_ssize_t i
    if count == 0:
        return b""
    for i in range(count):
        if not PyBytes_Check(<object>batch.items[i]):
            raise TypeError(f"only bytes are joined, and an item is {type(<object>batch.items[i]).__name__}")
        if PyBytes_GET_SIZE(<object>batch.items[i]) > PY_SSIZE_T_MAX - total:
            raise MemoryError
        total += PyBytes_GET_SIZE(<object>batch.items[i])
    if count == 1:
        whole = <bytes>batch.items[0]
    else:
        whole = PyBytes_FromStringAndSize(NULL, total)  # runs nothing that could come back here
        to = PyBytes_AS_STRING(whole)
        for i in range(count):
            memcpy(to, PyBytes_AS_STRING(<object>batch.items[i]), <size_t>PyBytes_GET_SIZE(<object>batch.items[i]))
            to += PyBytes_GET_SIZE(<object>batch.items[i])
    items, capacity = batch.items, batch.capacity
    batch.items = NULL
    batch.capacity = batch.count = batch.byte_count = 0
    drop(items, count)
    give_back(batch, items, capacity)
    return whole


cdef inline void drop(PyObject** items, Py_ssize_t count) noexcept:
    cdef Py_ssize_t i
    for i in range(count):
        Py_DECREF(<object>items[i])


cdef void give_back(Batch self, PyObject** items, Py_ssize_t capacity) noexcept:
    """An array whose items are gone, for the puts to come."""
    if self.items == NULL and capacity <= CAPACITY_KEPT:
        self.items = items
        self.capacity = capacity
    else:
        mem_free(items)


cdef Py_ssize_t batch_observe(Batch batch, int64_t latency_ns, Py_ssize_t count) noexcept nogil:
    cdef Py_ssize_t due = batch.count_due
    if batch.latency_goal_ns == 0:
        return due
    if latency_ns > batch.latency_goal_ns:
        due = max(due - max(due // 4, <Py_ssize_t>1), batch.count_min)
    elif count < 0 or count >= due:
        due = min(due + max(batch.count_max // STEPS, <Py_ssize_t>1), batch.count_max)
    batch.count_due = due
    return due


cdef int batch_split(list items, object results, list done, list failed) except -1:
    cdef bint is_one = PyExceptionInstance_Check(results)
    cdef Py_ssize_t count = len(items)
    cdef Py_ssize_t i
    cdef list each = None if is_one else <list?>results
    if not is_one and len(each) != count:
        raise ValueError(f"there is one result for each item, got {count} items and {len(each)} results")
    for i in range(count):
        result = results if is_one else each[i]
        if is_one or PyExceptionInstance_Check(result):
            failed.append((items[i], result))
        else:
            done.append((items[i], result))
    return 0


cdef int expect(str name, object value, object low, object high) except -1:
    if not low <= value <= high:
        raise ValueError(f"{name} is from {low} to {high}, got {value}")
    return 0


cdef int visit_all(Batch self, visit_t visit, void* arg) noexcept:
    cdef Py_ssize_t i
    cdef int stop = 0
    for i in range(self.count):
        stop = visit(self.items[i], arg)
        if stop:
            break
    return stop


cdef int clear_all(Batch self) noexcept:
    cdef PyObject** items = self.items
    cdef Py_ssize_t count = self.count
    self.items = NULL
    self.capacity = self.count = self.byte_count = 0
    drop(items, count)
    mem_free(items)
    return 0


cdef class Batch:
    def __cinit__(
        self, count_max=64, bytes_max=65536, age_ns=1_000_000, *, lone=False, count_min=1, latency_goal_ns=0,
        held_count_max=1_048_576, held_bytes_max=67_108_864, int64_t now_ns=0,
    ):
        expect("count_max", count_max, 1, COUNT_LIMIT)
        expect("bytes_max", bytes_max, 1, PY_SSIZE_T_MAX)
        expect("age_ns", age_ns, 0, INT64_MAX)
        expect("count_min", count_min, 1, count_max)
        expect("latency_goal_ns", latency_goal_ns, 0, INT64_MAX)
        expect("held_count_max", held_count_max, 1, COUNT_LIMIT)
        expect("held_bytes_max", held_bytes_max, 1, PY_SSIZE_T_MAX)
        self.count_max = count_max
        self.bytes_max = bytes_max
        self.age_ns = age_ns
        self.count_min = count_min
        self.latency_goal_ns = latency_goal_ns
        self.held_count_max = held_count_max
        self.held_bytes_max = held_bytes_max
        self.lone = lone
        self.count_due = self.count_min if self.latency_goal_ns else self.count_max
        self.now = now_ns

    def __dealloc__(self):
        clear_all(self)

    @property
    def now_ns(self):
        return self.now

    @now_ns.setter
    def now_ns(self, int64_t now_ns):
        batch_set_now(self, now_ns)

    def __len__(self):
        return self.count

    def add(self, item):
        return True if put(self, item, size_of(item)) else False

    def put(self, item, now_ns=None, size=None):
        cdef Py_ssize_t item_bytes
        if size is None:
            item_bytes = size_of(item)
        elif size < 0:
            raise ValueError(f"an item's size is 0 or more, got {size}")
        else:
            item_bytes = <Py_ssize_t>min(size, PY_SSIZE_T_MAX)
        if now_ns is not None:
            batch_set_now(self, now_ns)
        return True if put(self, item, item_bytes) else False

    def add_many(self, items):
        cdef object fast = PySequence_Fast(items, "items are an iterable")
        cdef PyObject** first = PySequence_Fast_ITEMS(fast)
        cdef Py_ssize_t count = PySequence_Fast_GET_SIZE(fast)
        cdef Py_ssize_t room = self.held_bytes_max - self.byte_count
        cdef Py_ssize_t size
        cdef Py_ssize_t total = 0
        cdef Py_ssize_t i
        if count > self.held_count_max - self.count:
            raise_limit("held_count_max", self.held_count_max)
        for i in range(count):
            size = size_of(<object>first[i])
            if size > room - total:
                raise_limit("held_bytes_max", self.held_bytes_max)
            total += size
        if count > self.capacity - self.count:
            grow(self, self.count + count)
        if self.count == 0:
            self.first_ns = self.now
        for i in range(count):
            Py_INCREF(<object>first[i])
            self.items[self.count + i] = first[i]
        self.count += count
        self.byte_count += total
        return True if batch_is_due(self) else False

    def is_due(self, now_ns=None):
        if now_ns is not None:
            batch_set_now(self, now_ns)
        return True if batch_is_due(self) else False

    def due_ns(self):
        cdef bint is_due
        cdef int64_t now = self.now
        if self.count == 0:
            return None
        self.now = self.first_ns
        is_due = batch_is_due(self)
        self.now = now
        return self.first_ns if is_due else <object>self.first_ns + <object>self.age_ns

    def take(self):
        return batch_take(self)

    def take_bytes(self):
        return batch_take_bytes(self)

    def observe(self, latency_ns, count=None):
        cdef object known = 0 if count is None else count
        if latency_ns < 0 or known < 0:
            raise ValueError(f"latency_ns and count are 0 or more, got {latency_ns} and {count}")
        return batch_observe(
            self, <int64_t>min(latency_ns, INT64_MAX), -1 if count is None else <Py_ssize_t>min(known, COUNT_LIMIT)
        )

    @staticmethod
    def split(items, results):
        cdef list done = []
        cdef list failed = []
        batch_split(list(items), results if PyExceptionInstance_Check(results) else list(results), done, failed)
        return done, failed

    def check(self):
        cdef Py_ssize_t i
        if not 0 <= self.count <= self.capacity or (self.items == NULL) != (self.capacity == 0):
            raise AssertionError("the count and the array differ")
        if not 0 <= self.byte_count <= self.held_bytes_max:
            raise AssertionError("more bytes than held_bytes_max")
        if self.count > self.held_count_max or (self.count == 0 and self.byte_count):
            raise AssertionError("more items than held_count_max, or bytes without items")
        if not self.count_min <= self.count_due <= self.count_max:
            raise AssertionError("count_due is out of its bounds")
        for i in range(self.count):
            if self.items[i] == NULL:
                raise AssertionError("an item is missing")


hold_objects(Batch, <traverse_t>visit_all, <clear_t>clear_all)
