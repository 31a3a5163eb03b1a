"""The corridor's way in: one crossing from the bytes of a read to the calls in it.

A message that lies within one read is not copied: its Call holds the read's bytes object and offsets, and decodes when
asked. Only a message that straddles reads is copied, into a bytes object of its own. Scanning validates the whole
message, finds the parts of its envelope, and looks up route, entry and ``_meta`` by bytes, so a call that is routed
has made no Python object but itself.

``_meta`` objects of one client are mostly the same bytes each time. A connection remembers the last few that it saw
and hands them to the scanner as hints, which compares them instead of scanning them; behind that a Routes remembers
more, for connections that live for one request. One with a progress token is not remembered, as it will not come
again.

An error (memory, nothing else can fail here) keeps the calls found before it for the next ``feed``.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.string cimport memchr, memcmp

from erlmcp._core.buffer cimport (
    buffer_clear, buffer_consume, buffer_free, buffer_init, buffer_peek, buffer_put, buffer_size, buffer_trim,
)
from erlmcp._core.correlation cimport correlation_take_token
from erlmcp._core.frame cimport (
    FRAME_MESSAGE, FRAME_NONE, FRAME_TOO_LONG, frame_cut_t, frame_next_length, frame_next_line, frame_step_t,
)
from erlmcp._core.json cimport JSON_DEPTH_CEILING, json_decode_span, json_decode_text, json_set_limits
from erlmcp._core.jsonrpc cimport (
    JSONRPC_BATCH, JSONRPC_ERROR, JSONRPC_ID_INT, JSONRPC_ID_STRING, JSONRPC_INVALID, JSONRPC_NOTIFICATION,
    JSONRPC_REQUEST, JSONRPC_RESULT, JSONRPC_TEXT_ESCAPED, JSONRPC_TEXT_PLAIN, jsonrpc_batch_next, jsonrpc_remember,
    jsonrpc_scan, span_t,
)
from erlmcp._core.registry cimport registry_find_name

from erlmcp.errors import INVALID_REQUEST, PARSE_ERROR, LimitError

REQUEST = JSONRPC_REQUEST
NOTIFICATION = JSONRPC_NOTIFICATION
RESULT = JSONRPC_RESULT
ERROR = JSONRPC_ERROR
BATCH = JSONRPC_BATCH
INVALID = JSONRPC_INVALID


cdef extern from "hash.h" nogil:
    uint64_t hash_bytes(const char* data, size_t size, uint64_t seed) noexcept


cdef enum:
    META_BYTES_MAX = 4096  # a longer _meta is not remembered
    METAS_MAX = 64  # Meta objects that a Routes remembers, a power of two
    LENGTH_HEADER_BYTES_MAX = 4096
    KEEP_BYTES = 1 << 16  # capacity that an empty buffer keeps
    BRACE = 123

# Call.kept
cdef enum:
    KEPT_VALUE = 1
    KEPT_ARGUMENTS = 2
    KEPT_LOOSE_META = 4  # the _meta is an object that was not looked up: made when asked for

cdef size_t NO_BOUND = <size_t>1 << 62
cdef str VERSION_KEY = "io.modelcontextprotocol/protocolVersion"

NO_LIMITS.depth_max = JSON_DEPTH_CEILING
NO_LIMITS.number_bytes_max = 0x7FFFFFFF
NO_LIMITS.string_bytes_max = NO_BOUND


@cython.final
cdef class Method:
    """What Routes keeps for a method."""


@cython.final
cdef class Routes:
    def __cinit__(self):
        self.methods = Registry()
        self.seed = <uint64_t><Py_ssize_t>hash("erlmcp")
        self.metas = [None] * METAS_MAX
        self.heads = []

    def set_method(self, str method not None, route, str name_key=None, *, bint is_critical=False):
        cdef Method old = self.methods.get(method)
        cdef Method new = Method.__new__(Method)
        new.route = route
        new.name_key = name_key
        new.is_critical = is_critical
        new.critical = set()
        if name_key is not None:
            new.key_kind = KEY_NAME if name_key == "name" else KEY_URI if name_key == "uri" else KEY_OTHER
            if old is not None and old.name_key == name_key:
                new.entries, new.critical = old.entries, old.critical
            else:
                new.entries = Registry()
        self.methods[method] = new

    def drop_method(self, str method not None):
        del self.methods[method]

    def method(self, str method not None):
        cdef Method found = self.methods.get(method)
        return None if found is None else found.route

    def set_entry(self, str method not None, str name not None, entry, *, bint is_critical=False):
        cdef Method found = self.methods.get(method)
        if found is None or found.entries is None:
            raise KeyError(f"the method {method!r} has no route with a name key")
        found.entries[name] = entry
        (found.critical.add if is_critical else found.critical.discard)(name)

    def drop_entry(self, str method not None, str name not None):
        cdef Method found = self.methods.get(method)
        if found is None or found.entries is None:
            raise KeyError(name)
        del found.entries[name]
        found.critical.discard(name)

    def entry(self, str method not None, str name not None):
        cdef Method found = self.methods.get(method)
        return None if found is None or found.entries is None else found.entries.get(name)


cdef Meta meta_new(const char* p, size_t size):
    cdef Meta meta = Meta.__new__(Meta)
    meta.raw = PyBytes_FromStringAndSize(p, <Py_ssize_t>size)
    return meta


cdef Meta meta_shared(Routes routes, const char* p, size_t size):
    """The Meta of these bytes that Routes remembers, made where there is none."""
    cdef size_t slot = <size_t>hash_bytes(p, size, routes.seed) & (METAS_MAX - 1)
    cdef object found = <object>PyList_GET_ITEM(routes.metas, slot)
    cdef Meta meta
    if found is not None:
        meta = <Meta>found
        if <size_t>PyBytes_GET_SIZE(meta.raw) == size and memcmp(PyBytes_AS_STRING(meta.raw), p, size) == 0:
            return meta
    meta = meta_new(p, size)
    routes.metas[slot] = meta
    return meta


@cython.final
@cython.freelist(64)
cdef class Meta:
    @property
    def values(self):
        if self._values is None and self.raw is not None:
            self._values = json_decode_span(PyBytes_AS_STRING(self.raw), PyBytes_GET_SIZE(self.raw), &NO_LIMITS)
        return self._values

    @property
    def protocol_version(self):
        found = None if self.values is None else self.values.get(VERSION_KEY)
        return found if type(found) is str else None


cdef inline const char* call_data(Call call) noexcept:
    """The message's first byte; borrowed from the call."""
    return PyBytes_AS_STRING(call.data) + call.start


