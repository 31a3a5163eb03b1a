"""Hash table for names with the name in its slot; see names.pxd for the layout."""

from cpython.buffer cimport PyBuffer_Release
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.list cimport PyList_New
from cpython.ref cimport Py_INCREF
from libc.string cimport memcpy, memset

from erlmcp._core.memory cimport mem_alloc, mem_free, mem_zalloc_lines

from erlmcp.errors import LimitError

cdef extern from "Python.h":
    PyObject** PySequence_Fast_ITEMS(object o) noexcept
    Py_ssize_t PySequence_Fast_GET_SIZE(object o) noexcept

cdef extern from "array.h":
    int array_open(Py_buffer* view, object array, bint is_signed, bint is_written) except -1

cdef extern from * nogil:
    """
    #include <sched.h>
    """
    int sched_yield() noexcept

cdef enum:
    SLOTS_MIN = 8
    FAR_SLOTS_MIN = 0x4000  # slots that fill a second-level cache of 1 MiB
    FREE_READ_MIN = 512  # hashes from which letting go of the GIL (60 ns, and another thread's turn) pays
    COUNT_LIMIT = 0x40000000

cdef names_slot_t NO_SLOT  # of a table that has none


cdef int raise_limit(const char* limit, size_t maximum) except -1 with gil:
    raise LimitError(limit.decode("ascii"), maximum, "the table is full")


cdef void names_init(names_t* self, size_t count_max, uint64_t seed) noexcept nogil:
    self.slots = NULL
    self.mask = self.count = self.used_max = 0
    self.count_max = count_max
    self.seed = seed
    self.limit = "count_max"


cdef inline names_slot_t* free_slot(names_slot_t* slots, size_t mask, uint64_t hash) noexcept nogil:
    cdef size_t at = <size_t>hash
    while slots[at & mask].hash != NAMES_FREE:
        at += 1
    return &slots[at & mask]


cdef int rebuild(names_t* self, size_t count) except -1 nogil:
    """New slots for ``count`` names."""
    cdef size_t slot_count = SLOTS_MIN
    cdef names_slot_t* slots
    cdef size_t i
    while slot_count < count * 2:
        slot_count *= 2
    slots = <names_slot_t*>mem_zalloc_lines(slot_count, sizeof(names_slot_t))
    if slots == NULL:
        with gil:
            raise MemoryError()
    if self.slots != NULL:
        # In the order of the old slots, so that the new ones are written from two places on, in order too.
        for i in range(self.mask + 1):
            if self.slots[i].hash != NAMES_FREE:
                free_slot(slots, slot_count - 1, self.slots[i].hash)[0] = self.slots[i]
        mem_free(self.slots)
    self.slots = slots
    self.mask = slot_count - 1
    self.used_max = slot_count // 2
    return 0


cdef int names_reserve(names_t* self, size_t more) except -1 nogil:
    if more > self.count_max or self.count > self.count_max - more:
        raise_limit(self.limit, self.count_max)
    if self.count + more > self.used_max:
        rebuild(self, self.count + more)
    return 0


cdef names_slot_t* names_insert(
    names_t* self, const text_t* text, void* hot, void* cold, uint64_t extra
) except NULL nogil:
    cdef names_slot_t* slot
    names_reserve(self, 1)
    slot = free_slot(self.slots, self.mask, text.hash)
    slot.hash = text.hash
    slot.hot = hot
    slot.cold = cold
    slot.extra = extra
    memset(&slot.text, 0, sizeof(names_text_t))
    if text.size <= NAMES_NEAR_MAX:
        memcpy(&slot.text.near[0], text.data, text.size)
    else:
        slot.text.far.data = text.data
        slot.text.far.size = text.size
    self.count += 1
    return slot


cdef void names_remove(names_t* self, names_slot_t* slot) noexcept nogil:
    cdef size_t hole = <size_t>(slot - self.slots)
    cdef size_t at = hole
    while True:
        at = (at + 1) & self.mask
        slot = &self.slots[at]
        if slot.hash == NAMES_FREE:
            break
        # It may move into the hole where that is no further from the beginning of its probe than it is now.
        if ((at - <size_t>slot.hash) & self.mask) >= ((at - hole) & self.mask):
            self.slots[hole] = slot[0]
            hole = at
    memset(&self.slots[hole], 0, sizeof(names_slot_t))
    self.count -= 1


cdef inline names_t readable(const names_t* self) noexcept nogil:
    """A copy, so that the compiler may keep it in registers, which has a slot to look at."""
    cdef names_t table = self[0]
    if table.slots == NULL:
        table.slots = &NO_SLOT
    return table


