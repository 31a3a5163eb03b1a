"""The corridor's way out in plain Python: answers -> bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from erlmcp._model.json import encode
from erlmcp.errors import JsonError, LimitError

TEXT: Final = 0
VALUE: Final = 1
VALUE_AS_TEXT: Final = 2

BYTES_MAX_MAX: Final = 1 << 48
LARGE_BYTES: Final = 1 << 16

_BLANKS = bytes.maketrans(b"\r\n", b"  ")
_FRAMINGS = ("newline", "content_length", "none", "http", "sse")


class Template:
    def __init__(self, pieces: Sequence[bytes | tuple[int, int]]) -> None:
        self._pieces: list[bytes | tuple[int, int]] = []
        for piece in pieces:
            if not isinstance(piece, bytes):
                if type(piece) is not tuple or [type(part) for part in piece] != [int, int]:
                    raise TypeError(f"a piece must be bytes or (kind, index), got {piece!r}")
                if piece[0] not in (TEXT, VALUE, VALUE_AS_TEXT) or not 0 <= piece[1] < 1 << 30:
                    raise ValueError(f"a slot must be (TEXT, VALUE or VALUE_AS_TEXT, index from 0), got {piece!r}")
            self._pieces.append(piece)

    @property
    def slot_count(self) -> int:
        return sum(isinstance(piece, tuple) for piece in self._pieces)

    def fill(self, values: tuple[object, ...], depth_max: int) -> bytes:
        needed = max((piece[1] + 1 for piece in self._pieces if isinstance(piece, tuple)), default=0)
        if len(values) < needed:
            raise IndexError(f"the template needs {needed} values, got {len(values)}")
        parts = []
        for piece in self._pieces:
            if isinstance(piece, bytes):
                parts.append(piece.translate(_BLANKS))
                continue
            kind, value = piece[0], values[piece[1]]
            if kind == TEXT and not isinstance(value, str):
                raise JsonError(f"a TEXT slot needs a str, got {type(value).__name__}")
            text = encode(value, depth_max=depth_max)
            parts.append(encode(text.decode()) if kind == VALUE_AS_TEXT else text)
        return b"".join(parts)


class Outbound:
    def __init__(
        self, *, framing: str = "newline", bytes_max: int = 67108864, depth_max: int = 128, split_bytes: int = 0
    ) -> None:
        if framing not in _FRAMINGS:
            raise ValueError(f"framing must be one of {', '.join(_FRAMINGS)}, got {framing!r}")
        if not 1 <= bytes_max <= BYTES_MAX_MAX:
            raise ValueError(f"bytes_max must be from 1 to {BYTES_MAX_MAX}, got {bytes_max}")
        self.prefix = b""
        self._framing, self._max, self._depth_max = framing, bytes_max, depth_max
        self._held = b""
        self.split_bytes = split_bytes
        encode([], depth_max=depth_max)

    @property
    def is_large(self) -> bool:
        return len(self._held) >= LARGE_BYTES

    def _encode(self, value: object) -> bytes:
        return encode(value, depth_max=self._depth_max)

    def fill(self, id_raw: bytes, template: Template, values: tuple[object, ...]) -> None:
        result = template.fill(values, self._depth_max)
        self.message(b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (id_raw, result))

    def result(self, id_raw: bytes, value: object) -> None:
        self.message(b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (id_raw, self._encode(value)))

    def error(self, id_raw: bytes, code: int, message: str, data: object = None) -> None:
        if type(message) is not str:
            raise TypeError(f"message must be a str, got {type(message).__name__}")
        body = b'{"code":%d,"message":%b' % (code, self._encode(message))
        if data is not None:
            body += b',"data":' + self._encode(data)
        self.message(b'{"jsonrpc":"2.0","id":%b,"error":%b}}' % (id_raw, body))

    def request(self, id: str | int, method: str, params: object = None) -> None:
        if type(id) is not int and type(id) is not str:
            raise TypeError(f"id must be a str or an int, got {type(id).__name__}")
        self._method(b'"id":%b,' % self._encode(id), method, params)

    def notification(self, method: str, params: object = None) -> None:
        self._method(b"", method, params)

    def _method(self, id_part: bytes, method: str, params: object) -> None:
        if type(method) is not str:
            raise TypeError(f"method must be a str, got {type(method).__name__}")
        body = b'{"jsonrpc":"2.0",%b"method":%b' % (id_part, self._encode(method))
        if params is not None:
            body += b',"params":' + self._encode(params)
        self.message(body + b"}")

    def message(self, raw: bytes) -> None:
        match self._framing:
            case "newline":
                self.raw(raw.translate(_BLANKS) + b"\n")
            case "content_length":
                self.raw(b"Content-Length: %d\r\n\r\n%b" % (len(raw), raw))
            case "none":
                self.raw(raw)
            case "http":
                self.raw(b"%b%d\r\n\r\n%b" % (self.prefix, len(raw), raw))
            case "sse":
                self.raw(b"data: %b\n\n" % raw.translate(_BLANKS))

    def raw(self, data: bytes) -> None:
        if len(self._held) + len(data) > self._max:
            raise LimitError("bytes_max", self._max, f"{len(self._held) + len(data)} bytes")
        self._held += data

    def take(self) -> bytes:
        held, self._held = self._held, b""
        return held

    def take_parts(self) -> list[bytes | memoryview]:
        return [self.take()] if self._held else []

    def __len__(self) -> int:
        return len(self._held)
