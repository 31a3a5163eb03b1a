"""The clock and the histograms of the compiled short way."""

from cpython.object cimport PyObject
from libc.stdint cimport int64_t

from erlmcp._core.corridor cimport Call
from erlmcp._core.meter cimport Histogram

cdef extern from "Python.h":
    PyObject* PyList_GET_ITEM(object list, Py_ssize_t index) noexcept

cdef enum:
    CROWD = 4  # calls of one read, from which on not each is timed

# The clock of ``time.perf_counter_ns``.
cdef int64_t now_ns() noexcept nogil


cdef class Timing:
    cdef Histogram hot
    cdef int64_t last_ns  # of the last one that was timed, 0 where none was
    cdef unsigned int pending  # answered within the read in hand, and not timed


cdef class Watch:
    cdef object __weakref__
    cdef readonly object recorder
    cdef bint is_sampled  # whether the read in hand is looked at in detail
    cdef bint is_detailed  # and, of its calls, the one in hand: the first
    cdef object routes
    cdef public int64_t floor_ns  # from how long on a call is of interest
    cdef unsigned int turns
    cdef Py_ssize_t slot_count
    cdef int modern
    cdef int http_slot
    cdef object session_version  # the last one that was asked for, and its slot
    cdef int session_slot
    cdef unsigned int dice
    cdef list untimed  # the Timings with pending calls
    cdef dict versions
    cdef dict kinds
    cdef int64_t noticed_ns
    # Of the sampled call in hand, and where each goes.
    cdef int64_t mark_ns
    cdef int64_t parse_ns
    cdef int64_t handler_ns
    cdef int64_t encode_ns
    cdef Histogram read_point
    cdef Histogram parse_point
    cdef Histogram dispatch_point
    cdef Histogram lookup_point
    cdef Histogram handler_point
    cdef Histogram encode_point
    cdef Histogram flush_point
    # A read begins, goes on after others had their turn, or ends; ``sender.flush`` lets its answers leave.
    cdef int64_t begin(self) noexcept
    cdef int64_t resume(self) noexcept
    cdef int end(self, int64_t began_ns, Py_ssize_t count, object sender) except -1
    # The messages of a read are there: from when on the first one counts.
    cdef int64_t parsed(self, int64_t began_ns, Py_ssize_t count) noexcept
    # The slot of a link, whose conversation has found its revision (None: the modern one).
    cdef int slot_of(self, object link, object version) except -1
    # The slot of an HTTP session of this revision.
    cdef int slot_of_session(self, object version) except -1
    # Of a sampled call: its handler begins, or ends; its answer is written.
    cdef void handler_begins(self) noexcept
    cdef void handler_ends(self) noexcept
    cdef void encoded(self) noexcept
    # A call that was answered, and began then; from when on the next one counts.
    cdef int64_t answered(self, list timings, int slot, Call call, int64_t began_ns) except -1
    cdef int notice(self, Call call, int slot, int64_t spent_ns) except -1


cdef inline int64_t choose(Watch watch) noexcept:
    """Of a read with many calls, which are timed now and then: the time, or 0 for the next call not to be timed."""
    watch.dice = watch.dice * 1664525 + 1013904223
    return now_ns() if watch.dice >> 28 == 0 or watch.is_detailed else 0


cdef inline int64_t observe(Watch watch, list timings, int slot, Call call, int64_t began_ns) except -1:
    """A call that was answered, and began then (0: it is not timed); from when on the next one counts."""
    cdef PyObject* found = PyList_GET_ITEM(timings, slot)
    if began_ns or found == <PyObject*>None or not (<Timing>found).pending:
        return watch.answered(timings, slot, call, began_ns)
    (<Timing>found).pending += 1
    return 0
