"""The corridor's way in over HTTP/1.1: one crossing from the bytes of a read to the requests in it, bodies scanned.

The heads of one client are mostly the same bytes each time, but for Content-Length. So a connection compares a request
with the heads it saw last, and only parses what equals none of them; a Routes remembers a few more, for connections
that live for one request. A body that lies within one read is scanned where it is. One that straddles reads is put
together in a bytes object of its final size; its memory is only touched as the bytes come in.

What has been read counts as read once its request is in the list, so an error (memory, nothing else can fail here)
loses nothing: the next ``feed`` goes on where it happened.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeLatin1
from libc.stdint cimport uint32_t
from libc.string cimport memcmp, memcpy, memset

from erlmcp._core.buffer cimport (
    buffer_clear,
    buffer_free,
    buffer_init,
    buffer_peek,
    buffer_put,
    buffer_size,
    buffer_take,
    buffer_trim,
)
from erlmcp._core.corridor cimport HEADS_MAX, KEY_NONE, KEY_OTHER, KEY_URI, Routes
from erlmcp._core.correlation cimport Correlation
from erlmcp._core.http1 cimport (
    HTTP1_CONTENT_LENGTH,
    HTTP1_CONTENT_TYPE,
    HTTP1_FLAG_CHUNKED,
    HTTP1_FLAG_EXPECT_CONTINUE,
    HTTP1_FLAG_KEEP_ALIVE,
    HTTP1_MCP_METHOD,
    HTTP1_MCP_NAME,
    HTTP1_MCP_PROTOCOL_VERSION,
    HTTP1_MORE,
    http1_chunk_feed,
    http1_chunk_is_done,
    http1_equals,
    http1_field_t,
    http1_find_head_end,
    http1_match_head,
    http1_parse_request_head,
    http1_span_t,
    http1_take_request_head,
)
from erlmcp._core.json cimport json_decode_text
from erlmcp._core.jsonrpc cimport (
    JSONRPC_NOTIFICATION,
    JSONRPC_TEXT_ESCAPED,
    JSONRPC_TEXT_PLAIN,
    text_span_t,
)
from erlmcp._core.memory cimport mem_alloc, mem_free

MATCH_METHOD = BIT_METHOD
MATCH_NAME = BIT_NAME
MATCH_VERSION = BIT_VERSION

cdef enum:
    BIT_METHOD = 1
    BIT_NAME = 2
    BIT_VERSION = 4

cdef enum:
    PHASE_IDLE = 0
    PHASE_HEAD = 1
    PHASE_BODY = 2
    KEEP_BYTES = 1 << 14  # capacity that an empty buffer keeps
    HEAD_KEPT_BYTES_MAX = 4096  # a longer head is not remembered
    BASE64_MARKS = 11  # bytes of "=?base64?" and "?="

cdef size_t NO_BOUND = <size_t>1 << 62


cdef bint is_json(const char* p, size_t n) noexcept nogil:
    """Is this Content-Type application/json, with any parameters?"""
    cdef size_t end = 0
    while end < n and p[end] != 59:
        end += 1
    while end and (p[end - 1] == 32 or p[end - 1] == 9):
        end -= 1
    return http1_equals(p, end, b"application/json", 16)


@cython.final
cdef class Head:
    @property
    def version(self):
        return self.head.version

    @property
    def keep_alive(self):
        return self.head.flags & HTTP1_FLAG_KEEP_ALIVE != 0

    @property
    def expect_continue(self):
        return self.head.flags & HTTP1_FLAG_EXPECT_CONTINUE != 0

    @property
    def headers(self):
        if self._headers is None:
            self.list_fields()
        return self._headers

    def count(self, str name not None):
        if self._headers is None:
            self.list_fields()
        return self.counts.get(name, 0)

    cdef int list_fields(self) except -1:
        """Parses the head again, this time with a list of its fields."""
        cdef http1_limits_t limits
        cdef http1_head_t head
        cdef const char* p
        cdef dict headers = {}
        cdef dict counts = {}
        cdef http1_span_t span
        cdef uint32_t at
        if self.raw is None:
            raise TypeError("a Head is made by a HttpInbound")
        p = PyBytes_AS_STRING(self.raw)
        limits.head_bytes_max = limits.header_count_max = <uint32_t>0xFFFFFFFF
        limits.body_bytes_max = NO_BOUND
        head.fields = <http1_field_t*>mem_alloc((self.head.field_count + 1) * sizeof(http1_field_t))
        if head.fields == NULL:
            raise MemoryError()
        try:
            http1_parse_request_head(p, PyBytes_GET_SIZE(self.raw), &limits, &head)
            for at in range(head.field_count):
                span = head.fields[at].name
                name = PyUnicode_DecodeLatin1(p + span.start, span.size, NULL).lower()
                span = head.fields[at].value
                value = PyUnicode_DecodeLatin1(p + span.start, span.size, NULL)
                counts[name] = counts.get(name, 0) + 1
                headers[name] = f"{headers[name]}, {value}" if name in headers else value
        finally:
            mem_free(head.fields)
        headers.pop("content-length", None)
        self._headers = headers
        self.counts = counts
        return 0


@cython.final
@cython.freelist(128)
cdef class HttpRequest:
    @property
    def body(self):
        if self.data is None:
            return b""
        if self.start == 0 and self.size == <size_t>PyBytes_GET_SIZE(self.data):
            return self.data
        return PyBytes_FromStringAndSize(PyBytes_AS_STRING(self.data) + self.start, <Py_ssize_t>self.size)


cdef int sextet(char c) noexcept nogil:
    """The six bits that a base64 character stands for, or -1."""
    if 65 <= c <= 90:
        return c - 65
    if 97 <= c <= 122:
        return c - 71
    if 48 <= c <= 57:
        return c + 4
    return 62 if c == 43 else 63 if c == 47 else -1


cdef bint equals_base64(const char* p, size_t n, const char* text, size_t size) noexcept nogil:
    """Is p[0:n) the base64 (RFC 4648 section 4, padded) of these bytes?"""
    cdef size_t at
    cdef size_t done = 0
    cdef uint32_t bits = 0
    cdef int count = 0
    cdef int six
    if n % 4:
        return False
    if n and p[n - 1] == 61:
        n -= 2 if p[n - 2] == 61 else 1
    if size != n * 3 // 4:
        return False
    for at in range(n):
        six = sextet(p[at])
        if six < 0:
            return False
        bits = (bits << 6 | <uint32_t>six) & 0xFFFF
        count += 6
        if count >= 8:
            count -= 8
            if <unsigned char>text[done] != (bits >> count & 0xFF):
                return False
            done += 1
    return True


cdef bint equals_name(const char* p, size_t n, const char* text, size_t size) noexcept nogil:
    """Is the Mcp-Name p[0:n) this name?"""
    if n >= BASE64_MARKS and memcmp(p, "=?base64?", 9) == 0 and memcmp(p + n - 2, "?=", 2) == 0:
        return equals_base64(p + 9, n - BASE64_MARKS, text, size)
    return n == size and memcmp(p, text, size) == 0


cdef bint equals_text(Head head, int known, Call call, const text_span_t* text) except -1:
    """Is the header there, once, and equal to this string of the call?"""
    cdef http1_span_t span = head.head.known[known]
    cdef const char* value = PyBytes_AS_STRING(head.raw) + span.start
    cdef bytes utf8
    cdef const char* p = PyBytes_AS_STRING(call.data) + call.start + text.start
    if span.start == 0 or head.head.repeated >> known & 1:
        return False
    if text.state == JSONRPC_TEXT_PLAIN:
        if known == HTTP1_MCP_NAME:
            return equals_name(value, span.size, p, text.size)
        return span.size == text.size and memcmp(value, p, text.size) == 0
    if text.state == JSONRPC_TEXT_ESCAPED:
        utf8 = json_decode_text(p, text.size, True).encode()
        return equals_name(value, span.size, PyBytes_AS_STRING(utf8), PyBytes_GET_SIZE(utf8))
    return False


cdef bint equals_other(Head head, Call call) except -1:
    """The same for a name that the scanner does not look for."""
    cdef http1_span_t span = head.head.known[HTTP1_MCP_NAME]
    cdef bytes utf8
    if span.start == 0 or head.head.repeated >> HTTP1_MCP_NAME & 1 or call._name is None:
        return False
    utf8 = (<str>call._name).encode()
    return equals_name(
        PyBytes_AS_STRING(head.raw) + span.start, span.size, PyBytes_AS_STRING(utf8), PyBytes_GET_SIZE(utf8)
    )


cdef int match_of(Head head, Call call) except -1:
    cdef int bits = 0
    if call.kind > JSONRPC_NOTIFICATION:
        return 0
    if equals_text(head, HTTP1_MCP_METHOD, call, &call.env.method):
        bits |= BIT_METHOD
    if equals_text(head, HTTP1_MCP_PROTOCOL_VERSION, call, &call.env.version):
        bits |= BIT_VERSION
    if call.key_kind == KEY_OTHER:
        if equals_other(head, call):
            bits |= BIT_NAME
    elif call.key_kind != KEY_NONE:
        if equals_text(head, HTTP1_MCP_NAME, call, &call.env.uri if call.key_kind == KEY_URI else &call.env.name):
            bits |= BIT_NAME
    return bits


cdef int limit(str name, object value, object maximum) except -1:
    """Checks a limit's value."""
    if not 1 <= value <= maximum:
        raise ValueError(f"{name} must be from 1 to {maximum}, got {value!r}")
    return 0


