"""C face of correlation. Hold the GIL.

``correlation_take_*`` give a new reference, or NULL without an exception where nothing waits under the id. A deadline
below 0 is none.
"""

from cpython.object cimport PyObject
from cpython.ref cimport Py_XDECREF
from libc.stdint cimport int64_t, uint64_t

from erlmcp._core.chain cimport chain_is_linked, chain_node_t, chain_t
from erlmcp._core.table cimport table_t
from erlmcp._core.wheel cimport wheel_node_t, wheel_t


ctypedef struct pending_t:
    int64_t number  # the id where it is an int; of a str, the hash
    PyObject* id  # an exact str, whose UTF-8 bytes are the table's key; NULL where the id is an int
    PyObject* pending
    chain_node_t node  # in the order of put
    wheel_node_t timer  # ``next`` also links those that are on their way out, and free ones


cdef inline pending_t* pending_of_node(chain_node_t* node) noexcept nogil:
    """The record of a node of ``order``; NULL for NULL."""
    cdef pending_t* record = <pending_t*>node
    return <pending_t*>(<char*>node - (<char*>&record.node - <char*>record)) if node != NULL else NULL


cdef inline pending_t* pending_of_timer(wheel_node_t* timer) noexcept nogil:
    cdef pending_t* record = <pending_t*>timer
    return <pending_t*>(<char*>timer - (<char*>&record.timer - <char*>record)) if timer != NULL else NULL


# Records are made many at a time, and given back when none of them is in use.
ctypedef struct block_t:
    block_t* next
    size_t count  # of the records that follow


cdef class Correlation:
    cdef pending_t** window  # the record of an int id in the slot of its lowest bits, or NULL
    cdef size_t window_mask
    cdef size_t number_count
    cdef table_t numbers  # int ids whose slot in the window was taken by another
    cdef table_t texts
    cdef chain_t order
    cdef wheel_t* wheel  # 4 KiB: made with the first deadline
    cdef block_t* blocks
    cdef pending_t* free  # by ``timer.next``
    cdef size_t fresh  # records of the first block that were never used
    cdef size_t used_count  # records that are neither free nor fresh
    cdef size_t made_count
    cdef uint64_t seed
    cdef size_t limit
    cdef int64_t last_id
    cdef int64_t now_ns  # the latest that expire was told
    cdef object _tracked  # gives instances a collector header


# -1 with KeyError where the id waits already, LimitError or MemoryError, and all is as it was.
cdef int correlation_put_int(Correlation correlation, int64_t id, object pending, int64_t deadline_ns) except -1

# Puts under an int that was not given out before and is not waiting now, which it gives. LimitError, MemoryError.
cdef int64_t correlation_put_next(Correlation correlation, object pending, int64_t deadline_ns) except -1

# By the JSON token as it came: digits with an optional minus sign, or a string in its quotes (escapes are resolved).
cdef PyObject* correlation_take_token(Correlation correlation, const char* token, Py_ssize_t token_bytes) noexcept
cdef PyObject* correlation_take_int(Correlation correlation, int64_t id) noexcept
# By the UTF-8 bytes of a str id, without quotes and escapes.
cdef PyObject* correlation_take_text(Correlation correlation, const char* text, Py_ssize_t text_bytes) noexcept


cdef inline object own(PyObject* taken):
    pending = <object>taken if taken != NULL else None
    Py_XDECREF(taken)
    return pending


cdef inline size_t correlation_gather(Correlation self, size_t cursor, Py_ssize_t count, list found) except? 0:
    """Ids and pending objects, in turn, of up to ``count`` records that wait in places below ``cursor`` (0: all); the
    cursor to go on with. Places are counted from the first block that was made, which is the last in the list. No
    Python code runs meanwhile."""
    cdef size_t below = min(cursor, self.made_count) if cursor else self.made_count
    cdef block_t* block = self.blocks
    cdef size_t base = self.made_count
    cdef size_t first
    cdef pending_t* record
    while block != NULL and count > 0:
        base -= block.count
        first = base + (self.fresh if block == self.blocks else 0)
        while below > first and count > 0:
            below -= 1
            record = <pending_t*>(block + 1) + (below - base)
            if chain_is_linked(&record.node):
                found.append(<object>record.id if record.id != NULL else <object>record.number)
                found.append(<object>record.pending)
                count -= 1
        if count > 0:
            below = min(below, base)
        block = block.next
    return below
