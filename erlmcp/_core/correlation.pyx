"""What waits for answers, by id.

Wanted: an answer finds its caller by the bytes of the id as they came; 1 and "1" are two ids; a deadline of its own
for each; all of a lost connection failed in one pass, in the order in which they were asked.

Int ids and str ids are kept apart, so that they cannot meet. Ints that are given out in turn and answered soon are a
narrow band of numbers: each has the slot of its lowest bits in ``window``, which has twice as many slots as ints
wait, so that a look-up is one load. An int whose slot is taken (a call that waits while thousands pass, or ids that
another side chose) goes into a hash table with a secret seed: slower by some nanoseconds, and nobody can make it slow.

A waiting object has a record that never moves: the chain of all goes through it, and so does the wheel (one tick is
one nanosecond, so that expiry is exact). A str id is kept as the object that it is, and its own UTF-8 bytes are the
table's key. What leaves is first taken out of everything, then made into objects: making objects may run foreign
code that comes back.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.list cimport PyList_New
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from cpython.unicode cimport PyUnicode_Check, PyUnicode_CheckExact, PyUnicode_DecodeUTF8
from libc.stdint cimport UINT64_MAX, int64_t, uint64_t
from libc.string cimport memchr

from erlmcp._core.chain cimport chain_after, chain_check, chain_front, chain_init, chain_push_back, chain_remove
from erlmcp._core.memory cimport clear_t, hold_objects, mem_alloc, mem_free, mem_zalloc, traverse_t, visit_t
from erlmcp._core.table cimport (
    hash_word, table_check, table_entry_t, table_find, table_free, table_init, table_insert, table_remove_entry,
    table_seed,
)
from erlmcp._core.wheel cimport (
    wheel_add, wheel_advance, wheel_cancel, wheel_check, wheel_init, wheel_is_linked, wheel_next, wheel_node_t,
    wheel_t,
)

from erlmcp.errors import LimitError


cdef extern from "text.h" nogil:
    ctypedef struct text_t:
        const char* data
        size_t size
        uint64_t hash
    void text_of_data(text_t* text, const char* data, size_t size, uint64_t seed) noexcept
    void text_prefetch(const void* address) noexcept

cdef extern from "text.h":
    int text_of_str(text_t* text, object str, uint64_t seed) except -1

cdef extern from "token.h" nogil:
    bint token_number(const char* token, size_t size, int64_t* number) noexcept
    Py_ssize_t token_unescape(const char* data, size_t size, char* out) noexcept

cdef extern from "Python.h":
    bint PyBool_Check(object o) noexcept
    bint PyLong_Check(object o) noexcept
    const char* PyUnicode_AsUTF8AndSize(object o, Py_ssize_t* size) noexcept
    long long PyLong_AsLongLongAndOverflow(object o, int* overflow) except? -1
    PyObject** PySequence_Fast_ITEMS(object o) noexcept


cdef enum:
    COUNT_LIMIT = 0x7FFFFFFF
    STACK_BYTES = 256  # of a str id with escapes; longer ones are resolved on the heap
    WINDOW_MIN = 64
    BLOCK_MIN = 16  # records; each block has as many as there are, up to BLOCK_MAX
    BLOCK_MAX = 4096
    KEPT_MAX = 1024  # records that stay when nothing waits any more
    CHUNK = 32  # ids that take_many has on the way at a time

ctypedef enum kind_t:
    NO_ID  # neither str nor int
    NUMBER
    TEXT
    NOT_THERE  # an id, but none that could be kept: more than 64 bits, or no UTF-8 form

ctypedef struct id_t:
    kind_t kind
    int64_t number
    text_t text

cdef pending_t* NO_WINDOW = NULL  # the one slot of a window that has none; nothing is written to it


# ---- Records.

cdef int make_block(Correlation self) except -1:
    cdef size_t count = min(max(self.made_count, <size_t>BLOCK_MIN), <size_t>BLOCK_MAX)
    cdef block_t* block = <block_t*>mem_alloc(sizeof(block_t) + count * sizeof(pending_t))
    if block == NULL:
        raise MemoryError
    block.next = self.blocks
    block.count = count
    self.blocks = block
    self.fresh = count
    self.made_count += count
    return 0


cdef inline pending_t* new_record(Correlation self) except NULL:
    cdef pending_t* record = self.free
    if record != NULL:
        self.free = pending_of_timer(record.timer.next)
    else:
        if self.fresh == 0:
            make_block(self)
        self.fresh -= 1
        record = <pending_t*>(self.blocks + 1) + self.fresh
        record.node.next = NULL  # so that scan sees that nothing waits in it
    self.used_count += 1
    return record


cdef inline void free_record(Correlation self, pending_t* record) noexcept:
    record.timer.next = &self.free.timer if self.free != NULL else NULL
    self.free = record
    self.used_count -= 1
    if self.used_count == 0 and self.made_count > KEPT_MAX:
        free_memory(self)


cdef void free_memory(Correlation self) noexcept:
    """Gives back what was made for many; nothing waits, and nothing is on its way out."""
    cdef block_t* block
    while self.blocks != NULL:
        block = self.blocks
        self.blocks = block.next
        mem_free(block)
    self.free = NULL
    self.fresh = self.made_count = 0
    if self.window != &NO_WINDOW:
        mem_free(self.window)
        self.window = &NO_WINDOW
        self.window_mask = 0
    table_free(&self.numbers)
    table_free(&self.texts)


# ---- Ids.

cdef inline int read_id(Correlation self, object id, id_t* key) except -1:
    cdef int overflow = 0
    key.kind = NO_ID
    if PyLong_Check(id) and not PyBool_Check(id):
        key.number = PyLong_AsLongLongAndOverflow(id, &overflow)
        key.kind = NOT_THERE if overflow else NUMBER
    elif PyUnicode_Check(id):
        key.kind = TEXT if text_of_str(&key.text, id, self.seed) else NOT_THERE
    return 0


cdef inline table_entry_t* find_hashed(Correlation self, int64_t number) noexcept nogil:
    return table_find(&self.numbers, hash_word(<uint64_t>number, self.seed), <const char*>&number, sizeof(int64_t))


cdef inline pending_t* find_number(Correlation self, int64_t number) noexcept nogil:
    cdef pending_t* record = self.window[<size_t>number & self.window_mask]
    cdef table_entry_t* entry
    if record != NULL and record.number == number:
        return record
    if self.numbers.count == 0:
        return NULL
    entry = find_hashed(self, number)
    return <pending_t*>entry.value if entry != NULL else NULL


cdef inline pending_t* find_text(Correlation self, const text_t* text) noexcept nogil:
    cdef table_entry_t* entry = table_find(&self.texts, text.hash, text.data, text.size)
    return <pending_t*>entry.value if entry != NULL else NULL


cdef inline pending_t* find(Correlation self, const id_t* key) noexcept nogil:
    if key.kind == NUMBER:
        return find_number(self, key.number)
    return find_text(self, &key.text) if key.kind == TEXT else NULL


cdef int widen(Correlation self) except -1:
    """Doubles the window. What stands in the table for want of a slot stays there."""
    cdef size_t slot_count = (self.window_mask + 1) * 2 if self.window != &NO_WINDOW else <size_t>WINDOW_MIN
    cdef pending_t** window = <pending_t**>mem_zalloc(slot_count, sizeof(pending_t*))
    cdef pending_t* record
    cdef size_t i
    if window == NULL:
        raise MemoryError
    for i in range(self.window_mask + 1):
        record = self.window[i]
        if record != NULL:
            window[<size_t>record.number & (slot_count - 1)] = record
    if self.window != &NO_WINDOW:
        mem_free(self.window)
    self.window = window
    self.window_mask = slot_count - 1
    return 0


cdef inline int add_number(Correlation self, pending_t* record) except -1:
    cdef pending_t** slot
    if self.number_count * 2 >= self.window_mask:
        widen(self)
    slot = &self.window[<size_t>record.number & self.window_mask]
    if slot[0] == NULL:
        slot[0] = record
    else:
        table_insert(
            &self.numbers, hash_word(<uint64_t>record.number, self.seed), <char*>&record.number, sizeof(int64_t),
            <uint64_t>record, NULL,
        )
    self.number_count += 1
    return 0


cdef inline void text_of_record(const pending_t* record, text_t* text) noexcept:
    text.data = PyUnicode_AsUTF8AndSize(<object>record.id, <Py_ssize_t*>&text.size)  # is there since put
    text.hash = <uint64_t>record.number


cdef inline void detach(Correlation self, pending_t* record) noexcept:
    """Takes a record out of everything."""
    cdef pending_t** slot
    cdef text_t text
    if record.id == NULL:
        self.number_count -= 1
        slot = &self.window[<size_t>record.number & self.window_mask]
        if slot[0] == record:
            slot[0] = NULL
        else:
            table_remove_entry(&self.numbers, find_hashed(self, record.number))
    else:
        text_of_record(record, &text)
        table_remove_entry(&self.texts, table_find(&self.texts, text.hash, text.data, text.size))
    chain_remove(&self.order, &record.node)
    if wheel_is_linked(&record.timer):
        wheel_cancel(self.wheel, &record.timer)


# ---- In and out.

cdef pending_t* add(Correlation self, const id_t* key, object id, object pending, int64_t deadline_ns) except NULL:
    """``id`` is read for a str alone. LimitError or MemoryError, and all is as it was."""
    cdef pending_t* record
    if self.order.count >= self.limit:
        raise LimitError("count_max", self.limit, "no more ids can wait")
    if deadline_ns >= 0 and self.wheel == NULL:
        self.wheel = <wheel_t*>mem_alloc(sizeof(wheel_t))
        if self.wheel == NULL:
            raise MemoryError
        wheel_init(self.wheel, <uint64_t>self.now_ns)
    record = new_record(self)
    try:
        if key.kind == NUMBER:
            record.number = key.number
            record.id = NULL
            add_number(self, record)
        else:
            table_insert(&self.texts, key.text.hash, key.text.data, key.text.size, <uint64_t>record, NULL)
            Py_INCREF(id)
            record.id = <PyObject*>id
            record.number = <int64_t>key.text.hash
    except BaseException:
        free_record(self, record)
        raise
    Py_INCREF(pending)
    record.pending = <PyObject*>pending
    chain_push_back(&self.order, &record.node)
    record.timer.link = NULL
    if deadline_ns >= 0:
        record.timer.fine = 0
        wheel_add(self.wheel, &record.timer, <uint64_t>deadline_ns)
    return record


cdef int put(Correlation self, object id, object pending, int64_t deadline_ns) except -1:
    cdef id_t key
    read_id(self, id, &key)
    if key.kind == TEXT and not PyUnicode_CheckExact(id):
        id = PyUnicode_DecodeUTF8(key.text.data, <Py_ssize_t>key.text.size, NULL)
        read_id(self, id, &key)
    if find(self, &key) != NULL:
        raise KeyError(id)
    if key.kind == NO_ID:
        raise TypeError(f"an id is a str or an int, not {type(id).__name__}")
    if key.kind == NOT_THERE:
        if PyUnicode_Check(id):
            id.encode()
        raise OverflowError("an int id has at most 64 bits")
    add(self, &key, id, pending, deadline_ns)
    return 0


cdef int correlation_put_int(Correlation correlation, int64_t id, object pending, int64_t deadline_ns) except -1:
    cdef id_t key
    key.kind = NUMBER
    key.number = id
    if find_number(correlation, id) != NULL:
        raise KeyError(id)
    add(correlation, &key, None, pending, deadline_ns)
    return 0


cdef inline int64_t next_id(Correlation self) noexcept nogil:
    self.last_id += 1
    while find_number(self, self.last_id) != NULL:
        self.last_id += 1
    return self.last_id


cdef int64_t correlation_put_next(Correlation correlation, object pending, int64_t deadline_ns) except -1:
    cdef id_t key
    key.kind = NUMBER
    key.number = next_id(correlation)
    add(correlation, &key, None, pending, deadline_ns)
    return key.number


cdef inline PyObject* take(Correlation self, pending_t* record) noexcept:
    """Removes what waits; its reference is the caller's."""
    cdef PyObject* pending
    if record == NULL:
        return NULL
    pending = record.pending
    detach(self, record)
    if record.id != NULL:
        Py_DECREF(<object>record.id)  # an exact str: runs no foreign code
    free_record(self, record)
    return pending


