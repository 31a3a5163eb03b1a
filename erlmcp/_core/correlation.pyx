"""What waits for answers, by id.

Wanted: an answer finds its caller by the bytes of the id as they came; 1 and "1" are two ids; a deadline of its own
for each; all of a lost connection failed in one pass, in the order in which they were asked.

Int ids and str ids have a table each, so that they cannot meet. A waiting object has a record that never moves: the
table's key lies in it, the chain of all goes through it, and so does the wheel (one tick is one nanosecond, so that
expiry is exact). What leaves is first taken out of everything, then made into objects: making objects may run
foreign code that comes back.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.long cimport PyLong_CheckExact, PyLong_FromLongLong
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from cpython.unicode cimport PyUnicode_Check, PyUnicode_CheckExact, PyUnicode_DecodeUTF8
from libc.stdint cimport UINT64_MAX, int64_t, uint32_t, uint64_t
from libc.string cimport memchr, memcpy

from erlmcp._core.chain cimport (
    chain_after, chain_check, chain_front, chain_init, chain_node_init, chain_node_t, chain_push_back, chain_remove,
)
from erlmcp._core.memory cimport clear_t, hold_objects, mem_alloc, mem_free, traverse_t, visit_t
from erlmcp._core.table cimport (
    hash_word, table_check, table_clear, table_entry_t, table_find, table_free, table_init, table_insert,
    table_remove_entry, table_seed, table_t,
)
from erlmcp._core.wheel cimport (
    wheel_add, wheel_advance, wheel_cancel, wheel_check, wheel_init, wheel_is_linked, wheel_next, wheel_node_init,
    wheel_node_t, wheel_t,
)

from erlmcp.errors import LimitError


cdef extern from "text.h" nogil:
    ctypedef struct text_t:
        const char* data
        size_t size
        uint64_t hash
    void text_of_data(text_t* text, const char* data, size_t size, uint64_t seed) noexcept

cdef extern from "text.h":
    int text_of_str(text_t* text, object str, uint64_t seed) except -1

cdef extern from "Python.h":
    bint PyBool_Check(object o) noexcept
    bint PyLong_Check(object o) noexcept
    long long PyLong_AsLongLongAndOverflow(object o, int* overflow) except? -1


cdef enum:
    COUNT_LIMIT = 0x7FFFFFFF
    STACK_BYTES = 256  # of a str id with escapes; longer ones are resolved on the heap

ctypedef enum kind_t:
    NO_ID  # neither str nor int
    NUMBER
    TEXT
    NOT_THERE  # an id, but none that could be kept: more than 64 bits, or no UTF-8 form

ctypedef struct id_t:
    kind_t kind
    int64_t number
    text_t text


cdef inline char* text_data(pending_t* record) noexcept nogil:
    return <char*>(record + 1)


cdef inline pending_t* of_node(chain_node_t* node) noexcept nogil:
    cdef pending_t* record = <pending_t*>node
    return <pending_t*>(<char*>node - (<char*>&record.node - <char*>record)) if node != NULL else NULL


cdef inline pending_t* of_timer(wheel_node_t* timer) noexcept nogil:
    return <pending_t*>timer  # the first member


cdef int read_id(Correlation self, object id, id_t* key) except -1:
    cdef int overflow = 0
    key.kind = NO_ID
    if PyLong_Check(id) and not PyBool_Check(id):
        key.number = PyLong_AsLongLongAndOverflow(id, &overflow)
        key.kind = NOT_THERE if overflow else NUMBER
    elif PyUnicode_Check(id):
        key.kind = TEXT if text_of_str(&key.text, id, self.seed) else NOT_THERE
    return 0


cdef inline table_entry_t* find_number(Correlation self, int64_t number) noexcept nogil:
    return table_find(&self.numbers, hash_word(<uint64_t>number, self.seed), <const char*>&number, sizeof(int64_t))


cdef inline table_entry_t* find_text(Correlation self, const text_t* text) noexcept nogil:
    return table_find(&self.texts, text.hash, text.data, text.size)


cdef table_entry_t* find(Correlation self, object id, id_t* key) except? NULL:
    read_id(self, id, key)
    if key.kind == NUMBER:
        return find_number(self, key.number)
    return find_text(self, &key.text) if key.kind == TEXT else NULL


cdef void unlink(Correlation self, pending_t* record) noexcept nogil:
    """Takes a record out of the chain and the wheel; its table entry is the caller's."""
    chain_remove(&self.order, &record.node)
    if wheel_is_linked(&record.timer):
        wheel_cancel(self.wheel, &record.timer)


