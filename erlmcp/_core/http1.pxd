"""The C face of ``http1``: heads and chunked bodies of HTTP/1.1, strict, no input and output of its own.

Every span is an offset and a length relative to the first byte that was given, so it survives a move of the buffer. The
request line comes first, so no header value starts at 0: a span whose ``start`` is 0 says that the field is not there.
"""

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from erlmcp._core.buffer cimport buffer_t


cdef extern from "http1_head.h" nogil:
    ctypedef struct http1_span_t:
        uint32_t start
        uint32_t size

    ctypedef struct http1_field_t:
        http1_span_t name
        http1_span_t value  # outer blanks trimmed

    ctypedef struct http1_limits_t:
        uint32_t head_bytes_max
        uint32_t header_count_max
        uint64_t body_bytes_max

    # Index into http1_head_t.known
    enum:
        HTTP1_HOST
        HTTP1_ORIGIN
        HTTP1_CONTENT_TYPE
        HTTP1_CONTENT_LENGTH
        HTTP1_ACCEPT
        HTTP1_AUTHORIZATION
        HTTP1_MCP_SESSION_ID
        HTTP1_MCP_PROTOCOL_VERSION
        HTTP1_MCP_METHOD
        HTTP1_MCP_NAME
        HTTP1_LAST_EVENT_ID
        HTTP1_CONNECTION
        HTTP1_TRANSFER_ENCODING
        HTTP1_EXPECT
        HTTP1_UPGRADE
        HTTP1_KNOWN_COUNT

    # Bits of http1_head_t.flags
    enum:
        HTTP1_FLAG_CHUNKED
        HTTP1_FLAG_KEEP_ALIVE
        HTTP1_FLAG_EXPECT_CONTINUE
        HTTP1_FLAG_HAS_HOST
        HTTP1_FLAG_CONN_CLOSE
        HTTP1_FLAG_UPGRADE

    # Body kinds of a response
    enum:
        HTTP1_BODY_NONE
        HTTP1_BODY_LENGTH
        HTTP1_BODY_CHUNKED
        HTTP1_BODY_UNTIL_CLOSE

    enum:
        HTTP1_MORE  # -1: no complete head yet, come again with more bytes appended

    ctypedef struct http1_head_t:
        http1_field_t* fields  # set by the caller: room for header_count_max fields, or NULL
        uint32_t field_count
        uint32_t head_bytes  # bytes of the head, with the blank line (and a blank line before it)
        int32_t version  # 10 or 11
        int32_t status  # of a response
        uint32_t flags
        uint32_t repeated  # bit 1 << HTTP1_X: the known field X came more than once; its span is the first one's
        int64_t content_length  # -1: none
        http1_span_t method
        http1_span_t target
        http1_span_t reason  # of a response
        http1_span_t known[16]  # HTTP1_KNOWN_COUNT; known[HTTP1_CONTENT_LENGTH] is the span of the value
        const char* message  # static text after an error

    ctypedef struct http1_chunk_t:
        uint64_t left
        uint64_t body_bytes  # of the decoded body so far
        uint32_t extension_bytes
        uint32_t trailer_bytes
        uint32_t phase
        uint32_t digit_count
        const char* message  # static text after an error

    # Where the head ends (bytes, with the blank line), or 0 where it does not end yet. ``*scanned`` starts as 0 and
    # is kept between calls over the same growing window, so that no byte is looked at twice.
    size_t http1_find_head_end(const char* p, size_t n, size_t* scanned) noexcept

    # The head at the front of p[0:n), in one go: 0 and ``out`` filled; HTTP1_MORE; or the status of the answer (400,
    # 413, 414, 417, 431, 501, 505) with out.message. The same for every way to cut the input: an error in a head that
    # has not ended yet is not told before it ends or meets head_bytes_max. ``*scanned`` as in http1_find_head_end;
    # set it back to 0 for the next head.
    int http1_take_request_head(
        const char* p, size_t n, size_t* scanned, const http1_limits_t* limits, http1_head_t* out,
    ) noexcept
    # The same for a response. Statuses: 400, 413, 431, 501, 505.
    int http1_take_response_head(
        const char* p, size_t n, size_t* scanned, const http1_limits_t* limits, http1_head_t* out,
    ) noexcept
    # The same over a complete head (n bytes, blank line included). HTTP1_MORE where it is not complete.
    int http1_parse_request_head(const char* p, size_t n, const http1_limits_t* limits, http1_head_t* out) noexcept
    int http1_parse_response_head(const char* p, size_t n, const http1_limits_t* limits, http1_head_t* out) noexcept

    # Does p[0:n) start with the same head as ``old`` but for the value of Content-Length? ``length`` is the span of
    # that value within old (start 0: it has none). Returns the bytes of the new head, its length in
    # ``*content_length`` (-1: none), or 0 where the heads differ, more bytes are needed, or the length is not one to
    # 18 digits. The caller holds both against its limits.
    size_t http1_match_head(
        const char* old, size_t old_bytes, http1_span_t length, const char* p, size_t n, int64_t* content_length,
    ) noexcept

    # Has the comma-separated list ``value`` this token? ``token`` in lower case.
    bint http1_has_token(const char* value, size_t n, const char* token, size_t token_bytes) noexcept
    # Is p[0:n) equal to ``lower`` (lower-case letters) without regard to case?
    bint http1_equals(const char* p, size_t n, const char* lower, size_t lower_bytes) noexcept

    # How the body of the answer to a request with this verb ends (RFC 9112, section 6.3).
    int http1_body_kind(const http1_head_t* head, bint is_head_request) noexcept

    # One step of the chunked coding: the bytes used; *data/*size is body data within p (size 0: none in this step).
    # Call until it returns 0 (needs more input, or is done); -1: broken, s.message and the status in *status.
    Py_ssize_t http1_chunk_next(
        http1_chunk_t* s, const char* p, size_t n, uint64_t body_bytes_max,
        const char** data, size_t* size, int* status,
    ) noexcept
    bint http1_chunk_is_done(const http1_chunk_t* s) noexcept


# Decode from p, appending the body's bytes to ``out``. ``s`` is zero-initialised before the first call. Returns the
# bytes used (all of n, unless the body ended: then http1_chunk_is_done(s)), or minus the status (-400, -413, -431)
# with s.message. -1: LimitError or MemoryError of the buffer.
cdef Py_ssize_t http1_chunk_feed(
    http1_chunk_t* s, const char* p, size_t n, buffer_t* out, uint64_t body_bytes_max,
) except -1 nogil
