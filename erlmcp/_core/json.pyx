"""The json room: strict RFC 8259 text to Python values and back. See json_scan.h for what is checked, and how."""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_Check, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_SetItem
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_FromDouble
from cpython.list cimport PyList_New
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport INT32_MAX, int64_t
from libc.string cimport memcmp, memcpy

from erlmcp._core.buffer cimport buffer_put, buffer_put_byte, buffer_reserve, buffer_room, buffer_size, buffer_truncate
from erlmcp._core.memory cimport mem_alloc, mem_free, mem_realloc

from sys import get_int_max_str_digits

from erlmcp.errors import JsonError, LimitError

cdef extern from *:
    """
    #ifdef Py_GIL_DISABLED
    #define ERLMCP_JSON_SHARED 0
    #else
    #define ERLMCP_JSON_SHARED 1
    #endif
    """
    enum: ERLMCP_JSON_SHARED  # whether the key cache and the scratch buffer are there: both rely on the GIL

cdef enum:
    KEY_SLOTS = 1024
    KEY_BYTES_MAX = 48
    STACK_SLOTS = 128
    NUMBER_STACK = 64
    CHUNK_BYTES = 4096
    ENCODE_STACK = 4096


# --- failures ---

cdef int json_raise(const json_fail_t* fail, const char* start, const json_limits_t* limits) except -1:
    cdef const char* limit = json_fail_limit(fail.code)
    if limit == NULL:
        raise JsonError(json_fail_text(fail.code).decode(), <Py_ssize_t>(fail.at - start))
    maximum = (
        limits.depth_max if fail.code == JSON_L_DEPTH
        else limits.string_bytes_max if fail.code == JSON_L_STRING
        else limits.number_bytes_max
    )
    raise LimitError(limit.decode(), maximum, f"at byte {<Py_ssize_t>(fail.at - start)}")


# --- decoding ---
#
# Recursive descent. A failure of the text is noted in reader_t.fail and raised as an exception at once, so that one
# way out serves both. The items of open arrays wait on a stack, so that each list is made with its size known.

ctypedef struct reader_t:
    const char* start
    const char* p
    const char* end
    const json_limits_t* limits
    uint32_t depth
    uint32_t depth_max
    PyObject** items
    size_t count
    size_t capacity
    PyObject** heap

cdef PyObject* key_slots[KEY_SLOTS]

DEPTH_CEILING = JSON_DEPTH_CEILING


cdef object failed(reader_t* reader, int code, const char* at):
    cdef json_fail_t fail
    fail.code = code
    fail.at = at
    json_raise(&fail, reader.start, reader.limits)


cdef object unexpected(reader_t* reader, int code):
    return failed(reader, JSON_E_END if reader.p == reader.end else code, reader.p)


cdef inline object ascii_text(const char* p, size_t n):
    text = PyUnicode_New(n, 127)
    memcpy(PyUnicode_DATA(text), p, n)
    return text


cdef object read_string_rest(reader_t* reader, const char* p):
    """The string whose body starts at reader.p and is plain up to p."""
    cdef json_text_t text
    cdef json_fail_t fail
    cdef const char* start = reader.p
    if json_measure(start, p, reader.end, &text, &fail) < 0:
        json_raise(&fail, reader.start, reader.limits)
    if <size_t>(text.past - 1 - start) > reader.limits.string_bytes_max:
        return failed(reader, JSON_L_STRING, start - 1)
    value = PyUnicode_New(text.count, text.max_rune)
    json_fill(start, text.past - 1, PyUnicode_KIND(value), text.max_rune < 128, PyUnicode_DATA(value),
              text.count)
    reader.p = text.past
    return value


cdef inline object read_string(reader_t* reader):
    """reader.p is past the opening quote."""
    cdef const char* start = reader.p
    cdef const char* p = json_plain_run(start, reader.end)
    if p == reader.end or p[0] != c'"':
        return read_string_rest(reader, p)
    if <size_t>(p - start) > reader.limits.string_bytes_max:
        return failed(reader, JSON_L_STRING, start - 1)
    reader.p = p + 1
    return ascii_text(start, p - start)


