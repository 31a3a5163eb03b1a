"""The jsonrpc room: envelopes of JSON-RPC 2.0, read without building objects (jsonrpc_scan.h) and written."""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport strlen

from erlmcp._core.buffer cimport buffer_put, buffer_put_reserved, buffer_reserve
from erlmcp._core.json cimport (
    JSON_INT_BYTES_MAX,
    json_decode_text,
    json_put_int64,
    json_put_string_utf8,
    json_set_limits,
)

REQUEST = JSONRPC_REQUEST
NOTIFICATION = JSONRPC_NOTIFICATION
RESULT = JSONRPC_RESULT
ERROR = JSONRPC_ERROR
BATCH = JSONRPC_BATCH
INVALID = JSONRPC_INVALID

ID_NONE = JSONRPC_ID_NONE
ID_INT = JSONRPC_ID_INT
ID_STRING = JSONRPC_ID_STRING
ID_NULL = JSONRPC_ID_NULL
ID_BAD = JSONRPC_ID_BAD


@cython.freelist(16)
cdef class Envelope:
    cdef bytes data
    cdef envelope_t scanned

    def __cinit__(self):
        self.data = b""

    cdef object bytes_of(self, const span_t* span):
        if span.size == 0 or (self.scanned.kind == JSONRPC_INVALID and span != &self.scanned.id):
            return None
        return PyBytes_FromStringAndSize(PyBytes_AS_STRING(self.data) + span.start, span.size)

    cdef object text_of(self, const text_span_t* text):
        if self.scanned.kind == JSONRPC_INVALID or (
            text.state != JSONRPC_TEXT_PLAIN and text.state != JSONRPC_TEXT_ESCAPED
        ):
            return None
        cdef const char* start = PyBytes_AS_STRING(self.data) + text.start
        return json_decode_text(start, text.size, text.state == JSONRPC_TEXT_ESCAPED)

    @property
    def kind(self):
        return self.scanned.kind

    @property
    def id(self):
        return self.bytes_of(&self.scanned.id)

    @property
    def id_kind(self):
        return self.scanned.id_kind

    @property
    def code(self):
        return self.scanned.code

    @property
    def message(self):
        return None if self.scanned.message == NULL else self.scanned.message.decode()

    @property
    def position(self):
        return self.scanned.at

    @property
    def is_response(self):
        return self.scanned.is_response != 0

    @property
    def method(self):
        return self.text_of(&self.scanned.method)

    @property
    def params(self):
        return self.bytes_of(&self.scanned.params)

    @property
    def result(self):
        return self.bytes_of(&self.scanned.result)

    @property
    def error(self):
        return self.bytes_of(&self.scanned.error)

    @property
    def name(self):
        return self.text_of(&self.scanned.name)

    @property
    def uri(self):
        return self.text_of(&self.scanned.uri)

    @property
    def arguments(self):
        return self.bytes_of(&self.scanned.arguments)

    @property
    def meta(self):
        return self.bytes_of(&self.scanned.meta)

    @property
    def protocol_version(self):
        return self.text_of(&self.scanned.version)

    @property
    def progress_token(self):
        return self.bytes_of(&self.scanned.progress_token)

    @property
    def meta_hit(self):
        return self.scanned.meta_hit >= 0

    @property
    def items(self):
        cdef uint32_t cursor = 0
        cdef span_t item
        found = []
        if self.scanned.kind == JSONRPC_BATCH:
            while jsonrpc_batch_next(PyBytes_AS_STRING(self.data), PyBytes_GET_SIZE(self.data), &cursor, &item):
                found.append(PyBytes_FromStringAndSize(PyBytes_AS_STRING(self.data) + item.start, item.size))
        return found

    def __repr__(self):
        return f"Envelope(kind={self.kind}, id={self.id!r}, method={self.method!r}, code={self.code})"


def scan(
    data,
    *,
    Py_ssize_t depth_max=128,
    Py_ssize_t string_bytes_max=4194304,
    Py_ssize_t number_bytes_max=1024,
    Envelope like=None,
):
    cdef json_limits_t limits
    cdef meta_hint_t hint
    cdef int hint_count = 0
    cdef bytes meta
    cdef Py_buffer view
    cdef Envelope envelope = Envelope.__new__(Envelope)
    json_set_limits(&limits, depth_max, string_bytes_max, number_bytes_max)
    if type(data) is bytes:
        envelope.data = data
    else:
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            envelope.data = PyBytes_FromStringAndSize(<const char*>view.buf, view.len)
        finally:
            PyBuffer_Release(&view)
    if like is not None:
        meta = like.meta
        if meta is not None and meta.startswith(b"{"):
            jsonrpc_remember(&like.scanned, PyBytes_AS_STRING(meta), &hint)
            hint_count = 1
    jsonrpc_scan(
        PyBytes_AS_STRING(envelope.data), PyBytes_GET_SIZE(envelope.data), &limits, &hint, hint_count, &envelope.scanned
    )
    return envelope


# --- writers ---

cdef int put_head(buffer_t* into, const char* id, size_t id_size, const char* next, size_t next_size) except -1 nogil:
    buffer_reserve(into, 22 + id_size + next_size)
    buffer_put_reserved(into, b'{"jsonrpc":"2.0","id":', 22)
    buffer_put_reserved(into, id, id_size)
    buffer_put_reserved(into, next, next_size)
    return 0


cdef int put_tail(
    buffer_t* into, const char* key, const char* value, size_t value_size, const char* close
) except -1 nogil:
    """``,"key":VALUE`` where there is a value, and the closing brackets."""
    if value != NULL:
        buffer_put(into, key, strlen(key))
        buffer_put(into, value, value_size)
    return buffer_put(into, close, strlen(close))


cdef int jsonrpc_put_result_head(buffer_t* into, const char* id, size_t id_size) except -1 nogil:
    return put_head(into, id, id_size, b',"result":', 10)


cdef int jsonrpc_put_error(
    buffer_t* into, const char* id, size_t id_size, long code, const char* message, size_t message_size,
    const char* data, size_t data_size
) except -1 nogil:
    put_head(into, id, id_size, b',"error":{"code":', 17)
    cdef char digits[JSON_INT_BYTES_MAX]
    buffer_put(into, digits, json_put_int64(digits, code) - digits)
    buffer_put(into, b',"message":', 11)
    json_put_string_utf8(into, message, message_size)
    return put_tail(into, b',"data":', data, data_size, b"}}")


cdef int jsonrpc_put_request(
    buffer_t* into, const char* id, size_t id_size, const char* method, size_t method_size, const char* params,
    size_t params_size
) except -1 nogil:
    put_head(into, id, id_size, b',"method":', 10)
    json_put_string_utf8(into, method, method_size)
    return put_tail(into, b',"params":', params, params_size, b"}")


cdef int jsonrpc_put_notification(
    buffer_t* into, const char* method, size_t method_size, const char* params, size_t params_size
) except -1 nogil:
    buffer_put(into, b'{"jsonrpc":"2.0","method":', 26)
    json_put_string_utf8(into, method, method_size)
    return put_tail(into, b',"params":', params, params_size, b"}")
