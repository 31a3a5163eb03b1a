"""The C face of ``corridor_out``: answers -> bytes."""

from cpython.object cimport PyObject
from libc.stddef cimport size_t
from libc.stdint cimport int64_t

from erlmcp._core.buffer cimport buffer_size, buffer_t

cdef enum:
    KEEP_BYTES = 1 << 16  # capacity that an empty buffer keeps; from there on it is handed over


# One piece of a template: static bytes, then a slot (kind SLOT_END: the template ends after the bytes).
ctypedef struct piece_t:
    const char* data  # borrowed from Template.text
    size_t size
    int kind
    Py_ssize_t index  # of the value
    Py_ssize_t again  # an earlier piece that writes the same JSON, as it holds the same value; else -1


cdef class Template:
    cdef bytes text
    cdef piece_t* pieces
    cdef Py_ssize_t slots  # pieces[slots] is the end
    cdef Py_ssize_t values_min
    cdef bint has_values  # a slot that is not TEXT


# Bytes that are not copied: they lie in an object, and are sent after the first ``at`` gathered ones.
ctypedef struct outside_t:
    size_t at
    size_t size
    const char* data
    PyObject* owner  # a reference


# What ``take_parts`` gives as a memoryview: bytes that somebody else holds, or that are its own.
cdef class Part:
    cdef char* data
    cdef size_t size
    cdef object owner  # None: the memory is freed with the part


cdef class Outbound:
    cdef buffer_t out
    cdef buffer_t scratch
    cdef outside_t* outside
    cdef Py_ssize_t outside_count
    cdef Py_ssize_t outside_room
    cdef size_t outside_bytes
    cdef public size_t split_bytes
    cdef bytes _prefix
    cdef size_t bytes_max
    cdef int framing
    cdef int depth_max
    cdef int digits  # of the last length that was written: the guess for the next


# Outbound.fill for C callers: the raw token of the id, and borrowed values. JsonError, LimitError, IndexError.
cdef int outbound_fill(
    Outbound self, const char* id, size_t id_size, Template template, PyObject** values, Py_ssize_t count
) except -1

# Outbound.request for C callers: `head` is what stands between the id and `value`, `tail` what follows up to the end.
# JsonError, LimitError.
cdef int outbound_ask(Outbound self, int64_t id, bytes head, object value, bytes tail) except -1

# Outbound.take for C callers.
cdef bytes outbound_take(Outbound self)


# Outbound.__len__ and Outbound.is_large for C callers.
cdef inline size_t outbound_count(Outbound self) noexcept:
    return buffer_size(&self.out) + self.outside_bytes


cdef inline bint outbound_is_large(Outbound self) noexcept:
    return outbound_count(self) >= KEEP_BYTES
