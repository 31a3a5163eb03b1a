"""The C face of ``frame``: cutting a byte stream into messages. All offsets are relative to the window that was
given."""

from erlmcp._core.buffer cimport buffer_t


# What frame_next_line and frame_next_length say of the front of a window.
cdef enum frame_step_t:
    FRAME_NONE = 0  # no complete message: drop ``used`` bytes, keep the rest, come again with more appended
    FRAME_MESSAGE = 1  # p[start : start + size] is a message, the frame around it is ``used`` bytes long
    FRAME_TOO_LONG = 2  # a message over the limit ended here; drop ``used`` bytes
    FRAME_BROKEN = 3  # length framing only: fatal, ``state.message`` says why; nothing after this can be read


ctypedef struct frame_cut_t:
    size_t start  # first byte of the message within the window
    size_t size  # its bytes, without the frame
    size_t used  # bytes of the window that are done with, at every step value


# Newline framing (MCP's stdio). Zero-initialise, then set the limit.
ctypedef struct line_state_t:
    size_t line_bytes_max  # a line without its "\n" or "\r\n" may be this long
    size_t scanned  # bytes at the front of the kept window that hold no "\n"
    bint is_discarding  # within a line that is too long; its bytes are dropped as they come


# Content-Length framing (the Language Server Protocol's base protocol). Zero-initialise, then set both limits.
ctypedef struct length_state_t:
    size_t header_bytes_max
    size_t message_bytes_max
    size_t scanned  # bytes at the front of the kept window that hold no end of a header block
    size_t body_bytes  # of the message whose header was read; what is left of it when it is too long
    bint has_header  # the header was read and dropped, the body is awaited
    bint is_discarding  # within a body that is too long
    const char* message  # static text after FRAME_BROKEN


# Call again and again on the rest of the window until it says FRAME_NONE (or FRAME_BROKEN). Blank lines are passed
# over.
cdef frame_step_t frame_next_line(line_state_t* s, const char* p, size_t n, frame_cut_t* cut) noexcept nogil
cdef frame_step_t frame_next_length(length_state_t* s, const char* p, size_t n, frame_cut_t* cut) noexcept nogil

# Appends one event of a server-sent event stream. ``event`` and ``id`` may be NULL, ``retry_ms`` < 0 leaves that line
# out. ValueError where event or id holds CR, LF or NUL; LimitError or MemoryError of the buffer; nothing is appended
# then.
cdef int frame_put_sse(
    buffer_t* out, const char* data, size_t data_bytes, const char* event, size_t event_bytes,
    const char* id, size_t id_bytes, long long retry_ms,
) except -1 nogil