@cython.final
cdef class HttpInbound(Scanner):
    def __cinit__(
        self,
        Routes routes=None,
        Correlation correlation=None,
        *,
        head_bytes_max=32768,
        header_count_max=100,
        body_bytes_max=4194304,
        depth_max=128,
        string_bytes_max=4194304,
        number_bytes_max=1024,
        batch_count_max=100,
    ):
        self.set_up(routes, correlation, depth_max, string_bytes_max, number_bytes_max, batch_count_max)
        limit("head_bytes_max", head_bytes_max, 1 << 30)
        limit("header_count_max", header_count_max, 1 << 20)
        limit("body_bytes_max", body_bytes_max, (1 << 32) - 1)
        self.http.head_bytes_max = head_bytes_max
        self.http.header_count_max = header_count_max
        self.http.body_bytes_max = body_bytes_max
        self.heads = []
        buffer_init(&self.held, 0, NO_BOUND)
        buffer_init(&self.body, 0, NO_BOUND)

    def __dealloc__(self):
        buffer_free(&self.held)
        buffer_free(&self.body)

    @property
    def buffered(self):
        return buffer_size(&self.held) + self.filled + buffer_size(&self.body)

    def feed(self, bytes data not None):
        return http_feed(self, data)

    cdef int read(self, list requests) except -1:
        if buffer_size(&self.held) and not self.join_held():
            return 0
        while self.at < <size_t>PyBytes_GET_SIZE(self.data):
            if self.phase != PHASE_BODY and not self.read_head(requests):
                return 0
            if not self.read_body(requests) or self.closed:
                return 0
        return 0

    cdef bint join_held(self) except -1:
        """Adds the read to the head that is held. True where it ends now, or is too long: then both are the input."""
        cdef size_t size = <size_t>PyBytes_GET_SIZE(self.data) - self.at
        buffer_put(&self.held, PyBytes_AS_STRING(self.data) + self.at, size)
        self.at += size
        if (
            http1_find_head_end(buffer_peek(&self.held), buffer_size(&self.held), &self.scanned) == 0
            and buffer_size(&self.held) < self.http.head_bytes_max
        ):
            return False
        self.data = buffer_take(&self.held, buffer_size(&self.held))
        self.at = 0
        buffer_trim(&self.held, KEEP_BYTES)
        return True

    cdef bint read_head(self, list requests) except -1:
        cdef const char* p = PyBytes_AS_STRING(self.data) + self.at
        cdef size_t n = <size_t>PyBytes_GET_SIZE(self.data) - self.at
        cdef int64_t length = -1
        cdef int status
        cdef Head head = self.find_head(self.heads, p, n, &length)
        if head is None:
            head = self.find_head(self.routes.heads, p, n, &length)
            if head is not None:
                self.head_next = remember(self.heads, self.head_next, head)
        if head is not None:
            self.accept(head, self.used, length)
            return True
        status = http1_take_request_head(p, n, &self.scanned, &self.http, &self.parsed)
        if status == HTTP1_MORE:
            buffer_put(&self.held, p, n)
            self.at += n
            self.phase = PHASE_HEAD
            return False
        if status:
            self.refuse(requests, None, status, self.parsed.message)
            return False
        self.accept(self.make_head(p), self.parsed.head_bytes, self.parsed.content_length)
        return True

    cdef Head find_head(self, list heads, const char* p, size_t n, int64_t* length):
        """The remembered head that p[0:n) starts with, but for the value of Content-Length; None if there is none."""
        cdef Py_ssize_t at
        cdef Head head
        for at in range(PyList_GET_SIZE(heads)):
            head = <Head>PyList_GET_ITEM(heads, at)
            self.used = http1_match_head(
                PyBytes_AS_STRING(head.raw), PyBytes_GET_SIZE(head.raw), head.head.known[HTTP1_CONTENT_LENGTH],
                p, n, length,
            )
            if (
                self.used
                and self.used <= self.http.head_bytes_max
                and head.head.field_count <= self.http.header_count_max
                and length[0] <= <int64_t>self.http.body_bytes_max
            ):
                return head
        return None

    cdef Head make_head(self, const char* p):
        """The head that was parsed just now, which is remembered."""
        cdef Head head = Head.__new__(Head)
        cdef http1_span_t kind = self.parsed.known[HTTP1_CONTENT_TYPE]
        head.raw = PyBytes_FromStringAndSize(p, self.parsed.head_bytes)
        head.head = self.parsed
        head.verb = intern_verb(p + self.parsed.method.start, self.parsed.method.size)
        head.target = PyUnicode_DecodeLatin1(p + self.parsed.target.start, self.parsed.target.size, NULL)
        head.is_json_post = (
            head.verb == "POST"
            and self.parsed.repeated >> HTTP1_CONTENT_TYPE & 1 == 0
            and is_json(p + kind.start, kind.size)
        )
        # A blank line before the request is within raw, so such a head would not be found again.
        if self.parsed.head_bytes <= HEAD_KEPT_BYTES_MAX and p[0] != 13:
            self.head_next = remember(self.heads, self.head_next, head)
            self.routes.head_next = remember(self.routes.heads, self.routes.head_next, head)
        return head

    cdef int accept(self, Head head, size_t used, int64_t length) except -1:
        """The head is read: its body comes next."""
        self.head = head
        self.scanned = 0
        self.at += used
        self.phase = PHASE_BODY
        self.wanted = 0 if length < 0 else <size_t>length
        if head.head.flags & HTTP1_FLAG_CHUNKED:
            memset(&self.chunk, 0, sizeof(http1_chunk_t))
        elif length <= 0:
            return 0
        if head.head.flags & HTTP1_FLAG_EXPECT_CONTINUE and self.at == <size_t>PyBytes_GET_SIZE(self.data):
            self.wants_continue = True
        return 0

    cdef bint read_body(self, list requests) except -1:
        """True where the request is whole."""
        cdef size_t n = <size_t>PyBytes_GET_SIZE(self.data) - self.at
        if self.head.head.flags & HTTP1_FLAG_CHUNKED:
            return self.read_chunks(requests)
        if self.filling is not None:
            return self.fill_body(requests)
        if n < self.wanted:
            self.filling = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>self.wanted)
            self.filled = 0
            return self.fill_body(requests)
        self.deliver(requests, self.data, self.at, self.wanted)
        self.at += self.wanted
        return True

    cdef bint fill_body(self, list requests) except -1:
        """More of a body that straddles reads."""
        cdef size_t n = min(<size_t>PyBytes_GET_SIZE(self.data) - self.at, self.wanted - self.filled)
        memcpy(PyBytes_AS_STRING(self.filling) + self.filled, PyBytes_AS_STRING(self.data) + self.at, n)
        self.filled += n
        self.at += n
        if self.filled < self.wanted:
            return False
        self.deliver(requests, self.filling, 0, self.wanted)
        self.filling = None
        self.filled = 0
        return True

    cdef bint read_chunks(self, list requests) except -1:
        cdef Py_ssize_t used
        cdef bytes whole = None
        try:
            used = http1_chunk_feed(
                &self.chunk, PyBytes_AS_STRING(self.data) + self.at, <size_t>PyBytes_GET_SIZE(self.data) - self.at,
                &self.body, self.http.body_bytes_max,
            )
            if used >= 0 and http1_chunk_is_done(&self.chunk):
                whole = buffer_take(&self.body, buffer_size(&self.body))
                buffer_trim(&self.body, KEEP_BYTES)
                self.deliver(requests, whole, 0, <size_t>PyBytes_GET_SIZE(whole))
        except MemoryError:
            # Some of the input is decoded already, so the request cannot be read again.
            self.closed = True
            raise
        if used < 0:
            self.refuse(requests, self.head, <int>-used, self.chunk.message)
            return False
        self.at += <size_t>used
        return whole is not None

    cdef int deliver(self, list requests, bytes data, size_t start, size_t size) except -1:
        """The request, its body data[start : start + size]. Nothing has changed where this raises."""
        cdef HttpRequest request = HttpRequest.__new__(HttpRequest)
        cdef Head head = self.head
        request.head = head
        request.data = data
        request.start = start
        request.size = size
        if head.is_json_post:
            request.call = self.scan(data, start, size, False)
            request.match = match_of(head, request.call)
        requests.append(request)
        if request.call is not None and request.call.kind > JSONRPC_NOTIFICATION:
            self.settle(request.call)
        self.phase = PHASE_IDLE
        self.wants_continue = False
        self.head = None
        if head.head.flags & HTTP1_FLAG_KEEP_ALIVE == 0:
            self.closed = True
        return 0

    cdef int refuse(self, list requests, Head head, int status, const char* message) except -1:
        cdef HttpRequest request = HttpRequest.__new__(HttpRequest)
        request.head = head
        request.status = status
        request.message = message.decode("ascii")
        requests.append(request)
        self.closed = True
        self.wants_continue = False
        self.phase = PHASE_IDLE
        self.head = None
        buffer_clear(&self.held)
        buffer_clear(&self.body)
        return 0


cdef str intern_verb(const char* p, size_t n):
    if n == 4 and memcmp(p, "POST", 4) == 0:
        return "POST"
    if n == 3 and memcmp(p, "GET", 3) == 0:
        return "GET"
    return PyUnicode_DecodeLatin1(p, n, NULL)


cdef int remember(list heads, int at, Head head) except -1:
    """Puts a head among the last few; gives the place of the next."""
    if at == PyList_GET_SIZE(heads):
        heads.append(head)
    else:
        heads[at] = head
    return (at + 1) % HEADS_MAX


cdef list http_feed(HttpInbound self, bytes data):
    cdef list requests = self.late
    if self.data is not None and not self.closed:
        data = self.data[self.at:] + data
    self.late = None
    self.data = data
    self.at = 0
    try:
        if requests is None:
            requests = []
        if not self.closed:
            self.read(requests)
    except BaseException:
        self.late = requests
        raise
    self.data = None
    return requests
