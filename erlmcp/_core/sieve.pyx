"""A map that forgets: bounds on entries and on bytes, a time to live, recency.

Wanted: a hit in a few nanoseconds that writes next to nothing; exact expiry without a timer; a put with eviction that
allocates nothing; values that may refer back to the map; room for what a cache hangs on single entries.

An entry is one cache line in an array and is named by its number, so that the array may grow; the index has the hash
and the number in one word (sieve.h). Eviction is SIEVE (Zhang and others, NSDI 2024): a queue in order of insertion, a
bit that a hit sets, and a hand that goes from old to new, clears the bits it finds set and takes the first entry whose
bit is not. A hit moves nothing, and its only write is that bit. The hand gives at most SIEVE_SWEEP_MAX entries a
second chance in one search, so a single put is bounded too.

Entries with the default time to live are in a list by birth, which is the order of their deadlines as the clock does
not go back. A hit does not look at it: it compares the deadline.

Dropping an object may run code that comes back here. So what leaves is detached first, kept in a list through its own
entries (SIEVE_LEAVING), and dropped by ``sieve_bury`` when the structure is whole; that keeps numbers only, as such
code may grow the arrays. From the search for a key to the end of a change, no object of the collector is made.
"""

from cpython.bytes cimport (
    PyBytes_AS_STRING, PyBytes_Check, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE,
)
from cpython.list cimport PyList_New
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_XDECREF
from cpython.unicode cimport PyUnicode_Check, PyUnicode_CheckExact, PyUnicode_DecodeUTF8
from libc.stdint cimport INT64_MAX, uintptr_t

from erlmcp._core.memory cimport clear_t, hold_objects, mem_alloc, mem_free, mem_zalloc, traverse_t, visit_t
from erlmcp._core.table cimport table_seed


cdef extern from "text.h" nogil:
    ctypedef struct text_t:
        const char* data
        size_t size
        uint64_t hash
    void text_of_data(text_t* text, const char* data, size_t size, uint64_t seed) noexcept
    void text_prefetch(const void* address) noexcept
    void text_prefetch_write(const void* address) noexcept

cdef extern from "text.h":
    int text_of_str(text_t* text, object str, uint64_t seed) except -1

cdef extern from "sieve.h" nogil:
    void sieve_init(sieve_t* self) noexcept
    bint sieve_has_index(const sieve_t* self) noexcept
    uint32_t sieve_hash(const text_t* text) noexcept
    sieve_entry_t* sieve_guess(const sieve_t* self, const text_t* text) noexcept
    uint32_t sieve_find(const sieve_t* self, const text_t* text) noexcept
    void sieve_use_index(sieve_t* self, uint64_t* slots, size_t size) noexcept
    void sieve_use_entries(sieve_t* self, sieve_entry_t* entries, uint32_t capacity) noexcept
    uint32_t sieve_place(sieve_t* self, const text_t* text, PyObject* key) noexcept
    void sieve_link_birth(sieve_t* self, uint32_t at) noexcept
    void sieve_unlink_birth(sieve_t* self, uint32_t at) noexcept
    void sieve_detach(sieve_t* self, uint32_t at, uint32_t* leaving) noexcept
    uint32_t sieve_victim(sieve_t* self, uint32_t spared) noexcept
    int sieve_check(const sieve_t* self, uint64_t seed) noexcept

cdef extern from "Python.h":
    PyObject** PySequence_Fast_ITEMS(object o) noexcept
    Py_ssize_t PySequence_Fast_GET_SIZE(object o) noexcept
    bint PyUnicode_IS_COMPACT_ASCII(object o) noexcept


cdef enum:
    COUNT_LIMIT = 1 << 28
    CAPACITY_MIN = 16
    CHUNK = 32  # keys that get_many has on the way at a time


# Keys


cdef inline int read_key(object key, text_t* text, uint64_t seed) except -1:
    """1; 0 where it has no UTF-8 form, so that it cannot be there; TypeError where it is neither str nor bytes."""
    if PyUnicode_Check(key):
        return text_of_str(text, key, seed)
    if not PyBytes_Check(key):
        raise TypeError(f"a key is a str or bytes, not {type(key).__name__}")
    text_of_data(text, PyBytes_AS_STRING(key), <size_t>PyBytes_GET_SIZE(key), seed)
    return 1


cdef object exact_key(object key, const text_t* text):
    """What an entry keeps of a key: the object itself where it can."""
    if PyBytes_CheckExact(key):
        return key
    if PyUnicode_Check(key) and PyUnicode_IS_COMPACT_ASCII(key):
        return key if PyUnicode_CheckExact(key) else PyUnicode_DecodeUTF8(text.data, <Py_ssize_t>text.size, NULL)
    return PyBytes_FromStringAndSize(text.data, <Py_ssize_t>text.size)


