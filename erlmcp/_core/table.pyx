"""Open-addressing hash table; see table.pxd for the invariants."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_Check, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from cpython.unicode cimport PyUnicode_AsUTF8AndSize, PyUnicode_Check

from erlmcp._core.memory cimport hold_objects, mem_alloc, mem_zalloc, visit_t

from erlmcp.errors import LimitError

cdef enum:
    SLOTS_MIN = 8
    TABLE_COUNT_MAX = 0x40000000


cdef int raise_limit(const char* limit, size_t maximum) except -1 with gil:
    raise LimitError(limit.decode("ascii"), maximum, "the table is full")


cdef void table_init(table_t* self, size_t count_max) noexcept nogil:
    self.slots = NULL
    self.mask = self.count = self.tombstones = self.used_max = 0
    self.count_max = count_max
    self.limit = "count_max"


cdef table_entry_t* free_slot(table_entry_t* slots, size_t mask, uint64_t hash) noexcept nogil:
    """Where a key that is not there goes: the first slot of its probe that holds no live entry."""
    cdef size_t at = <size_t>hash
    while slots[at & mask].hash > TABLE_TOMBSTONE:
        at += 1
    return &slots[at & mask]


cdef int rebuild(table_t* self, size_t count) except -1 nogil:
    """New slots for ``count`` entries, without tombstones."""
    cdef size_t slot_count = SLOTS_MIN
    cdef size_t i
    cdef table_entry_t* slots
    # At least twice the entries: a quarter as many inserts fit before the next rebuild, so inserts are O(1) on average.
    while slot_count < count * 2:
        slot_count *= 2
    slots = <table_entry_t*>mem_zalloc(slot_count, sizeof(table_entry_t))
    if slots == NULL:
        with gil:
            raise MemoryError()
    if self.slots != NULL:
        for i in range(self.mask + 1):
            if self.slots[i].hash > TABLE_TOMBSTONE:
                free_slot(slots, slot_count - 1, self.slots[i].hash)[0] = self.slots[i]
        mem_free(self.slots)
    self.slots = slots
    self.mask = slot_count - 1
    self.tombstones = 0
    self.used_max = slot_count // 8 * 5
    return 0


cdef int table_reserve(table_t* self, size_t more) except -1 nogil:
    if more > self.count_max or self.count > self.count_max - more:
        raise_limit(self.limit, self.count_max)
    if self.count + self.tombstones + more > self.used_max:
        rebuild(self, self.count + more)
    return 0


cdef int table_insert(
    table_t* self, uint64_t hash, const char* key, size_t size, uint64_t value, uint64_t* replaced
) except -1 nogil:
    cdef table_entry_t* entry = table_find(self, hash, key, size)
    if entry != NULL:
        if replaced != NULL:
            replaced[0] = entry.value
        entry.key = key
        entry.value = value
        return 0
    table_reserve(self, 1)
    table_append(self, hash, key, size, value)
    return 1


cdef void table_append(table_t* self, uint64_t hash, const char* key, size_t size, uint64_t value) noexcept nogil:
    cdef table_entry_t* entry = free_slot(self.slots, self.mask, hash)
    if entry.hash == TABLE_TOMBSTONE:
        self.tombstones -= 1
    entry.hash = hash
    entry.key = key
    entry.size = size
    entry.value = value
    self.count += 1


cdef void table_remove_entry(table_t* self, table_entry_t* entry) noexcept nogil:
    cdef size_t at = entry - self.slots
    entry.key = NULL
    self.count -= 1
    if self.slots[(at + 1) & self.mask].hash != TABLE_FREE:
        entry.hash = TABLE_TOMBSTONE
        self.tombstones += 1
        return
    entry.hash = TABLE_FREE
    at = (at - 1) & self.mask
    while self.slots[at].hash == TABLE_TOMBSTONE:
        self.slots[at].hash = TABLE_FREE
        self.tombstones -= 1
        at = (at - 1) & self.mask


cdef void table_clear(table_t* self) noexcept nogil:
    cdef size_t i
    if self.slots == NULL:
        return
    for i in range(self.mask + 1):
        self.slots[i].hash = TABLE_FREE
    self.count = self.tombstones = 0


cdef size_t table_probe_max(const table_t* self) noexcept nogil:
    cdef size_t longest = 0
    cdef size_t i
    cdef size_t probe
    if self.slots == NULL:
        return 0
    for i in range(self.mask + 1):
        if self.slots[i].hash > TABLE_TOMBSTONE:
            probe = ((i - <size_t>self.slots[i].hash) & self.mask) + 1
            if probe > longest:
                longest = probe
    return longest


cdef int table_check(const table_t* self) noexcept nogil:
    cdef size_t live = 0
    cdef size_t dead = 0
    cdef size_t i
    cdef table_entry_t* entry
    if self.slots == NULL:
        return 1 if self.count or self.tombstones or self.used_max or self.mask else 0
    if self.mask & (self.mask + 1):
        return 2
    for i in range(self.mask + 1):
        entry = &self.slots[i]
        if entry.hash == TABLE_TOMBSTONE:
            dead += 1
            if self.slots[(i + 1) & self.mask].hash == TABLE_FREE:
                return 3
        elif entry.hash != TABLE_FREE:
            live += 1
            if table_find(self, entry.hash, entry.key, entry.size) != entry:
                return 4
    if live != self.count or dead != self.tombstones:
        return 5
    if self.count + self.tombstones > self.used_max or self.used_max > self.mask:
        return 6
    if self.count > self.count_max:
        return 7
    return 0


cdef uint64_t table_seed() except? 0:
    # CPython keys the hash of bytes with a secret of the process.
    return <uint64_t><Py_ssize_t>hash(b"erlmcp._core.table")


# ---- The class. An entry's value points to a pair_t, which owns a reference to the key (whose bytes the entry
# borrows) and one to the value. Whatever is dropped is first taken out of the table: a destructor may call back into
# it.

ctypedef struct pair_t:
    PyObject* key
    PyObject* value


cdef int key_bytes(object key, const char** data, Py_ssize_t* size) except -1:
    if PyUnicode_Check(key):
        data[0] = PyUnicode_AsUTF8AndSize(key, size)
        return 0
    if PyBytes_Check(key):
        data[0] = PyBytes_AS_STRING(key)
        size[0] = PyBytes_GET_SIZE(key)
        return 0
    raise TypeError(f"a key must be bytes or str, got {type(key).__name__}")


cdef void drop_pair(pair_t* pair) noexcept:
    cdef PyObject* key = pair.key
    cdef PyObject* value = pair.value
    mem_free(pair)
    Py_DECREF(<object>key)
    Py_DECREF(<object>value)


cdef void drop_all(table_t* table) noexcept:
    """Empties the table first, then drops what it held."""
    cdef table_t old = table[0]
    cdef size_t cursor = 0
    cdef table_entry_t* entry
    table.slots = NULL
    table.mask = table.count = table.tombstones = table.used_max = 0
    while True:
        entry = table_next(&old, &cursor)
        if entry == NULL:
            break
        drop_pair(<pair_t*>entry.value)
    table_free(&old)


cdef int traverse_table(PyObject* self, visit_t visit, void* arg) noexcept:
    cdef size_t cursor = 0
    cdef table_entry_t* entry
    cdef int answer
    while True:
        entry = table_next(&(<Table>self).table, &cursor)
        if entry == NULL:
            return 0
        answer = visit((<pair_t*>entry.value).key, arg)
        if answer == 0:
            answer = visit((<pair_t*>entry.value).value, arg)
        if answer:
            return answer


cdef int clear_table(PyObject* self) noexcept:
    drop_all(&(<Table>self).table)
    return 0


cdef class Table:
    def __cinit__(self, *, count_max=TABLE_COUNT_MAX, seed=None):
        if not 1 <= count_max <= TABLE_COUNT_MAX:
            raise ValueError(f"count_max must be 1 to {TABLE_COUNT_MAX}, got {count_max}")
        table_init(&self.table, count_max)
        self.seed = table_seed() if seed is None else seed

    def __dealloc__(self):
        drop_all(&self.table)

    def __len__(self):
        return <Py_ssize_t>self.table.count

    def __contains__(self, key):
        return self.find(key) != NULL

    def __getitem__(self, key):
        cdef table_entry_t* entry = self.find(key)
        if entry == NULL:
            raise KeyError(key)
        return <object>(<pair_t*>entry.value).value

    def __setitem__(self, key, value):
        self.insert(key, value)

    def __delitem__(self, key):
        if not self.remove(key):
            raise KeyError(key)

    def __iter__(self):
        return TableIterator.__new__(TableIterator, self, 0)

    def keys(self):
        return TableIterator.__new__(TableIterator, self, 0)

    def values(self):
        return TableIterator.__new__(TableIterator, self, 1)

    def items(self):
        return TableIterator.__new__(TableIterator, self, 2)

    @property
    def count_max(self):
        return self.table.count_max

    def get(self, key, default=None, /):
        cdef table_entry_t* entry = self.find(key)
        return default if entry == NULL else <object>(<pair_t*>entry.value).value

    def put(self, key, value):
        return self.insert(key, value) == 1

    def remove(self, key):
        cdef table_entry_t* entry = self.find(key)
        cdef pair_t* pair
        if entry == NULL:
            return False
        pair = <pair_t*>entry.value
        table_remove_entry(&self.table, entry)
        drop_pair(pair)
        return True

    def pop(self, key, *default):
        cdef table_entry_t* entry
        cdef pair_t* pair
        cdef object value
        if len(default) > 1:
            raise TypeError(f"pop takes a key and at most one default, got {len(default)}")
        entry = self.find(key)
        if entry == NULL:
            if default:
                return default[0]
            raise KeyError(key)
        pair = <pair_t*>entry.value
        value = <object>pair.value
        table_remove_entry(&self.table, entry)
        drop_pair(pair)
        return value

    def clear(self):
        drop_all(&self.table)

    def probe_max(self):
        return table_probe_max(&self.table)

    def check(self):
        cdef int broken = table_check(&self.table)
        if broken:
            raise AssertionError(f"table: invariant {broken} is broken")

    cdef table_entry_t* find(self, key) except? NULL:
        cdef const char* data
        cdef Py_ssize_t size
        key_bytes(key, &data, &size)
        return table_find(&self.table, hash_bytes(data, size, self.seed), data, size)

    cdef int insert(self, key, value) except -1:
        """1 where the key is new, 0 where the value of the present key was replaced."""
        cdef const char* data
        cdef Py_ssize_t size
        cdef uint64_t hash
        cdef table_entry_t* entry
        cdef pair_t* pair
        cdef PyObject* old
        key_bytes(key, &data, &size)
        hash = hash_bytes(data, size, self.seed)
        entry = table_find(&self.table, hash, data, size)
        if entry != NULL:
            pair = <pair_t*>entry.value
            old = pair.value
            Py_INCREF(value)
            pair.value = <PyObject*>value
            Py_DECREF(<object>old)
            return 0
        table_reserve(&self.table, 1)
        pair = <pair_t*>mem_alloc(sizeof(pair_t))
        if pair == NULL:
            raise MemoryError()
        Py_INCREF(key)
        Py_INCREF(value)
        pair.key = <PyObject*>key
        pair.value = <PyObject*>value
        table_append(&self.table, hash, data, size, <uint64_t>pair)
        self.additions += 1
        return 1


@cython.final
cdef class TableIterator:
    """A cursor over a table: O(1) memory, and entries may be removed meanwhile."""

    cdef Table table
    cdef size_t cursor
    cdef size_t additions
    cdef int gives

    def __cinit__(self, Table table not None, int gives):
        self.table = table
        self.additions = table.additions
        self.gives = gives

    def __iter__(self):
        return self

    def __next__(self):
        cdef table_entry_t* entry
        cdef pair_t* pair
        if self.additions != self.table.additions:
            raise RuntimeError("a key was added to the table during iteration")
        entry = table_next(&self.table.table, &self.cursor)
        if entry == NULL:
            raise StopIteration
        pair = <pair_t*>entry.value
        if self.gives == 0:
            return <object>pair.key
        if self.gives == 1:
            return <object>pair.value
        return (<object>pair.key, <object>pair.value)


hold_objects(Table, traverse_table, clear_table)
