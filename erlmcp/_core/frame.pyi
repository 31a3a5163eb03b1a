"""Cutting a byte stream into messages, and writing server-sent events.

Every framer gives the same messages and the same errors for every way to cut its input into reads. A message over its
limit is reported once, in its place, when its end arrives; its bytes are dropped as they come, and its neighbours are
untouched.
"""

from typing import final

from erlmcp.errors import LimitError

@final
class LineFramer:
    """Newline framing, as MCP's stdio transport has it: one message a line, ended by LF or CRLF.

    ``message_bytes_max`` bounds a line without its end. Lines of nothing but blanks, tabs and CRs are passed over.
    """

    def __init__(self, message_bytes_max: int = 4194304) -> None: ...
    def feed(self, data: bytes) -> list[bytes | LimitError]:
        """All lines that end within ``data``, in order; a LimitError in place of each that is too long."""
    @property
    def buffered(self) -> int:
        """Bytes of an incomplete line held now."""

@final
class LengthFramer:
    """Content-Length framing, the base protocol of the Language Server Protocol (3.17).

    A header block of ``Name: value`` lines ended by CRLF and a blank line, at most ``header_bytes_max`` bytes;
    Content-Length once, in any case; other fields (Content-Type) are passed over. Anything else is fatal, as the next
    message cannot be found.
    """

    def __init__(self, message_bytes_max: int = 4194304, header_bytes_max: int = 4096) -> None: ...
    def feed(self, data: bytes) -> list[bytes | LimitError | ValueError]:
        """All messages that end within ``data``, in order. A broken header gives one ValueError (not raised) as the
        last item; after that ``closed`` is true and all later input is ignored."""
    @property
    def buffered(self) -> int:
        """Bytes of an incomplete header block or message held now."""
    @property
    def closed(self) -> bool: ...

@final
class SseEvent:
    """One event of an event stream. ``data`` is UTF-8 as it was sent, its lines joined by LF; ``id`` is the last
    event id at that point of the stream ("" where none was sent yet); ``retry_ms`` is set where the event's own block
    had a valid one."""

    event: str
    data: bytes
    id: str
    retry_ms: int | None
    def __init__(self, event: str, data: bytes, id: str = "", retry_ms: int | None = None) -> None: ...
    def __eq__(self, other: object) -> bool: ...

@final
class SseFramer:
    """The parser of an event stream (WHATWG HTML, section 9.2.6), for clients.

    ``event_bytes_max`` bounds the lines of one event together, without their ends and without comments. An event that
    is too long gives a LimitError where it ends and leaves the last event id as it was.
    """

    def __init__(self, event_bytes_max: int = 4194304) -> None: ...
    def feed(self, data: bytes) -> list[SseEvent | LimitError]:
        """All events that end within ``data``, in order. Blocks without a data line are no events."""
    @property
    def buffered(self) -> int:
        """Bytes of an incomplete event held now."""
    @property
    def last_event_id(self) -> str:
        """What a reconnection sends as Last-Event-ID; "" for none."""
    @property
    def retry_ms(self) -> int | None:
        """The reconnection time the server asked for last, in milliseconds (at most 15 digits; longer ones are
        ignored)."""

def frame_sse(
    data: bytes, *, event: str | None = "message", id: str | None = None, retry_ms: int | None = None
) -> bytes:
    """One event as bytes: event, id and retry lines where given, one ``data:`` line for each line of ``data``, a
    blank line.

    CRLF, CR and LF all end a line of ``data``; the receiver sees LF. ValueError where ``event`` or ``id`` holds CR,
    LF or NUL, or ``retry_ms`` is negative.
    """