cdef object shown_key(sieve_entry_t* entry):
    """The key as its owner knows it."""
    if not entry.is_text:
        return <object>entry.key
    return PyUnicode_DecodeUTF8(PyBytes_AS_STRING(<object>entry.key), PyBytes_GET_SIZE(<object>entry.key), NULL)


# Lookup


cdef inline sieve_entry_t* answer(Sieve self, const text_t* text) noexcept nogil:
    """The live entry of a key, marked as used and counted; NULL, counted too, where there is none or a negative one."""
    cdef uint32_t at = sieve_find(&self.sieve, text)
    cdef sieve_entry_t* entry = &self.sieve.entries[at]
    if at == 0 or entry.deadline <= self.now or entry.is_negative:
        self.miss_count += 1
        return NULL
    self.hit_count += 1
    if not entry.is_used:
        entry.is_used = 1
    return entry


cdef inline int ask(Sieve self, object key, sieve_entry_t** entry) except -1:
    cdef text_t text
    if read_key(key, &text, self.seed):
        entry[0] = answer(self, &text)
    else:
        self.miss_count += 1
        entry[0] = NULL
    return 0


cdef PyObject* sieve_ask(Sieve self, const char* key, Py_ssize_t key_bytes) noexcept nogil:
    cdef text_t text
    cdef sieve_entry_t* entry
    text_of_data(&text, key, <size_t>key_bytes, self.seed)
    entry = answer(self, &text)
    return entry.value if entry != NULL else NULL


cdef sieve_entry_t* sieve_look(Sieve self, object key, int64_t grace_ns) except? NULL:
    cdef text_t text
    cdef uint32_t at = sieve_find(&self.sieve, &text) if read_key(key, &text, self.seed) else 0
    cdef sieve_entry_t* entry = &self.sieve.entries[at]
    return entry if at and entry.deadline > self.now - grace_ns else NULL


cdef int find_some(Sieve self, PyObject** keys, Py_ssize_t count, PyObject* default, PyObject** found) except -1:
    """The values of up to CHUNK keys, as new references. Each round asks for the memory that the next one reads."""
    cdef text_t texts[CHUNK]
    cdef bint is_text[CHUNK]
    cdef sieve_t* sieve = &self.sieve
    cdef sieve_entry_t* entry
    cdef Py_ssize_t i
    for i in range(count):
        text_prefetch(keys[i])
    for i in range(count):
        is_text[i] = read_key(<object>keys[i], &texts[i], self.seed)
        if not is_text[i]:
            text_of_data(&texts[i], NULL, 0, self.seed)
        text_prefetch(&sieve.slots[sieve_hash(&texts[i]) & sieve.mask])
    if sieve.count > 4096:  # below, all is near enough, and the rounds cost more than they save
        for i in range(count):
            text_prefetch(sieve_guess(sieve, &texts[i]))
        for i in range(count):
            text_prefetch(sieve_guess(sieve, &texts[i]).key)
    for i in range(count):
        entry = NULL
        if is_text[i]:
            entry = answer(self, &texts[i])
        else:
            self.miss_count += 1
        found[i] = entry.value if entry != NULL else default
        text_prefetch_write(found[i])
    for i in range(count):
        Py_INCREF(<object>found[i])
    return 0


# Room in memory


cdef int grow_index(Sieve self) except -1:
    cdef uint64_t* old = self.sieve.slots if sieve_has_index(&self.sieve) else NULL
    cdef size_t size = (self.sieve.mask + 1) * 2 if old != NULL else CAPACITY_MIN
    cdef uint64_t* slots = <uint64_t*>mem_zalloc(size, sizeof(uint64_t))
    if slots == NULL:
        raise MemoryError
    sieve_use_index(&self.sieve, slots, size)
    mem_free(old)
    return 0


cdef int grow_entries(Sieve self) except -1:
    cdef size_t capacity = <size_t>self.sieve.capacity * 2 if self.sieve.capacity else CAPACITY_MIN
    cdef size_t line = sizeof(sieve_entry_t)
    cdef void* block
    if self.sieve.capacity < self.count_limit + 2 < capacity:
        capacity = self.count_limit + 2  # with entry 0, and the one that is put before its victim is dropped
    block = mem_alloc((capacity + 1) * line)
    if block == NULL:
        raise MemoryError
    sieve_use_entries(
        &self.sieve, <sieve_entry_t*>((<uintptr_t>block + line - 1) & ~<uintptr_t>(line - 1)), <uint32_t>capacity
    )
    mem_free(self.block)
    self.block = block
    return 0