cdef PyObject* correlation_take_int(Correlation correlation, int64_t id) noexcept:
    return take(correlation, find_number(correlation, id))


cdef PyObject* correlation_take_text(Correlation correlation, const char* text, Py_ssize_t text_bytes) noexcept:
    cdef text_t key
    text_of_data(&key, text, <size_t>text_bytes, correlation.seed)
    return take(correlation, find_text(correlation, &key))


cdef PyObject* correlation_take_token(Correlation correlation, const char* token, Py_ssize_t token_bytes) noexcept:
    cdef int64_t number
    if token_bytes > 1 and token[0] == c'"' and token[token_bytes - 1] == c'"':
        if memchr(token, c"\\", <size_t>token_bytes) != NULL:
            return take_escaped(correlation, token + 1, token_bytes - 2)
        return correlation_take_text(correlation, token + 1, token_bytes - 2)
    if token_number(token, <size_t>token_bytes, &number):
        return correlation_take_int(correlation, number)
    return NULL


cdef PyObject* take_escaped(Correlation self, const char* data, Py_ssize_t size) noexcept:
    cdef char stack[STACK_BYTES]
    cdef char* plain = &stack[0] if size <= STACK_BYTES else <char*>mem_alloc(<size_t>size)
    cdef Py_ssize_t plain_bytes
    cdef PyObject* pending = NULL
    if plain == NULL:
        return NULL
    plain_bytes = token_unescape(data, <size_t>size, plain)
    if plain_bytes >= 0:
        pending = correlation_take_text(self, plain, plain_bytes)
    if plain != &stack[0]:
        mem_free(plain)
    return pending


