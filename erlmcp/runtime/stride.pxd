"""The compiled short way of a tool call, as the one over HTTP stands on it."""

from libc.stdint cimport int64_t

from erlmcp._core.corridor cimport Call, Meta
from erlmcp._core.corridor_out cimport Outbound, Template
from erlmcp.runtime.berth cimport Berth
from erlmcp.runtime.budget cimport Budget
from erlmcp.runtime.entry cimport Entry
from erlmcp.runtime.watch cimport Watch

cdef enum:
    REQUEST = 1


cdef class Stride:
    cdef readonly object host
    cdef readonly Watch watch  # None where nothing is recorded
    cdef readonly Call call  # whose handler runs its first step
    cdef object __weakref__
    cdef Berth executor  # an Executor
    cdef readonly object loop
    cdef type peer_class
    cdef object carrier  # whose task, context and pristine copy these are, and whether its task is cancelled
    cdef object task
    cdef object context
    cdef object pristine
    cdef object cancelling
    cdef object woken  # whether it is parked no more
    # Carrier.is_clean, of the carrier that is nearly always the same one.
    cdef bint is_clean(self, carrier) except -1
    cdef int keep(self, carrier) except -1
    # As those of the executor: handlers run between them.
    cdef tuple enter(self)
    cdef int leave(self, tuple outer) except -1
    # One call of a simple tool, within enter and leave: answered into `out`, or handed over to the general way, whose
    # front is the link, or (for a request) what the connection says.
    cdef int run(
        self, Entry entry, Call call, object arguments, object peer, Template template, Outbound out, object holder,
        object request, int64_t began_ns,
    ) except -1
    # Whether one more call may be begun beside those of its session that wait.
    cdef bint has_place(self, dict inflight, Call call) except -1
    # What goes on the general way began here.
    cdef int hand_over(self, int64_t began_ns) except -1
    # Handle calls; those that the budget did not reach, or None.
    cdef object spend(self, list calls, object link, object session, Outbound out, Budget budget, int64_t read_ns)
    # Handle calls until the budget is spent; how many it were.
    cdef Py_ssize_t handle(
        self, list calls, object link, object session, Outbound out, Budget budget, int64_t read_ns
    ) except -1


# Which template a tool's answer has in the session of a peer: with structured content from 2025-06-18 on.
cdef bint is_structured(object peer) except -1

# Whether a request of a session, with this `_meta` or None, is one of its revision's, and not a modern one.
cdef bint speaks_of_session(Meta meta) except -1
