"""The corridor's way out: answers and requests are written once, in place, and taken with one crossing.

A message is written where it will stay. Before it come the framing's bytes; where these hold the body's length, room is
left for as many digits as the last length had, and the body moves by a byte or two where that guess was wrong. After
it the length is known, the limit is checked and the frame is closed. What raises on the way goes back to the size noted
at the start.

Room is reserved by estimates (a str may need six bytes a character), so the buffer's own bound lies above
``bytes_max``, and ``bytes_max`` is compared with what was really written.

Large strings that are JSON as they are, and large pieces of templates, are not copied: where they belong is noted
(``outside``), and ``take_parts`` gives them in their turn. All sizes and the limit count them. A gathered buffer that
has become large is itself handed over there, and a new one begun.

With the framings that end a message at a line end, line ends within it (blanks of JSON that came from elsewhere) become
spaces: within a string JSON has none.
"""

cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from cpython.tuple cimport PyTuple_GET_SIZE
from cpython.unicode cimport PyUnicode_Check
from libc.string cimport memchr, memcpy, memmove

from erlmcp._core.buffer cimport (
    buffer_clear, buffer_compact, buffer_free, buffer_init, buffer_peek, buffer_put, buffer_put_reserved,
    buffer_reserve, buffer_size, buffer_t, buffer_take, buffer_trim, buffer_truncate,
)
from erlmcp._core.json cimport (
    JSON_DEPTH_CEILING, json_encode_into, json_put_int, json_put_string, json_put_string_utf8, json_unescaped_run,
)
from erlmcp._core.memory cimport mem_free, mem_realloc, mem_zalloc

from erlmcp.errors import JsonError, LimitError

cdef extern from "Python.h":
    PyObject** PySequence_Fast_ITEMS(object o) noexcept
    bint PyUnicode_IS_COMPACT_ASCII(object o) noexcept
    void* PyUnicode_DATA(object o) noexcept
    Py_ssize_t PyUnicode_GET_LENGTH(object o) noexcept

TEXT, VALUE, VALUE_AS_TEXT = SLOT_TEXT, SLOT_VALUE, SLOT_VALUE_AS_TEXT

cdef enum:
    SLOT_TEXT = 0
    SLOT_VALUE = 1
    SLOT_VALUE_AS_TEXT = 2
    SLOT_END = 3
    FRAMING_NEWLINE = 0
    FRAMING_LENGTH
    FRAMING_NONE
    FRAMING_HTTP
    FRAMING_SSE
    OF_RESULT
    OF_ERROR
    OF_METHOD
    OF_MESSAGE
    DIGITS_MAX = 20
    HEAD_SIZE = 22
    LENGTH_PREFIX_SIZE = 16
    SEEN_MAX = 16  # slots whose place is remembered, for others that write the same

cdef size_t BYTES_MAX_MAX = <size_t>1 << 48
cdef dict FRAMINGS = {
    "newline": FRAMING_NEWLINE,
    "content_length": FRAMING_LENGTH,
    "none": FRAMING_NONE,
    "http": FRAMING_HTTP,
    "sse": FRAMING_SSE,
}

cdef const char* HEAD = b'{"jsonrpc":"2.0","id":'
cdef const char* LENGTH_PREFIX = b"Content-Length: "


