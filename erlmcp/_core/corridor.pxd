"""The C face of ``corridor``: scanned messages, and what they are looked up in."""

from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t

from erlmcp._core.buffer cimport buffer_t
from erlmcp._core.correlation cimport Correlation
from erlmcp._core.frame cimport frame_cut_t, frame_step_t, length_state_t, line_state_t
from erlmcp._core.json cimport json_limits_t
from erlmcp._core.jsonrpc cimport envelope_t, meta_hint_t, text_span_t
from erlmcp._core.registry cimport Registry


cdef enum:
    HINTS_MAX = 4  # Meta objects that a connection remembers
    HEADS_MAX = 4  # Head objects that a Routes remembers


# Which key of params names the entry.
cdef enum:
    KEY_NONE = 0
    KEY_NAME = 1
    KEY_URI = 2
    KEY_OTHER = 3


cdef class Method:
    cdef object route
    cdef str name_key
    cdef int key_kind
    cdef bint is_critical
    cdef Registry entries
    cdef object critical  # a set: the names among them that are


cdef class Routes:
    cdef Registry methods
    cdef uint64_t seed
    cdef list metas  # a small cache: slot of the hash -> Meta or None
    cdef list heads  # the Head objects that connections made last
    cdef int head_next


cdef class Meta:
    cdef public object tag
    cdef readonly bytes raw
    cdef dict _values


cdef class Call:
    cdef readonly int kind
    cdef readonly int code
    cdef int key_kind
    cdef int kept  # KEPT_* bits: which lazy values are there
    cdef readonly bint is_critical
    cdef size_t start  # the message is data[start : start + size]
    cdef size_t size
    cdef envelope_t env  # its spans count from `start`
    cdef bytes data
    cdef readonly object method
    cdef readonly object route
    cdef readonly object entry
    cdef object _name
    cdef object _meta
    cdef object value  # decoded params, result or error
    cdef object _arguments
    cdef object extra  # INVALID: message; BATCH: items; RESULT and ERROR: pending


# As the attributes of these names, for C callers.
cdef object call_arguments(Call call)
cdef object call_meta(Call call)

# The raw token of a request's id, as Call.id_raw; borrowed from the call.
cdef const char* call_peek_id(Call call, size_t* size) noexcept

# Whether the params are absent, or hold nothing but _meta.
cdef bint call_is_bare(Call call) noexcept


# What the sides of a connection share: message bytes -> Call.
cdef class Scanner:
    cdef Routes routes
    cdef Correlation correlation
    cdef json_limits_t limits
    cdef uint32_t batch_count_max
    cdef Py_ssize_t critical  # of the calls that the last read gave
    cdef int hint_count
    cdef int hint_next
    cdef meta_hint_t[HINTS_MAX] hints
    cdef list metas  # the Meta of each hint

    cdef int set_up(
        self, Routes routes, Correlation correlation, object depth_max, object string_bytes_max,
        object number_bytes_max, object batch_count_max,
    ) except -1
    # The call of the message data[start : start + size]. Takes nothing out of correlation yet.
    cdef Call scan(self, bytes data, size_t start, size_t size, bint is_item)
    # Takes out of correlation what waits for the call, and for a batch's: once the call cannot get lost any more.
    cdef void settle(self, Call call) noexcept
    cdef int find_route(self, Call call, const char* p) except -1
    cdef int find_entry(self, Call call, const char* p, Method method) except -1
    cdef int find_meta(self, Call call, const char* p) except -1
    cdef int scan_items(self, Call call, const char* p) except -1


cdef class Inbound(Scanner):
    cdef readonly bint closed
    cdef bint by_length
    cdef size_t message_bytes_max
    cdef line_state_t line
    cdef length_state_t length
    cdef buffer_t held
    cdef size_t at  # of `data`: what lies before was dealt with
    cdef bytes late  # a read that an error interrupted
    cdef list late_calls  # what it had given until then

    cdef frame_step_t next(self, const char* p, size_t n, frame_cut_t* cut) noexcept
    cdef int read(self, bytes data, list calls) except -1
    cdef int read_straddling(self, const char* p, size_t n, list calls) except -1
    cdef int read_held(self, const frame_cut_t* cut, list calls) except -1
    cdef int report(self, frame_step_t step, list calls) except -1


# An INVALID call without bytes.
cdef Call call_invalid(int code, object message)
# The limits of a decoder that gets text which was validated before.
cdef json_limits_t NO_LIMITS