cdef object decode_part(Call call, span_t part):
    return json_decode_span(call_data(call) + part.start, part.size, &NO_LIMITS)


cdef object decode_value(Call call, span_t part):
    """A part, decoded once."""
    if not call.kept & KEPT_VALUE:
        if part.size:
            call.value = decode_part(call, part)
        call.kept |= KEPT_VALUE
    return call.value


cdef object call_arguments(Call call):
    if not call.kept & KEPT_ARGUMENTS:
        if call.kind <= JSONRPC_NOTIFICATION and call.env.arguments.size:
            call._arguments = decode_part(call, call.env.arguments)
        call.kept |= KEPT_ARGUMENTS
    return call._arguments


cdef object call_meta(Call call):
    if call.kept & KEPT_LOOSE_META:
        call._meta = meta_new(call_data(call) + call.env.meta.start, call.env.meta.size)
        call.kept &= ~KEPT_LOOSE_META
    return call._meta


cdef const char* call_peek_id(Call call, size_t* size) noexcept:
    if call.env.id_kind == JSONRPC_ID_INT or call.env.id_kind == JSONRPC_ID_STRING:
        size[0] = call.env.id.size
        return call_data(call) + call.env.id.start
    size[0] = 4
    return "null"


cdef bint call_is_bare(Call call) noexcept:
    # {"_meta":...} without a blank; what is written otherwise is read the long way.
    return call.env.params.size == 0 or call.env.params.size == call.env.meta.size + 10


cdef text_span_t* key_text(Call call) noexcept:
    """The value of the key that names the entry, where the scanner looks for that key."""
    return &call.env.uri if call.key_kind == KEY_URI else &call.env.name


cdef object small_int(const char* p, size_t size):
    """An int of up to 18 digits."""
    cdef long long value = 0
    cdef size_t at
    for at in range(1 if p[0] == 45 else 0, size):
        value = value * 10 + (p[at] - 48)
    return -value if p[0] == 45 else value