@cython.final
cdef class Template:
    def __cinit__(self, pieces):
        cdef bytes text
        cdef bytes static = b',"result":'  # the response around the result: in the first and the last static piece
        cdef list statics = []
        cdef list slots = []
        cdef Py_ssize_t at
        cdef size_t start = 0
        for piece in pieces:
            if type(piece) is bytes:
                static += piece
            else:
                slots.append(slot_of(piece))
                statics.append(static)
                static = b""
        statics.append(static + b"}")
        text = b"".join(statics)
        self.text = text.replace(b"\r", b" ").replace(b"\n", b" ")
        self.slots = len(slots)
        self.pieces = <piece_t*>mem_zalloc(<size_t>self.slots + 1, sizeof(piece_t))
        if self.pieces == NULL:
            raise MemoryError()
        for at in range(self.slots + 1):
            text = statics[at]
            self.pieces[at].data = PyBytes_AS_STRING(self.text) + start
            self.pieces[at].size = PyBytes_GET_SIZE(text)
            start += self.pieces[at].size
            if at == self.slots:
                self.pieces[at].kind = SLOT_END
            else:
                self.pieces[at].kind, self.pieces[at].index = slots[at]
                self.values_min = max(self.values_min, self.pieces[at].index + 1)
                self.has_values |= self.pieces[at].kind != SLOT_TEXT
                self.pieces[at].again = earlier(self.pieces, at)

    def __dealloc__(self):
        mem_free(self.pieces)

    @property
    def slot_count(self):
        return self.slots


cdef tuple slot_of(object piece):
    """(kind, index), checked."""
    if type(piece) is not tuple or len(piece) != 2 or type(piece[0]) is not int or type(piece[1]) is not int:
        raise TypeError(f"a piece must be bytes or (kind, index), got {piece!r}")
    if piece[0] not in (SLOT_TEXT, SLOT_VALUE, SLOT_VALUE_AS_TEXT) or not 0 <= piece[1] < 1 << 30:
        raise ValueError(f"a slot must be (TEXT, VALUE or VALUE_AS_TEXT, index from 0), got {piece!r}")
    return piece


cdef Py_ssize_t earlier(const piece_t* pieces, Py_ssize_t at) noexcept nogil:
    """The piece before ``at`` whose JSON can be copied, or -1. A TEXT and a VALUE of one str are the same JSON."""
    cdef Py_ssize_t other
    for other in range(min(at, <Py_ssize_t>SEEN_MAX)):
        if pieces[other].index != pieces[at].index:
            continue
        if (pieces[other].kind == SLOT_VALUE_AS_TEXT) == (pieces[at].kind == SLOT_VALUE_AS_TEXT):
            return other
    return -1


cdef int sweep(char* data, size_t size) noexcept nogil:
    """Line ends -> spaces."""
    cdef char* at
    cdef char* end = data + size
    at = <char*>memchr(data, 10, size)
    while at != NULL:
        at[0] = 32
        at = <char*>memchr(at, 10, <size_t>(end - at))
    at = <char*>memchr(data, 13, size)
    while at != NULL:
        at[0] = 32
        at = <char*>memchr(at, 13, <size_t>(end - at))
    return 0


cdef int put_slot(Outbound self, int kind, object value) except -1:
    if kind == SLOT_TEXT:
        if not PyUnicode_Check(value):
            raise JsonError(f"a TEXT slot needs a str, got {type(value).__name__}")
        return json_put_string(&self.out, value)
    if kind == SLOT_VALUE:
        return json_encode_into(&self.out, value, self.depth_max)
    buffer_clear(&self.scratch)
    try:
        json_encode_into(&self.scratch, value, self.depth_max)
        return json_put_string_utf8(&self.out, buffer_peek(&self.scratch), buffer_size(&self.scratch))
    finally:
        buffer_clear(&self.scratch)
        buffer_trim(&self.scratch, KEEP_BYTES)


# ---- What is not copied.

cdef int put_outside(Outbound self, object owner, const char* data, size_t size) except -1:
    cdef outside_t* grown
    cdef outside_t* noted
    if self.outside_count == self.outside_room:
        grown = <outside_t*>mem_realloc(self.outside, <size_t>(2 * self.outside_room + 4) * sizeof(outside_t))
        if grown == NULL:
            raise MemoryError()
        self.outside, self.outside_room = grown, 2 * self.outside_room + 4
    noted = &self.outside[self.outside_count]
    noted.at, noted.size, noted.data, noted.owner = buffer_size(&self.out), size, data, <PyObject*>owner
    Py_INCREF(owner)
    self.outside_count += 1
    self.outside_bytes += size
    return 0


