"""The twin of ``_core.frame`` in plain Python: what the compiled room must do, byte for byte."""

from __future__ import annotations

import re
from dataclasses import dataclass

from erlmcp.errors import LimitError

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")


def _read_limit(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0 or value >= 1 << 48:
        raise ValueError(f"{name} must be a whole number from 1 to 2**48, got {value!r}")
    return value


class LineFramer:
    """Newline framing: one message a line, ended by LF or CRLF; blank lines are passed over."""

    def __init__(self, message_bytes_max: int = 4194304) -> None:
        self._bytes_max = _read_limit("message_bytes_max", message_bytes_max)
        self._kept = b""
        self._is_discarding = False

    @property
    def buffered(self) -> int:
        return len(self._kept)

    def feed(self, data: bytes) -> list[bytes | LimitError]:
        found: list[bytes | LimitError] = []
        *lines, self._kept = (self._kept + data).split(b"\n")
        for line in lines:
            line = line.removesuffix(b"\r")
            if self._is_discarding or len(line) > self._bytes_max:
                found.append(LimitError("message_bytes_max", self._bytes_max, "a line was dropped"))
            elif line.strip(b" \t\r"):
                found.append(line)
            self._is_discarding = False
        if self._is_discarding or len(self._kept) > self._bytes_max + 1:  # the one more may be the CR of the line's end
            self._is_discarding = True
            self._kept = b""
        return found


class LengthFramer:
    """Content-Length framing: a bounded block of header lines, a blank line, and a body of that many bytes."""

    def __init__(self, message_bytes_max: int = 4194304, header_bytes_max: int = 4096) -> None:
        self._bytes_max = _read_limit("message_bytes_max", message_bytes_max)
        self._header_bytes_max = _read_limit("header_bytes_max", header_bytes_max)
        self._kept = b""
        self._left = -1  # bytes of the body, -1 while its header is read
        self._is_discarding = False
        self.closed = False

    @property
    def buffered(self) -> int:
        return len(self._kept)

    def feed(self, data: bytes) -> list[bytes | LimitError | ValueError]:
        found: list[bytes | LimitError | ValueError] = []
        if self.closed:
            return found
        self._kept += data
        try:
            while self._step(found):
                pass
        except ValueError as error:
            found.append(error)
            self.closed = True
            self._kept = b""
        return found

    def _step(self, found: list[bytes | LimitError | ValueError]) -> bool:
        if self._left < 0:
            end = re.search(rb"\n\r?\n", self._kept[: self._header_bytes_max])
            if end is None:
                if len(self._kept) >= self._header_bytes_max:
                    raise ValueError("broken frame header: header_bytes_max exceeded")
                return False
            self._left = self._read_header(self._kept[: end.end()])
            self._kept = self._kept[end.end() :]
            self._is_discarding = self._left > self._bytes_max
        if self._is_discarding:
            dropped = min(self._left, len(self._kept))
            self._kept = self._kept[dropped:]
            self._left -= dropped
            if self._left:
                return False
            found.append(LimitError("message_bytes_max", self._bytes_max, "a message was dropped"))
        elif len(self._kept) < self._left:
            return False
        else:
            found.append(self._kept[: self._left])
            self._kept = self._kept[self._left :]
        self._left = -1
        self._is_discarding = False
        return True

    def _read_header(self, block: bytes) -> int:
        length = -1
        while block[:2] != b"\r\n":
            name = _TOKEN.match(block)
            if name is None or block[name.end() : name.end() + 1] != b":":
                raise ValueError("broken frame header: a header line is not of the form 'Name: value'")
            value = _VALUE.match(block, name.end() + 1)
            assert value is not None
            if block[value.end() : value.end() + 2] != b"\r\n":
                raise ValueError(
                    "broken frame header: a header line does not end with CRLF, or holds a control character"
                )
            if name.group().lower() == b"content-length":
                if length >= 0:
                    raise ValueError("broken frame header: more than one Content-Length")
                digits = value.group().strip(b" \t")
                if re.fullmatch(rb"[0-9]{1,18}", digits) is None:
                    raise ValueError("broken frame header: Content-Length is not a number of 1 to 18 decimal digits")
                length = int(digits)
            block = block[value.end() + 2 :]
        if length < 0:
            raise ValueError("broken frame header: a header block without Content-Length")
        return length


@dataclass
class SseEvent:
    """One event of an event stream."""

    event: str
    data: bytes
    id: str = ""
    retry_ms: int | None = None


class SseFramer:
    """The parser of an event stream, WHATWG HTML, section 9.2.6."""

    def __init__(self, event_bytes_max: int = 4194304) -> None:
        self._bytes_max = _read_limit("event_bytes_max", event_bytes_max)
        self._start: bytes | None = b""  # the first bytes while they may be a byte order mark
        self._line = b""
        self._was_cr = False
        self._id = ""
        self.last_event_id = ""
        self.retry_ms: int | None = None
        self._reset()

    def _reset(self) -> None:
        self._event = ""
        self._data: list[bytes] = []
        self._retry: int | None = None
        self._event_bytes = 0

    @property
    def buffered(self) -> int:
        is_dropped = self._line[:1] == b":" or self._event_bytes + len(self._line) > self._bytes_max
        return (0 if is_dropped else len(self._line)) + len(b"\n".join(self._data))

    def feed(self, data: bytes) -> list[SseEvent | LimitError]:
        found: list[SseEvent | LimitError] = []
        if self._start is not None:
            self._start += data
            if len(self._start) < 3 and b"\xef\xbb\xbf".startswith(self._start):
                return found
            data, self._start = self._start.removeprefix(b"\xef\xbb\xbf"), None
        if self._was_cr and data:
            data = data.removeprefix(b"\n")
            self._was_cr = False
        if data:
            self._was_cr = data.endswith(b"\r")
        *lines, self._line = re.split(rb"\r\n|\r|\n", self._line + data)
        for line in lines:
            self._end_line(line, found)
        # Of a comment, and of an event that is too long, as much is kept as tells it.
        is_comment = self._line[:1] == b":"
        self._line = self._line[: 1 if is_comment else max(1, self._bytes_max + 1 - self._event_bytes)]
        return found

    def _end_line(self, line: bytes, found: list[SseEvent | LimitError]) -> None:
        if not line:
            self._dispatch(found)
        elif line[:1] != b":":
            self._event_bytes += len(line)
            if self._event_bytes <= self._bytes_max:
                self._read_field(line)

    def _read_field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._event = value.decode(errors="replace")
        elif name == b"id" and b"\0" not in value:
            self._id = value.decode(errors="replace")
        elif name == b"retry" and re.fullmatch(rb"[0-9]{1,15}", value):
            self._retry = self.retry_ms = int(value)

    def _dispatch(self, found: list[SseEvent | LimitError]) -> None:
        if self._event_bytes > self._bytes_max:
            found.append(LimitError("event_bytes_max", self._bytes_max, "an event was dropped"))
            self._id = self.last_event_id
        else:
            self.last_event_id = self._id
            if self._data:
                found.append(SseEvent(self._event or "message", b"\n".join(self._data), self._id, self._retry))
        self._reset()


def frame_sse(
    data: bytes, *, event: str | None = "message", id: str | None = None, retry_ms: int | None = None
) -> bytes:
    """One event as bytes."""
    lines = []
    for name, text in ("event", event), ("id", id):
        if text is None:
            continue
        if re.search("[\r\n\0]", text):
            raise ValueError("the event and the id of a server-sent event must not hold CR, LF or NUL")
        lines.append(f"{name}: {text}".encode())
    if retry_ms is not None:
        if retry_ms < 0:
            raise ValueError(f"retry_ms must not be negative, got {retry_ms}")
        lines.append(b"retry: %d" % retry_ms)
    lines += [b"data: " + line for line in re.split(b"\r\n|\r|\n", data)]
    return b"\n".join(lines) + b"\n\n"