cdef inline int reserve(Sieve self) except -1:
    """Makes certain that an entry can be added. MemoryError, and the sieve is as it was."""
    if (self.sieve.count + 1) * 8 > (self.sieve.mask + 1) * 5:
        grow_index(self)
    if self.sieve.first_free == 0:
        grow_entries(self)
    return 0


cdef void release(Sieve self) noexcept:
    """Gives the arrays of an empty sieve back."""
    if sieve_has_index(&self.sieve):
        mem_free(self.sieve.slots)
    mem_free(self.block)
    self.block = NULL
    sieve_init(&self.sieve)


# Leaving


cdef int sieve_take_out(Sieve self, uint32_t at, sieve_left_t* left) except -1:
    cdef sieve_entry_t* entry = &self.sieve.entries[at]
    sieve_detach(&self.sieve, at, &left.entries)
    self.leaving_count += 1
    if entry.extra != NULL:
        self.let_go(entry)
    return 0


cdef int sieve_take_out_key(Sieve self, object key, sieve_left_t* left) except -1:
    cdef text_t text
    cdef uint32_t at = sieve_find(&self.sieve, &text) if read_key(key, &text, self.seed) else 0
    if at == 0:
        return 0
    sieve_take_out(self, at, left)
    return 1


cdef int sieve_bury(Sieve self, sieve_left_t* left) except -1:
    cdef sieve_entry_t* entry
    cdef PyObject* key
    cdef PyObject* value
    cdef uint32_t at
    Py_XDECREF(left.value)
    while left.entries:
        at = left.entries
        entry = &self.sieve.entries[at]
        left.entries = entry.newer
        key = entry.key
        value = entry.value
        entry.state = SIEVE_FREE
        entry.newer = self.sieve.first_free
        self.sieve.first_free = at
        self.leaving_count -= 1
        Py_DECREF(<object>key)
        Py_DECREF(<object>value)
    return 0


cdef bint expire_birth(Sieve self, sieve_left_t* left) except -1:
    """Takes out the oldest with the default time to live, where it may not even be given out stale any more."""
    cdef sieve_entry_t* entries = self.sieve.entries
    cdef uint32_t at = entries[0].later if self.sieve.capacity else 0
    if at == 0 or entries[at].deadline > self.now - self.stale_ns:
        return False
    sieve_take_out(self, at, left)
    self.expired_count += 1
    return True


cdef inline bint is_over(Sieve self, size_t more, uint64_t more_bytes) noexcept nogil:
    return self.sieve.count + more > self.count_limit or self.sieve.bytes_held + more_bytes > self.bytes_limit


cdef Py_ssize_t make_room(Sieve self, size_t more, uint64_t more_bytes, uint32_t spared, sieve_left_t* left) except -1:
    """Takes out what has expired, then what SIEVE picks, until there is room for an entry more of so many bytes."""
    cdef size_t before = self.sieve.count
    if not is_over(self, more, more_bytes):
        return 0
    while is_over(self, more, more_bytes) and expire_birth(self, left):
        pass
    if is_over(self, more, more_bytes):
        self.expire_others(left)
    while is_over(self, more, more_bytes):
        sieve_take_out(self, sieve_victim(&self.sieve, spared), left)
        self.eviction_count += 1
    return <Py_ssize_t>(before - self.sieve.count)


cdef int sieve_drop_all(Sieve self) except -1:
    cdef sieve_left_t left = sieve_left_t(entries=0, value=NULL)
    while self.sieve.count:
        sieve_take_out(self, self.sieve.entries[0].newer, &left)
    sieve_bury(self, &left)
    if self.sieve.count == 0 and self.leaving_count == 0:
        release(self)
    return 0


# Coming


cdef inline void fill(Sieve self, uint32_t at, const sieve_item_t* item) noexcept:
    cdef sieve_entry_t* entry = &self.sieve.entries[at]
    Py_INCREF(<object>item.value)
    entry.value = item.value
    entry.is_negative = item.is_negative
    entry.size_bytes = item.size_bytes
    entry.extra = item.extra
    self.sieve.bytes_held += item.size_bytes
    entry.deadline = INT64_MAX
    if item.ttl_ns and self.now <= INT64_MAX - item.ttl_ns:
        entry.deadline = self.now + item.ttl_ns
    if entry.deadline < INT64_MAX and item.ttl_ns == self.ttl_ns:
        sieve_link_birth(&self.sieve, at)