cdef int drop_outside(Outbound self, size_t mark) noexcept:
    """Forgets those that come after ``mark`` gathered bytes."""
    cdef outside_t* last
    while self.outside_count and self.outside[self.outside_count - 1].at >= mark:
        self.outside_count -= 1
        last = &self.outside[self.outside_count]
        self.outside_bytes -= last.size
        Py_DECREF(<object>last.owner)
    return 0


cdef int put_static(Outbound self, Template template, const piece_t* piece) except -1:
    """All but its last byte may be noted: a message ends with a byte of its own, which tells it from the next."""
    cdef size_t noted = 0
    if self.split_bytes and piece.size > self.split_bytes:
        noted = piece.size - 1
        put_outside(self, template.text, piece.data, noted)
    return buffer_put(&self.out, piece.data + noted, piece.size - noted)


cdef bint put_plain(Outbound self, object value, bint is_known) except -1:
    """Whether a value was noted instead of written: a long str that is JSON as it is (``is_known``: noted before)."""
    cdef const char* data
    cdef size_t size
    if type(value) is not str or not PyUnicode_IS_COMPACT_ASCII(value):
        return False
    size = <size_t>PyUnicode_GET_LENGTH(value)
    data = <const char*>PyUnicode_DATA(value)
    if not is_known and (size < self.split_bytes or json_unescaped_run(data, data + size) != data + size):
        return False
    buffer_put(&self.out, '"', 1)
    put_outside(self, value, data, size)
    buffer_put(&self.out, '"', 1)
    return True


cdef int put_slots(Outbound self, Template template, PyObject** values) except -1:
    """The result, from the comma before "result" to the response's closing brace."""
    cdef buffer_t* out = &self.out
    cdef const piece_t* piece = template.pieces
    cdef size_t[SEEN_MAX] starts
    cdef size_t[SEEN_MAX] sizes  # 0: it was not copied
    cdef size_t start
    cdef bint is_again
    cdef bint is_noted
    cdef Py_ssize_t at
    for at in range(template.slots):
        put_static(self, template, piece)
        start = buffer_size(out)
        is_again = piece.again >= 0 and (piece.kind != SLOT_TEXT or template.pieces[piece.again].kind == SLOT_TEXT)
        is_noted = False
        if is_again and sizes[piece.again]:
            buffer_reserve(out, sizes[piece.again])
            buffer_put_reserved(out, buffer_peek(out) + starts[piece.again], sizes[piece.again])
        elif self.split_bytes and piece.kind != SLOT_VALUE_AS_TEXT:
            is_noted = put_plain(self, <object>values[piece.index], is_again)
            if not is_noted:
                put_slot(self, piece.kind, <object>values[piece.index])
        else:
            put_slot(self, piece.kind, <object>values[piece.index])
        if at < SEEN_MAX:
            starts[at] = start
            sizes[at] = 0 if is_noted else buffer_size(out) - start
        piece += 1
    return put_static(self, template, piece)


cdef int open_frame(Outbound self) except -1:
    """The frame's bytes before the message."""
    cdef buffer_t* out = &self.out
    cdef const char* prefix = LENGTH_PREFIX
    cdef size_t size = LENGTH_PREFIX_SIZE
    if self.framing == FRAMING_NEWLINE or self.framing == FRAMING_NONE:
        return 0
    if self.framing == FRAMING_SSE:
        return buffer_put(out, "data: ", 6)
    if self.framing == FRAMING_HTTP:
        prefix = PyBytes_AS_STRING(self._prefix)
        size = PyBytes_GET_SIZE(self._prefix)
    buffer_reserve(out, size + DIGITS_MAX + 4)
    buffer_put_reserved(out, prefix, size)
    out.write += self.digits + 4
    return 0


