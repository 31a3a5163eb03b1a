"""Frames on their way out, gathered until one write is worth it.

A frame is kept as the object it came as and copied once, when all are joined; one that is alone is not copied.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_Check, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t
from libc.string cimport memcpy

from erlmcp.errors import LimitError


cdef inline bint is_due(Batch self, int64_t now_ns) noexcept:
    if self.count == 0:
        return False
    return (
        self.count >= self.count_max or self.byte_count >= self.bytes_max or now_ns - self.first_ns >= self.age_ns
        or (self.lone and self.count == 1)
    )


cdef int batch_put(Batch batch, bytes frame, int64_t now_ns) except -1:
    cdef Py_ssize_t size = PyBytes_GET_SIZE(frame)
    if size > batch.held_bytes_max - batch.byte_count:
        raise LimitError("held_bytes_max", batch.held_bytes_max)
    if batch.count == 0:
        batch.first = frame
        batch.first_ns = now_ns
    else:
        batch.others.append(frame)
    batch.count += 1
    batch.byte_count += size
    return is_due(batch, now_ns)


cdef inline char* copy(char* to, object frame) noexcept:
    cdef size_t size = <size_t>PyBytes_GET_SIZE(frame)
    memcpy(to, PyBytes_AS_STRING(frame), size)
    return to + size


cdef bytes batch_take(Batch batch):
    cdef bytes whole
    cdef object frame
    cdef char* to
    if batch.count == 0:
        return b""
    whole = <bytes>batch.first
    if batch.count > 1:
        whole = PyBytes_FromStringAndSize(NULL, batch.byte_count)
        to = copy(PyBytes_AS_STRING(whole), batch.first)
        for frame in batch.others:
            to = copy(to, frame)
        batch.others = []
    batch.first = None
    batch.count = batch.byte_count = 0
    return whole


cdef class Batch:
    def __cinit__(
        self, Py_ssize_t count_max=64, Py_ssize_t bytes_max=65536, int64_t age_ns=1_000_000, *, bint lone=False,
        Py_ssize_t held_bytes_max=67_108_864,
    ):
        if count_max < 1 or bytes_max < 1 or age_ns < 0 or held_bytes_max < 1:
            raise ValueError(
                "count_max, bytes_max and held_bytes_max are at least 1 and age_ns is at least 0, "
                f"got {count_max}, {bytes_max}, {held_bytes_max} and {age_ns}"
            )
        self.count_max = count_max
        self.bytes_max = bytes_max
        self.age_ns = age_ns
        self.held_bytes_max = held_bytes_max
        self.lone = lone
        self.others = []

    def __len__(self):
        return self.count

    def put(self, frame, int64_t now_ns):
        if not PyBytes_Check(frame):
            raise TypeError(f"a frame is bytes, not {type(frame).__name__}")
        return bool(batch_put(self, <bytes>frame, now_ns))

    def is_due(self, int64_t now_ns):
        return is_due(self, now_ns)

    def due_ns(self):
        if self.count == 0:
            return None
        return self.first_ns if is_due(self, self.first_ns) else self.first_ns + self.age_ns

    def take(self):
        return batch_take(self)

    def check(self):
        held = [self.first, *self.others] if self.first is not None else self.others
        if len(held) != self.count or sum(map(len, held)) != self.byte_count:
            raise AssertionError("the counts and the frames differ")
        if self.byte_count > self.held_bytes_max:
            raise AssertionError("more bytes than held_bytes_max")