cdef Py_ssize_t sieve_store(
    Sieve self, object key, const sieve_item_t* item, sieve_left_t* left, uint32_t* at
) except -2:
    cdef sieve_entry_t* entry
    cdef object kept
    cdef text_t text
    cdef Py_ssize_t room
    if not read_key(key, &text, self.seed):
        str.encode(key)
        raise AssertionError("a str without a UTF-8 form was encoded")
    if item.size_bytes > self.bytes_limit:
        at[0] = 0
        sieve_take_out_key(self, key, left)
        return -1
    kept = exact_key(key, &text)
    reserve(self)
    at[0] = sieve_find(&self.sieve, &text)
    if at[0] and self.sieve.entries[at[0]].deadline <= self.now:
        sieve_take_out(self, at[0], left)
        self.expired_count += 1
        at[0] = 0
    if at[0] == 0:
        room = make_room(self, 1, item.size_bytes, 0, left)
        Py_INCREF(kept)
        at[0] = sieve_place(&self.sieve, &text, <PyObject*>kept)
        self.sieve.entries[at[0]].is_text = PyUnicode_Check(key) and not PyUnicode_CheckExact(kept)
    else:
        entry = &self.sieve.entries[at[0]]
        sieve_unlink_birth(&self.sieve, at[0])
        if entry.extra != NULL:
            self.let_go(entry)
        left.value = entry.value
        self.sieve.bytes_held -= entry.size_bytes
        entry.size_bytes = 0
        entry.is_used = 1
        room = make_room(self, 0, item.size_bytes, at[0], left)
    fill(self, at[0], item)
    return room


cdef Py_ssize_t sieve_put(Sieve self, object key, object value, uint64_t size_bytes) except -2:
    cdef sieve_left_t left = sieve_left_t(entries=0, value=NULL)
    cdef sieve_item_t item
    cdef uint32_t at
    cdef Py_ssize_t room
    item.value = <PyObject*>value
    item.size_bytes = size_bytes
    item.ttl_ns = self.ttl_ns
    item.extra = NULL
    item.is_negative = False
    room = sieve_store(self, key, &item, &left, &at)
    sieve_bury(self, &left)
    return room


cdef int sieve_push_clock(Sieve self, object now_ns) except -1:
    cdef int64_t now = now_ns
    if now < 0:
        raise ValueError(f"now_ns is 0 or more, got {now_ns}")
    if now > self.now:
        self.now = now if now < INT64_MAX else INT64_MAX - 1  # INT64_MAX is never
    return 0


cdef int visit_all(Sieve self, visit_t visit, void* arg) noexcept:
    cdef uint32_t i
    cdef int stop = 0
    for i in range(1, self.sieve.capacity):
        if self.sieve.entries[i].state != SIEVE_FREE:
            stop = visit(self.sieve.entries[i].value, arg)
        if stop:
            return stop
    return 0


cdef int clear_all(Sieve self) noexcept:
    return sieve_drop_all(self)


