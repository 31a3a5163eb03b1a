"""Growable bytes with a read mark and a write mark.

    data          read            write        capacity
     |  consumed   |    unread      |    room     |          capacity <= bytes_max, always

Because the capacity never passes ``bytes_max``, the room left is the whole check of a write: the limit costs nothing
on the fast path. Growing first moves the unread bytes to the front where that makes enough room, and at least doubles
otherwise.
"""

from libc.string cimport memcpy

from erlmcp._core.memory cimport mem_free


ctypedef struct buffer_t:
    char* data
    size_t read
    size_t write
    size_t capacity
    size_t bytes_max
    const char* limit  # the name of bytes_max in a LimitError; static text, set by the owner after buffer_init


# Nothing is allocated for capacity 0. MemoryError; the buffer can be given to buffer_free in any case.
cdef int buffer_init(buffer_t* self, size_t capacity, size_t bytes_max) except -1 nogil

# The slow path of buffer_reserve. LimitError or MemoryError, and the buffer is as it was. Moves data.
cdef int buffer_grow(buffer_t* self, size_t more) except -1 nogil

# Moves the unread bytes to the front.
cdef void buffer_compact(buffer_t* self) noexcept nogil

# Gives memory back where the buffer is empty and its capacity is above ``keep``.
cdef void buffer_trim(buffer_t* self, size_t keep) noexcept nogil

# The first ``size`` unread bytes as an object of their own, and consumes them; size <= buffer_size. MemoryError:
# unchanged.
cdef bytes buffer_take(buffer_t* self, size_t size)

# 0, or the number of the first broken invariant.
cdef int buffer_check(const buffer_t* self) noexcept nogil


cdef inline void buffer_free(buffer_t* self) noexcept nogil:
    """Tolerates a zeroed struct and a second call."""
    mem_free(self.data)
    self.data = NULL
    self.read = self.write = self.capacity = 0


cdef inline size_t buffer_size(const buffer_t* self) noexcept nogil:
    """Unread bytes."""
    return self.write - self.read


cdef inline char* buffer_peek(const buffer_t* self) noexcept nogil:
    """The first unread byte; borrowed until the next call that writes, grows, compacts or takes."""
    return self.data + self.read


cdef inline int buffer_reserve(buffer_t* self, size_t more) except -1 nogil:
    """Room for ``more`` bytes at the write mark. LimitError or MemoryError, and the buffer is as it was."""
    if self.capacity - self.write >= more:
        return 0
    return buffer_grow(self, more)


cdef inline char* buffer_room(const buffer_t* self) noexcept nogil:
    """Where the next byte goes: write there after buffer_reserve, then say how much with buffer_advance."""
    return self.data + self.write


cdef inline void buffer_advance(buffer_t* self, size_t size) noexcept nogil:
    self.write += size


cdef inline void buffer_put_byte(buffer_t* self, char byte) noexcept nogil:
    """Unchecked: after buffer_reserve."""
    self.data[self.write] = byte
    self.write += 1


cdef inline void buffer_put_reserved(buffer_t* self, const char* data, size_t size) noexcept nogil:
    """Unchecked: after buffer_reserve."""
    memcpy(self.data + self.write, data, size)
    self.write += size


cdef inline int buffer_put(buffer_t* self, const char* data, size_t size) except -1 nogil:
    """Appends a copy. LimitError or MemoryError, and the buffer is as it was. ``data`` must not lie in this buffer."""
    if self.capacity - self.write < size:
        buffer_grow(self, size)
    if size:
        memcpy(self.data + self.write, data, size)
        self.write += size
    return 0


cdef inline void buffer_consume(buffer_t* self, size_t size) noexcept nogil:
    """Passes over ``size`` unread bytes; size <= buffer_size."""
    self.read += size
    if self.read == self.write:
        self.read = self.write = 0


cdef inline void buffer_truncate(buffer_t* self, size_t size) noexcept nogil:
    """Keeps the first ``size`` unread bytes: undoes later writes. A size, unlike a pointer, survives growing."""
    self.write = self.read + size


cdef inline void buffer_clear(buffer_t* self) noexcept nogil:
    self.read = self.write = 0


cdef class Buffer:
    cdef buffer_t buffer
    cdef Py_ssize_t bounded(self, size) except -1
