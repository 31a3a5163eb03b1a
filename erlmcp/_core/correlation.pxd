"""C face of correlation. Hold the GIL.

``correlation_take_*`` give a new reference, or NULL without an exception where nothing waits under the id.
"""

from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint64_t

from erlmcp._core.chain cimport chain_node_t, chain_t
from erlmcp._core.table cimport table_t
from erlmcp._core.wheel cimport wheel_node_t, wheel_t


ctypedef struct pending_t:
    wheel_node_t timer  # ``next`` also links those that are on their way out
    chain_node_t node  # in the order of put
    PyObject* id  # an exact str or int
    PyObject* pending
    int64_t number  # the id where it is an int
    size_t size  # of the id's UTF-8 bytes, which follow this struct, where it is a str


cdef class Correlation:
    cdef table_t numbers
    cdef table_t texts
    cdef chain_t order
    cdef wheel_t* wheel  # 4 KiB: made with the first deadline
    cdef uint64_t seed
    cdef size_t limit
    cdef int64_t last_id
    cdef int64_t now_ns  # the latest that expire was told
    cdef object _tracked  # gives instances a collector header


# By the JSON token as it came: digits with an optional minus sign, or a string in its quotes (escapes are resolved).
cdef PyObject* correlation_take_token(Correlation correlation, const char* token, Py_ssize_t token_bytes) noexcept
cdef PyObject* correlation_take_int(Correlation correlation, int64_t id) noexcept
# By the UTF-8 bytes of a str id, without quotes and escapes.
cdef PyObject* correlation_take_text(Correlation correlation, const char* text, Py_ssize_t text_bytes) noexcept