@cython.final
@cython.freelist(256)
cdef class Call:
    @property
    def id(self):
        if self.env.id_kind == JSONRPC_ID_INT and self.env.id.size <= 18:
            return small_int(call_data(self) + self.env.id.start, self.env.id.size)
        if self.env.id_kind == JSONRPC_ID_INT or self.env.id_kind == JSONRPC_ID_STRING:
            return decode_part(self, self.env.id)
        return None

    @property
    def id_raw(self):
        cdef size_t size
        cdef const char* raw = call_peek_id(self, &size)
        return PyBytes_FromStringAndSize(raw, <Py_ssize_t>size)

    @property
    def name(self):
        cdef text_span_t* text
        if self._name is None and (self.key_kind == KEY_NAME or self.key_kind == KEY_URI):
            text = key_text(self)
            if text.state == JSONRPC_TEXT_PLAIN or text.state == JSONRPC_TEXT_ESCAPED:
                self._name = json_decode_text(
                    call_data(self) + text.start, text.size, text.state == JSONRPC_TEXT_ESCAPED
                )
        return self._name

    @property
    def meta(self):
        return call_meta(self)

    @property
    def message(self):
        if self.kind == JSONRPC_INVALID and self.extra is None and self.env.message != NULL:
            self.extra = self.env.message.decode("ascii")
        return self.extra if self.kind == JSONRPC_INVALID else None

    @property
    def is_response(self):
        return self.kind == JSONRPC_INVALID and self.env.is_response != 0

    @property
    def items(self):
        return self.extra if self.kind == JSONRPC_BATCH else []

    @property
    def pending(self):
        return self.extra if self.kind == JSONRPC_RESULT or self.kind == JSONRPC_ERROR else None

    @property
    def has_params(self):
        return self.kind <= JSONRPC_NOTIFICATION and self.env.params.size != 0

    @property
    def params(self):
        return decode_value(self, self.env.params) if self.kind <= JSONRPC_NOTIFICATION else None

    @property
    def arguments(self):
        return call_arguments(self)

    @property
    def result(self):
        return decode_value(self, self.env.result) if self.kind == JSONRPC_RESULT else None

    @property
    def error(self):
        return decode_value(self, self.env.error) if self.kind == JSONRPC_ERROR else None

    @property
    def raw(self):
        if self.data is None or (self.start == 0 and self.size == <size_t>PyBytes_GET_SIZE(self.data)):
            return self.data
        return PyBytes_FromStringAndSize(call_data(self), <Py_ssize_t>self.size)


cdef Call call_invalid(int code, object message):
    cdef Call call = Call.__new__(Call)
    call.data = b""
    call.kind = JSONRPC_INVALID
    call.code = code
    call.extra = message
    return call


cdef int refuse(Call call, object message) except -1:
    """Makes an INVALID call of one that was scanned."""
    call.extra = message
    call.kind = JSONRPC_INVALID
    call.code = INVALID_REQUEST
    return 0


cdef size_t bounded(str limit, object value, object maximum) except? 0:
    """A limit's value, checked."""
    if not 1 <= value <= maximum:
        raise ValueError(f"{limit} must be from 1 to {maximum}, got {value!r}")
    return value