cdef int close_frame(Outbound self, size_t body, bint may_hold_lines) except -1:
    """What comes after the message, and the check of the limit. ``body`` is the size before the message."""
    cdef buffer_t* out = &self.out
    cdef int framing = self.framing
    if framing == FRAMING_LENGTH or framing == FRAMING_HTTP:
        put_length(self, body)
    elif framing == FRAMING_NEWLINE:
        if may_hold_lines:
            sweep(buffer_peek(out) + body, buffer_size(out) - body)
        buffer_put(out, "\n", 1)
    elif framing == FRAMING_SSE:
        if may_hold_lines:
            sweep(buffer_peek(out) + body, buffer_size(out) - body)
        buffer_put(out, "\n\n", 2)
    if outbound_count(self) > self.bytes_max:
        raise LimitError("bytes_max", self.bytes_max, f"{outbound_count(self)} bytes")
    return 0


cdef int put_length(Outbound self, size_t body) except -1:
    """Writes the digits and the blank line into the room that open_frame left before ``body``."""
    cdef buffer_t* out = &self.out
    cdef char[DIGITS_MAX] text
    cdef int count = 0
    cdef size_t size = buffer_size(out) - body
    cdef size_t left = size
    cdef Py_ssize_t first = self.outside_count
    cdef Py_ssize_t i
    cdef char* at
    while first and self.outside[first - 1].at >= body:
        first -= 1
        left += self.outside[first].size
    while True:
        count += 1
        text[DIGITS_MAX - count] = <char>(48 + left % 10)
        left //= 10
        if left == 0:
            break
    buffer_reserve(out, DIGITS_MAX)
    at = buffer_peek(out) + body
    if count != self.digits:
        memmove(at + count - self.digits, at, size)
        at += count - self.digits
        for i in range(first, self.outside_count):
            self.outside[i].at = self.outside[i].at + <size_t>count - <size_t>self.digits
        out.write = out.write + <size_t>count - <size_t>self.digits
        self.digits = count
    memcpy(at - 4, "\r\n\r\n", 4)
    memcpy(at - 4 - count, &text[DIGITS_MAX - count], <size_t>count)
    return 0


cdef int put_head(Outbound self, const char* id, size_t size) except -1:
    """{"jsonrpc":"2.0","id":ID"""
    buffer_reserve(&self.out, HEAD_SIZE + size)
    buffer_put_reserved(&self.out, HEAD, HEAD_SIZE)
    buffer_put_reserved(&self.out, id, size)
    return 0


cdef int put_method(Outbound self, object id, object method, object params) except -1:
    """A request, or (id None) a notification, up to its closing brace."""
    cdef buffer_t* out = &self.out
    if type(method) is not str:
        raise TypeError(f"method must be a str, got {type(method).__name__}")
    if id is None:
        buffer_put(out, b'{"jsonrpc":"2.0",', 17)
    else:
        if type(id) is not int and type(id) is not str:
            raise TypeError(f"id must be a str or an int, got {type(id).__name__}")
        buffer_put(out, HEAD, HEAD_SIZE)
        json_encode_into(out, id, self.depth_max)
        buffer_put(out, ",", 1)
    buffer_put(out, b'"method":', 9)
    json_put_string(out, method)
    if params is not None:
        buffer_put(out, b',"params":', 10)
        json_encode_into(out, params, self.depth_max)
    return buffer_put(out, "}", 1)


cdef int put_error(Outbound self, bytes id_raw, object code, object message, object data) except -1:
    cdef buffer_t* out = &self.out
    put_head(self, PyBytes_AS_STRING(id_raw), PyBytes_GET_SIZE(id_raw))
    buffer_put(out, b',"error":{"code":', 17)
    json_put_int(out, code)
    buffer_put(out, b',"message":', 11)
    if type(message) is not str:
        raise TypeError(f"message must be a str, got {type(message).__name__}")
    json_put_string(out, message)
    if data is not None:
        buffer_put(out, b',"data":', 8)
        json_encode_into(out, data, self.depth_max)
    return buffer_put(out, "}}", 2)


cdef int undo(Outbound self, size_t mark, object error) except -1:
    """Back to the size ``mark``; raises LimitError anew where the buffer's own, higher bound was met."""
    buffer_truncate(&self.out, mark)
    drop_outside(self, mark)
    if mark == 0:
        buffer_clear(&self.out)
        buffer_trim(&self.out, KEEP_BYTES)
    if isinstance(error, LimitError) and error.limit == "bytes_max" and error.maximum != self.bytes_max:
        raise LimitError("bytes_max", self.bytes_max, error.detail) from None
    return 0