cdef inline object read_key(reader_t* reader):
    """As read_string, but short plain keys come from a cache: the same str object, its hash already computed."""
    cdef const char* start = reader.p
    cdef const char* p = json_plain_run(start, reader.end)
    cdef size_t n = p - start
    cdef PyObject** slot
    if not ERLMCP_JSON_SHARED or p == reader.end or p[0] != c'"' or n > KEY_BYTES_MAX or (
        n > reader.limits.string_bytes_max
    ):
        return read_string(reader)
    reader.p = p + 1
    slot = &key_slots[json_key_hash(start, n) & (KEY_SLOTS - 1)]
    if slot[0] != NULL and <size_t>PyUnicode_GET_LENGTH(<object>slot[0]) == n and (
        memcmp(PyUnicode_DATA(<object>slot[0]), start, n) == 0
    ):
        return <object>slot[0]
    key = ascii_text(start, n)
    hash(key)
    Py_INCREF(key)
    cdef PyObject* old = slot[0]
    slot[0] = <PyObject*>key
    if old != NULL:
        Py_DECREF(<object>old)
    return key


cdef object read_number_slow(const char* p, size_t n, bint whole):
    cdef char stack[NUMBER_STACK]
    cdef char* text = stack
    if n >= NUMBER_STACK:
        text = <char*>mem_alloc(n + 1)
        if text == NULL:
            raise MemoryError
    try:
        memcpy(text, p, n)
        text[n] = 0
        if not whole:
            return PyFloat_FromDouble(PyOS_string_to_double(text, NULL, NULL))
        try:
            return PyLong_FromString(text, NULL, 10)
        except ValueError:  # sys.set_int_max_str_digits
            raise LimitError("int_max_str_digits", get_int_max_str_digits(), "see sys.set_int_max_str_digits") from None
    finally:
        if text != stack:
            mem_free(text)


cdef object read_number(reader_t* reader):
    cdef json_fail_t fail
    cdef int kind
    cdef int64_t whole
    cdef double real
    cdef const char* start = reader.p
    cdef const char* past = json_read_number(start, reader.end, &kind, &whole, &real)
    if reader.limits.number_bytes_max > JSON_NUMBER_FAST_BYTES:
        if kind == JSON_NUMBER_INT:
            reader.p = past
            return PyLong_FromLongLong(whole)
        if kind == JSON_NUMBER_DOUBLE:
            reader.p = past
            return PyFloat_FromDouble(real)
    past = json_skip_number(start, reader.end, reader.limits, &kind, &fail)
    if past == NULL:
        json_raise(&fail, reader.start, reader.limits)
    reader.p = past
    return read_number_slow(start, past - start, kind)


cdef int grow_items(reader_t* reader) except -1:
    cdef size_t capacity = reader.capacity * 2
    cdef PyObject** heap = <PyObject**>mem_realloc(reader.heap, capacity * sizeof(PyObject*))
    if heap == NULL:
        raise MemoryError
    if reader.heap == NULL:
        memcpy(heap, reader.items, reader.count * sizeof(PyObject*))
    reader.heap = reader.items = heap
    reader.capacity = capacity
    return 0


cdef inline int open_container(reader_t* reader) except -1:
    if reader.depth >= reader.depth_max:
        failed(reader, JSON_L_DEPTH, reader.p)
    reader.depth += 1
    reader.p = json_skip_blank(reader.p + 1, reader.end)
    return 0


cdef inline void put_item(reader_t* reader, object item) noexcept:
    Py_INCREF(item)
    reader.items[reader.count] = <PyObject*>item
    reader.count += 1


cdef object read_array(reader_t* reader):
    cdef size_t base = reader.count
    cdef size_t i
    open_container(reader)
    if reader.p < reader.end and reader.p[0] == c"]":
        reader.p += 1
        reader.depth -= 1
        return []
    while True:
        if reader.count == reader.capacity:
            grow_items(reader)
        if reader.p < reader.end and c"0" <= reader.p[0] <= c"9":
            put_item(reader, read_number(reader))
        else:
            put_item(reader, read_value(reader))
        reader.p = json_skip_blank(reader.p, reader.end)
        if reader.p < reader.end and reader.p[0] == c",":
            reader.p = json_skip_blank(reader.p + 1, reader.end)
            continue
        if reader.p < reader.end and reader.p[0] == c"]":
            break
        return unexpected(reader, JSON_E_COMMA)
    result = PyList_New(reader.count - base)
    for i in range(reader.count - base):
        PyList_SET_ITEM(result, i, <object>reader.items[base + i])
    reader.count = base
    reader.p += 1
    reader.depth -= 1
    return result