cdef class Scanner:
    cdef int set_up(
        self, Routes routes, Correlation correlation, object depth_max, object string_bytes_max,
        object number_bytes_max, object batch_count_max,
    ) except -1:
        self.routes = Routes.__new__(Routes) if routes is None else routes
        self.correlation = correlation
        json_set_limits(&self.limits, depth_max, string_bytes_max, number_bytes_max)
        self.batch_count_max = bounded("batch_count_max", batch_count_max, (1 << 32) - 1)
        self.metas = []
        return 0

    cdef Call scan(self, bytes data, size_t start, size_t size, bint is_item):
        cdef Call call = Call.__new__(Call)
        cdef const char* p = PyBytes_AS_STRING(data) + start
        cdef int kind = jsonrpc_scan(p, size, &self.limits, self.hints, self.hint_count, &call.env)
        call.data = data
        call.start = start
        call.size = size
        call.kind = kind
        if kind <= JSONRPC_NOTIFICATION:
            self.find_route(call, p)
            if call.env.meta.size:
                self.find_meta(call, p)
        elif kind == JSONRPC_INVALID:
            call.code = call.env.code
        elif kind == JSONRPC_BATCH:
            if is_item:
                refuse(call, "Invalid Request: a batch within a batch")
            elif call.env.item_count > self.batch_count_max:
                limit = LimitError("batch_count_max", self.batch_count_max)
                refuse(call, f"Invalid Request: {limit}")
            else:
                self.scan_items(call, p)
        return call

    cdef int scan_items(self, Call call, const char* p) except -1:
        cdef uint32_t cursor = 0
        cdef span_t item
        cdef list items = []
        while jsonrpc_batch_next(p, call.size, &cursor, &item):
            items.append(self.scan(call.data, call.start + item.start, item.size, True))
        call.extra = items
        return 0

    cdef void settle(self, Call call) noexcept:
        cdef PyObject* pending
        if self.correlation is None or call.kind <= JSONRPC_NOTIFICATION:
            return
        if call.kind == JSONRPC_BATCH:
            for item in <list>call.extra:
                self.settle(<Call>item)
            return
        if call.kind == JSONRPC_INVALID:
            return
        if call.env.id_kind == JSONRPC_ID_INT or call.env.id_kind == JSONRPC_ID_STRING:
            pending = correlation_take_token(
                self.correlation, call_data(call) + call.env.id.start, call.env.id.size
            )
            if pending != NULL:
                call.extra = <object>pending
                Py_DECREF(call.extra)

    cdef int find_route(self, Call call, const char* p) except -1:
        cdef PyObject* found = NULL
        cdef PyObject* name
        cdef Method method
        cdef bytes utf8
        if call.env.method.state == JSONRPC_TEXT_PLAIN:
            name = registry_find_name(
                self.routes.methods, p + call.env.method.start, call.env.method.size, &found
            )
        else:
            call.method = json_decode_text(p + call.env.method.start, call.env.method.size, True)
            utf8 = (<str>call.method).encode()
            name = registry_find_name(self.routes.methods, PyBytes_AS_STRING(utf8), PyBytes_GET_SIZE(utf8), &found)
        if name != NULL:
            call.method = <object>name
            method = <Method>found
            call.route = method.route
            call.is_critical = method.is_critical
            if method.key_kind != KEY_NONE and call.env.params.size:
                self.find_entry(call, p, method)
            self.critical += call.is_critical
        elif call.method is None:
            call.method = PyUnicode_DecodeUTF8(p + call.env.method.start, call.env.method.size, NULL)
        return 0

    cdef int find_entry(self, Call call, const char* p, Method method) except -1:
        cdef PyObject* found = NULL
        cdef PyObject* name = NULL
        cdef text_span_t* text
        cdef bytes utf8
        call.key_kind = method.key_kind
        text = key_text(call)
        if method.key_kind == KEY_OTHER:
            params = call.params
            named = params.get(method.name_key) if type(params) is dict else None
            if type(named) is str:
                call._name = named
        elif text.state == JSONRPC_TEXT_PLAIN:
            name = registry_find_name(method.entries, p + text.start, text.size, &found)
        elif text.state == JSONRPC_TEXT_ESCAPED:
            call._name = json_decode_text(p + text.start, text.size, True)
        if call._name is not None:
            utf8 = (<str>call._name).encode()
            name = registry_find_name(method.entries, PyBytes_AS_STRING(utf8), PyBytes_GET_SIZE(utf8), &found)
        if name != NULL:
            call._name = <object>name
            call.entry = <object>found
            if method.critical and call._name in method.critical:
                call.is_critical = True
        return 0

    cdef int find_meta(self, Call call, const char* p) except -1:
        cdef int at = call.env.meta_hit
        cdef Meta meta
        if at >= 0:
            call._meta = <object>PyList_GET_ITEM(self.metas, at)
            return 0
        p += call.env.meta.start
        if p[0] != BRACE:
            return 0
        if call.env.progress_token.size or call.env.meta.size > META_BYTES_MAX:
            call.kept |= KEPT_LOOSE_META
            return 0
        meta = meta_shared(self.routes, p, call.env.meta.size)
        call._meta = meta
        at = self.hint_next
        if at == PyList_GET_SIZE(self.metas):
            self.metas.append(meta)
        # The hint first: dropping the old Meta may run its tag's finalizer, and that may come back here.
        jsonrpc_remember(&call.env, PyBytes_AS_STRING(meta.raw), &self.hints[at])
        self.hint_next = (at + 1) % HINTS_MAX
        self.hint_count = max(self.hint_count, at + 1)
        self.metas[at] = meta
        return 0


