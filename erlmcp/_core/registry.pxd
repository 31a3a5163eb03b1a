"""C face of the registry.

Pointers are borrowed, valid until the registry is changed next. Hold the GIL, or keep everybody else from changing it.
"""

from cpython.object cimport PyObject
from libc.stdint cimport uint64_t

from erlmcp._core.chain cimport chain_node_t
from erlmcp._core.slab cimport slab_t
from erlmcp._core.table cimport table_t


ctypedef struct name_t:
    chain_node_t node  # among the names of the owner
    size_t size  # of the UTF-8 bytes, which follow this struct
    uint64_t handle  # in the slab: the place that scan counts through
    PyObject* holder  # the _Owner, or NULL
    PyObject* name  # an exact str
    PyObject* entry


cdef class Registry:
    cdef table_t table
    cdef slab_t slab
    cdef uint64_t seed
    cdef dict owners


# The entry of the name in these UTF-8 bytes, or NULL.
cdef PyObject* registry_find(Registry registry, const char* name, Py_ssize_t name_bytes) noexcept nogil

# The registry's own str object of that name, and its entry through ``entry``; both NULL where the name is not there.
cdef PyObject* registry_find_name(
    Registry registry, const char* name, Py_ssize_t name_bytes, PyObject** entry
) noexcept nogil