cdef object read_object(reader_t* reader):
    open_container(reader)
    result = {}
    if reader.p < reader.end and reader.p[0] == c"}":
        reader.p += 1
        reader.depth -= 1
        return result
    while True:
        if reader.p == reader.end or reader.p[0] != c'"':
            return unexpected(reader, JSON_E_KEY)
        reader.p += 1
        key = read_key(reader)
        reader.p = json_skip_blank(reader.p, reader.end)
        if reader.p == reader.end or reader.p[0] != c":":
            return unexpected(reader, JSON_E_COLON)
        reader.p = json_skip_blank(reader.p + 1, reader.end)
        PyDict_SetItem(result, key, read_value(reader))
        reader.p = json_skip_blank(reader.p, reader.end)
        if reader.p < reader.end and reader.p[0] == c",":
            reader.p = json_skip_blank(reader.p + 1, reader.end)
            continue
        if reader.p < reader.end and reader.p[0] == c"}":
            break
        return unexpected(reader, JSON_E_COMMA)
    reader.p += 1
    reader.depth -= 1
    return result


cdef object read_value(reader_t* reader):
    cdef json_fail_t fail
    cdef const char* start = reader.p
    cdef char c
    if start == reader.end:
        return unexpected(reader, JSON_E_END)
    c = start[0]
    if c == c'"':
        reader.p += 1
        return read_string(reader)
    if c == c"{":
        return read_object(reader)
    if c == c"[":
        return read_array(reader)
    if c == c"-" or c"0" <= c <= c"9":
        return read_number(reader)
    reader.p = json_skip_word(start, reader.end, &fail)
    if reader.p == NULL:
        json_raise(&fail, reader.start, reader.limits)
    return True if c == c"t" else False if c == c"f" else None


cdef object json_decode_span(const char* p, size_t n, const json_limits_t* limits):
    cdef PyObject* stack[STACK_SLOTS]
    cdef reader_t reader
    cdef size_t i
    reader.start = p
    reader.end = p + n
    reader.p = json_skip_blank(p, reader.end)
    reader.limits = limits
    reader.depth = 0
    reader.depth_max = min(limits.depth_max, <uint32_t>JSON_DEPTH_CEILING)
    reader.items = stack
    reader.count = 0
    reader.capacity = STACK_SLOTS
    reader.heap = NULL
    try:
        value = read_value(&reader)
        reader.p = json_skip_blank(reader.p, reader.end)
        if reader.p != reader.end:
            return failed(&reader, JSON_E_TRAILING, reader.p)
        return value
    finally:
        for i in range(reader.count):
            Py_DECREF(<object>reader.items[i])
        mem_free(reader.heap)


cdef object json_decode_text(const char* p, size_t n, bint escaped):
    cdef json_text_t text
    cdef json_fail_t fail
    cdef const char* end = p + n
    cdef const char* stop = json_plain_run(p, end)
    if stop == end:
        return ascii_text(p, n)
    if not escaped:
        return (<bytes>PyBytes_FromStringAndSize(p, n)).decode()
    # The closing quote is there: it ends the string that this body was cut from.
    if json_measure(p, stop, end + 1, &text, &fail) < 0:
        raise JsonError(json_fail_text(fail.code).decode(), fail.at - p)
    value = PyUnicode_New(text.count, text.max_rune)
    json_fill(p, end, PyUnicode_KIND(value), text.max_rune < 128, PyUnicode_DATA(value),
              text.count)
    return value


cdef int json_set_limits(
    json_limits_t* limits, Py_ssize_t depth_max, Py_ssize_t string_bytes_max, Py_ssize_t number_bytes_max
) except -1:
    if not 1 <= depth_max <= JSON_DEPTH_CEILING:
        raise ValueError(f"depth_max must be 1 to {JSON_DEPTH_CEILING}, got {depth_max}")
    if string_bytes_max < 1 or not 1 <= number_bytes_max <= INT32_MAX:
        raise ValueError(f"limits must be positive, got string_bytes_max {string_bytes_max}, "
                         f"number_bytes_max {number_bytes_max}")
    limits.depth_max = <uint32_t>depth_max
    limits.string_bytes_max = string_bytes_max
    limits.number_bytes_max = <uint32_t>number_bytes_max
    return 0


