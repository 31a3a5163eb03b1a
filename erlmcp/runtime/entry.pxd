"""What the compiled short way knows of a tool, and of a method with ready answers."""

from libc.stdint cimport int64_t

from erlmcp._core.corridor cimport Call
from erlmcp._core.corridor_out cimport Outbound
from erlmcp.runtime.fence cimport Fence
from erlmcp.runtime.watch cimport Watch

cdef enum:
    # What became of a call.
    NOT_SIMPLE = 0
    ANSWERED = 1
    HANDED_OVER = 2


cdef class Entry:
    cdef public object invoke
    cdef public object result_class
    cdef public object modern
    cdef public object structured
    cdef public object plain
    cdef public bint is_simple
    cdef public Fence fence  # what a call has to pass; None: nothing
    cdef public int64_t span_ns  # how long a call may take, where it hands that on; the fence's own goes before it
    cdef public int lane
    cdef bint is_slow  # the last call of it that was looked at by itself took a good part of a turn
    cdef list timings  # histograms of its calls by transport and revision, each None until it is needed
    # Of a call that needs no plan: the function, and what it takes by position.
    cdef object function
    cdef tuple keys
    cdef tuple classes
    cdef tuple defaults
    cdef bint strict
    cdef object missing
    cdef Py_ssize_t count


cdef class Ready:
    cdef readonly object general
    cdef readonly object find
    cdef readonly bint is_modern
    cdef readonly bint is_legacy
    cdef list timings

# The coroutine of a call: straight from the function where each argument is there and of its class, else by the plan,
# which converts and explains.
cdef object call_entry(Entry entry, dict arguments)

# Answers a request without params from ready bytes. NOT_SIMPLE: nothing was done.
cdef int answer_ready(Ready ready, Call call, object peer, bint is_modern, Outbound out) except -1

# Let what is called within know how long it may take; the token to undo it by.
cdef object hand_on(Entry entry)


# Where the calls of a tool, or of a method with ready answers, are timed.
cdef inline list timings_of(Entry entry, Watch watch):
    if entry.timings is None:
        entry.timings = [None] * watch.slot_count
    return entry.timings


cdef inline list timings_of_ready(Ready ready, Watch watch):
    if ready.timings is None:
        ready.timings = [None] * watch.slot_count
    return ready.timings
