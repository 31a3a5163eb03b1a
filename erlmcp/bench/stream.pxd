"""One connection of the load generator: its buffers, and the reading of HTTP/1.1 answers and JSON-RPC ids."""

from libc.stdint cimport int64_t, uint64_t

cdef enum:
    ID_DIGITS = 10
    READ_BYTES = 1 << 16
    # Stream.length, where it is no length
    CHUNKED = -1
    UNTIL_CLOSE = -2

cdef struct Pending:
    int64_t due  # when it was sent, or should have been; 0 where the place is free
    int64_t id

cdef struct Stream:
    int fd_in
    int fd_out  # the same for a socket
    bint is_open
    bint is_blocked  # a write would block: epoll watches for room
    const char *request
    size_t request_bytes
    Py_ssize_t slot  # where the id goes, or -1
    Pending *table
    uint64_t head  # HTTP: places are taken at head + waiting, freed at head
    uint64_t waiting
    char *rbuf
    size_t rcap
    size_t rlen
    size_t rpos  # all before it is dealt with
    size_t scanned  # all before it holds no end of line, or of head
    bint in_body
    bint closes  # the answer says that the connection ends with it
    int status
    int64_t length  # of the body, or CHUNKED, or UNTIL_CLOSE
    size_t body_at
    size_t body_bytes  # chunked: gathered so far, moved together
    size_t chunk_at  # where the next chunk's head begins
    char *wbuf
    size_t wcap
    size_t wlen
    size_t wpos

cdef int64_t now_ns(int clock) noexcept nogil
cdef void put_id(char *place, int64_t id) noexcept nogil
cdef int64_t read_id(const char *at, const char *end) noexcept nogil
cdef bint holds(const char *text, size_t size, const char *part, size_t part_bytes, size_t *last) noexcept nogil
cdef int reserve(char **buf, size_t *cap, size_t need) except -1 nogil
cdef bint read_head(Stream *s, const char *end) noexcept nogil
cdef int read_chunks(Stream *s) noexcept nogil
