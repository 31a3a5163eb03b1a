"""Growable bytes with a read mark and a write mark; see buffer.pxd for the picture."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memmove

from erlmcp._core.memory cimport mem_realloc

from erlmcp.errors import LimitError

cdef extern from "Python.h":
    Py_ssize_t PY_SSIZE_T_MAX
    Py_ssize_t PyNumber_AsSsize_t(object number, void* error) except? -1  # cut to what fits, where error is NULL

cdef enum:
    CAPACITY_MIN = 64


cdef int raise_limit(const char* limit, size_t maximum, size_t wanted) except -1 with gil:
    raise LimitError(limit.decode("ascii"), maximum, f"{wanted} bytes")


cdef int buffer_init(buffer_t* self, size_t capacity, size_t bytes_max) except -1 nogil:
    self.data = NULL
    self.read = self.write = self.capacity = 0
    self.bytes_max = bytes_max
    self.limit = "bytes_max"
    return buffer_grow(self, capacity) if capacity else 0


cdef int buffer_grow(buffer_t* self, size_t more) except -1 nogil:
    cdef size_t size = self.write - self.read
    cdef size_t wanted
    cdef char* data
    if more > self.bytes_max or size > self.bytes_max - more:
        raise_limit(self.limit, self.bytes_max, size + more)
    wanted = size + more
    # Moving costs no more than the bytes already consumed, so over the life of the buffer it is O(1) a byte.
    if wanted <= self.capacity and self.read >= size:
        buffer_compact(self)
        return 0
    if wanted < CAPACITY_MIN:
        wanted = CAPACITY_MIN
    if wanted < self.capacity * 2:
        wanted = self.capacity * 2
    if wanted > self.bytes_max:
        wanted = self.bytes_max
    buffer_compact(self)
    if wanted <= self.capacity:
        return 0
    data = <char*>mem_realloc(self.data, wanted)
    if data == NULL:
        with gil:
            raise MemoryError()
    self.data = data
    self.capacity = wanted
    return 0


cdef void buffer_compact(buffer_t* self) noexcept nogil:
    cdef size_t size = self.write - self.read
    if self.read:
        memmove(self.data, self.data + self.read, size)
        self.read = 0
        self.write = size


cdef void buffer_trim(buffer_t* self, size_t keep) noexcept nogil:
    if self.read == self.write and self.capacity > keep:
        buffer_free(self)


cdef bytes buffer_take(buffer_t* self, size_t size):
    cdef bytes taken
    if size == 0:
        return b""
    taken = PyBytes_FromStringAndSize(self.data + self.read, <Py_ssize_t>size)
    buffer_consume(self, size)
    return taken


cdef int buffer_check(const buffer_t* self) noexcept nogil:
    if self.read > self.write:
        return 1
    if self.write > self.capacity:
        return 2
    if self.capacity > self.bytes_max:
        return 3
    if (self.data == NULL) != (self.capacity == 0):
        return 4
    return 0


cdef class Buffer:
    def __cinit__(self, bytes_max=1 << 26, *, capacity=0):
        if bytes_max < 1:
            raise ValueError(f"bytes_max must be at least 1, got {bytes_max}")
        buffer_init(&self.buffer, capacity, bytes_max)

    def __dealloc__(self):
        buffer_free(&self.buffer)

    def __len__(self):
        return <Py_ssize_t>buffer_size(&self.buffer)

    @property
    def capacity(self):
        return self.buffer.capacity

    @property
    def bytes_max(self):
        return self.buffer.bytes_max

    def put(self, data):
        cdef Py_buffer view
        if type(data) is bytes:
            buffer_put(&self.buffer, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
            return
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            buffer_put(&self.buffer, <const char*>view.buf, view.len)
        finally:
            PyBuffer_Release(&view)

    def peek(self, size=None):
        cdef Py_ssize_t count = self.bounded(size)
        return PyBytes_FromStringAndSize(buffer_peek(&self.buffer), count)

    def take(self, size=None):
        return buffer_take(&self.buffer, self.bounded(size))

    def consume(self, size):
        cdef Py_ssize_t count = PyNumber_AsSsize_t(size, NULL)
        if count < 0 or count > <Py_ssize_t>buffer_size(&self.buffer):
            raise ValueError(f"cannot consume {size} of {buffer_size(&self.buffer)} bytes")
        buffer_consume(&self.buffer, <size_t>count)

    def truncate(self, size):
        cdef Py_ssize_t count = PyNumber_AsSsize_t(size, NULL)
        if count < 0 or count > <Py_ssize_t>buffer_size(&self.buffer):
            raise ValueError(f"cannot keep {size} of {buffer_size(&self.buffer)} bytes")
        buffer_truncate(&self.buffer, <size_t>count)

    def compact(self):
        buffer_compact(&self.buffer)

    def clear(self):
        buffer_clear(&self.buffer)

    def trim(self, keep=0):
        buffer_trim(&self.buffer, keep)

    def check(self):
        cdef int broken = buffer_check(&self.buffer)
        if broken:
            raise AssertionError(f"buffer: invariant {broken} is broken")

    cdef Py_ssize_t bounded(self, size) except -1:
        """How many bytes a size given by Python means: all where it is None, never more than there are."""
        cdef Py_ssize_t count = PY_SSIZE_T_MAX
        if size is not None:
            count = PyNumber_AsSsize_t(size, NULL)  # may run code that changes the buffer: before the look at it
        if count < 0:
            raise ValueError(f"size must be at least 0, got {size}")
        return min(count, <Py_ssize_t>buffer_size(&self.buffer))