cdef PyObject* take_entry(Correlation self, table_t* table, table_entry_t* entry) noexcept:
    """Removes what waits; its reference is the caller's."""
    cdef pending_t* record
    cdef PyObject* pending
    if entry == NULL:
        return NULL
    record = <pending_t*>entry.value
    pending = record.pending
    table_remove_entry(table, entry)
    unlink(self, record)
    Py_DECREF(<object>record.id)  # an exact str or int: runs no foreign code
    mem_free(record)
    return pending


cdef PyObject* correlation_take_int(Correlation correlation, int64_t id) noexcept:
    return take_entry(correlation, &correlation.numbers, find_number(correlation, id))


cdef PyObject* correlation_take_text(Correlation correlation, const char* text, Py_ssize_t text_bytes) noexcept:
    cdef text_t key
    text_of_data(&key, text, <size_t>text_bytes, correlation.seed)
    return take_entry(correlation, &correlation.texts, find_text(correlation, &key))


cdef PyObject* correlation_take_token(Correlation correlation, const char* token, Py_ssize_t token_bytes) noexcept:
    cdef int64_t number
    if token_bytes > 1 and token[0] == c'"' and token[token_bytes - 1] == c'"':
        if memchr(token, c"\\", <size_t>token_bytes) != NULL:
            return take_escaped(correlation, token + 1, token_bytes - 2)
        return correlation_take_text(correlation, token + 1, token_bytes - 2)
    if read_number(token, token_bytes, &number):
        return correlation_take_int(correlation, number)
    return NULL


cdef bint read_number(const char* token, Py_ssize_t size, int64_t* number) noexcept nogil:
    """Whether a token is an integer of 64 bits, written as JSON writes it."""
    cdef bint is_negative = size > 0 and token[0] == c"-"
    cdef Py_ssize_t at = 1 if is_negative else 0
    cdef uint64_t value = 0
    cdef uint64_t most = (<uint64_t>1 << 63) - (0 if is_negative else 1)
    cdef unsigned char digit
    if at == size or (token[at] == c"0" and size > at + 1):
        return False
    while at < size:
        digit = <unsigned char>(token[at] - c"0")
        if digit > 9 or value > (most - digit) // 10:
            return False
        value = value * 10 + digit
        at += 1
    number[0] = <int64_t>(0 - value if is_negative else value)
    return True


cdef PyObject* take_escaped(Correlation self, const char* data, Py_ssize_t size) noexcept:
    cdef char stack[STACK_BYTES]
    cdef char* plain = stack
    cdef Py_ssize_t plain_bytes
    cdef PyObject* pending = NULL
    if size > STACK_BYTES:
        plain = <char*>mem_alloc(<size_t>size)
        if plain == NULL:
            return NULL
    plain_bytes = unescape(data, size, plain)
    if plain_bytes >= 0:
        pending = correlation_take_text(self, plain, plain_bytes)
    if plain != stack:
        mem_free(plain)
    return pending


cdef int64_t read_hex(const char* data) noexcept nogil:
    """Four hexadecimal digits, or -1."""
    cdef int64_t value = 0
    cdef int i
    cdef unsigned char byte
    for i in range(4):
        byte = <unsigned char>data[i]
        value <<= 4
        if c"0" <= byte <= c"9":
            value |= byte - c"0"
        elif c"a" <= (byte | 0x20) <= c"f":
            value |= (byte | 0x20) - c"a" + 10
        else:
            return -1
    return value


cdef char* write_utf8(uint32_t point, char* out) noexcept nogil:
    if point < 0x80:
        out[0] = <char>point
        return out + 1
    if point < 0x800:
        out[0] = <char>(0xC0 | point >> 6)
        out += 1
    else:
        if point < 0x10000:
            out[0] = <char>(0xE0 | point >> 12)
            out += 1
        else:
            out[0] = <char>(0xF0 | point >> 18)
            out[1] = <char>(0x80 | point >> 12 & 0x3F)
            out += 2
        out[0] = <char>(0x80 | point >> 6 & 0x3F)
        out += 1
    out[0] = <char>(0x80 | point & 0x3F)
    return out + 1


