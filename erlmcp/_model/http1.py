"""The twin of ``_core.http1`` in plain Python: what the compiled room must do, in the order it must look at things."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Any, Final

from erlmcp.errors import LimitError

_LENGTH_MAX = 1 << 62
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]*")
_TARGET = re.compile(rb"[\x21-\x7e]*")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_HOST = re.compile(rb"[!$%&'()*+,\-.0-9:;=A-Z\[\]_a-z~]*")

REASONS: Final[dict[int, str]] = {
    100: "Continue", 101: "Switching Protocols", 103: "Early Hints", 200: "OK", 201: "Created", 202: "Accepted",
    204: "No Content", 301: "Moved Permanently", 302: "Found", 303: "See Other", 304: "Not Modified",
    307: "Temporary Redirect", 308: "Permanent Redirect", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden",
    404: "Not Found", 405: "Method Not Allowed", 406: "Not Acceptable", 408: "Request Timeout", 409: "Conflict",
    410: "Gone", 413: "Content Too Large", 414: "URI Too Long", 415: "Unsupported Media Type",
    417: "Expectation Failed", 422: "Unprocessable Content", 429: "Too Many Requests",
    431: "Request Header Fields Too Large", 500: "Internal Server Error", 501: "Not Implemented", 502: "Bad Gateway",
    503: "Service Unavailable", 504: "Gateway Timeout", 505: "HTTP Version Not Supported",
}  # fmt: skip


@dataclass
class HttpError:
    """An event: the input broke a rule, and the parser is closed."""

    status: int
    message: str


class _Refusal(Exception):
    """Status and message of an HttpError."""


@dataclass
class Message:
    """What a Request and a Response share."""

    version: int
    keep_alive: bool
    fields: list[tuple[str, str]]

    @property
    def headers(self) -> dict[str, str]:
        joined: dict[str, str] = {}
        for name, value in self.fields:
            name = name.lower()
            joined[name] = f"{joined[name]}, {value}" if name in joined else value
        return joined


@dataclass
class Request(Message):
    verb: str
    target: str
    expect_continue: bool
    body: bytes = b""


@dataclass
class Response(Message):
    status: int
    reason: str
    body: bytes | None = None


@dataclass
class BodyPart:
    """Bytes of a streamed body."""

    data: bytes


@dataclass
class BodyEnd:
    """The streamed body is complete."""


class _More(Exception):
    """The text ended before the head did."""


class _Head:
    """The fields of a head, from the first field line on, and what they say together."""

    def __init__(self, text: bytes, header_count_max: int, version: int) -> None:
        self.version = version
        self.fields: list[tuple[str, str]] = []
        self.values: dict[str, list[bytes]] = {}
        while not text.startswith(b"\r\n"):
            if text in (b"", b"\r"):
                raise _More
            text = self._read_field(text, header_count_max)

    def _read_field(self, text: bytes, header_count_max: int) -> bytes:
        end = _end(_TOKEN, text, 0)
        if end == len(text):
            raise _More
        if text[end : end + 1] != b":" or end == 0:
            raise _Refusal(400, "a header name holds a byte that is not allowed, or its colon is missing")
        if len(self.fields) == header_count_max:
            raise _Refusal(431, "header_count_max exceeded")
        stop = _end(_VALUE, text, end + 1)
        if text[stop:] in (b"", b"\r"):
            raise _More
        if text[stop : stop + 2] != b"\r\n":
            raise _Refusal(400, "a header value holds a control character, a bare CR or a bare LF")
        name, value = text[:end].decode(), text[end + 1 : stop].strip(b" \t")
        self.fields.append((name, value.decode("latin-1")))
        self.values.setdefault(name.lower(), []).append(value)
        return text[stop + 2 :]

    def settle_host(self) -> None:
        hosts = self.values.get("host", [])
        if len(hosts) > 1 or (not hosts and self.version == 11):
            raise _Refusal(400, "expected one Host")
        if hosts and not _HOST.fullmatch(hosts[0]):
            raise _Refusal(400, "Host holds a byte that is not allowed")

    def settle_length(self) -> None:
        codings, lengths = self.values.get("transfer-encoding", []), self.values.get("content-length", [])
        self.is_chunked = bool(codings)
        self.content_length = -1
        if codings:
            if lengths or len(codings) > 1 or self.version != 11:
                raise _Refusal(400, "Transfer-Encoding with Content-Length, twice, or on HTTP/1.0")
            if codings[0].lower() != b"chunked":
                raise _Refusal(501, "the only transfer coding that is served is chunked")
        if lengths:
            if len(lengths) > 1 or not lengths[0].isdigit():
                raise _Refusal(400, "Content-Length is not one number of decimal digits")
            digits = lengths[0].lstrip(b"0")
            if len(digits) > 19 or int(digits or b"0") > _LENGTH_MAX:
                raise _Refusal(413, "Content-Length is over any limit")
            self.content_length = int(digits or b"0")

    @property
    def keep_alive(self) -> bool:
        values = self.values.get("connection", [])
        tokens = {token.strip(b" \t").lower() for value in values for token in value.split(b",")}
        return b"close" not in tokens and (self.version == 11 or b"keep-alive" in tokens)


def _end(pattern: re.Pattern[bytes], text: bytes, start: int) -> int:
    match = pattern.match(text, start)
    assert match is not None  # each of the patterns matches nothing, too
    return match.end()


def _version(text: bytes) -> int:
    if len(text) < 8:
        raise _More
    if not re.match(rb"HTTP/[0-9]\.[0-9]", text):
        raise _Refusal(400, "expected the version as HTTP/1.1 or HTTP/1.0")
    if text[:8] not in (b"HTTP/1.1", b"HTTP/1.0"):
        raise _Refusal(505, "this HTTP version is not served; expected HTTP/1.1 or HTTP/1.0")
    return 10 + int(text[7:8])


class _Chunks:
    """The chunked coding, one byte after the other: ``feed`` says how many bytes it took; ``body`` grows."""

    def __init__(self, body_bytes_max: float) -> None:
        self._body_bytes_max = body_bytes_max
        self._body_bytes = self._left = 0
        self.body = bytearray()
        self.is_done = False
        self._machine = self._run()
        next(self._machine)

    def feed(self, data: bytes) -> int:
        at = 0
        while at < len(data) and not self.is_done:
            size = min(self._left, len(data) - at)
            self.body += data[at : at + size]
            self._left -= size
            if size == 0:
                self._machine.send(data[at : at + 1])
            at += size or 1
        return at

    def _run(self) -> Generator[None, bytes, None]:  # is sent what is not data, one byte at a time
        extension_bytes = 0
        while True:
            digits = b""
            while re.fullmatch(rb"[0-9A-Fa-f]", byte := (yield)):
                digits += byte
                if len(digits) > 15:
                    raise _Refusal(400, "a chunk's size has more than 15 digits")
            if not digits or byte not in (b"\r", b";"):
                raise _Refusal(400, "a chunk's size is not of hexadecimal digits")
            size = int(digits, 16)
            if size + self._body_bytes > self._body_bytes_max:
                raise _Refusal(413, "body_bytes_max exceeded")
            if byte == b";":
                while (byte := (yield)) != b"\r":
                    extension_bytes += 1
                    if not _VALUE.fullmatch(byte):
                        raise _Refusal(400, "a chunk extension holds a control character")
                    if extension_bytes > 4096:
                        raise _Refusal(413, "chunk extensions of more than 4096 bytes")
            yield from self._expect(b"\n")
            if size == 0:
                break
            self._left = size
            self._body_bytes += size
            yield from self._expect(b"\r")
            yield from self._expect(b"\n")
        yield from self._trailers()
        self.is_done = True
        yield

    def _expect(self, wanted: bytes) -> Generator[None, bytes, None]:
        if (yield) != wanted:
            raise _Refusal(400, "a CR or an LF is missing in the frame of a chunk")

    def _trailers(self) -> Generator[None, bytes, None]:
        line, trailer_bytes = b"", 0
        while True:
            byte = yield
            if byte == b"\r" and (not line or b":" in line):
                yield from self._expect(b"\n")
                if not line:
                    return
                line = b""
                continue
            trailer_bytes += 1
            if trailer_bytes > 8192:
                raise _Refusal(431, "trailers of more than 8192 bytes")
            is_name = b":" not in line and not (line and byte == b":")
            if not (_TOKEN if is_name else _VALUE).fullmatch(byte):
                raise _Refusal(400, "a trailer holds a byte that is not allowed")
            line += byte


def _read_limit(name: str, value: object, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0 or value > most:
        raise ValueError(f"{name} must be a whole number from 1 to {most}, got {value!r}")
    return value


class _Parser:
    def __init__(self, head_bytes_max: int = 32768, header_count_max: int = 100, body_bytes_max: int = 4194304) -> None:
        self._head_bytes_max = _read_limit("head_bytes_max", head_bytes_max, 1 << 30)
        self._header_count_max = _read_limit("header_count_max", header_count_max, 1 << 20)
        self._body_bytes_max = _read_limit("body_bytes_max", body_bytes_max, 1 << 48)
        self._kept = b""
        self._chunks: _Chunks | None = None
        self._left: float = -1  # bytes of the body to come; -1 within a head; infinite: until the connection ends
        self._is_streamed = False
        self.closed = False

    @property
    def buffered(self) -> int:
        return len(self._kept) + (len(self._chunks.body) if self._chunks else 0)

    def feed(self, data: bytes) -> list[Any]:
        events: list[Any] = []
        if self.closed:
            return events
        self._kept += data
        try:
            while not self.closed and self._step(events):
                pass
        except _Refusal as refusal:
            events.append(HttpError(*refusal.args))
            self.closed = True
        if self.closed:
            self._kept, self._chunks = b"", None
        return events

    def _step(self, events: list[Any]) -> bool:
        if self._left < 0:
            return self._take_head(events)
        return self._take_chunks(self._chunks, events) if self._chunks else self._take_length(events)

    def _take_head(self, events: list[Any]) -> bool:
        window = self._kept[: self._head_bytes_max]
        blank_line = re.search(rb"\n\r?\n", window)
        if blank_line is None and len(self._kept) < self._head_bytes_max:
            return False
        end = blank_line.end() if blank_line else len(window)
        try:
            self._start(self._kept[:end], events)
        except _More:
            if blank_line:
                raise _Refusal(400, "the head ends within a line") from None
            if b"\n" not in window and isinstance(self, RequestParser):
                raise _Refusal(414, "head_bytes_max exceeded by the first line") from None
            raise _Refusal(431, "head_bytes_max exceeded") from None
        self._kept = self._kept[end:]
        return True

    def _start(self, head: bytes, events: list[Any]) -> None:
        raise NotImplementedError

    def _complete(self, body: bytes | None, events: list[Any]) -> None:
        raise NotImplementedError

    def _take_length(self, events: list[Any]) -> bool:
        size = int(min(self._left, len(self._kept)))
        if self._is_streamed:
            if size:
                events.append(BodyPart(self._kept[:size]))
            self._left -= size
        elif self._left == float("inf") and size > self._body_bytes_max:
            raise _Refusal(413, "body_bytes_max exceeded")
        elif size < self._left:
            return False
        else:
            self._left = 0
        body, self._kept = self._kept[:size], self._kept[size:]
        if self._left == 0:
            self._complete(body, events)
        return self._left < 0

    def _take_chunks(self, chunks: _Chunks, events: list[Any]) -> bool:
        try:
            self._kept = self._kept[chunks.feed(self._kept) :]
        finally:
            if self._is_streamed and chunks.body:
                events.append(BodyPart(bytes(chunks.body)))
                chunks.body.clear()
        if chunks.is_done:
            self._complete(bytes(chunks.body), events)
        return chunks.is_done


class RequestParser(_Parser):
    """The server's side of a connection: bytes to requests."""

    wants_continue = False

    def _start(self, head: bytes, events: list[Any]) -> None:
        if head == b"\r":
            raise _More
        if head[:1] == b"\r" and head[1:2] != b"\n":
            raise _Refusal(400, "a CR without its LF")
        text = head.removeprefix(b"\r\n")
        words = []
        for pattern in _TOKEN, _TARGET:
            end = _end(pattern, text, 0)
            if end == len(text):
                raise _More
            if end == 0 or text[end : end + 1] != b" ":
                raise _Refusal(400, "expected a method, one blank, a target of visible ASCII and one blank")
            words.append(text[:end].decode())
            text = text[end + 1 :]
        version = _version(text)
        if len(text) < 10:
            raise _More
        if text[8:10] != b"\r\n":
            raise _Refusal(400, "expected CRLF after the version")
        fields = _Head(text[10:], self._header_count_max, version)
        fields.settle_host()
        fields.settle_length()
        expectations = {value.lower() for value in fields.values.get("expect", [])}
        if expectations - {b"100-continue"}:
            raise _Refusal(417, "the only expectation that is served is 100-continue")
        if fields.content_length > self._body_bytes_max:
            raise _Refusal(413, "body_bytes_max exceeded")
        is_expecting = bool(expectations) and version == 11
        self._message = Request(version, fields.keep_alive, fields.fields, words[0], words[1], is_expecting)
        self._left = max(fields.content_length, 0)
        self._chunks = _Chunks(self._body_bytes_max) if fields.is_chunked else None
        self.wants_continue = is_expecting and (fields.is_chunked or self._left > 0)

    def _complete(self, body: bytes | None, events: list[Any]) -> None:
        self._message.body = body or b""
        events.append(self._message)
        self.closed = not self._message.keep_alive
        self.wants_continue = False
        self._left, self._chunks = -1, None


