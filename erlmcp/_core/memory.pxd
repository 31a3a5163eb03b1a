"""Allocation verbs of all rooms: the C library's own in release, counted and able to fail in the checked build.

In the checked build every room calls through ``counted_*``, which live in the module ``memory`` alone (Cython hands out
their addresses at import), so there is one set of counters however many shared objects there are. No header is put
before a block, so a block may be freed by a room of another flavour.

``hold_objects`` is for classes that keep ``PyObject*`` in C memory, where Cython's own traversal does not look.
"""

from cpython.object cimport PyObject
from libc.stdlib cimport calloc, free, malloc, realloc


cdef extern from "debug.h" nogil:
    enum: ERLMCP_IS_CHECKED

cdef extern from "lines.h" nogil:
    void* lines_zalloc(size_t count, size_t size) noexcept


cdef void* counted_alloc(size_t size) noexcept nogil
cdef void* counted_zalloc(size_t count, size_t size) noexcept nogil
cdef void* counted_zalloc_lines(size_t count, size_t size) noexcept nogil
cdef void* counted_realloc(void* block, size_t size) noexcept nogil
cdef void counted_free(void* block) noexcept nogil


# The collector's own signatures, usable without exceptions and without touching a reference count.
ctypedef int (*visit_t)(PyObject*, void*) noexcept
ctypedef int (*traverse_t)(PyObject*, visit_t, void*) noexcept
ctypedef int (*clear_t)(PyObject*) noexcept

# Makes instances of ``kind`` tell the garbage collector of the objects that they hold in C memory. The class must
# have an attribute of type ``object`` (that is what makes Cython give instances a collector header), left at None:
# ``traverse`` and ``clear`` replace what Cython generated for it. ``clear`` takes the objects out of the structure
# before it drops them.
cdef void hold_objects(type kind, traverse_t traverse, clear_t clear) noexcept


cdef inline void* mem_alloc(size_t size) noexcept nogil:
    """``malloc``: NULL where there is no memory."""
    return counted_alloc(size) if ERLMCP_IS_CHECKED else malloc(size)


cdef inline void* mem_zalloc(size_t count, size_t size) noexcept nogil:
    """``calloc``: zeroed; NULL where there is no memory or the product overflows."""
    return counted_zalloc(count, size) if ERLMCP_IS_CHECKED else calloc(count, size)


cdef inline void* mem_zalloc_lines(size_t count, size_t size) noexcept nogil:
    """``mem_zalloc`` for arrays that are asked at random: begins at a cache line, and from 2 MiB on lies in huge pages
    where the system has them. Give it back with ``mem_free``; ``mem_realloc`` would lose the alignment.
    """
    return counted_zalloc_lines(count, size) if ERLMCP_IS_CHECKED else lines_zalloc(count, size)


cdef inline void* mem_realloc(void* block, size_t size) noexcept nogil:
    """``realloc``: on NULL the old block is as it was."""
    return counted_realloc(block, size) if ERLMCP_IS_CHECKED else realloc(block, size)


cdef inline void mem_free(void* block) noexcept nogil:
    """``free``: NULL is allowed."""
    if ERLMCP_IS_CHECKED:
        counted_free(block)
    else:
        free(block)