cdef Py_ssize_t unescape(const char* data, Py_ssize_t size, char* out) noexcept nogil:
    """The inside of a JSON string as UTF-8, never longer than it (RFC 8259, section 7); how long, or -1 where it is
    none."""
    cdef const char* end = data + size
    cdef char* start = out
    cdef const char* letter
    cdef int64_t point
    cdef int64_t low
    while data < end:
        if data[0] != c"\\":
            out[0] = data[0]
            out += 1
            data += 1
            continue
        if end - data < 2:
            return -1
        if data[1] != c"u":
            letter = <const char*>memchr(b'"\\/bfnrt', data[1], 8)
            if letter == NULL:
                return -1
            out[0] = (<const char*>b'"\\/\b\f\n\r\t')[letter - <const char*>b'"\\/bfnrt']
            out += 1
            data += 2
            continue
        point = read_hex(data + 2) if end - data >= 6 else -1
        data += 6
        if 0xD800 <= point < 0xDC00 and end - data >= 6 and data[0] == c"\\" and data[1] == c"u":
            low = read_hex(data + 2)
            if 0xDC00 <= low < 0xE000:
                point = 0x10000 + ((point - 0xD800) << 10) + (low - 0xDC00)
                data += 6
        if point < 0 or 0xD800 <= point < 0xE000:
            return -1  # a lone surrogate has no UTF-8 form, so nothing waits under it
        out = write_utf8(<uint32_t>point, out)
    return out - start


cdef int add(Correlation self, const id_t* key, object id, object pending, int64_t deadline_ns) except -1:
    """LimitError or MemoryError, and all is as it was. A deadline below 0 is none."""
    cdef size_t size = key.text.size if key.kind == TEXT else 0
    cdef pending_t* record
    if self.order.count >= self.limit:
        raise LimitError("count_max", self.limit, "no more ids can wait")
    if deadline_ns >= 0:
        make_wheel(self)
    record = <pending_t*>mem_alloc(sizeof(pending_t) + size)
    if record == NULL:
        raise MemoryError
    chain_node_init(&record.node)
    wheel_node_init(&record.timer)
    record.size = size
    record.number = key.number if key.kind == NUMBER else 0
    try:
        if key.kind == NUMBER:
            table_insert(
                &self.numbers, hash_word(<uint64_t>key.number, self.seed), <char*>&record.number, sizeof(int64_t),
                <uint64_t>record, NULL,
            )
        else:
            memcpy(text_data(record), key.text.data, size)
            table_insert(&self.texts, key.text.hash, text_data(record), size, <uint64_t>record, NULL)
    except BaseException:
        mem_free(record)
        raise
    Py_INCREF(id)
    Py_INCREF(pending)
    record.id = <PyObject*>id
    record.pending = <PyObject*>pending
    chain_push_back(&self.order, &record.node)
    if deadline_ns >= 0:
        wheel_add(self.wheel, &record.timer, <uint64_t>deadline_ns)
    return 0


cdef int make_wheel(Correlation self) except -1:
    if self.wheel == NULL:
        self.wheel = <wheel_t*>mem_alloc(sizeof(wheel_t))
        if self.wheel == NULL:
            raise MemoryError
        wheel_init(self.wheel, <uint64_t>self.now_ns)
    return 0


cdef wheel_node_t* detach_all(Correlation self) noexcept nogil:
    """Takes out every record; they are linked by ``timer.next`` in the order of put."""
    cdef wheel_node_t* first = NULL
    cdef wheel_node_t** last = &first
    cdef pending_t* record
    while True:
        record = of_node(chain_front(&self.order))
        if record == NULL:
            break
        unlink(self, record)
        last[0] = &record.timer
        last = &record.timer.next
    last[0] = NULL
    table_clear(&self.numbers)
    table_clear(&self.texts)
    return first


cdef void drop(wheel_node_t* first) noexcept:
    """Lets go of records that are in nothing any more."""
    cdef pending_t* record
    while first != NULL:
        record = of_timer(first)
        first = first.next
        Py_DECREF(<object>record.id)
        Py_DECREF(<object>record.pending)
        mem_free(record)


cdef list hand_over(wheel_node_t* first):
    """The (id, pending) pairs of records that are in nothing any more, which end here."""
    cdef list pairs = []
    cdef pending_t* record
    try:
        while first != NULL:
            record = of_timer(first)
            pairs.append((<object>record.id, <object>record.pending))
            first = first.next
            record.timer.next = NULL
            drop(&record.timer)
    except MemoryError:
        drop(first)
        raise
    return pairs


cdef inline object own(PyObject* taken):
    if taken == NULL:
        return None
    pending = <object>taken
    Py_DECREF(pending)
    return pending


cdef int visit_all(Correlation self, visit_t visit, void* arg) noexcept:
    cdef pending_t* record = of_node(chain_front(&self.order))
    cdef int stop = 0
    while record != NULL and not stop:
        stop = visit(record.pending, arg)
        record = of_node(chain_after(&self.order, &record.node))
    return stop


cdef int clear_all(Correlation self) noexcept:
    drop(detach_all(self))
    return 0