class ResponseParser(_Parser):
    """The client's side of a connection: bytes to responses."""

    def __init__(self, *limits: int, stream_events: bool = False, **named_limits: int) -> None:
        super().__init__(*limits, **named_limits)
        self._stream_events = stream_events
        self._verbs: list[str] = []

    def expect(self, verb: str) -> None:
        self._verbs.append(verb)

    def finish(self) -> list[Any]:
        events: list[Any] = []
        if not self.closed:
            if self._left == float("inf"):
                self._complete(self._kept, events)
            elif self._left >= 0 or self._kept:
                events.append(HttpError(400, "the connection ended within a message"))
        self.closed = True
        self._kept, self._chunks = b"", None
        return events

    def _start(self, head: bytes, events: list[Any]) -> None:
        version = _version(head)
        if len(head) < 13:
            raise _More
        if not re.match(rb" [1-5][0-9][0-9]", head[8:]):
            raise _Refusal(400, "expected a status from 100 to 599 of three digits")
        status, end = int(head[9:12]), 12
        if head[12:13] == b" ":
            end = _end(_VALUE, head, 13)
        if head[end:] in (b"", b"\r"):
            raise _More
        if head[end : end + 2] != b"\r\n":
            raise _Refusal(400, "expected a reason phrase and CRLF after the status")
        fields = _Head(head[end + 2 :], self._header_count_max, version)
        fields.settle_length()
        verb = self._verbs.pop(0) if status >= 200 and self._verbs else "GET"
        has_body = status >= 200 and status not in (204, 304) and verb != "HEAD"
        is_until_close = has_body and not fields.is_chunked and fields.content_length < 0
        media = fields.values.get("content-type", [b""])[0].lower()
        is_event_stream = bool(re.match(rb"text/event-stream([; \t]|$)", media))
        self._is_streamed = self._stream_events and has_body and is_event_stream
        if has_body and not self._is_streamed and fields.content_length > self._body_bytes_max:
            raise _Refusal(413, "body_bytes_max exceeded")
        keep_alive = fields.keep_alive and not is_until_close and status != 101
        self._message = Response(version, keep_alive, fields.fields, status, head[13:end].decode("latin-1"))
        self._left = float("inf") if is_until_close else fields.content_length if has_body else 0
        if has_body and fields.is_chunked:
            self._left = 0
            self._chunks = _Chunks(float("inf") if self._is_streamed else self._body_bytes_max)
        if self._is_streamed:
            events.append(self._message)

    def _complete(self, body: bytes | None, events: list[Any]) -> None:
        if self._is_streamed:
            events.append(BodyEnd())
        else:
            self._message.body = body
            events.append(self._message)
        self.closed = not self._message.keep_alive and (self._message.status >= 200 or self._message.status == 101)
        self._is_streamed = False
        self._left, self._chunks = -1, None