cdef int take_some(Correlation self, PyObject** ids, Py_ssize_t count, PyObject** taken) except -1:
    """What waits under up to CHUNK ids, None where nothing does; asks early for the memory that is read later."""
    cdef id_t keys[CHUNK]
    cdef PyObject* pending
    cdef Py_ssize_t i
    for i in range(count):
        read_id(self, <object>ids[i], &keys[i])
        if keys[i].kind == NUMBER:
            text_prefetch(&self.window[<size_t>keys[i].number & self.window_mask])
    for i in range(count):
        if keys[i].kind == NUMBER:
            text_prefetch(self.window[<size_t>keys[i].number & self.window_mask])
    for i in range(count):
        pending = take(self, find(self, &keys[i]))
        if pending == NULL:
            pending = <PyObject*>None
            Py_INCREF(None)
        taken[i] = pending
    return 0


# ---- All at once.

cdef wheel_node_t* detach_all(Correlation self) noexcept:
    """Takes out every record; they are linked by ``timer.next`` in the order of put."""
    cdef wheel_node_t* first = NULL
    cdef wheel_node_t** last = &first
    cdef pending_t* record
    while True:
        record = pending_of_node(chain_front(&self.order))
        if record == NULL:
            break
        detach(self, record)
        last[0] = &record.timer
        last = &record.timer.next
    last[0] = NULL
    return first


