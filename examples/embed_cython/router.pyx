"""Lines in, entries out: a router that reads "SESSION WORD anything" and looks both up without making a Python object.

It takes four parts of erlmcp by ``cimport``: a SessionStore and a Registry that Python fills, a ring that keeps the
entries until they are asked for, and a histogram of the lines' sizes. Two ways of using them from C are shown:
``route`` holds the GIL, so that nobody changes anything meanwhile; ``count_known`` lets go of it, behind the
registry's door.
"""

from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stddef cimport size_t
from libc.stdint cimport int64_t
from libc.string cimport memchr

from erlmcp._core.meter cimport Histogram, histogram_record
from erlmcp._core.names cimport names_close_read, names_open_read
from erlmcp._core.registry cimport Registry, registry_find
from erlmcp._core.ring cimport ring_free, ring_init, ring_pop, ring_push, ring_t
from erlmcp._core.sessions cimport SessionStore, session_find


cdef struct line_t:
    const char* session
    Py_ssize_t session_bytes
    const char* word
    Py_ssize_t word_bytes
    const char* next  # where the next line begins


cdef line_t read_line(const char* at, const char* end) noexcept nogil:
    cdef line_t line
    cdef const char* stop = <const char*>memchr(at, 10, <size_t>(end - at))
    cdef const char* blank
    line.next = stop + 1 if stop != NULL else end
    if stop == NULL:
        stop = end
    blank = <const char*>memchr(at, 32, <size_t>(stop - at))
    line.session = at
    line.session_bytes = (blank if blank != NULL else stop) - at
    line.word = blank + 1 if blank != NULL else stop
    blank = <const char*>memchr(line.word, 32, <size_t>(stop - line.word))
    line.word_bytes = (blank if blank != NULL else stop) - line.word
    return line


cdef class Router:
    """``route(data)`` reads whole lines; ``results()`` gives the entries found, in order, None for unknown words."""

    cdef readonly Registry registry
    cdef readonly SessionStore sessions
    cdef readonly Histogram sizes
    cdef readonly Py_ssize_t dropped_count
    cdef readonly Py_ssize_t stranger_count
    cdef ring_t ring  # of references of its own; the garbage collector does not see them

    def __cinit__(self, Registry registry not None, SessionStore sessions not None, size_t capacity=1024):
        self.registry = registry
        self.sessions = sessions
        self.sizes = Histogram()
        ring_init(&self.ring, capacity, False)

    def __dealloc__(self):
        cdef void* item
        while ring_pop(&self.ring, &item):
            Py_DECREF(<object>item)
        ring_free(&self.ring)

    def route(self, bytes data not None):
        """How many lines were read. Each touches its session; a line of no live session is counted as a stranger's.
        Where the ring is full a result is dropped and counted."""
        cdef const char* at = data
        cdef const char* end = at + len(data)
        cdef Py_ssize_t count = 0
        cdef line_t line
        cdef PyObject* entry
        while at < end:
            line = read_line(at, end)
            histogram_record(&self.sizes.histogram, <int64_t>(line.next - at))
            at = line.next
            count += 1
            if session_find(self.sessions, line.session, line.session_bytes) == NULL:
                self.stranger_count += 1
                continue
            entry = registry_find(self.registry, line.word, line.word_bytes)  # borrowed: the registry keeps it alive
            if entry == NULL:
                entry = <PyObject*>None
            if ring_push(&self.ring, entry):
                Py_INCREF(<object>entry)
            else:
                self.dropped_count += 1
        return count

    def results(self):
        cdef list found = []
        cdef void* item
        while ring_pop(&self.ring, &item):
            found.append(<object>item)
            Py_DECREF(<object>item)
        return found

    def count_known(self, bytes data not None):
        """How many lines have a word that is registered. Other threads run meanwhile, and wait to change the registry.
        """
        cdef const char* at = data
        cdef const char* end = at + len(data)
        cdef Py_ssize_t count
        if not names_open_read(&self.registry.door):  # a change is waiting already: let it not wait for us too
            return count_known(self.registry, at, end)
        with nogil:
            count = count_known(self.registry, at, end)
            names_close_read(&self.registry.door)
        return count


cdef Py_ssize_t count_known(Registry registry, const char* at, const char* end) noexcept nogil:
    cdef Py_ssize_t count = 0
    cdef line_t line
    while at < end:
        line = read_line(at, end)
        at = line.next
        count += registry_find(registry, line.word, line.word_bytes) != NULL
    return count
