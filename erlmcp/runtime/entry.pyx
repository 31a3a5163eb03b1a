"""What the compiled short way knows of a tool, and of a method with ready answers; how it calls and answers them."""

from cpython.contextvars cimport PyContextVar_Set
from cpython.object cimport PyObject
from libc.stdint cimport int64_t

from erlmcp._core.corridor cimport Call, call_is_bare, call_peek_id
from erlmcp._core.corridor_out cimport Outbound, Template, outbound_fill
from erlmcp.runtime.fence cimport fence_until
from erlmcp.errors import LimitError
from erlmcp.runtime.fence import DEADLINE

cdef extern from "Python.h":
    PyObject* PyDict_GetItemWithError(object dict, object key) except? NULL
    Py_ssize_t PyDict_GET_SIZE(object dict) noexcept
    PyObject* PyTuple_GET_ITEM(object tuple, Py_ssize_t index) noexcept
    PyObject* Py_TYPE(PyObject* object) noexcept
    object PyObject_Vectorcall(object callable, PyObject** args, size_t count, PyObject* names)

cdef enum:
    DIRECT_MAX = 16  # arguments of a direct call


cdef class Entry:
    def set_direct(
        self, function, tuple keys not None, tuple classes not None, tuple defaults not None, missing, strict
    ):
        if not len(keys) == len(classes) == len(defaults) <= DIRECT_MAX:
            raise ValueError(f"keys, classes and defaults go together, at most {DIRECT_MAX} of them")
        self.function, self.keys, self.classes, self.defaults = function, keys, classes, defaults
        self.missing, self.strict, self.count = missing, bool(strict), len(keys)


cdef object call_entry(Entry entry, dict arguments):
    cdef PyObject* values[DIRECT_MAX]
    cdef PyObject* value
    cdef PyObject* wanted
    cdef Py_ssize_t found = 0
    cdef Py_ssize_t i
    if entry.function is None:
        return entry.invoke(arguments, None)
    for i in range(entry.count):
        value = PyDict_GetItemWithError(arguments, <object>PyTuple_GET_ITEM(entry.keys, i))
        if value == NULL:
            value = PyTuple_GET_ITEM(entry.defaults, i)
            if value == <PyObject*>entry.missing:
                return entry.invoke(arguments, None)
        else:
            found += 1
            wanted = PyTuple_GET_ITEM(entry.classes, i)
            if wanted != <PyObject*>None and <PyObject*>Py_TYPE(value) != wanted:
                return entry.invoke(arguments, None)
        values[i] = value
    if entry.strict and found != PyDict_GET_SIZE(arguments):
        return entry.invoke(arguments, None)
    return PyObject_Vectorcall(entry.function, values, <size_t>entry.count, NULL)


cdef class Ready:
    def __init__(self, general, find, *, bint is_modern=True, bint is_legacy=True):
        self.general = general
        self.find = find
        self.is_modern = is_modern
        self.is_legacy = is_legacy

    def __call__(self, exchange):
        return self.general(exchange)


cdef int answer_ready(Ready ready, Call call, object peer, bint is_modern, Outbound out) except -1:
    cdef Template template
    cdef size_t size
    cdef const char* id
    if not call_is_bare(call) or not (ready.is_modern if is_modern else ready.is_legacy):
        return NOT_SIMPLE
    template = ready.find(peer)
    id = call_peek_id(call, &size)
    try:
        outbound_fill(out, id, size, template, NULL, 0)
    except LimitError:
        return NOT_SIMPLE
    return ANSWERED


cdef object hand_on(Entry entry):
    cdef int64_t span = entry.span_ns
    if entry.fence is not None and entry.fence.span_ns:
        span = entry.fence.span_ns
    return None if span == 0 else PyContextVar_Set(DEADLINE, fence_until(span))
