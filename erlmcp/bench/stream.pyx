"""One connection of the load generator: its buffers, and the reading of HTTP/1.1 answers and JSON-RPC ids."""

from libc.stdint cimport int64_t
from libc.stdlib cimport realloc
from libc.string cimport memcmp, memmove
from posix.time cimport clock_gettime, timespec


cdef extern from "<string.h>" nogil:
    void *memmem(const void *hay, size_t hay_bytes, const void *needle, size_t needle_bytes)


cdef extern from "<strings.h>" nogil:
    int strncasecmp(const char *a, const char *b, size_t size)


cdef int64_t LENGTH_MAX = <int64_t>1 << 40


cdef int64_t now_ns(int clock) noexcept nogil:
    cdef timespec t
    clock_gettime(clock, &t)
    return <int64_t>t.tv_sec * 1000000000 + t.tv_nsec


cdef void put_id(char *place, int64_t id) noexcept nogil:
    cdef int i
    for i in range(ID_DIGITS - 1, -1, -1):
        place[i] = <char>(48 + id % 10)
        id //= 10


cdef int64_t read_id(const char *at, const char *end) noexcept nogil:
    """The ten digits at ``at`` (blanks before them are passed over), or -1."""
    cdef int64_t id = 0
    cdef int i
    while at < end and at[0] == c" ":
        at += 1
    if end - at < ID_DIGITS + 1 or c"0" <= at[ID_DIGITS] <= c"9":
        return -1
    for i in range(ID_DIGITS):
        if not c"0" <= at[i] <= c"9":
            return -1
        id = id * 10 + (at[i] - 48)
    return id


cdef bint holds(const char *text, size_t size, const char *part, size_t part_bytes, size_t *last) noexcept nogil:
    """Whether ``part`` is in ``text``; tried first where it was the last time."""
    cdef const char *found
    if part_bytes == 0 or (last[0] + part_bytes <= size and memcmp(text + last[0], part, part_bytes) == 0):
        return True
    found = <const char *>memmem(text, size, part, part_bytes)
    if found == NULL:
        return False
    last[0] = found - text
    return True


cdef int reserve(char **buf, size_t *cap, size_t need) except -1 nogil:
    cdef size_t size = cap[0] if cap[0] else READ_BYTES
    cdef char *grown
    if need <= cap[0]:
        return 0
    while size < need:
        size *= 2
    grown = <char *>realloc(buf[0], size)
    if grown == NULL:
        with gil:
            raise MemoryError(f"{size} bytes for a connection's buffer")
    buf[0] = grown
    cap[0] = size
    return 0


cdef bint read_head(Stream *s, const char *end) noexcept nogil:
    """The head from rpos to ``end`` (its last CRLF): status, how long the body is, if the connection ends then."""
    cdef const char *at = s.rbuf + s.rpos
    cdef const char *stop
    cdef int i
    if end - at < 12 or memcmp(at, b"HTTP/1.", 7) != 0:
        return False
    s.status = 0
    for i in range(9, 12):
        if not c"0" <= at[i] <= c"9":
            return False
        s.status = s.status * 10 + (at[i] - 48)
    s.closes = at[7] == c"0"
    s.length = 0 if s.status < 200 or s.status == 204 or s.status == 304 else UNTIL_CLOSE
    while at < end:
        stop = <const char *>memmem(at, end - at + 2, b"\r\n", 2)
        if s.length != 0 and stop - at > 15 and strncasecmp(at, b"content-length:", 15) == 0:
            if s.length == UNTIL_CLOSE:
                s.length = 0
                at += 15
                while at < stop and (at[0] == c" " or c"0" <= at[0] <= c"9"):
                    if at[0] != c" ":
                        s.length = s.length * 10 + (at[0] - 48)
                    at += 1
                if at != stop or s.length > LENGTH_MAX:
                    return False
        elif s.length != 0 and stop - at > 18 and strncasecmp(at, b"transfer-encoding:", 18) == 0:
            s.length = CHUNKED
        elif stop - at > 11 and strncasecmp(at, b"connection:", 11) == 0:
            s.closes = memmem(at + 11, stop - at - 11, b"lose", 4) != NULL
        at = stop + 2
    return True


cdef int read_chunks(Stream *s) noexcept nogil:
    """1 when the body is complete (moved together at body_at; chunk_at is behind it), 0 for more, -1 if broken."""
    cdef char *stop
    cdef char *at
    cdef size_t size
    cdef int digit
    while True:
        at = s.rbuf + s.chunk_at
        stop = <char *>memmem(at, s.rlen - s.chunk_at, b"\r\n", 2)
        if stop == NULL:
            return 0 if s.rlen - s.chunk_at < 1024 else -1
        size = 0
        if at == stop:
            return -1
        while at < stop and at[0] != c";":
            digit = (at[0] | 32) - (48 if at[0] <= c"9" else 87)
            if not 0 <= digit <= 15 or size > <size_t>LENGTH_MAX:
                return -1
            size = size * 16 + digit
            at += 1
        at = stop + 2
        if size == 0:
            if s.rbuf + s.rlen - at < 2:
                return 0
            # No trailers: none of the servers measured here sends any.
            s.chunk_at = at + 2 - s.rbuf
            return 1 if memcmp(at, b"\r\n", 2) == 0 else -1
        if <size_t>(s.rbuf + s.rlen - at) < size + 2:
            return 0
        if memcmp(at + size, b"\r\n", 2) != 0:
            return -1
        memmove(s.rbuf + s.body_at + s.body_bytes, at, size)
        s.body_bytes += size
        s.chunk_at = at + size + 2 - s.rbuf
