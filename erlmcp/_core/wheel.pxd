"""Hierarchical timing wheel (Varghese and Lauck, 1987): thousands of deadlines, O(1) add and cancel.

Time is a count of ticks, and always an argument. Eight levels of 64 slots; a node lies at the level of the highest
group of six bits in which its deadline differs from the wheel's ``now``, in the slot of that group's value, so a slot
of level 0 holds one tick and each node moves down at most seven times in its life. A bitmap per level finds the next
slot in use without a walk. Two more slots: OVERDUE, for deadlines not after ``now``, and BEYOND, for those that
differ above the eighth group.

A node is in the list of its slot by ``next`` and by the address of the pointer to it (``link``), so cancelling needs
no search. A node in no wheel has ``link`` NULL. A wheel must not be moved in memory while it has nodes.
"""

from cpython.object cimport PyObject
from libc.stdint cimport uint64_t


cdef enum:
    WHEEL_BITS = 6
    WHEEL_SLOTS = 64
    WHEEL_LEVELS = 8
    WHEEL_OVERDUE = 512
    WHEEL_BEYOND = 513
    WHEEL_LISTS = 514


ctypedef struct wheel_node_t:
    wheel_node_t* next
    wheel_node_t** link
    uint64_t deadline  # ticks
    uint64_t fine  # order within the tick, the owner's: zero, or a finer deadline
    uint64_t order  # order of adding; breaks ties


ctypedef struct wheel_t:
    uint64_t now
    uint64_t added
    size_t count
    uint64_t used[8]
    wheel_node_t* lists[514]


cdef void wheel_init(wheel_t* self, uint64_t now) noexcept nogil

# ``node`` must be in no wheel; ``fine`` is the caller's to set before. A deadline at or before ``now`` expires at the
# next advance.
cdef void wheel_add(wheel_t* self, wheel_node_t* node, uint64_t deadline) noexcept nogil

# 1 where the node was in the wheel, else 0.
cdef int wheel_cancel(wheel_t* self, wheel_node_t* node) noexcept nogil

# Cancel and add. A node in no wheel is added.
cdef void wheel_move(wheel_t* self, wheel_node_t* node, uint64_t deadline) noexcept nogil

# Sets the time (a time before ``now`` counts as ``now``), takes out every node with deadline <= now, and gives them
# as a list by ``next`` in order of (deadline, fine, order). Never early, never late with respect to the ``now``
# given.
cdef wheel_node_t* wheel_advance(wheel_t* self, uint64_t now) noexcept nogil

# Takes out every node, in no order, as a list by ``next``.
cdef wheel_node_t* wheel_drain(wheel_t* self) noexcept nogil

# A lower bound of the earliest deadline, exact where it is within 64 ticks of ``now``; UINT64_MAX where the wheel is
# empty.
cdef uint64_t wheel_next(const wheel_t* self) noexcept nogil

# 0, or the number of the first broken invariant. O(n).
cdef int wheel_check(const wheel_t* self) noexcept nogil


cdef inline void wheel_node_init(wheel_node_t* node) noexcept nogil:
    node.next = NULL
    node.link = NULL
    node.deadline = node.fine = node.order = 0


cdef inline bint wheel_is_linked(const wheel_node_t* node) noexcept nogil:
    return node.link != NULL


# What the class hangs on: the node first, so that a node's address is its timer's.
ctypedef struct timer_t:
    wheel_node_t node
    wheel_t* wheel  # valid while the node is linked
    PyObject* owner  # the Timer this lies in; borrowed


cdef class Timer:
    cdef timer_t timer
    cdef object key


cdef class TimingWheel:
    cdef wheel_t wheel
    cdef uint64_t tick
    cdef dict timers
    cdef uint64_t ticks(self, uint64_t time_ns) noexcept
    cdef list keys_of(self, list fired)