@cython.final
cdef class Inbound(Scanner):
    def __cinit__(
        self,
        Routes routes=None,
        Correlation correlation=None,
        *,
        str framing not None="newline",
        message_bytes_max=4194304,
        depth_max=128,
        string_bytes_max=4194304,
        number_bytes_max=1024,
        batch_count_max=100,
    ):
        if framing != "newline" and framing != "content_length":
            raise ValueError(f"framing must be 'newline' or 'content_length', got {framing!r}")
        self.set_up(routes, correlation, depth_max, string_bytes_max, number_bytes_max, batch_count_max)
        self.by_length = framing == "content_length"
        self.message_bytes_max = bounded("message_bytes_max", message_bytes_max, (1 << 32) - 1)
        self.line.line_bytes_max = self.message_bytes_max
        self.length.message_bytes_max = self.message_bytes_max
        self.length.header_bytes_max = LENGTH_HEADER_BYTES_MAX
        buffer_init(&self.held, 0, NO_BOUND)

    def __dealloc__(self):
        buffer_free(&self.held)

    @property
    def critical_count(self):
        return self.critical

    @property
    def buffered(self):
        return buffer_size(&self.held)

    def feed(self, bytes data not None):
        cdef list calls = self.late_calls
        if self.late is not None and not self.closed:
            data = self.late[self.at:] + data
        self.late = None
        self.late_calls = None
        self.at = 0
        self.critical = 0
        try:
            if calls is None:
                calls = []
            if not self.closed:
                self.read(data, calls)
        except BaseException:
            self.late = data
            self.late_calls = calls
            raise
        return calls

    cdef frame_step_t next(self, const char* p, size_t n, frame_cut_t* cut) noexcept:
        return frame_next_length(&self.length, p, n, cut) if self.by_length else frame_next_line(&self.line, p, n, cut)

    cdef int read(self, bytes data, list calls) except -1:
        """Reads data from ``at`` on. ``at`` moves past each message before it is scanned."""
        cdef const char* p = PyBytes_AS_STRING(data)
        cdef size_t n = PyBytes_GET_SIZE(data)
        cdef size_t start
        cdef frame_cut_t cut
        cdef frame_step_t step
        cdef Call call
        cdef bint is_clear = buffer_size(&self.held) == 0
        while self.at < n and buffer_size(&self.held):
            self.read_straddling(p + self.at, n - self.at, calls)
        while self.at < n and not self.closed:
            step = self.next(p + self.at, n - self.at, &cut)
            start = self.at + cut.start
            self.at += cut.used
            if step == FRAME_MESSAGE:
                call = self.scan(data, start, cut.size, False)
                calls.append(call)
                if call.kind > JSONRPC_NOTIFICATION:
                    self.settle(call)
            elif step == FRAME_NONE:
                buffer_put(&self.held, p + self.at, n - self.at)
                self.at = n
            else:
                self.report(step, calls)
        if is_clear:
            # Not sooner: where one large message follows another, the memory is used again.
            buffer_trim(&self.held, KEEP_BYTES)
        return 0

    cdef int read_straddling(self, const char* p, size_t n, list calls) except -1:
        """Adds to the message that is held as much as it wants, and reads it where it is whole now."""
        cdef const char* end
        cdef size_t wanted = n
        cdef frame_cut_t cut
        cdef frame_step_t step
        if not self.by_length:
            end = <const char*>memchr(p, 10, n)
            if end != NULL:
                wanted = <size_t>(end - p) + 1
        elif self.length.has_header and self.length.body_bytes - buffer_size(&self.held) < n:
            wanted = self.length.body_bytes - buffer_size(&self.held)
        buffer_put(&self.held, p, wanted)
        self.at += wanted
        while buffer_size(&self.held):
            step = self.next(buffer_peek(&self.held), buffer_size(&self.held), &cut)
            if step == FRAME_MESSAGE:
                self.read_held(&cut, calls)
            elif step == FRAME_NONE:
                buffer_consume(&self.held, cut.used)
                break
            else:
                buffer_consume(&self.held, cut.used)
                self.report(step, calls)
        return 0

    cdef int read_held(self, const frame_cut_t* cut, list calls) except -1:
        cdef bytes message
        cdef Call call
        try:
            message = PyBytes_FromStringAndSize(buffer_peek(&self.held) + cut.start, <Py_ssize_t>cut.size)
        finally:
            buffer_consume(&self.held, cut.used)
        call = self.scan(message, 0, cut.size, False)
        calls.append(call)
        self.settle(call)
        return 0

    cdef int report(self, frame_step_t step, list calls) except -1:
        if step == FRAME_TOO_LONG:
            limit = LimitError("message_bytes_max", self.message_bytes_max)
            calls.append(call_invalid(INVALID_REQUEST, f"Invalid Request: {limit}"))
        else:
            self.closed = True
            buffer_clear(&self.held)
            message = self.length.message.decode("ascii")
            calls.append(call_invalid(PARSE_ERROR, f"Parse error: broken frame header: {message}"))
        return 0
