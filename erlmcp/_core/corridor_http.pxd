"""The C face of ``corridor_http``: requests of one HTTP/1.1 connection, their JSON-RPC bodies scanned."""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t

from erlmcp._core.buffer cimport buffer_t
from erlmcp._core.corridor cimport Call, Scanner
from erlmcp._core.http1 cimport http1_chunk_t, http1_head_t, http1_limits_t


cdef class Head:
    cdef public object tag
    cdef readonly str verb
    cdef readonly str target
    cdef http1_head_t head  # its spans count from the first byte of raw; fields is NULL
    cdef bint is_json_post
    cdef bytes raw
    cdef dict _headers
    cdef dict counts

    cdef int list_fields(self) except -1


cdef class HttpRequest:
    cdef readonly Head head
    cdef readonly int status
    cdef readonly int match
    cdef readonly object message
    cdef readonly Call call
    cdef bytes data  # the body is data[start : start + size]
    cdef size_t start
    cdef size_t size


cdef class HttpInbound(Scanner):
    cdef readonly bint closed
    cdef public bint wants_continue
    cdef readonly int phase
    cdef http1_limits_t http
    cdef http1_head_t parsed
    cdef list heads  # the Head objects of this connection's last requests
    cdef int head_next
    cdef size_t used  # bytes of the head that find_head found
    # The input: data[at:] is to be read. Kept after an error, for the next feed.
    cdef bytes data
    cdef size_t at
    cdef list late
    # A head that straddles reads, and how far it was searched for its end.
    cdef buffer_t held
    cdef size_t scanned
    # The request whose body is read.
    cdef Head head
    cdef size_t wanted  # of a body with a length: its bytes
    cdef bytes filling  # where that body is put together, or None
    cdef size_t filled
    cdef http1_chunk_t chunk
    cdef buffer_t body  # a chunked body

    cdef int read(self, list requests) except -1
    cdef bint join_held(self) except -1
    cdef bint read_head(self, list requests) except -1
    cdef Head find_head(self, list heads, const char* p, size_t n, int64_t* length)
    cdef Head make_head(self, const char* p)
    cdef int accept(self, Head head, size_t used, int64_t length) except -1
    cdef bint read_body(self, list requests) except -1
    cdef bint read_chunks(self, list requests) except -1
    cdef bint fill_body(self, list requests) except -1
    cdef int deliver(self, list requests, bytes data, size_t start, size_t size) except -1
    cdef int refuse(self, list requests, Head head, int status, const char* message) except -1


# HttpInbound.feed for C callers.
cdef list http_feed(HttpInbound self, bytes data)
