"""HTTP/1.1 heads and bodies, both directions, strict, without input and output of their own.

The grammar is in plain C (http1_scan.h, http1_head.h, http1_chunk.h), so that a room that reads requests in one
crossing takes it in without a call between modules. Here are the skins over it, the growing of a decoded body, and
the writers of heads.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DATA, PyUnicode_DecodeLatin1, PyUnicode_GET_LENGTH, PyUnicode_KIND
from libc.stdint cimport UINT32_MAX, UINT64_MAX
from libc.string cimport memset

from erlmcp._core.buffer cimport (
    buffer_clear, buffer_consume, buffer_free, buffer_init, buffer_peek, buffer_put, buffer_reserve,
    buffer_size, buffer_t, buffer_trim,
)
from erlmcp._core.memory cimport mem_alloc, mem_free

from erlmcp.errors import LimitError


cdef extern from "http1_scan.h" nogil:
    enum:
        HTTP1_IS_TCHAR
        HTTP1_IS_TARGET
        HTTP1_IS_VALUE
    size_t http1_skip(const char* p, size_t i, size_t n, int kind) noexcept
    bint http1_same(const char* p, const char* literal, size_t n) noexcept


cdef extern from *:
    """
    #define HTTP1_NO_LIMIT (SIZE_MAX / 4)
    """
    const size_t HTTP1_NO_LIMIT


# RequestParser.phase
cdef enum:
    IN_HEAD = 1
    IN_LENGTH = 2
    IN_CHUNKS = 3
    IN_REST = 4  # the body of a response that ends with the connection


cdef Py_ssize_t http1_chunk_feed(
    http1_chunk_t* s, const char* p, size_t n, buffer_t* out, uint64_t body_bytes_max,
) except -1 nogil:
    cdef size_t used = 0, size = 0
    cdef const char* data = NULL
    cdef int status = 0
    cdef Py_ssize_t step
    while True:
        step = http1_chunk_next(s, p + used, n - used, body_bytes_max, &data, &size, &status)
        if step < 0:
            return -status
        if step == 0:
            return <Py_ssize_t>used
        if size:
            buffer_put(out, data, size)
        used += <size_t>step


cdef uint64_t read_limit(str name, object value, uint64_t most) except? 0:
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0 or value > most:
        raise ValueError(f"{name} must be a whole number from 1 to {most}, got {value!r}")
    return <uint64_t>value


cdef int read_limits(http1_limits_t* limits, object head_bytes, object header_count, object body_bytes) except -1:
    limits.head_bytes_max = <uint32_t>read_limit("head_bytes_max", head_bytes, 1 << 30)
    limits.header_count_max = <uint32_t>read_limit("header_count_max", header_count, 1 << 20)
    limits.body_bytes_max = read_limit("body_bytes_max", body_bytes, 1 << 48)
    return 0


cdef inline str text_of(const char* p, http1_span_t span):
    return PyUnicode_DecodeLatin1(<char*>p + span.start, span.size, NULL)


@cython.final
cdef class HttpError:
    cdef readonly int status
    cdef readonly str message

    def __init__(self, int status, str message not None):
        self.status = status
        self.message = message

    def __eq__(self, other):
        if not isinstance(other, HttpError):
            return NotImplemented
        cdef HttpError that = <HttpError>other
        return self.status == that.status and self.message == that.message

    def __repr__(self):
        return f"HttpError({self.status}, {self.message!r})"


cdef class Message:
    """A head, kept as bytes and read again when its fields are asked for (0.2 us), and a body."""

    cdef bytes head
    cdef list found
    cdef dict joined
    cdef readonly int version
    cdef readonly bint keep_alive
    cdef readonly object body

    def __cinit__(self):
        self.head = b""

    def __init__(self):
        raise TypeError("requests and responses are made by their parsers")

    @property
    def fields(self):
        if self.found is None:
            self.found = self.read_fields()
        return self.found

    @property
    def headers(self):
        if self.joined is None:
            joined = {}
            for name, value in self.fields:
                name = name.lower()
                joined[name] = f"{joined[name]}, {value}" if name in joined else value
            self.joined = joined
        return self.joined

    cdef list read_fields(self):
        cdef http1_head_t head
        cdef http1_limits_t limits
        cdef const char* p = PyBytes_AS_STRING(self.head)
        cdef size_t n = <size_t>PyBytes_GET_SIZE(self.head)
        cdef uint32_t i
        cdef list found = []
        limits.head_bytes_max = limits.header_count_max = <uint32_t>n
        limits.body_bytes_max = UINT64_MAX
        head.fields = NULL
        self.parse(p, n, &limits, &head)
        cdef uint32_t count = head.field_count
        head.fields = <http1_field_t*>mem_alloc((count + 1) * sizeof(http1_field_t))
        if head.fields == NULL:
            raise MemoryError
        try:
            self.parse(p, n, &limits, &head)
            for i in range(count):
                found.append((text_of(p, head.fields[i].name), text_of(p, head.fields[i].value)))
        finally:
            mem_free(head.fields)
        return found

    cdef int parse(self, const char* p, size_t n, const http1_limits_t* limits, http1_head_t* out) noexcept:
        return http1_parse_request_head(p, n, limits, out)


@cython.final
cdef class Request(Message):
    cdef readonly str verb
    cdef readonly str target
    cdef readonly bint expect_continue

    def __repr__(self):
        return f"Request({self.verb!r}, {self.target!r}, version={self.version}, body={self.body!r})"


@cython.final
cdef class Response(Message):
    cdef readonly int status
    cdef readonly str reason

    def __repr__(self):
        return f"Response({self.status}, {self.reason!r}, version={self.version}, body={self.body!r})"

    cdef int parse(self, const char* p, size_t n, const http1_limits_t* limits, http1_head_t* out) noexcept:
        return http1_parse_response_head(p, n, limits, out)


@cython.final
cdef class BodyPart:
    cdef readonly bytes data

    def __init__(self, bytes data not None):
        self.data = data

    def __repr__(self):
        return f"BodyPart({self.data!r})"


@cython.final
cdef class BodyEnd:
    def __repr__(self):
        return "BodyEnd()"


cdef class Parser:
    cdef buffer_t kept  # what has come and is not done with
    cdef buffer_t body
    cdef http1_limits_t limits
    cdef http1_head_t head
    cdef http1_chunk_t chunk
    cdef size_t scanned
    cdef uint64_t left  # of a body with a length
    cdef int phase
    cdef bint is_streamed  # the body of the message being read is handed out in parts
    cdef Message message
    cdef readonly bint closed

    def __cinit__(self, head_bytes_max=32768, header_count_max=100, body_bytes_max=4194304, **kwargs):
        self.phase = IN_HEAD
        read_limits(&self.limits, head_bytes_max, header_count_max, body_bytes_max)
        buffer_init(&self.kept, 0, HTTP1_NO_LIMIT)
        buffer_init(&self.body, 0, HTTP1_NO_LIMIT)

    def __dealloc__(self):
        buffer_free(&self.kept)
        buffer_free(&self.body)

    @property
    def buffered(self):
        return buffer_size(&self.kept) + buffer_size(&self.body)

    def feed(self, bytes data not None):
        cdef list events = []
        if self.closed:
            return events
        buffer_put(&self.kept, PyBytes_AS_STRING(data), <size_t>PyBytes_GET_SIZE(data))
        while not self.closed and self.step(events):
            pass
        if self.closed:
            buffer_clear(&self.kept)
            buffer_clear(&self.body)
        buffer_trim(&self.kept, 65536)
        buffer_trim(&self.body, 65536)
        return events

    cdef bint step(self, list events) except -1:
        """One piece of progress; false where more input is needed."""
        if self.phase == IN_HEAD:
            return self.take_head(events)
        if self.phase == IN_CHUNKS:
            return self.take_chunks(events)
        return self.take_length(events)

    cdef bint take_head(self, list events) except -1:
        raise NotImplementedError

    cdef bint complete(self, bytes body, list events) except -1:
        """The message being read is all here."""
        raise NotImplementedError

    cdef bint refuse(self, list events, int status, str message) except -1:
        events.append(HttpError(status, message))
        self.message = None
        self.closed = True
        return False

    cdef int start_body(self, int phase, uint64_t length) except -1:
        self.phase = phase
        self.left = length
        memset(&self.chunk, 0, sizeof(self.chunk))
        return 0

    cdef bytes take_kept(self, size_t size):
        cdef bytes taken = PyBytes_FromStringAndSize(buffer_peek(&self.kept), <Py_ssize_t>size)
        buffer_consume(&self.kept, size)
        return taken

    cdef bint take_length(self, list events) except -1:
        cdef size_t n = buffer_size(&self.kept)
        if self.is_streamed:
            if n > self.left:
                n = <size_t>self.left
            if n:
                events.append(BodyPart(self.take_kept(n)))
            self.left -= n
            return self.left == 0 and self.complete(None, events)
        if self.phase == IN_REST and n > self.limits.body_bytes_max:
            return self.refuse(events, 413, "body_bytes_max exceeded")
        if n < self.left:
            return False
        return self.complete(self.take_kept(<size_t>self.left), events)

    cdef bint take_chunks(self, list events) except -1:
        cdef uint64_t most = UINT64_MAX if self.is_streamed else self.limits.body_bytes_max
        cdef Py_ssize_t used = http1_chunk_feed(
            &self.chunk, buffer_peek(&self.kept), buffer_size(&self.kept), &self.body, most,
        )
        cdef bytes body
        cdef bint is_done = http1_chunk_is_done(&self.chunk)
        if used < 0:
            if self.is_streamed and buffer_size(&self.body):
                events.append(BodyPart(PyBytes_FromStringAndSize(buffer_peek(&self.body), buffer_size(&self.body))))
            return self.refuse(events, <int>-used, self.chunk.message.decode())
        buffer_consume(&self.kept, <size_t>used)
        if not is_done and not self.is_streamed:
            return False
        body = PyBytes_FromStringAndSize(buffer_peek(&self.body), <Py_ssize_t>buffer_size(&self.body))
        buffer_clear(&self.body)
        if not self.is_streamed:
            return self.complete(body, events)
        if body:
            events.append(BodyPart(body))
        return is_done and self.complete(None, events)


@cython.final
cdef class RequestParser(Parser):
    cdef public bint wants_continue

    def __cinit__(self, head_bytes_max=32768, header_count_max=100, body_bytes_max=4194304):
        pass

    cdef bint take_head(self, list events) except -1:
        cdef const char* p = buffer_peek(&self.kept)
        cdef int status = http1_take_request_head(
            p, buffer_size(&self.kept), &self.scanned, &self.limits, &self.head,
        )
        if status == HTTP1_MORE:
            return False
        if status:
            return self.refuse(events, status, self.head.message.decode())
        cdef Request request = Request.__new__(Request)
        request.verb = text_of(p, self.head.method)
        request.target = text_of(p, self.head.target)
        request.version = self.head.version
        request.keep_alive = (self.head.flags & HTTP1_FLAG_KEEP_ALIVE) != 0
        request.expect_continue = (self.head.flags & HTTP1_FLAG_EXPECT_CONTINUE) != 0
        request.head = self.take_kept(self.head.head_bytes)
        self.scanned = 0
        self.message = request
        if self.head.flags & HTTP1_FLAG_CHUNKED:
            self.start_body(IN_CHUNKS, 0)
        else:
            self.start_body(IN_LENGTH, 0 if self.head.content_length < 0 else <uint64_t>self.head.content_length)
        self.wants_continue = request.expect_continue and (self.phase == IN_CHUNKS or self.left > 0)
        return True

    cdef bint complete(self, bytes body, list events) except -1:
        self.message.body = body
        events.append(self.message)
        self.closed = not self.message.keep_alive
        self.message = None
        self.wants_continue = False
        self.phase = IN_HEAD
        return True


@cython.final
cdef class ResponseParser(Parser):
    cdef list verbs
    cdef bint stream_events

    def __cinit__(
        self, head_bytes_max=32768, header_count_max=100, body_bytes_max=4194304, *, bint stream_events=False,
    ):
        self.verbs = []
        self.stream_events = stream_events

    def expect(self, str verb not None):
        self.verbs.append(verb)

    def finish(self):
        cdef list events = []
        if self.closed:
            return events
        if self.phase == IN_REST:
            if self.is_streamed:
                self.complete(None, events)
            else:
                self.complete(self.take_kept(buffer_size(&self.kept)), events)
        elif self.phase != IN_HEAD or buffer_size(&self.kept):
            self.refuse(events, 400, "the connection ended within a message")
        self.closed = True
        buffer_clear(&self.kept)
        buffer_clear(&self.body)
        return events

    cdef bint take_head(self, list events) except -1:
        cdef const char* p = buffer_peek(&self.kept)
        cdef int status = http1_take_response_head(
            p, buffer_size(&self.kept), &self.scanned, &self.limits, &self.head,
        )
        if status == HTTP1_MORE:
            return False
        if status:
            return self.refuse(events, status, self.head.message.decode())
        cdef bint is_interim = self.head.status < 200
        cdef bint is_head_request = not is_interim and len(self.verbs) > 0 and self.verbs.pop(0) == "HEAD"
        cdef int kind = http1_body_kind(&self.head, is_head_request)
        cdef http1_span_t media = self.head.known[HTTP1_CONTENT_TYPE]
        self.is_streamed = (
            self.stream_events and kind != HTTP1_BODY_NONE and media.size >= 17
            and http1_same(p + media.start, b"text/event-stream", 17)
            and (media.size == 17 or p[media.start + 17] in b"; \t")
        )
        if kind == HTTP1_BODY_LENGTH and <uint64_t>self.head.content_length > self.limits.body_bytes_max:
            if not self.is_streamed:
                return self.refuse(events, 413, "body_bytes_max exceeded")
        cdef Response response = Response.__new__(Response)
        response.status = self.head.status
        response.reason = text_of(p, self.head.reason)
        response.version = self.head.version
        response.keep_alive = (
            (self.head.flags & HTTP1_FLAG_KEEP_ALIVE) != 0 and kind != HTTP1_BODY_UNTIL_CLOSE and response.status != 101
        )
        response.head = self.take_kept(self.head.head_bytes)
        self.scanned = 0
        self.message = response
        if kind == HTTP1_BODY_CHUNKED:
            self.start_body(IN_CHUNKS, 0)
        elif kind == HTTP1_BODY_UNTIL_CLOSE:
            self.start_body(IN_REST, UINT64_MAX)
        else:
            self.start_body(IN_LENGTH, <uint64_t>self.head.content_length if kind == HTTP1_BODY_LENGTH else 0)
        if self.is_streamed:
            events.append(response)
        return True

    cdef bint complete(self, bytes body, list events) except -1:
        cdef Response response = <Response>self.message
        if self.is_streamed:
            events.append(BodyEnd())
        else:
            response.body = body
            events.append(response)
        # After an interim response the connection goes on, whatever it says about itself; 101 is another protocol.
        self.closed = not response.keep_alive and (response.status >= 200 or response.status == 101)
        self.message = None
        self.is_streamed = False
        self.phase = IN_HEAD
        return True


def match_head(bytes old not None, bytes data not None):
    cdef http1_limits_t limits
    cdef http1_head_t head
    cdef int64_t length = -1
    cdef const char* p = PyBytes_AS_STRING(old)
    cdef size_t n = <size_t>PyBytes_GET_SIZE(old), size
    limits.head_bytes_max = limits.header_count_max = UINT32_MAX
    limits.body_bytes_max = UINT64_MAX
    head.fields = NULL
    if http1_parse_request_head(p, n, &limits, &head) or head.head_bytes != n:
        raise ValueError("the old head is not one whole request head")
    size = http1_match_head(
        p, n, head.known[HTTP1_CONTENT_LENGTH], PyBytes_AS_STRING(data), <size_t>PyBytes_GET_SIZE(data), &length,
    )
    return (size, length) if size else None


def decode_chunked(bytes data not None, body_bytes_max=4194304):
    cdef http1_chunk_t chunk
    cdef buffer_t body
    cdef Py_ssize_t used
    cdef uint64_t most = read_limit("body_bytes_max", body_bytes_max, 1 << 48)
    memset(&chunk, 0, sizeof(chunk))
    buffer_init(&body, 0, HTTP1_NO_LIMIT)
    try:
        used = http1_chunk_feed(&chunk, PyBytes_AS_STRING(data), <size_t>PyBytes_GET_SIZE(data), &body, most)
        if used == -413 and chunk.left > most - chunk.body_bytes:
            raise LimitError("body_bytes_max", most)
        if used < 0:
            raise ValueError(chunk.message.decode())
        if not http1_chunk_is_done(&chunk):
            raise ValueError("the chunked body has not ended")
        return PyBytes_FromStringAndSize(buffer_peek(&body), <Py_ssize_t>buffer_size(&body)), used
    finally:
        buffer_free(&body)


# Writing heads

REASONS = {
    100: "Continue", 101: "Switching Protocols", 103: "Early Hints", 200: "OK", 201: "Created", 202: "Accepted",
    204: "No Content", 301: "Moved Permanently", 302: "Found", 303: "See Other", 304: "Not Modified",
    307: "Temporary Redirect", 308: "Permanent Redirect", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden",
    404: "Not Found", 405: "Method Not Allowed", 406: "Not Acceptable", 408: "Request Timeout", 409: "Conflict",
    410: "Gone", 413: "Content Too Large", 414: "URI Too Long", 415: "Unsupported Media Type",
    417: "Expectation Failed", 422: "Unprocessable Content", 429: "Too Many Requests",
    431: "Request Header Fields Too Large", 500: "Internal Server Error", 501: "Not Implemented", 502: "Bad Gateway",
    503: "Service Unavailable", 504: "Gateway Timeout", 505: "HTTP Version Not Supported",
}


cdef int put_checked(buffer_t* out, str text, int kind, bint may_be_empty, str what) except -1:
    """The text as latin-1, every byte of it of this class."""
    cdef size_t n
    cdef const char* p
    if text is None:
        raise TypeError(f"{what} must be a str, got None")
    if PyUnicode_KIND(text) != 1:
        text.encode("latin-1")  # raises: it has a character above U+00FF
    p = <const char*>PyUnicode_DATA(text)
    n = <size_t>PyUnicode_GET_LENGTH(text)
    if http1_skip(p, 0, n, kind) != n or not (n or may_be_empty):
        raise ValueError(f"{what} {text!r} is empty or holds a character that is not allowed there")
    return buffer_put(out, p, n)


cdef int put_fields(buffer_t* out, object headers) except -1:
    """The header lines and the blank line."""
    cdef str name, value
    for name, value in headers:
        put_checked(out, name, HTTP1_IS_TCHAR, False, "header name")
        buffer_put(out, b": ", 2)
        put_checked(out, value, HTTP1_IS_VALUE, True, "header value")
        buffer_put(out, b"\r\n", 2)
    return buffer_put(out, b"\r\n", 2)


cdef bytes take_all(buffer_t* out):
    return PyBytes_FromStringAndSize(buffer_peek(out), <Py_ssize_t>buffer_size(out))


def request_head(str verb not None, str target not None, headers):
    cdef buffer_t out
    buffer_init(&out, 0, HTTP1_NO_LIMIT)
    try:
        buffer_reserve(&out, 512)
        put_checked(&out, verb, HTTP1_IS_TCHAR, False, "method")
        buffer_put(&out, b" ", 1)
        put_checked(&out, target, HTTP1_IS_TARGET, False, "target")
        buffer_put(&out, b" HTTP/1.1\r\n", 11)
        put_fields(&out, headers)
        return take_all(&out)
    finally:
        buffer_free(&out)


def response_head(int status, headers, str reason=None):
    cdef buffer_t out
    cdef char[13] line = b"HTTP/1.1 000 "
    if not 100 <= status <= 599:
        raise ValueError(f"expected a status from 100 to 599, got {status}")
    if reason is None:
        reason = REASONS.get(status, "")
    line[9] = <char>(48 + status // 100)
    line[10] = <char>(48 + status // 10 % 10)
    line[11] = <char>(48 + status % 10)
    buffer_init(&out, 0, HTTP1_NO_LIMIT)
    try:
        buffer_reserve(&out, 512)
        buffer_put(&out, line, 13)
        put_checked(&out, reason, HTTP1_IS_VALUE, True, "reason")
        buffer_put(&out, b"\r\n", 2)
        put_fields(&out, headers)
        return take_all(&out)
    finally:
        buffer_free(&out)
