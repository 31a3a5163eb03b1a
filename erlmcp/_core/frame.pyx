"""Cutting a byte stream into messages: newline, Content-Length and server-sent events.

Goal: the same messages and the same errors for every way to cut the input into reads. So every decision depends on
the bytes alone: a message over its limit is reported where it ends, not where it first is seen to be too long, and a
header block is judged when it ends or meets its limit. The C functions work on a window of the stream that their
caller keeps; they hold no bytes, only marks that spare looking at a byte twice.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport uint64_t
from libc.string cimport memchr, memcmp, memset

from erlmcp._core.buffer cimport (
    buffer_clear, buffer_consume, buffer_free, buffer_init, buffer_peek, buffer_put, buffer_put_byte,
    buffer_put_reserved, buffer_reserve, buffer_size, buffer_t,
)

from erlmcp.errors import LimitError


cdef extern from "http1_scan.h" nogil:
    enum:
        HTTP1_IS_TCHAR
        HTTP1_IS_VALUE
    size_t http1_skip(const char* p, size_t i, size_t n, int kind) noexcept
    size_t http1_skip_value(const char* p, size_t i, size_t n) noexcept
    bint http1_equals(const char* p, size_t n, const char* lower, size_t lower_bytes) noexcept


cdef extern from *:
    """
    #define FRAME_NO_LIMIT (SIZE_MAX / 4)
    """
    const size_t FRAME_NO_LIMIT


# Newline framing

cdef frame_step_t frame_next_line(line_state_t* s, const char* p, size_t n, frame_cut_t* cut) noexcept nogil:
    cdef size_t used = 0, size, blank
    cdef const char* found
    while True:
        found = <const char*>memchr(p + used + s.scanned, 10, n - used - s.scanned) if n - used > s.scanned else NULL
        if found == NULL:
            s.scanned = n - used
            # One byte more than the limit may still be the "\r" of the line's end.
            if s.is_discarding or s.scanned > s.line_bytes_max + 1:
                s.is_discarding = True
                s.scanned = 0
                used = n
            cut.used = used
            return FRAME_NONE
        s.scanned = 0
        size = <size_t>(found - p) - used
        cut.start = used
        used += size + 1
        cut.used = used
        if size > 0 and p[used - 2] == 13:
            size -= 1
        if s.is_discarding or size > s.line_bytes_max:
            s.is_discarding = False
            return FRAME_TOO_LONG
        blank = 0
        while blank < size and (p[cut.start + blank] == 32 or p[cut.start + blank] == 9 or p[cut.start + blank] == 13):
            blank += 1
        if blank < size:
            cut.size = size
            return FRAME_MESSAGE


# Content-Length framing

cdef frame_step_t frame_break(length_state_t* s, const char* message) noexcept nogil:
    s.message = message
    return FRAME_BROKEN


cdef size_t frame_header_end(const char* p, size_t n, size_t* scanned) noexcept nogil:
    """Where the header block ends, its blank line included, or 0. Bare LFs end it too, to be refused at once."""
    cdef size_t i = scanned[0]
    cdef const char* found
    while i < n:
        found = <const char*>memchr(p + i, 10, n - i)
        if found == NULL:
            i = n
            break
        i = <size_t>(found - p) + 1
        if i < n and p[i] == 10:
            return i + 1
        if i + 1 < n and p[i] == 13 and p[i + 1] == 10:
            return i + 2
        if i + 1 >= n:
            i -= 1
            break
    scanned[0] = i
    return 0


cdef frame_step_t frame_read_length(length_state_t* s, const char* p, size_t start, size_t end) noexcept nogil:
    """The value of Content-Length, its outer blanks trimmed."""
    cdef uint64_t length = 0
    cdef size_t i
    if s.has_header:
        return frame_break(s, b"more than one Content-Length")
    if start == end or end - start > 18:
        return frame_break(s, b"Content-Length is not a number of 1 to 18 decimal digits")
    for i in range(start, end):
        if not 48 <= p[i] <= 57:
            return frame_break(s, b"Content-Length is not a number of 1 to 18 decimal digits")
        length = length * 10 + <uint64_t>(p[i] - 48)
    s.has_header = True
    s.body_bytes = length
    return FRAME_NONE


cdef frame_step_t frame_read_header(length_state_t* s, const char* p, size_t n) noexcept nogil:
    """A whole header block with its blank line: FRAME_NONE and has_header, or FRAME_BROKEN."""
    cdef size_t i = 0, name, value, end
    while True:
        if i + 1 < n and p[i] == 13 and p[i + 1] == 10:
            break
        name = i
        i = http1_skip(p, i, n, HTTP1_IS_TCHAR)
        if i == name or i >= n or p[i] != 58:
            return frame_break(s, b"a header line is not of the form 'Name: value'")
        value = i + 1
        end = http1_skip_value(p, value, n)
        if end + 1 >= n or p[end] != 13 or p[end + 1] != 10:
            return frame_break(s, b"a header line does not end with CRLF, or holds a control character")
        while value < end and (p[value] == 32 or p[value] == 9):
            value += 1
        if http1_equals(p + name, i - name, b"content-length", 14):
            i = end + 2
            while value < end and (p[end - 1] == 32 or p[end - 1] == 9):
                end -= 1
            if frame_read_length(s, p, value, end) == FRAME_BROKEN:
                return FRAME_BROKEN
        else:
            i = end + 2
    if not s.has_header:
        return frame_break(s, b"a header block without Content-Length")
    return FRAME_NONE


cdef frame_step_t frame_next_length(length_state_t* s, const char* p, size_t n, frame_cut_t* cut) noexcept nogil:
    cdef size_t end = 0, window
    cut.used = 0
    if not s.has_header:
        window = n if n < s.header_bytes_max else s.header_bytes_max
        end = frame_header_end(p, window, &s.scanned)
        if end == 0:
            if n < s.header_bytes_max:
                return FRAME_NONE
            return frame_break(s, b"header_bytes_max exceeded")
        s.scanned = 0
        if frame_read_header(s, p, end) == FRAME_BROKEN:
            return FRAME_BROKEN
        s.is_discarding = s.body_bytes > s.message_bytes_max
        cut.used = end
    if s.is_discarding:
        window = n - end if n - end < s.body_bytes else s.body_bytes
        s.body_bytes -= window
        cut.used = end + window
        if s.body_bytes:
            return FRAME_NONE
        s.has_header = s.is_discarding = False
        return FRAME_TOO_LONG
    if n - end < s.body_bytes:
        return FRAME_NONE
    s.has_header = False
    cut.start = end
    cut.size = s.body_bytes
    cut.used = end + s.body_bytes
    return FRAME_MESSAGE


# Writing server-sent events

cdef inline bint frame_is_one_line(const char* p, size_t n) noexcept nogil:
    return n == 0 or (memchr(p, 10, n) == NULL and memchr(p, 13, n) == NULL and memchr(p, 0, n) == NULL)


cdef inline void frame_put_line(
    buffer_t* out, const char* name, size_t name_bytes, const char* p, size_t n,
) noexcept nogil:
    """Unchecked: after buffer_reserve."""
    buffer_put_reserved(out, name, name_bytes)
    if n:
        buffer_put_reserved(out, p, n)
    buffer_put_byte(out, 10)


cdef size_t frame_count_breaks(const char* p, size_t n) noexcept nogil:
    """How many bytes of p[0:n) are CR or LF."""
    cdef size_t i, count = 0
    if n == 0 or (memchr(p, 10, n) == NULL and memchr(p, 13, n) == NULL):
        return 0
    for i in range(n):
        count += p[i] == 10 or p[i] == 13
    return count


cdef void frame_put_data(buffer_t* out, const char* p, size_t n) noexcept nogil:
    """One ``data:`` line for each line of p[0:n). Unchecked: after buffer_reserve."""
    cdef size_t i, start = 0
    for i in range(n):
        if p[i] == 10 and i > 0 and p[i - 1] == 13:
            start = i + 1
        elif p[i] == 10 or p[i] == 13:
            frame_put_line(out, b"data: ", 6, p + start, i - start)
            start = i + 1
    frame_put_line(out, b"data: ", 6, p + start, n - start)


cdef void frame_put_retry(buffer_t* out, long long retry_ms) noexcept nogil:
    """Unchecked: after buffer_reserve of 28."""
    cdef char[20] digits
    cdef int at = 20
    while True:
        at -= 1
        digits[at] = <char>(48 + retry_ms % 10)
        retry_ms //= 10
        if retry_ms == 0:
            break
    frame_put_line(out, b"retry: ", 7, digits + at, <size_t>(20 - at))


cdef int frame_put_sse(
    buffer_t* out, const char* data, size_t data_bytes, const char* event, size_t event_bytes,
    const char* id, size_t id_bytes, long long retry_ms,
) except -1 nogil:
    cdef size_t breaks = frame_count_breaks(data, data_bytes)
    if not frame_is_one_line(event, event_bytes) or not frame_is_one_line(id, id_bytes):
        with gil:
            raise ValueError("the event and the id of a server-sent event must not hold CR, LF or NUL")
    # "event: \n" 8, "id: \n" 5, "retry: ...\n" 28, the blank line 1, "data: \n" 7 for each line.
    buffer_reserve(out, event_bytes + id_bytes + data_bytes + 42 + 7 * (breaks + 1))
    if event != NULL:
        frame_put_line(out, b"event: ", 7, event, event_bytes)
    if id != NULL:
        frame_put_line(out, b"id: ", 4, id, id_bytes)
    if retry_ms >= 0:
        frame_put_retry(out, retry_ms)
    if breaks:
        frame_put_data(out, data, data_bytes)
    else:
        frame_put_line(out, b"data: ", 6, data, data_bytes)
    buffer_put_byte(out, 10)
    return 0


def frame_sse(bytes data not None, *, str event="message", str id=None, retry_ms=None):
    cdef buffer_t out
    cdef bytes event_text = None if event is None else event.encode()
    cdef bytes id_text = None if id is None else id.encode()
    cdef long long retry = -1
    if retry_ms is not None:
        retry = retry_ms
        if retry < 0:
            raise ValueError(f"retry_ms must not be negative, got {retry_ms}")
    buffer_init(&out, 0, FRAME_NO_LIMIT)
    try:
        frame_put_sse(
            &out, PyBytes_AS_STRING(data), <size_t>PyBytes_GET_SIZE(data),
            NULL if event_text is None else PyBytes_AS_STRING(event_text),
            0 if event_text is None else <size_t>PyBytes_GET_SIZE(event_text),
            NULL if id_text is None else PyBytes_AS_STRING(id_text),
            0 if id_text is None else <size_t>PyBytes_GET_SIZE(id_text), retry,
        )
        return PyBytes_FromStringAndSize(buffer_peek(&out), <Py_ssize_t>buffer_size(&out))
    finally:
        buffer_free(&out)


# The skins

cdef size_t read_limit(str name, object value) except? 0:
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0 or value >= 1 << 48:
        raise ValueError(f"{name} must be a whole number from 1 to 2**48, got {value!r}")
    return <size_t>value


cdef bytes slice_of(const char* p, size_t size):
    return PyBytes_FromStringAndSize(p, <Py_ssize_t>size)


@cython.final
cdef class LineFramer:
    cdef line_state_t state
    cdef buffer_t kept

    def __cinit__(self, message_bytes_max=4194304):
        memset(&self.state, 0, sizeof(self.state))
        self.state.line_bytes_max = read_limit("message_bytes_max", message_bytes_max)
        buffer_init(&self.kept, 0, FRAME_NO_LIMIT)

    def __dealloc__(self):
        buffer_free(&self.kept)

    @property
    def buffered(self):
        return buffer_size(&self.kept)

    def feed(self, bytes data not None):
        cdef list found = []
        cdef frame_cut_t cut
        cdef frame_step_t step
        cdef const char* p = PyBytes_AS_STRING(data)
        cdef size_t n = <size_t>PyBytes_GET_SIZE(data), used = 0
        cdef bint is_kept = buffer_size(&self.kept) > 0
        if is_kept:
            buffer_put(&self.kept, p, n)
            p = buffer_peek(&self.kept)
            n = buffer_size(&self.kept)
        while True:
            step = frame_next_line(&self.state, p + used, n - used, &cut)
            if step == FRAME_MESSAGE:
                found.append(slice_of(p + used + cut.start, cut.size))
            elif step == FRAME_TOO_LONG:
                found.append(LimitError("message_bytes_max", self.state.line_bytes_max, "a line was dropped"))
            used += cut.used
            if step == FRAME_NONE:
                break
        if is_kept:
            buffer_consume(&self.kept, used)
        elif used < n:
            buffer_put(&self.kept, p + used, n - used)
        return found


@cython.final
cdef class LengthFramer:
    cdef length_state_t state
    cdef buffer_t kept

    def __cinit__(self, message_bytes_max=4194304, header_bytes_max=4096):
        memset(&self.state, 0, sizeof(self.state))
        self.state.message_bytes_max = read_limit("message_bytes_max", message_bytes_max)
        self.state.header_bytes_max = read_limit("header_bytes_max", header_bytes_max)
        buffer_init(&self.kept, 0, FRAME_NO_LIMIT)

    def __dealloc__(self):
        buffer_free(&self.kept)

    @property
    def buffered(self):
        return buffer_size(&self.kept)

    @property
    def closed(self):
        return self.state.message != NULL

    def feed(self, bytes data not None):
        cdef list found = []
        cdef frame_cut_t cut
        cdef frame_step_t step
        if self.state.message != NULL:
            return found
        buffer_put(&self.kept, PyBytes_AS_STRING(data), <size_t>PyBytes_GET_SIZE(data))
        while True:
            step = frame_next_length(&self.state, buffer_peek(&self.kept), buffer_size(&self.kept), &cut)
            if step == FRAME_MESSAGE:
                found.append(slice_of(buffer_peek(&self.kept) + cut.start, cut.size))
            elif step == FRAME_TOO_LONG:
                found.append(LimitError("message_bytes_max", self.state.message_bytes_max, "a message was dropped"))
            elif step == FRAME_BROKEN:
                found.append(ValueError("broken frame header: " + self.state.message.decode()))
                buffer_clear(&self.kept)
                return found
            buffer_consume(&self.kept, cut.used)
            if step == FRAME_NONE:
                return found


@cython.final
cdef class SseEvent:
    cdef readonly str event
    cdef readonly bytes data
    cdef readonly str id
    cdef readonly object retry_ms

    def __init__(self, str event not None, bytes data not None, str id not None="", retry_ms=None):
        self.event = event
        self.data = data
        self.id = id
        self.retry_ms = retry_ms

    def __eq__(self, other):
        if not isinstance(other, SseEvent):
            return NotImplemented
        cdef SseEvent that = <SseEvent>other
        return (self.event, self.data, self.id, self.retry_ms) == (that.event, that.data, that.id, that.retry_ms)

    def __repr__(self):
        return f"SseEvent(event={self.event!r}, data={self.data!r}, id={self.id!r}, retry_ms={self.retry_ms!r})"


@cython.final
cdef class SseFramer:
    # The WHATWG algorithm over whole lines. ``line`` keeps the start of a line whose end has not come; the bytes of
    # comments, and of events that are too long already, are counted or passed over but not kept.
    cdef buffer_t line
    cdef buffer_t data
    cdef size_t event_bytes_max
    cdef size_t event_bytes  # of the event being read: all its lines without line ends, comments left out
    cdef size_t line_bytes  # of the line being read
    cdef int bom_bytes  # how many bytes of a byte order mark were seen; -1: past it
    cdef bint is_comment
    cdef bint was_cr  # the last byte was a CR: an LF right after it belongs to it
    cdef bint has_data
    cdef str event
    cdef str id
    cdef object retry
    cdef readonly str last_event_id
    cdef readonly object retry_ms

    def __cinit__(self, event_bytes_max=4194304):
        self.event_bytes_max = read_limit("event_bytes_max", event_bytes_max)
        self.event = self.id = self.last_event_id = ""
        buffer_init(&self.line, 0, FRAME_NO_LIMIT)
        buffer_init(&self.data, 0, FRAME_NO_LIMIT)

    def __dealloc__(self):
        buffer_free(&self.line)
        buffer_free(&self.data)

    @property
    def buffered(self):
        return buffer_size(&self.line) + buffer_size(&self.data)

    def feed(self, bytes data not None):
        cdef list found = []
        cdef const char* p = PyBytes_AS_STRING(data)
        cdef size_t n = <size_t>PyBytes_GET_SIZE(data), i = 0, end
        cdef const char* lf = NULL
        cdef const char* cr = NULL
        if self.bom_bytes >= 0:
            i = self.pass_bom(p, n)
        while i < n:
            if self.was_cr and p[i] == 10:
                i += 1
                self.was_cr = False
                continue
            self.was_cr = False
            # Both searches are kept until they are passed, so that neither runs over the same bytes for each line.
            if lf < p + i:
                lf = <const char*>memchr(p + i, 10, n - i)
                lf = p + n if lf == NULL else lf
            if cr < p + i:
                cr = <const char*>memchr(p + i, 13, n - i)
                cr = p + n if cr == NULL else cr
            end = <size_t>((lf if lf < cr else cr) - p)
            if end == n:
                self.keep(p + i, n - i)
                return found
            self.was_cr = p[end] == 13
            self.end_line(p + i, end - i, found)
            i = end + 1
        return found

    cdef size_t pass_bom(self, const char* p, size_t n) except? 0:
        """How many bytes at the very start of the stream belong to a byte order mark."""
        cdef const char* bom = b"\xef\xbb\xbf"
        cdef size_t i = 0
        while i < n and self.bom_bytes < 3 and p[i] == bom[self.bom_bytes]:
            i += 1
            self.bom_bytes += 1
        if self.bom_bytes < 3:
            if i == n:
                return i
            self.keep(bom, <size_t>self.bom_bytes)  # it began as a mark, and is none
        self.bom_bytes = -1
        return i

    cdef int keep(self, const char* p, size_t n) except -1:
        """More bytes of a line that has not ended."""
        if n == 0:
            return 0
        if self.line_bytes == 0:
            self.is_comment = p[0] == 58
        self.line_bytes += n
        if self.is_comment:
            return 0
        if self.event_bytes + self.line_bytes > self.event_bytes_max:
            buffer_clear(&self.line)
            return 0
        return buffer_put(&self.line, p, n)

    cdef int end_line(self, const char* p, size_t n, list found) except -1:
        if self.line_bytes:
            self.keep(p, n)
            p = buffer_peek(&self.line)
            n = self.line_bytes
            self.line_bytes = 0
            if self.is_comment:
                return 0
        elif n and p[0] == 58:
            return 0
        if n == 0:
            return self.dispatch(found)
        self.event_bytes += n
        if self.event_bytes <= self.event_bytes_max:
            self.read_field(p, n)
        buffer_clear(&self.line)
        return 0

    cdef int read_field(self, const char* p, size_t n) except -1:
        cdef const char* colon = <const char*>memchr(p, 58, n)
        cdef size_t name = n if colon == NULL else <size_t>(colon - p)
        cdef size_t start = n if colon == NULL else name + 1
        cdef size_t i
        if start < n and p[start] == 32:
            start += 1
        if name == 4 and memcmp(p, b"data", 4) == 0:
            if self.has_data:
                buffer_put(&self.data, b"\n", 1)
            self.has_data = True
            return buffer_put(&self.data, p + start, n - start)
        if name == 5 and memcmp(p, b"event", 5) == 0:
            self.event = PyUnicode_DecodeUTF8(<char*>p + start, <Py_ssize_t>(n - start), b"replace")
        elif name == 2 and memcmp(p, b"id", 2) == 0:
            if start == n or memchr(p + start, 0, n - start) == NULL:
                self.id = PyUnicode_DecodeUTF8(<char*>p + start, <Py_ssize_t>(n - start), b"replace")
        elif name == 5 and memcmp(p, b"retry", 5) == 0 and 0 < n - start <= 15:
            for i in range(start, n):
                if not 48 <= p[i] <= 57:
                    return 0
            self.retry = self.retry_ms = int(p[start:n])
        return 0

    cdef int dispatch(self, list found) except -1:
        """The blank line that ends an event."""
        if self.event_bytes > self.event_bytes_max:
            found.append(LimitError("event_bytes_max", self.event_bytes_max, "an event was dropped"))
            self.id = self.last_event_id
        else:
            self.last_event_id = self.id
            if self.has_data:
                found.append(SseEvent(
                    self.event or "message", slice_of(buffer_peek(&self.data), buffer_size(&self.data)),
                    self.id, self.retry,
                ))
        buffer_clear(&self.line)
        buffer_clear(&self.data)
        self.event_bytes = 0
        self.has_data = False
        self.event = ""
        self.retry = None
        return 0
