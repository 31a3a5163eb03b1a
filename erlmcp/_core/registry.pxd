"""C face of the registry.

Pointers are borrowed, valid until the registry is changed next. Look up with the GIL, or between names_open_read and
names_close_read on the registry's ``door``, where every change by another thread waits. With ``table`` all of names.pxd
can be asked: names_find_hashes gives the indices that its arrays have.
"""

from cpython.object cimport PyObject
from libc.stdint cimport uint64_t

from erlmcp._core.bonds cimport Bonds
from erlmcp._core.chain cimport chain_node_t
from erlmcp._core.names cimport (
    names_door_t, names_find, names_find_hot_many, names_slot_t, names_t, text_of_data, text_t,
)
from erlmcp._core.slab cimport slab_t


ctypedef struct name_t:
    chain_node_t node  # among the names of the owner
    uint64_t hash
    uint64_t handle  # in the slab: its lower half is the index that arrays are asked with
    const char* data  # the UTF-8 bytes of ``name``, which holds them
    size_t size
    PyObject* holder  # the _Owner, or NULL
    PyObject* name  # an exact str
    PyObject* entry  # the slot's ``hot`` too


cdef class Registry:
    cdef names_t table  # hot: the entry, cold: the name_t, extra: the index
    cdef slab_t slab
    cdef dict owners
    cdef Bonds bonds  # None until the first binding, membership or watch
    cdef Py_ssize_t bond_count_max
    cdef Py_ssize_t event_count_max
    cdef names_door_t door


cdef inline PyObject* registry_find(Registry registry, const char* name, Py_ssize_t name_bytes) noexcept nogil:
    """The entry of the name in these UTF-8 bytes, or NULL."""
    cdef text_t text
    cdef names_slot_t* slot
    text_of_data(&text, name, <size_t>name_bytes, registry.table.seed)
    slot = names_find(&registry.table, &text)
    return <PyObject*>slot.hot if slot != NULL else NULL


cdef inline PyObject* registry_find_name(
    Registry registry, const char* name, Py_ssize_t name_bytes, PyObject** entry
) noexcept nogil:
    """The registry's own str object of that name, and its entry through ``entry``; both NULL where it is not there."""
    cdef text_t text
    cdef names_slot_t* slot
    text_of_data(&text, name, <size_t>name_bytes, registry.table.seed)
    slot = names_find(&registry.table, &text)
    entry[0] = <PyObject*>slot.hot if slot != NULL else NULL
    return (<name_t*>slot.cold).name if slot != NULL else NULL


cdef inline void registry_find_many(
    Registry registry, const char* const* names, const size_t* names_bytes, size_t count, PyObject** entries
) noexcept nogil:
    """The entries of ``count`` names, NULL for each that is not there; asks for the memory of many at a time."""
    names_find_hot_many(&registry.table, names, names_bytes, count, <void**>entries)