def decode(data, *, Py_ssize_t depth_max=128, Py_ssize_t string_bytes_max=4194304, Py_ssize_t number_bytes_max=1024):
    cdef json_limits_t limits
    cdef Py_buffer view
    cdef const char* text
    cdef Py_ssize_t size
    json_set_limits(&limits, depth_max, string_bytes_max, number_bytes_max)
    if PyBytes_Check(data):
        return json_decode_span(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), &limits)
    if PyUnicode_Check(data):
        if PyUnicode_IS_COMPACT_ASCII(data):
            return json_decode_span(<const char*>PyUnicode_DATA(data), PyUnicode_GET_LENGTH(data), &limits)
        try:
            text = PyUnicode_AsUTF8AndSize(data, &size)
        except UnicodeEncodeError as error:
            raise JsonError("lone surrogate in the text", len(data[: error.start].encode())) from None
        return json_decode_span(text, size, &limits)
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        return json_decode_span(<const char*>view.buf, view.len, &limits)
    finally:
        PyBuffer_Release(&view)


# --- encoding: json_encode.h, with the ways out of it that need exceptions ---

cdef char* more_of_buffer(json_writer_t* writer, char* out, size_t size) except NULL:
    cdef buffer_t* into = <buffer_t*>writer.target
    into.write = out - into.data
    buffer_reserve(into, size)
    writer.start = into.data
    writer.end = into.data + into.capacity
    return buffer_room(into)


cdef char* more_of_bytes(json_writer_t* writer, char* out, size_t size) except NULL:
    """The text outgrew the caller's stack, or the bytes object that it went on in."""
    cdef size_t used = out - writer.start
    cdef size_t capacity = max(<size_t>(writer.end - writer.start) * 2, used + size)
    cdef PyObject** grown = <PyObject**>writer.target
    if grown[0] == NULL:
        grown[0] = PyBytes_New(NULL, capacity)
        memcpy(PyBytes_Start(grown[0]), writer.start, used)
    else:
        _PyBytes_Resize(grown, capacity)
    writer.start = PyBytes_Start(grown[0])
    writer.end = writer.start + capacity
    return writer.start + used


cdef char* put_big_int(json_writer_t* writer, char* out, PyObject* value) except NULL:
    try:
        digits = PyUnicode_AsUTF8String(PyNumber_ToBase(<object>value, 10))
    except ValueError:  # sys.set_int_max_str_digits
        raise JsonError("an int with more digits than sys.get_int_max_str_digits() allows is not written") from None
    return json_w_bytes(writer, out, PyBytes_AS_STRING(digits), PyBytes_GET_SIZE(digits))


cdef PyObject* raw_bytes(PyObject* raw) noexcept:
    return <PyObject*>(<Raw><object>raw).data


cdef int raise_refused(const json_writer_t* writer) except -1:
    if writer.error == JSON_W_SURROGATE:
        raise JsonError("a str with a lone surrogate is not JSON")
    if writer.error == JSON_W_FLOAT:
        raise JsonError(f"the float {PyFloat_AS_DOUBLE(<object>writer.culprit)} is not JSON")
    if writer.error == JSON_W_KEY:
        raise JsonError(f"a key of type {type(<object>writer.culprit).__name__} is not JSON: keys must be str")
    if writer.error == JSON_W_TYPE:
        raise JsonError(f"a value of type {type(<object>writer.culprit).__name__} is not JSON")
    if writer.error == JSON_W_DEPTH:
        raise LimitError("depth_max", writer.depth_max, "the value to encode is nested deeper, or holds itself")
    return -1  # an exception is set


cdef inline void start_writer(json_writer_t* writer, char* start, char* end, int depth_max) noexcept:
    writer.start = start
    writer.end = end
    writer.big_int = put_big_int
    writer.raw = <PyTypeObject*>Raw
    writer.raw_bytes = raw_bytes
    writer.depth = 0
    writer.depth_max = min(depth_max, <int>JSON_DEPTH_CEILING)
    writer.error = 0


cdef int json_encode_into(buffer_t* into, object value, int depth_max) except -1:
    cdef size_t before = buffer_size(into)
    cdef json_writer_t writer
    cdef char* out
    start_writer(&writer, into.data, into.data + into.capacity, depth_max)
    writer.target = into
    writer.room_max = into.bytes_max
    writer.more = more_of_buffer
    out = json_put_value(&writer, buffer_room(into), <PyObject*>value)
    if out == NULL:
        buffer_truncate(into, before)
        raise_refused(&writer)
    into.write = out - into.data
    return 0


cdef int json_put_string(buffer_t* into, object text) except -1:
    return json_encode_into(into, text, 1)


