"""HTTP/1.1 messages (RFC 9112, RFC 9110), read strictly and written safely, without input and output of their own.

The parsers give the same events and the same error for every way to cut their input into reads. Refused, as two
implementations may read it differently: Transfer-Encoding together with Content-Length, on HTTP/1.0, more than once,
or other than ``chunked``; Content-Length more than once or not of decimal digits; obsolete line folding; a bare CR, a
bare LF, NUL or another control character in a head or in the frame of a chunk; blanks around a header's name; a
missing or second Host; a target with a byte outside visible ASCII. One blank line before a request is passed over.
"""

from collections.abc import Iterable
from typing import Final, final

@final
class HttpError:
    """An event, not an exception: the input broke a rule, and the parser is closed.

    ``status`` is what a server answers: 400, 413 (body), 414 (first line), 417, 431 (head, header count, trailers), 501
    (transfer coding), 505 (version). ``message`` says what was wrong, naming the limit where one was met.
    """

    status: int
    message: str
    def __init__(self, status: int, message: str) -> None: ...
    def __eq__(self, other: object) -> bool: ...

class Message:
    """What a Request and a Response share."""

    version: int  # 10 or 11
    keep_alive: bool  # may the connection carry another message after this one?
    @property
    def fields(self) -> list[tuple[str, str]]:
        """Names and values as they came, in order; values without outer blanks, decoded as latin-1."""
    @property
    def headers(self) -> dict[str, str]:
        """Lower-case names to values; repeated fields joined with ", "."""

@final
class Request(Message):
    verb: str
    target: str
    expect_continue: bool  # "Expect: 100-continue" on HTTP/1.1
    body: bytes

@final
class Response(Message):
    status: int
    reason: str
    body: bytes | None  # None where the body follows in BodyPart events

@final
class BodyPart:
    """Bytes of a streamed body, as they came."""

    data: bytes
    def __init__(self, data: bytes) -> None: ...

@final
class BodyEnd:
    """The streamed body is complete."""

@final
class RequestParser:
    """The server's side of a connection: bytes to requests.

    A request comes out when its body is complete; pipelined requests come out in order. After an HttpError, and after
    a request whose connection is not kept alive, ``closed`` is true and all later input is ignored.
    """

    closed: bool
    wants_continue: bool  # a head with "Expect: 100-continue" was read and its body is awaited; the owner may clear it
    def __init__(self, head_bytes_max: int = 32768, header_count_max: int = 100, body_bytes_max: int = 4194304) -> None:
        """``head_bytes_max`` counts the first line, the fields and both blank lines. ValueError for a limit below 1."""
    def feed(self, data: bytes) -> list[Request | HttpError]: ...
    @property
    def buffered(self) -> int:
        """Bytes of an incomplete message held now."""

@final
class ResponseParser:
    """The client's side of a connection: bytes to responses.

    ``expect`` tells the verb of each request in the order they were sent, as the answer to HEAD has no body; without
    it GET is taken. Interim responses (1xx) come out as responses. With ``stream_events`` a ``text/event-stream``
    response comes out at the end of its head with body None, followed by BodyPart events and a BodyEnd;
    ``body_bytes_max`` does not bound such a body.
    """

    closed: bool
    def __init__(
        self,
        head_bytes_max: int = 32768,
        header_count_max: int = 100,
        body_bytes_max: int = 4194304,
        *,
        stream_events: bool = False,
    ) -> None: ...
    def expect(self, verb: str) -> None: ...
    def feed(self, data: bytes) -> list[Response | BodyPart | BodyEnd | HttpError]: ...
    def finish(self) -> list[Response | BodyEnd | HttpError]:
        """The peer closed: completes a body that ends with the connection; an HttpError where a message was cut
        short."""
    @property
    def buffered(self) -> int: ...

def match_head(old: bytes, data: bytes) -> tuple[int, int] | None:
    """Does ``data`` start with the request head ``old``, but for the value of Content-Length?

    The bytes of the head in ``data`` and its Content-Length (-1: none), or None where the heads differ, are not all
    here, or the length has more than 18 digits. What was concluded from ``old`` then holds for the new head, too; its
    length is still to be held against the limit. ValueError where ``old`` is not one whole head.
    """

def decode_chunked(data: bytes, body_bytes_max: int = 4194304) -> tuple[bytes, int]:
    """A whole chunked body at the front of ``data``: the decoded body, and the bytes of ``data`` it took, trailers
    included.

    LimitError (a ValueError) over ``body_bytes_max``, ValueError where the coding is broken or has not ended.
    Extensions (at most 4096 bytes together) and trailers (at most 8192) are dropped.
    """

REASONS: Final[dict[int, str]]
"""Status codes to their standard phrases (RFC 9110, section 15, and the registry's later ones)."""

def request_head(verb: str, target: str, headers: Iterable[tuple[str, str]]) -> bytes:
    """A request's first line, its fields and the blank line. ValueError where a part holds what its place does not
    allow: CR, LF, NUL and other control characters anywhere, blanks in the target, anything but a token as verb or
    name."""

def response_head(status: int, headers: Iterable[tuple[str, str]], reason: str | None = None) -> bytes:
    """A response's first line, its fields and the blank line; the standard reason where none is given. ValueError as
    above, and for a status outside 100 to 599."""