# One frame, with what its kind puts into it: all of it, or nothing.
cdef int put_framed(Outbound self, int kind, bytes raw, object first, object second, object third) except -1:
    cdef size_t mark = buffer_size(&self.out)
    cdef size_t body
    try:
        open_frame(self)
        body = buffer_size(&self.out)
        if kind == OF_RESULT:
            put_head(self, PyBytes_AS_STRING(raw), PyBytes_GET_SIZE(raw))
            buffer_put(&self.out, b',"result":', 10)
            json_encode_into(&self.out, first, self.depth_max)
            buffer_put(&self.out, "}", 1)
        elif kind == OF_ERROR:
            put_error(self, raw, first, second, third)
        elif kind == OF_METHOD:
            put_method(self, first, second, third)
        else:
            buffer_put(&self.out, PyBytes_AS_STRING(raw), PyBytes_GET_SIZE(raw))
        return close_frame(self, body, True)
    except BaseException as error:
        undo(self, mark, error)
        raise


cdef int outbound_fill(
    Outbound self, const char* id, size_t id_size, Template template, PyObject** values, Py_ssize_t count
) except -1:
    cdef size_t mark = buffer_size(&self.out)
    cdef size_t body
    if count < template.values_min:
        raise IndexError(f"the template needs {template.values_min} values, got {count}")
    try:
        open_frame(self)
        body = buffer_size(&self.out)
        put_head(self, id, id_size)
        put_slots(self, template, values)
        return close_frame(self, body, template.has_values)
    except BaseException as error:
        undo(self, mark, error)
        raise


cdef int outbound_ask(Outbound self, int64_t id, bytes head, object value, bytes tail) except -1:
    cdef buffer_t* out = &self.out
    cdef size_t mark = buffer_size(out)
    cdef size_t body
    try:
        open_frame(self)
        body = buffer_size(out)
        buffer_put(out, HEAD, HEAD_SIZE)
        json_put_int(out, id)
        buffer_put(out, PyBytes_AS_STRING(head), PyBytes_GET_SIZE(head))
        json_encode_into(out, value, self.depth_max)
        buffer_put(out, PyBytes_AS_STRING(tail), PyBytes_GET_SIZE(tail))
        return close_frame(self, body, True)
    except BaseException as error:
        undo(self, mark, error)
        raise


cdef bytes outbound_take(Outbound self):
    cdef bytes taken
    if self.outside_count:
        return b"".join(self.take_parts())
    taken = buffer_take(&self.out, buffer_size(&self.out))
    buffer_trim(&self.out, KEEP_BYTES)
    return taken


# What was gathered, on its way out: nothing that runs meanwhile sees it any more.
ctypedef struct gathered_t:
    buffer_t out
    outside_t* outside
    Py_ssize_t count


cdef void detach(Outbound self, gathered_t* taken) noexcept:
    taken.out, taken.outside, taken.count = self.out, self.outside, self.outside_count
    self.out.data = NULL
    self.out.read = self.out.write = self.out.capacity = 0
    self.outside = NULL
    self.outside_count = self.outside_room = 0
    self.outside_bytes = 0


cdef object own(gathered_t* taken):
    """The gathered bytes as a memoryview, whose they are now. Room that was reserved is given back."""
    cdef Part part = Part.__new__(Part)
    cdef char* kept
    buffer_compact(&taken.out)
    kept = <char*>mem_realloc(taken.out.data, taken.out.write)
    part.data, part.size = taken.out.data if kept == NULL else kept, taken.out.write
    taken.out.data = NULL
    return memoryview(part)