cdef void drop(Correlation self, wheel_node_t* first) noexcept:
    """Lets go of records that are in nothing any more."""
    cdef PyObject* id
    cdef PyObject* pending
    cdef pending_t* record
    while first != NULL:
        record = pending_of_timer(first)
        first = first.next
        id, pending = record.id, record.pending
        free_record(self, record)
        if id != NULL:
            Py_DECREF(<object>id)
        Py_DECREF(<object>pending)


cdef list hand_over(Correlation self, wheel_node_t* first):
    """The (id, pending) pairs of records that are in nothing any more, which end here."""
    cdef list pairs = []
    cdef pending_t* record
    try:
        while first != NULL:
            record = pending_of_timer(first)
            pairs.append(
                (<object>record.id if record.id != NULL else <object>record.number, <object>record.pending)
            )
            first = first.next
            record.timer.next = NULL
            drop(self, &record.timer)
    except MemoryError:
        drop(self, first)
        raise
    return pairs


cdef int visit_all(Correlation self, visit_t visit, void* arg) noexcept:
    cdef pending_t* record = pending_of_node(chain_front(&self.order))
    cdef int stop = 0
    while record != NULL and not stop:
        stop = visit(record.pending, arg)
        record = pending_of_node(chain_after(&self.order, &record.node))
    return stop


cdef int clear_all(Correlation self) noexcept:
    drop(self, detach_all(self))
    return 0


cdef inline int64_t read_deadline(object deadline_ns) except -2:
    """-1 for None."""
    cdef int64_t deadline
    if deadline_ns is None:
        return -1
    deadline = deadline_ns
    if deadline < 0:
        raise ValueError(f"deadline_ns is 0 or more, got {deadline_ns}")
    return deadline