cdef void names_find_hot_many(
    const names_t* self, const char* const* data, const size_t* sizes, size_t count, void** found
) noexcept nogil:
    cdef text_t texts[NAMES_ROUND]
    cdef names_t table = readable(self)
    cdef names_slot_t* slot
    cdef size_t i, part
    while count:
        part = count if count < NAMES_ROUND else NAMES_ROUND
        for i in range(part):
            text_of_data(&texts[i], data[i], sizes[i], table.seed)
            names_prefetch_probe(&table, texts[i].hash)
        for i in range(part):
            slot = names_find(&table, &texts[i])
            found[i] = slot.hot if slot != NULL else NULL
        data += part
        sizes += part
        found += part
        count -= part


cdef void names_find_hashes(const names_t* self, const uint64_t* hashes, size_t count, int64_t* extras) noexcept nogil:
    cdef names_t table = readable(self)
    cdef names_slot_t* slot
    cdef size_t i
    for i in range(NAMES_ROUND if count > NAMES_ROUND else count):
        names_prefetch_probe(&table, hashes[i])
    for i in range(count):
        if i + NAMES_ROUND < count:
            names_prefetch_probe(&table, hashes[i + NAMES_ROUND])
        slot = names_find_hash(&table, hashes[i])
        extras[i] = <int64_t>slot.extra if slot != NULL else -1


cdef size_t names_probe_max(const names_t* self) noexcept nogil:
    cdef size_t longest = 0
    cdef size_t i, probe
    if self.slots == NULL:
        return 0
    for i in range(self.mask + 1):
        if self.slots[i].hash != NAMES_FREE:
            probe = ((i - <size_t>self.slots[i].hash) & self.mask) + 1
            if probe > longest:
                longest = probe
    return longest


cdef int names_check(const names_t* self) noexcept nogil:
    cdef names_slot_t* slot
    cdef size_t live = 0
    cdef size_t i
    cdef text_t text
    if self.slots == NULL:
        return 1 if self.count or self.used_max or self.mask else 0
    if self.mask & (self.mask + 1):
        return 2
    for i in range(self.mask + 1):
        slot = &self.slots[i]
        if slot.hash == NAMES_FREE:
            continue
        live += 1
        text_of_data(&text, names_data(slot), names_size(slot), self.seed)
        if text.hash != slot.hash:
            return 3
        if names_find(self, &text) != slot:
            return 4
    if live != self.count:
        return 5
    if self.count > self.used_max or self.used_max > self.mask:
        return 6
    if self.count > self.count_max:
        return 7
    return 0


cdef void names_settle(names_door_t* door) noexcept:
    if not names_is_settled(door):
        door.waiting += 1
        with nogil:  # as long as the readers need
            while not names_is_settled(door):
                sched_yield()
        door.waiting -= 1


cdef int get_near(
    const names_t* table, PyObject** names, Py_ssize_t count, PyObject* default, PyObject** found
) except -1:
    """New references to what up to NAMES_ROUND names stand for, or none after an error. Each turn asks for the memory
    that the next one reads."""
    cdef text_t texts[NAMES_ROUND]
    cdef names_slot_t* slot
    cdef Py_ssize_t i
    for i in range(count):
        if not names_read(<object>names[i], &texts[i], table.seed):
            texts[i].hash = NAMES_FREE
        names_prefetch(table, texts[i].hash)
    for i in range(count):
        slot = names_find(table, &texts[i]) if texts[i].hash != NAMES_FREE else NULL
        found[i] = <PyObject*>slot.hot if slot != NULL else default
        text_prefetch_write(found[i])
    for i in range(count):
        Py_INCREF(<object>found[i])
    return 0


cdef int read_far(
    const names_t* table, PyObject** names, Py_ssize_t at, Py_ssize_t end, Py_ssize_t count, text_t* texts
) except -1:
    cdef text_t* text
    for at in range(at, end):
        text_prefetch(names[at + NAMES_ROUND if at + NAMES_ROUND < count else at])
        text = &texts[at % (2 * NAMES_ROUND)]
        if not names_read(<object>names[at], text, table.seed):
            text.hash = NAMES_FREE
        names_prefetch_probe(table, text.hash)
    return 0


cdef int find_far(
    const names_t* table, const text_t* texts, Py_ssize_t at, Py_ssize_t end, PyObject* default, PyObject** seen
) noexcept:
    cdef const text_t* text
    cdef names_slot_t* slot
    for at in range(at, end):
        text = &texts[at % (2 * NAMES_ROUND)]
        slot = names_find(table, text) if text.hash != NAMES_FREE else NULL
        seen[at % (2 * NAMES_ROUND)] = <PyObject*>slot.hot if slot != NULL else default
        text_prefetch_write(seen[at % (2 * NAMES_ROUND)])
    return 0