cdef list parts_of(gathered_t* taken):
    cdef list parts = []
    cdef size_t size = buffer_size(&taken.out)
    cdef object whole = own(taken) if size >= KEEP_BYTES else buffer_take(&taken.out, size)
    cdef size_t start = 0
    cdef Part part
    cdef Py_ssize_t i
    for i in range(taken.count):
        parts.append(whole[start:taken.outside[i].at])
        start = taken.outside[i].at
        part = Part.__new__(Part)
        part.owner = <object>taken.outside[i].owner
        part.data, part.size = <char*>taken.outside[i].data, taken.outside[i].size
        parts.append(memoryview(part))
    if start < size:
        parts.append(whole[start:size])
    return parts


@cython.final
cdef class Part:
    def __getbuffer__(self, Py_buffer* view, int flags):
        PyBuffer_FillInfo(view, self, self.data, <Py_ssize_t>self.size, 1, flags)

    def __dealloc__(self):
        if self.owner is None:
            mem_free(self.data)


@cython.final
cdef class Outbound:
    def __cinit__(
        self, *, str framing="newline", size_t bytes_max=67108864, int depth_max=128, size_t split_bytes=0
    ):
        kind = FRAMINGS.get(framing)
        if kind is None:
            raise ValueError(f"framing must be one of {', '.join(FRAMINGS)}, got {framing!r}")
        if not 1 <= bytes_max <= BYTES_MAX_MAX:
            raise ValueError(f"bytes_max must be from 1 to {BYTES_MAX_MAX}, got {bytes_max}")
        if not 1 <= depth_max <= JSON_DEPTH_CEILING:
            raise ValueError(f"depth_max must be 1 to {JSON_DEPTH_CEILING}, got {depth_max}")
        self.framing = kind
        self.bytes_max = bytes_max
        self.depth_max = depth_max
        self.digits = 3
        self.split_bytes = split_bytes
        self._prefix = b""
        buffer_init(&self.out, 0, bytes_max * 6 + 4096)
        buffer_init(&self.scratch, 0, bytes_max * 6 + 4096)

    def __dealloc__(self):
        drop_outside(self, 0)
        mem_free(self.outside)
        buffer_free(&self.out)
        buffer_free(&self.scratch)

    @property
    def prefix(self):
        return self._prefix

    @prefix.setter
    def prefix(self, bytes value not None):
        self._prefix = value

    @property
    def is_large(self):
        return outbound_is_large(self)

    def fill(self, bytes id_raw not None, Template template not None, tuple values not None):
        outbound_fill(
            self, PyBytes_AS_STRING(id_raw), PyBytes_GET_SIZE(id_raw), template, PySequence_Fast_ITEMS(values),
            PyTuple_GET_SIZE(values),
        )

    def result(self, bytes id_raw not None, value):
        put_framed(self, OF_RESULT, id_raw, value, None, None)

    def error(self, bytes id_raw not None, code, message, data=None):
        put_framed(self, OF_ERROR, id_raw, code, message, data)

    def request(self, id, method, params=None):
        if id is None:
            raise TypeError("id must be a str or an int, got NoneType")
        put_framed(self, OF_METHOD, None, id, method, params)

    def notification(self, method, params=None):
        put_framed(self, OF_METHOD, None, None, method, params)

    def message(self, bytes raw not None):
        put_framed(self, OF_MESSAGE, raw, None, None, None)

    def raw(self, bytes data not None):
        cdef size_t size = PyBytes_GET_SIZE(data)
        if size > self.bytes_max - outbound_count(self):
            raise LimitError("bytes_max", self.bytes_max, f"{outbound_count(self) + size} bytes")
        buffer_put(&self.out, PyBytes_AS_STRING(data), size)

    def take(self):
        return outbound_take(self)

    def take_parts(self):
        cdef gathered_t taken
        cdef Py_ssize_t i
        detach(self, &taken)
        try:
            return parts_of(&taken)
        finally:
            for i in range(taken.count):
                Py_DECREF(<object>taken.outside[i].owner)
            mem_free(taken.outside)
            buffer_free(&taken.out)

    def __len__(self):
        return <Py_ssize_t>outbound_count(self)
