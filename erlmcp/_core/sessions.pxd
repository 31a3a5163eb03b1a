"""C face of the session store. Hold the GIL; pointers are borrowed and valid until the store is changed next."""

from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint64_t

from erlmcp._core.chain cimport chain_node_t, chain_t
from erlmcp._core.slab cimport slab_t
from erlmcp._core.table cimport table_t


ctypedef struct session_t:
    chain_node_t birth  # in the order of birth
    uint64_t handle  # in the slab: the place that scan counts through
    PyObject* holder  # the _Owner, or NULL
    PyObject* id  # an exact str
    size_t size  # of the id's UTF-8 bytes, which follow this struct
    # From here on, what a touch reads and writes.
    chain_node_t recency  # the longest idle first
    int64_t born_ns
    int64_t touched_ns
    PyObject* record


cdef class SessionStore:
    cdef table_t table
    cdef slab_t slab
    cdef chain_t recency
    cdef chain_t births
    cdef uint64_t seed
    cdef int64_t now
    cdef uint64_t idle  # UINT64_MAX for none
    cdef uint64_t age
    cdef Py_ssize_t quota  # 0 for none
    cdef dict owners


# The record of the id in these UTF-8 bytes, or NULL where it is not there or has expired. Touches it.
cdef PyObject* session_find(SessionStore store, const char* id, Py_ssize_t id_bytes) noexcept nogil