cdef int get_far(
    const names_t* table, PyObject** names, Py_ssize_t count, PyObject* default, PyObject** found
) except -1:
    """As get_near for any number of names, and each round asks for the memory of the next one before the turns of this
    one read theirs: a third less time from 100,000 names on, more where all is in the cache. ``found`` has references
    at any time, as an error (which may start the collector) can come while objects are on their way."""
    cdef text_t texts[2 * NAMES_ROUND]  # of the names of this round and the next
    cdef PyObject* seen[2 * NAMES_ROUND]  # what they stand for, borrowed
    cdef Py_ssize_t at = 0
    cdef Py_ssize_t held = 0
    while held < count:
        read_far(table, names, at, min(at + NAMES_ROUND, count), count, texts)
        if at:
            find_far(table, texts, at - NAMES_ROUND, min(at, count), default, seen)
        while held < min(at - NAMES_ROUND, count):
            Py_INCREF(<object>seen[held % (2 * NAMES_ROUND)])
            found[held] = seen[held % (2 * NAMES_ROUND)]
            held += 1
        at += NAMES_ROUND
    return 0


cdef list names_get_many(const names_t* self, object names, object default):
    cdef PyObject** items
    cdef PyObject** found
    cdef Py_ssize_t count
    cdef Py_ssize_t at = 0
    cdef list things
    cdef names_t table
    if not isinstance(names, (list, tuple)):
        raise TypeError(f"get_many takes a list or a tuple, not {type(names).__name__}")
    while True:
        count = PySequence_Fast_GET_SIZE(names)
        things = PyList_New(count)
        if PySequence_Fast_GET_SIZE(names) == count:  # else the collector ran code that changed it
            break
    # Nothing below runs foreign code, so the names stay where they are. After an error the rest is NULL.
    items = PySequence_Fast_ITEMS(names)
    found = PySequence_Fast_ITEMS(things)
    table = readable(self)
    if table.mask >= FAR_SLOTS_MIN:
        get_far(&table, items, count, <PyObject*>default, found)
        return things
    while at < count:
        get_near(&table, items + at, min(count - at, <Py_ssize_t>NAMES_ROUND), <PyObject*>default, found + at)
        at += NAMES_ROUND
    return things


cdef object new_array(Py_ssize_t count, str kind):
    import numpy
    return numpy.empty(count, kind)


cdef object names_hashes(const names_t* self, object names):
    cdef Py_buffer view
    cdef text_t text
    cdef uint64_t seed = self.seed
    cdef tuple asked
    cdef object array
    cdef Py_ssize_t i
    if not isinstance(names, (list, tuple)):
        raise TypeError(f"hashes takes a list or a tuple, not {type(names).__name__}")
    asked = tuple(names)
    array = new_array(len(asked), "uint64")
    array_open(&view, array, False, True)
    try:
        for i in range(len(asked)):
            (<uint64_t*>view.buf)[i] = text.hash if names_read(asked[i], &text, seed) else NAMES_FREE
    finally:
        PyBuffer_Release(&view)
    return array


cdef int find_hashes(
    const names_t* self, names_door_t* door, const uint64_t* hashes, size_t count, int64_t* extras
) except -1:
    """Without the GIL where that pays and no change is waiting."""
    if count < FREE_READ_MIN or not names_open_read(door):
        names_find_hashes(self, hashes, count, extras)
        return 0
    with nogil:  # 4 to 30 ns a hash
        names_find_hashes(self, hashes, count, extras)
        names_close_read(door)
    return 0


