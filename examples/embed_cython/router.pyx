"""Lines in, counts out: a router that looks up the first word of each line without touching a Python object.

It takes three parts of erlmcp by ``cimport``: a Registry that Python fills, a ring that carries the results to another
thread, and a histogram of the lines' sizes.
"""

from cpython.object cimport PyObject
from libc.stddef cimport size_t
from libc.stdint cimport int64_t
from libc.string cimport memchr

from erlmcp._core.meter cimport Histogram, histogram_record
from erlmcp._core.registry cimport Registry, registry_find
from erlmcp._core.ring cimport ring_free, ring_init, ring_spsc_pop, ring_spsc_push, ring_t


cdef class Router:
    """``route(data)`` reads whole lines; ``results()`` gives the entries found, in order, with None for unknown words.

    One thread routes, one (the same or another) takes the results. The registry must not change meanwhile.
    """

    cdef readonly Registry registry
    cdef readonly Histogram sizes
    cdef readonly Py_ssize_t dropped_count
    cdef ring_t ring

    def __cinit__(self, Registry registry not None, size_t capacity=1024):
        self.registry = registry
        self.sizes = Histogram()
        ring_init(&self.ring, capacity, False)

    def __dealloc__(self):
        ring_free(&self.ring)

    def route(self, bytes data not None):
        """How many lines were read. Where the ring is full a result is dropped and counted."""
        cdef const char* at = data
        cdef const char* end = at + len(data)
        cdef Py_ssize_t count = 0
        with nogil:
            while at < end:
                at = route_line(self, at, end)
                count += 1
        return count

    def results(self):
        cdef list found = []
        cdef void* item
        while ring_spsc_pop(&self.ring, &item):
            found.append(<object>item if item != NULL else None)
        return found


cdef const char* route_line(Router self, const char* at, const char* end) noexcept nogil:
    """Routes the line at ``at``; where the next one begins."""
    cdef const char* line_end = <const char*>memchr(at, 10, <size_t>(end - at))
    cdef const char* word_end
    cdef PyObject* entry
    if line_end == NULL:
        line_end = end
    word_end = <const char*>memchr(at, 32, <size_t>(line_end - at))
    if word_end == NULL:
        word_end = line_end
    entry = registry_find(self.registry, at, word_end - at)  # borrowed: the registry keeps it alive
    histogram_record(&self.sizes.histogram, <int64_t>(line_end - at))
    if not ring_spsc_push(&self.ring, entry):
        self.dropped_count += 1
    return line_end + 1