cdef class Correlation:
    def __cinit__(self, Py_ssize_t count_max=1_000_000):
        chain_init(&self.order)
        self.window = &NO_WINDOW
        if count_max < 1 or count_max > COUNT_LIMIT:
            raise ValueError(f"count_max is from 1 to {COUNT_LIMIT}, got {count_max}")
        table_init(&self.numbers, <size_t>count_max)
        table_init(&self.texts, <size_t>count_max)
        self.limit = <size_t>count_max
        self.seed = table_seed()

    def __dealloc__(self):
        drop(self, detach_all(self))
        free_memory(self)
        mem_free(self.wheel)

    @property
    def count_max(self):
        return self.limit

    def __len__(self):
        return <Py_ssize_t>self.order.count

    def __contains__(self, id):
        cdef id_t key
        read_id(self, id, &key)
        return find(self, &key) != NULL

    def next_id(self):
        return next_id(self)

    def put(self, id, pending, deadline_ns=None):
        put(self, id, pending, read_deadline(deadline_ns))

    def put_next(self, pending, deadline_ns=None):
        return correlation_put_next(self, pending, read_deadline(deadline_ns))

    def put_many(self, ids, pendings, deadline_ns=None):
        cdef int64_t deadline = read_deadline(deadline_ns)
        cdef list each = list(ids)
        cdef list waiting = list(pendings)
        cdef Py_ssize_t done = 0
        if len(each) != len(waiting):
            raise ValueError(f"there is one pending for each id, got {len(each)} ids and {len(waiting)} pendings")
        try:
            while done < len(each):
                put(self, each[done], waiting[done], deadline)
                done += 1
        except BaseException:
            for id in each[:done]:
                self.take(id)
            raise

    def take(self, id):
        cdef id_t key
        read_id(self, id, &key)
        return own(take(self, find(self, &key)))

    def take_many(self, ids):
        cdef list each = list(ids)  # our own: reading an id may run the collector
        cdef Py_ssize_t count = len(each)
        cdef list taken = PyList_New(count)
        cdef text_t text
        cdef Py_ssize_t start = 0
        for id in each:
            if PyUnicode_Check(id):
                text_of_str(&text, id, self.seed)  # may lack memory: now, and not when some are taken
        while start < count:
            take_some(
                self, PySequence_Fast_ITEMS(each) + start, min(count - start, <Py_ssize_t>CHUNK),
                PySequence_Fast_ITEMS(taken) + start,
            )
            start += CHUNK
        return taken

    def take_token(self, bytes token not None):
        return own(correlation_take_token(self, PyBytes_AS_STRING(token), PyBytes_GET_SIZE(token)))

    def expire(self, now_ns):
        cdef int64_t now = now_ns
        cdef wheel_node_t* first
        cdef wheel_node_t* timer
        self.now_ns = max(self.now_ns, now)
        if self.wheel == NULL:
            return []
        first = timer = wheel_advance(self.wheel, <uint64_t>self.now_ns)
        while timer != NULL:
            detach(self, pending_of_timer(timer))  # from all but the wheel, which has let go of it
            timer = timer.next
        return hand_over(self, first)

    def drain(self):
        return hand_over(self, detach_all(self))

    def scan(self, Py_ssize_t cursor=0, Py_ssize_t count=100):
        cdef list found = []
        if cursor < 0 or count < 1:
            raise ValueError(f"cursor is 0 or more and count is 1 or more, got {cursor} and {count}")
        cursor = <Py_ssize_t>correlation_gather(self, <size_t>cursor, count, found)
        return cursor, list(zip(found[::2], found[1::2]))

    def next_deadline_ns(self):
        cdef uint64_t bound = wheel_next(self.wheel) if self.wheel != NULL else UINT64_MAX
        return bound if bound != UINT64_MAX else None

    def check(self):
        cdef pending_t* record = pending_of_node(chain_front(&self.order))
        cdef text_t text
        cdef size_t timed = 0
        cdef size_t numbers = 0
        cdef size_t i
        _expect(chain_check(&self.order), "the chain is broken")
        _expect(table_check(&self.numbers) or table_check(&self.texts), "a table is broken")
        _expect(self.wheel != NULL and wheel_check(self.wheel), "the wheel is broken")
        _expect(self.number_count + self.texts.count != self.order.count, "the ids and the chain differ")
        _expect(self.used_count < self.order.count or self.made_count < self.used_count, "a record is missing")
        for i in range(self.window_mask + 1):
            numbers += self.window[i] != NULL
        _expect(numbers + self.numbers.count != self.number_count, "the window and its count differ")
        while record != NULL:
            if record.id != NULL:
                text_of_record(record, &text)
                _expect(find_text(self, &text) != record, "a record is not found by its str")
            else:
                _expect(find_number(self, record.number) != record, "a record is not found by its int")
            timed += wheel_is_linked(&record.timer)
            record = pending_of_node(chain_after(&self.order, &record.node))
        _expect(timed != (self.wheel.count if self.wheel != NULL else 0), "the wheel holds what does not wait")


cdef int _expect(bint is_broken, str message) except -1:
    if is_broken:
        raise AssertionError(message)
    return 0


hold_objects(Correlation, <traverse_t>visit_all, <clear_t>clear_all)