cdef object names_find_array(const names_t* self, names_door_t* door, object hashes, object out):
    cdef Py_buffer asked
    cdef Py_buffer answer
    array_open(&asked, hashes, False, False)
    try:
        if out is None:
            out = new_array(asked.len // 8, "int64")
        array_open(&answer, out, True, True)
        try:
            if asked.len != answer.len:
                raise ValueError(f"out has room for {answer.len // 8} numbers, {asked.len // 8} are wanted")
            find_hashes(self, door, <uint64_t*>asked.buf, <size_t>asked.len // 8, <int64_t*>answer.buf)
        finally:
            PyBuffer_Release(&answer)
    finally:
        PyBuffer_Release(&asked)
    return out


cdef uint64_t names_seed() except? 0:
    # CPython keys the hash of bytes with a secret of the process.
    return <uint64_t><Py_ssize_t>hash(b"erlmcp._core.names")


# ---- The class: the number of a name is its slot's ``extra``; a long name lies in a block of its own, its ``cold``.

cdef int drop_all(names_t* names) noexcept nogil:
    cdef names_slot_t* slot
    cdef size_t cursor = 0
    while True:
        slot = names_next(names, &cursor)
        if slot == NULL:
            break
        mem_free(slot.cold)
    names_free(names)
    return 0


cdef int put(Names self, object name, uint64_t number) except -1:
    """1 where the name is new."""
    cdef text_t text
    cdef names_slot_t* slot
    cdef char* copy = NULL
    names_settle(&self.door)
    if not names_read(name, &text, self.table.seed):
        name.encode()
        raise AssertionError("a str without a UTF-8 form was encoded")
    slot = names_find(&self.table, &text)
    if slot != NULL:
        slot.extra = number
        return 0
    names_reserve(&self.table, 1)
    if text.size > NAMES_NEAR_MAX:
        copy = <char*>mem_alloc(text.size)
        if copy == NULL:
            raise MemoryError()
        memcpy(copy, text.data, text.size)
        text.data = copy
    names_insert(&self.table, &text, NULL, copy, number)
    return 1


cdef names_slot_t* find(Names self, object name) except? NULL:
    """The slot of a name, or NULL. TypeError, MemoryError."""
    cdef text_t text
    return names_find(&self.table, &text) if names_read(name, &text, self.table.seed) else NULL


cdef class Names:
    def __cinit__(self, *, count_max=COUNT_LIMIT, seed=None):
        if not 1 <= count_max <= COUNT_LIMIT:
            raise ValueError(f"count_max must be 1 to {COUNT_LIMIT}, got {count_max}")
        names_init(&self.table, count_max, names_seed() if seed is None else seed)

    def __dealloc__(self):
        drop_all(&self.table)

    def __len__(self):
        return <Py_ssize_t>self.table.count

    def __contains__(self, name):
        if not (PyUnicode_Check(name) or PyBytes_Check(name)):
            return False
        return find(self, name) != NULL

    def __getitem__(self, name):
        cdef names_slot_t* slot = find(self, name)
        if slot == NULL:
            raise KeyError(name)
        return slot.extra

    def __setitem__(self, name, uint64_t number):
        put(self, name, number)

    def __delitem__(self, name):
        if not self.remove(name):
            raise KeyError(name)

    @property
    def count_max(self):
        return self.table.count_max

    @property
    def memory_bytes(self):
        cdef names_slot_t* slot
        cdef size_t cursor = 0
        cdef size_t total = names_bytes(&self.table)
        while True:
            slot = names_next(&self.table, &cursor)
            if slot == NULL:
                return total
            if slot.cold != NULL:
                total += names_size(slot)

    def get(self, name, default=None, /):
        cdef names_slot_t* slot = find(self, name)
        return slot.extra if slot != NULL else default

    def get_many(self, names, default=None, /):
        cdef names_t table
        cdef list numbers = []
        cdef tuple asked
        cdef text_t texts[NAMES_ROUND]
        cdef names_slot_t* slot
        cdef Py_ssize_t at = 0
        cdef Py_ssize_t i, part
        if not isinstance(names, (list, tuple)):
            raise TypeError(f"get_many takes a list or a tuple, not {type(names).__name__}")
        asked = tuple(names)
        table = readable(&self.table)  # from here on no foreign code runs
        while at < len(asked):
            part = min(len(asked) - at, <Py_ssize_t>NAMES_ROUND)
            for i in range(part):
                if not names_read(asked[at + i], &texts[i], table.seed):
                    texts[i].hash = NAMES_FREE
                names_prefetch(&table, texts[i].hash)
            for i in range(part):
                slot = names_find(&table, &texts[i]) if texts[i].hash != NAMES_FREE else NULL
                numbers.append(slot.extra if slot != NULL else default)
            at += part
        return numbers

    def put(self, name, uint64_t number):
        return put(self, name, number) == 1

    def remove(self, name):
        cdef names_slot_t* slot
        cdef void* copy
        names_settle(&self.door)
        slot = find(self, name)
        if slot == NULL:
            return False
        copy = slot.cold
        names_remove(&self.table, slot)
        mem_free(copy)
        return True

    def names(self):
        cdef list found = []
        cdef names_slot_t* slot
        cdef size_t cursor = 0
        while True:
            slot = names_next(&self.table, &cursor)
            if slot == NULL:
                return found
            found.append(PyBytes_FromStringAndSize(names_data(slot), <Py_ssize_t>names_size(slot)))

    def hashes(self, names):
        return names_hashes(&self.table, names)

    def find_hashes(self, hashes, out=None):
        return names_find_array(&self.table, &self.door, hashes, out)

    def clear(self):
        names_settle(&self.door)
        drop_all(&self.table)

    def probe_max(self):
        return names_probe_max(&self.table)

    def check(self):
        cdef int broken = names_check(&self.table)
        if broken:
            raise AssertionError(f"names: invariant {broken} is broken")