def encode(value, *, Py_ssize_t depth_max=128):
    cdef char stack[ENCODE_STACK]
    cdef json_writer_t writer
    cdef PyObject* grown = NULL
    cdef char* out
    if not 1 <= depth_max <= JSON_DEPTH_CEILING:
        raise ValueError(f"depth_max must be 1 to {JSON_DEPTH_CEILING}, got {depth_max}")
    start_writer(&writer, stack, stack + ENCODE_STACK, <int>depth_max)
    writer.target = &grown
    writer.room_max = PY_SSIZE_T_MAX
    writer.more = more_of_bytes
    out = json_put_value(&writer, stack, <PyObject*>value)
    try:
        if out == NULL:
            raise_refused(&writer)
        if grown == NULL:
            return PyBytes_FromStringAndSize(stack, out - stack)
        _PyBytes_Resize(&grown, out - writer.start)
        return <object>grown
    finally:
        Py_XDECREF(grown)


cdef int json_put_escaped(buffer_t* into, const char* p, size_t n) except -1 nogil:
    cdef const char* end = p + n
    cdef const char* stop
    cdef const char* chunk_end
    cdef char escape[JSON_ESCAPE_BYTES_MAX]
    while p < end:
        buffer_reserve(into, end - p)
        chunk_end = p + min(<size_t>(end - p), <size_t>CHUNK_BYTES)
        if into.capacity - into.write >= <size_t>(chunk_end - p) * JSON_ESCAPE_BYTES_MAX + 32:
            into.write = json_put_body(buffer_room(into), p, chunk_end - p) - into.data
            p = chunk_end
            continue
        stop = json_unescaped_run(p, chunk_end)
        buffer_put(into, p, stop - p)
        if stop < chunk_end:
            buffer_put(into, escape, json_put_escape(escape, stop[0]) - escape)
            stop += 1
        p = stop
    return 0


cdef int json_put_string_utf8(buffer_t* into, const char* p, size_t n) except -1 nogil:
    buffer_reserve(into, n + 2)
    buffer_put_byte(into, c'"')
    json_put_escaped(into, p, n)
    return buffer_put(into, b'"', 1)


cdef int json_put_int(buffer_t* into, long long value) except -1 nogil:
    cdef char digits[JSON_INT_BYTES_MAX]
    if into.capacity - into.write >= JSON_INT_BYTES_MAX:
        into.write = json_put_int64(buffer_room(into), value) - into.data
        return 0
    return buffer_put(into, digits, json_put_int64(digits, value) - digits)


def limit_vectors(int level):
    global json_vectors
    if not JSON_SSE2 <= level <= JSON_VBMI2:
        raise ValueError(f"level must be {JSON_SSE2} to {JSON_VBMI2}, got {level}")
    json_vectors = level


@cython.final
cdef class Raw:
    def __init__(self, bytes data not None):
        cdef json_limits_t limits
        cdef json_fail_t fail
        json_limits_init(&limits)
        limits.depth_max = JSON_DEPTH_CEILING
        limits.string_bytes_max = <size_t>-1
        limits.number_bytes_max = <uint32_t>-1
        cdef const char* p = PyBytes_AS_STRING(data)
        cdef const char* end = p + PyBytes_GET_SIZE(data)
        cdef const char* past = json_skip(json_skip_blank(p, end), end, &limits, 0, &fail)
        if past != NULL and json_skip_blank(past, end) != end:
            past = json_fail_at(&fail, JSON_E_TRAILING, json_skip_blank(past, end))
        if past == NULL:
            json_raise(&fail, p, &limits)
        self.data = data

    def __cinit__(self):
        self.data = b"null"

    @staticmethod
    def trusted(bytes data not None):
        cdef Raw raw = Raw.__new__(Raw)
        raw.data = data
        return raw

    def __repr__(self):
        return f"Raw({self.data!r})"


cdef int fill_powers() except -1:
    """json_powers: 10**k with its highest bit at bit 127, truncated."""
    cdef json_power_t* next_power = json_powers
    huge = 1 << <object>1300
    ten = <object>10  # Python integers: Cython would take C ones
    for k in range(<object>JSON_POWER_MIN, <object>(JSON_POWER_MAX + 1)):
        power = ten**k if k >= 0 else huge // ten**-k
        size = power.bit_length()
        power = power >> (size - 128) if size > 128 else power << (128 - size)
        next_power.high = power >> 64
        next_power.low = power & 0xFFFFFFFFFFFFFFFF
        next_power += 1
    return 0


fill_powers()
json_fill_shuffles()
json_fill_squeezes()
