"""The C face of the json room: strict RFC 8259 skipping without objects, decoding, encoding into a buffer."""

from cpython.object cimport PyObject, PyTypeObject
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t, uint64_t

from erlmcp._core.buffer cimport buffer_t

cdef extern from "Python.h":
    object PyUnicode_New(Py_ssize_t size, Py_UCS4 maxchar)
    Py_ssize_t PY_SSIZE_T_MAX
    void* PyUnicode_DATA(object text)
    int PyUnicode_KIND(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    bint PyUnicode_IS_COMPACT_ASCII(object text)
    object PyUnicode_AsUTF8String(object text)
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL
    object PyLong_FromString(const char* text, char** past, int base)
    object PyLong_FromLongLong(long long value)
    object PyNumber_ToBase(object value, int base)
    double PyOS_string_to_double(const char* text, char** past, PyObject* overflow) except? -1.0
    void PyList_SET_ITEM(object target, Py_ssize_t i, object item)
    int PyUnicode_Check(object value)
    int _PyBytes_Resize(PyObject** bytes, Py_ssize_t size) except -1
    PyObject* PyBytes_New "PyBytes_FromStringAndSize" (const char* data, Py_ssize_t size) except NULL
    char* PyBytes_Start "PyBytes_AS_STRING" (PyObject* bytes) noexcept
    Py_ssize_t PyBytes_Size_Of "PyBytes_GET_SIZE" (PyObject* bytes) noexcept
    void Py_XDECREF(PyObject* value)

cdef extern from "json_scan.h" nogil:
    enum:
        JSON_OK
        JSON_DEPTH_CEILING  # depth_max may be 1..JSON_DEPTH_CEILING (512): nesting is kept on the C stack

    ctypedef struct json_limits_t:
        uint32_t depth_max  # containers within containers; the outermost counts 1
        uint32_t number_bytes_max  # bytes of one number
        size_t string_bytes_max  # bytes between the quotes of one string (keys too), as they stand in the text

    ctypedef struct json_fail_t:
        int code  # JSON_OK, or what went wrong
        const char* at  # the first byte that cannot be

    # Fills the defaults: 128, 1024, 4 MiB.
    void json_limits_init(json_limits_t* limits) noexcept

    # Past one value that starts at `p` (no blanks before it), or NULL with `fail` set. Strict: escapes, control
    # characters, UTF-8 (no overlong form, no surrogate, nothing above U+10FFFF), lone surrogate escapes, numbers,
    # limits. `depth` counts the containers that are open around the value: 0 for a whole text. Never reads at or past
    # `end`.
    const char* json_skip(
        const char* p, const char* end, const json_limits_t* limits, uint32_t depth, json_fail_t* fail
    ) noexcept
    # Past blanks (space, tab, CR, LF).
    const char* json_skip_blank(const char* p, const char* end) noexcept
    # Past the closing quote of the string whose opening quote is just before `p`, or NULL with `fail` set. `escaped`
    # becomes 1 where the text holds a backslash, else 0.
    const char* json_skip_string(
        const char* p, const char* end, const json_limits_t* limits, int* escaped, json_fail_t* fail
    ) noexcept
    # Text of a failure code, static; and the name of the limit that it is about, or NULL where it is about grammar.
    const char* json_fail_text(int code) noexcept
    const char* json_fail_limit(int code) noexcept
    # Unescapes a *valid* string body (bytes between the quotes) into `out`, which has room for n bytes; gives its
    # length.
    size_t json_unescape(const char* p, size_t n, char* out) noexcept

    # The widest vectors that this room may use, of those that the processor has.
    enum:
        JSON_SSE2
        JSON_VBMI2
    int json_vectors

    # For the room itself, and for whoever writes a parser of its own on top.
    enum:
        JSON_E_END
        JSON_E_VALUE
        JSON_E_KEY
        JSON_E_COLON
        JSON_E_COMMA
        JSON_E_TRAILING
        JSON_L_DEPTH
        JSON_L_STRING
    const char* json_plain_run(const char* p, const char* end) noexcept
    const char* json_skip_number(
        const char* p, const char* end, const json_limits_t* limits, int* whole, json_fail_t* fail
    ) noexcept
    const char* json_skip_word(const char* p, const char* end, json_fail_t* fail) noexcept
    const char* json_fail_at(json_fail_t* fail, int code, const char* at) noexcept

cdef extern from "json_float.h" nogil:
    enum:
        JSON_POWER_MIN
        JSON_POWER_MAX
    ctypedef struct json_power_t:
        uint64_t high
        uint64_t low
    json_power_t* json_powers

cdef extern from "json_read.h" nogil:
    ctypedef struct json_text_t:
        const char* past
        size_t count
        uint32_t max_rune
    enum:
        JSON_NUMBER_INT
        JSON_NUMBER_DOUBLE
        JSON_NUMBER_FAST_BYTES
    const char* json_read_number(const char* p, const char* end, int* kind, int64_t* whole, double* real) noexcept
    int json_measure(const char* start, const char* p, const char* end, json_text_t* text, json_fail_t* fail) noexcept
    void json_fill(const char* p, const char* end, int kind, bint is_ascii, void* data, size_t count) noexcept
    uint32_t json_key_hash(const char* p, size_t n) noexcept

cdef extern from "json_runes.h" nogil:
    void json_fill_shuffles() noexcept

cdef extern from "json_text.h" nogil:
    void json_fill_squeezes() noexcept

cdef extern from "json_write.h" nogil:
    enum:
        JSON_ESCAPE_BYTES_MAX
        JSON_INT_BYTES_MAX
    char* json_put_escape(char* out, unsigned char c) noexcept
    char* json_put_body(char* out, const char* p, size_t n) noexcept
    char* json_put_int64(char* out, int64_t value) noexcept
    const char* json_unescaped_run(const char* p, const char* end) noexcept

cdef extern from "json_encode.h":
    enum:
        JSON_W_SURROGATE
        JSON_W_KEY
        JSON_W_TYPE
        JSON_W_DEPTH
        JSON_W_FLOAT
    ctypedef struct json_writer_t
    ctypedef char* (*json_more_t)(json_writer_t*, char*, size_t) except NULL
    ctypedef char* (*json_big_int_t)(json_writer_t*, char*, PyObject*) except NULL
    ctypedef struct json_writer_t:
        char* start
        char* end
        void* target
        size_t room_max
        json_more_t more
        json_big_int_t big_int
        PyTypeObject* raw
        PyObject* (*raw_bytes)(PyObject*) noexcept
        int depth
        int depth_max
        int error
        PyObject* culprit
    char* json_put_value(json_writer_t* writer, char* out, PyObject* value) noexcept
    char* json_w_bytes(json_writer_t* writer, char* out, const char* data, size_t size) noexcept

# Checks and fills limits from Python integers: ValueError where one is out of range.
cdef int json_set_limits(
    json_limits_t* limits, Py_ssize_t depth_max, Py_ssize_t string_bytes_max, Py_ssize_t number_bytes_max
) except -1

# --- decoding (GIL) ---
# The value of a whole text; blanks around it are allowed. Raises JsonError (position from `p`) and LimitError.
cdef object json_decode_span(const char* p, size_t n, const json_limits_t* limits)
# A str from a string body (the bytes between the quotes) that was validated before.
cdef object json_decode_text(const char* p, size_t n, bint escaped)
# Raises the JsonError or LimitError of a failure found by json_skip; `start` is where positions count from.
cdef int json_raise(const json_fail_t* fail, const char* start, const json_limits_t* limits) except -1

# --- encoding (GIL); a call that raises leaves the buffer as it was ---
cdef int json_encode_into(buffer_t* into, object value, int depth_max) except -1
# A str with its quotes.
cdef int json_put_string(buffer_t* into, object text) except -1

# --- encoding (no GIL needed); raise MemoryError or the buffer's LimitError ---
# Valid UTF-8 -> a JSON string with its quotes.
cdef int json_put_string_utf8(buffer_t* into, const char* p, size_t n) except -1 nogil
# Valid UTF-8 (JSON text, say) -> the body of a JSON string, without quotes.
cdef int json_put_escaped(buffer_t* into, const char* p, size_t n) except -1 nogil
cdef int json_put_int(buffer_t* into, long long value) except -1 nogil

cdef class Raw:
    cdef readonly bytes data