cdef class Sieve:
    def __cinit__(
        self, Py_ssize_t count_max=10_000, *, int64_t bytes_max=0, int64_t ttl_ns=5_000_000_000, int64_t stale_ns=0,
        int64_t now_ns=0, **others,
    ):
        sieve_init(&self.sieve)
        if others and type(self) is Sieve:
            raise TypeError(f"a sieve has no setting {', '.join(others)}")
        if count_max < 1 or count_max > COUNT_LIMIT:
            raise ValueError(f"count_max is from 1 to {COUNT_LIMIT}, got {count_max}")
        if bytes_max < 0 or ttl_ns < 0 or stale_ns < 0 or now_ns < 0:
            raise ValueError("bytes_max, ttl_ns, stale_ns and now_ns are 0 or more")
        self.seed = table_seed()
        self.count_limit = <size_t>count_max
        self.bytes_limit = <uint64_t>(bytes_max if bytes_max else INT64_MAX)
        self.ttl_ns = ttl_ns
        self.stale_ns = stale_ns
        self.now = now_ns if now_ns < INT64_MAX else INT64_MAX - 1

    def __dealloc__(self):
        sieve_drop_all(self)

    cdef int let_go(self, sieve_entry_t* entry) except -1:
        return 0

    cdef int expire_others(self, sieve_left_t* left) except -1:
        return 0

    @property
    def count_max(self):
        return self.count_limit

    @property
    def bytes_max(self):
        return self.bytes_limit if self.bytes_limit != <uint64_t>INT64_MAX else 0

    @property
    def bytes_held(self):
        return self.sieve.bytes_held

    @property
    def now_ns(self):
        return self.now

    @now_ns.setter
    def now_ns(self, now_ns):
        sieve_push_clock(self, now_ns)

    @property
    def hit_rate(self):
        cdef uint64_t asked = self.hit_count + self.miss_count
        return <double>self.hit_count / <double>asked if asked else 0.0

    @property
    def memory_bytes(self):
        cdef size_t index_bytes = (self.sieve.mask + 1) * sizeof(uint64_t) if sieve_has_index(&self.sieve) else 0
        return self.sieve.capacity * sizeof(sieve_entry_t) + index_bytes

    def __len__(self):
        return <Py_ssize_t>self.sieve.count

    def __contains__(self, key):
        cdef sieve_entry_t* entry = NULL
        if PyUnicode_Check(key) or PyBytes_Check(key):
            entry = sieve_look(self, key, 0)
        return entry != NULL and not entry.is_negative

    def __getitem__(self, key):
        cdef sieve_entry_t* entry
        ask(self, key, &entry)
        if entry == NULL:
            raise KeyError(key)
        return <object>entry.value

    def get(self, key, default=None):
        cdef sieve_entry_t* entry
        ask(self, key, &entry)
        return <object>entry.value if entry != NULL else default

    def get_many(self, keys, default=None):
        cdef PyObject** found
        cdef PyObject** items
        cdef Py_ssize_t count, part, at = 0
        cdef list values
        if not isinstance(keys, (list, tuple)):
            raise TypeError(f"get_many takes a list or a tuple, not {type(keys).__name__}")
        count = PySequence_Fast_GET_SIZE(keys)
        values = PyList_New(count)
        # Nothing below runs foreign code, so the keys stay where they are. After an error the rest is NULL.
        items = PySequence_Fast_ITEMS(keys)
        found = PySequence_Fast_ITEMS(values)
        while at < count:
            part = count - at if count - at < CHUNK else CHUNK
            find_some(self, items + at, part, <PyObject*>default, found + at)
            at += part
        return values

    def peek(self, key, default=None):
        cdef sieve_entry_t* entry = sieve_look(self, key, 0)
        return <object>entry.value if entry != NULL and not entry.is_negative else default

    def get_stale(self, key, default=None):
        cdef sieve_entry_t* entry = sieve_look(self, key, self.stale_ns)
        return <object>entry.value if entry != NULL and not entry.is_negative else default

    def __setitem__(self, key, value):
        sieve_put(self, key, value, 0)

    def put(self, key, value, int64_t size_bytes=0):
        if size_bytes < 0:
            raise ValueError(f"size_bytes is 0 or more, got {size_bytes}")
        return sieve_put(self, key, value, <uint64_t>size_bytes)

    def remove(self, key):
        cdef sieve_left_t left = sieve_left_t(entries=0, value=NULL)
        if not sieve_take_out_key(self, key, &left):
            return False
        sieve_bury(self, &left)
        return True

    def __delitem__(self, key):
        if not self.remove(key):
            raise KeyError(key)

    def clear(self):
        sieve_drop_all(self)

    def expire(self, now_ns=None):
        cdef sieve_left_t left = sieve_left_t(entries=0, value=NULL)
        cdef size_t before = self.sieve.count
        if now_ns is not None:
            sieve_push_clock(self, now_ns)
        while expire_birth(self, &left):
            pass
        self.expire_others(&left)
        before -= self.sieve.count
        sieve_bury(self, &left)
        return before

    def scan(self, Py_ssize_t cursor=0, Py_ssize_t count=100):
        cdef list found = []
        cdef sieve_entry_t* entry
        cdef object key
        cdef object value
        if cursor < 0 or count < 1:
            raise ValueError(f"cursor is 0 or more and count is 1 or more, got {cursor} and {count}")
        cursor += cursor == 0  # entry 0 is none
        # Making a tuple may start the collector, and that foreign code: nothing is kept from one turn to the next.
        while cursor < <Py_ssize_t>self.sieve.capacity:
            entry = &self.sieve.entries[cursor]
            if entry.state > SIEVE_LEAVING and not entry.is_negative and entry.deadline > self.now:
                if count == 0:
                    return cursor, found
                count -= 1
                value = <object>entry.value
                key = shown_key(entry)
                found.append((key, value))
            cursor += 1
        return 0, found

    def check(self):
        cdef int broken = sieve_check(&self.sieve, self.seed)
        if broken or self.sieve.count > self.count_limit or self.sieve.bytes_held > self.bytes_limit:
            raise AssertionError(f"sieve: invariant {broken} is broken, or a budget passed")


hold_objects(Sieve, <traverse_t>visit_all, <clear_t>clear_all)