def match_head(old: bytes, data: bytes) -> tuple[int, int] | None:
    """Is the head at the front of ``data`` the request head ``old`` but for the value of Content-Length?"""
    length = re.search(rb"\r\ncontent-length:[ \t]*([0-9]*)", old, re.IGNORECASE)
    if length is None:
        return (len(old), -1) if data.startswith(old) else None
    before, after = re.escape(old[: length.start(1)]), re.escape(old[length.end(1) :])
    found = re.match(before + rb"([0-9]{1,18})" + after, data)
    return (found.end(), int(found[1])) if found else None


def decode_chunked(data: bytes, body_bytes_max: int = 4194304) -> tuple[bytes, int]:
    """A whole chunked body at the front of ``data``."""
    chunks = _Chunks(_read_limit("body_bytes_max", body_bytes_max, 1 << 48))
    try:
        used = chunks.feed(data)
    except _Refusal as refusal:
        if refusal.args[1] == "body_bytes_max exceeded":
            raise LimitError("body_bytes_max", body_bytes_max) from None
        raise ValueError(refusal.args[1]) from None
    if not chunks.is_done:
        raise ValueError("the chunked body has not ended")
    return bytes(chunks.body), used


def _checked(text: str, pattern: re.Pattern[bytes], may_be_empty: bool, what: str) -> bytes:
    raw = text.encode("latin-1")
    if not pattern.fullmatch(raw) or not (raw or may_be_empty):
        raise ValueError(f"{what} {text!r} is empty or holds a character that is not allowed there")
    return raw


def _finish_head(first_line: bytes, headers: Iterable[tuple[str, str]]) -> bytes:
    lines = [first_line]
    for name, value in headers:
        checked_name = _checked(name, _TOKEN, False, "header name")
        lines.append(checked_name + b": " + _checked(value, _VALUE, True, "header value"))
    return b"\r\n".join([*lines, b"", b""])


def request_head(verb: str, target: str, headers: Iterable[tuple[str, str]]) -> bytes:
    """A request's first line, its fields and the blank line."""
    first = _checked(verb, _TOKEN, False, "method") + b" " + _checked(target, _TARGET, False, "target")
    return _finish_head(first + b" HTTP/1.1", headers)


def response_head(status: int, headers: Iterable[tuple[str, str]], reason: str | None = None) -> bytes:
    """A response's first line, its fields and the blank line."""
    if not 100 <= status <= 599:
        raise ValueError(f"expected a status from 100 to 599, got {status}")
    phrase = _checked(REASONS.get(status, "") if reason is None else reason, _VALUE, True, "reason")
    return _finish_head(b"HTTP/1.1 %d " % status + phrase, headers)