cdef class Correlation:
    def __cinit__(self, Py_ssize_t count_max=1_000_000):
        chain_init(&self.order)
        if count_max < 1 or count_max > COUNT_LIMIT:
            raise ValueError(f"count_max is from 1 to {COUNT_LIMIT}, got {count_max}")
        table_init(&self.numbers, <size_t>count_max)
        table_init(&self.texts, <size_t>count_max)
        self.limit = <size_t>count_max
        self.seed = table_seed()

    def __dealloc__(self):
        drop(detach_all(self))
        table_free(&self.numbers)
        table_free(&self.texts)
        mem_free(self.wheel)

    @property
    def count_max(self):
        return self.limit

    def __len__(self):
        return <Py_ssize_t>self.order.count

    def __contains__(self, id):
        cdef id_t key
        return find(self, id, &key) != NULL

    def next_id(self):
        self.last_id += 1
        while find_number(self, self.last_id) != NULL:
            self.last_id += 1
        return self.last_id

    def put(self, id, pending, deadline_ns=None):
        cdef id_t key
        cdef int64_t deadline = -1
        if deadline_ns is not None:
            deadline = deadline_ns
            if deadline < 0:
                raise ValueError(f"deadline_ns is 0 or more, got {deadline_ns}")
        if find(self, id, &key) != NULL:
            raise KeyError(id)
        if key.kind == NO_ID:
            raise TypeError(f"an id is a str or an int, not {type(id).__name__}")
        if key.kind == NOT_THERE:
            if PyUnicode_Check(id):
                id.encode()
            raise OverflowError("an int id has at most 64 bits")
        if key.kind == TEXT and not PyUnicode_CheckExact(id):
            id = PyUnicode_DecodeUTF8(key.text.data, <Py_ssize_t>key.text.size, NULL)
        elif key.kind == NUMBER and not PyLong_CheckExact(id):
            id = PyLong_FromLongLong(key.number)
        add(self, &key, id, pending, deadline)

    def take(self, id):
        cdef id_t key
        cdef table_entry_t* entry = find(self, id, &key)
        return own(take_entry(self, &self.numbers if key.kind == NUMBER else &self.texts, entry))

    def take_token(self, bytes token not None):
        return own(correlation_take_token(self, PyBytes_AS_STRING(token), PyBytes_GET_SIZE(token)))

    def expire(self, now_ns):
        cdef int64_t now = now_ns
        cdef wheel_node_t* first
        cdef wheel_node_t* timer
        cdef pending_t* record
        cdef text_t text
        if now > self.now_ns:
            self.now_ns = now
        if self.wheel == NULL:
            return []
        first = wheel_advance(self.wheel, <uint64_t>self.now_ns)
        timer = first
        while timer != NULL:
            record = of_timer(timer)
            timer = timer.next
            if PyUnicode_Check(<object>record.id):
                text_of_data(&text, text_data(record), record.size, self.seed)
                table_remove_entry(&self.texts, find_text(self, &text))
            else:
                table_remove_entry(&self.numbers, find_number(self, record.number))
            chain_remove(&self.order, &record.node)
        return hand_over(first)

    def drain(self):
        return hand_over(detach_all(self))

    def next_deadline_ns(self):
        cdef uint64_t bound = wheel_next(self.wheel) if self.wheel != NULL else UINT64_MAX
        return bound if bound != UINT64_MAX else None

    def check(self):
        cdef pending_t* record = of_node(chain_front(&self.order))
        cdef table_entry_t* entry
        cdef text_t text
        cdef size_t timed = 0
        _expect(chain_check(&self.order), "the chain is broken")
        _expect(table_check(&self.numbers) or table_check(&self.texts), "a table is broken")
        _expect(self.wheel != NULL and wheel_check(self.wheel), "the wheel is broken")
        _expect(self.numbers.count + self.texts.count != self.order.count, "the tables and the chain differ")
        while record != NULL:
            if PyUnicode_Check(<object>record.id):
                text_of_data(&text, text_data(record), record.size, self.seed)
                entry = find_text(self, &text)
            else:
                entry = find_number(self, record.number)
            _expect(entry == NULL or entry.value != <uint64_t>record, "a record is not found by its id")
            timed += wheel_is_linked(&record.timer)
            record = of_node(chain_after(&self.order, &record.node))
        _expect(timed != (self.wheel.count if self.wheel != NULL else 0), "the wheel holds what does not wait")


cdef int _expect(bint is_broken, str message) except -1:
    if is_broken:
        raise AssertionError(message)
    return 0


hold_objects(Correlation, <traverse_t>visit_all, <clear_t>clear_all)
