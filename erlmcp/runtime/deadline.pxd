"""Deadlines that call back: a timing wheel that one timer of the event loop drives."""

from cpython.object cimport PyObject
from libc.stdint cimport uint64_t

from erlmcp._core.wheel cimport wheel_node_t, wheel_t


# The node first, so that a node's address is its deadline's.
ctypedef struct deadline_t:
    wheel_node_t node
    PyObject* owner  # the Deadline this lies in; the wheel's reference while the node is linked


cdef class Deadline:
    cdef deadline_t deadline
    cdef wheel_t* wheel  # where the node goes; valid while ``callback`` is set
    cdef object callback  # None: it was called, or cancelled
    cdef tuple args


cdef class Timers:
    cdef wheel_t wheel
    cdef uint64_t armed  # the tick that the loop's timer is set for; UINT64_MAX: there is none
    cdef bint is_awake  # callbacks run: the loop's timer is set when they have ended
    cdef bint is_closed
    cdef object loop
    cdef object handle
    cdef object clock  # None: the system's monotonic clock
    cdef object context
    cdef object wake
    cdef uint64_t now_ns(self) except? 0
    cdef uint64_t due_ns(self, double delay_s) except? 0
    cdef int arm(self, uint64_t tick) except -1
    cdef list take_due(self)
    cdef int call_all(self, list due) except -1
