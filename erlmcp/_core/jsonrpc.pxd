"""The C face of the jsonrpc room: one strict pass over a message that finds the parts of its envelope."""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t

from erlmcp._core.buffer cimport buffer_t
from erlmcp._core.json cimport json_limits_t

cdef extern from "jsonrpc_scan.h" nogil:
    enum:
        JSONRPC_ID_BYTES_MAX  # 1024
        # envelope_t.kind
        JSONRPC_REQUEST  # 1
        JSONRPC_NOTIFICATION  # 2
        JSONRPC_RESULT  # 3
        JSONRPC_ERROR  # 4
        JSONRPC_BATCH  # 5
        JSONRPC_INVALID  # 6
        # envelope_t.id_kind
        JSONRPC_ID_NONE  # 0: not there (or not readable)
        JSONRPC_ID_INT  # 1
        JSONRPC_ID_STRING  # 2
        JSONRPC_ID_NULL  # 3: only with kind ERROR
        JSONRPC_ID_BAD  # 4: there, and not an id; only with kind INVALID, `id` is empty then
        # text_span_t.state
        JSONRPC_TEXT_ABSENT  # 0
        JSONRPC_TEXT_PLAIN  # 1: the bytes are the text, as UTF-8
        JSONRPC_TEXT_ESCAPED  # 2: the bytes hold escapes: json_unescape or json_decode_text(..., True)
        JSONRPC_TEXT_OTHER  # 3: the key is there and its value is not a string; the bytes are the whole value

    # A value's text, blanks trimmed; size 0 where it is absent.
    ctypedef struct span_t:
        uint32_t start  # bytes from the start of the message
        uint32_t size

    # A string's body: start and size are those of the bytes between the quotes.
    ctypedef struct text_span_t:
        uint32_t start
        uint32_t size
        uint32_t state

    # A `_meta` object that was validated before, by a scan with the same limits: where a message holds the same bytes
    # again, they are compared and not scanned. start fields count from `data`. Made with jsonrpc_remember.
    ctypedef struct meta_hint_t:
        const char* data  # borrowed: the owner keeps it alive
        uint32_t size
        text_span_t version
        span_t progress_token

    ctypedef struct envelope_t:
        uint8_t kind
        uint8_t id_kind
        uint8_t is_response  # INVALID: it has result or error and no method, so it is not to be answered
        int meta_hit  # index of the hint that _meta equalled, else -1
        int code  # INVALID: -32700 or -32600, else 0
        const char* message  # INVALID: static text of the answer, naming the limit if one was met; else NULL
        uint32_t at  # INVALID: byte where it went wrong
        uint32_t item_count  # BATCH: how many items
        span_t id  # the raw token: 1, "a", null. INVALID: set where it could be read anyway (never with -32700)
        text_span_t method
        span_t params  # an object or an array: see its first byte
        span_t result
        span_t error
        # Within params, where that is an object:
        text_span_t name
        text_span_t uri
        span_t arguments
        span_t meta  # any value: an object where its first byte is "{"
        # Within _meta, where that is an object:
        text_span_t version  # io.modelcontextprotocol/protocolVersion
        span_t progress_token

    # Scans and validates one whole message (blanks around it allowed): fills `out`, returns out.kind. `hints` may be
    # NULL. n over 4 GiB - 1 is INVALID. Reads nothing outside p[0:n].
    int jsonrpc_scan(
        const char* p, size_t n, const json_limits_t* limits, const meta_hint_t* hints, int hint_count, envelope_t* out
    ) noexcept
    # The next item of a BATCH that jsonrpc_scan accepted: 1 and the item's span, or 0 at the end. *cursor starts at
    # 0. Each item is to be scanned by itself (kind BATCH again is an invalid item).
    int jsonrpc_batch_next(const char* p, size_t n, uint32_t* cursor, span_t* item) noexcept
    # Fills a hint from a scanned message whose `meta` is an object; `data` holds a copy of those bytes.
    void jsonrpc_remember(const envelope_t* scanned, const char* data, meta_hint_t* hint) noexcept

# Writers: no frame, no newline. `id` is the raw token (1, "a", null). A failure leaves a part of the message in the
# buffer: the caller notes buffer's end before and goes back to it. {"jsonrpc":"2.0","id":ID,"result":   (the caller
# writes the value, then "}")
cdef int jsonrpc_put_result_head(buffer_t* into, const char* id, size_t id_size) except -1 nogil
# The whole error response; `data` is encoded JSON, or NULL.
cdef int jsonrpc_put_error(
    buffer_t* into, const char* id, size_t id_size, long code, const char* message, size_t message_size,
    const char* data, size_t data_size
) except -1 nogil
# {"jsonrpc":"2.0","id":ID,"method":METHOD,"params":PARAMS}; `method` is UTF-8, `params` encoded JSON, or NULL.
cdef int jsonrpc_put_request(
    buffer_t* into, const char* id, size_t id_size, const char* method, size_t method_size, const char* params,
    size_t params_size
) except -1 nogil
cdef int jsonrpc_put_notification(
    buffer_t* into, const char* method, size_t method_size, const char* params, size_t params_size
) except -1 nogil
