"""The json room in plain Python. One pass over the text, each token by a regular expression taken from RFC 8259."""

from __future__ import annotations

import json
import math
import re
import sys
from dataclasses import dataclass
from typing import Any, final

from erlmcp.errors import JsonError, LimitError

DEPTH_CEILING = 512

_BLANK = re.compile(rb"[ \t\n\r]*")  # section 2
_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")  # section 6
_HEX = rb"[0-9a-fA-F]"
_BODY = re.compile(  # section 7, and the UTF-8 of RFC 3629, section 4
    rb"(?:[\x20\x21\x23-\x5b\x5d-\x7f]"
    rb'|\\(?:["\\/bfnrt]'
    rb"|u(?:[0-9a-ceA-CEfF]HEX{3}|[dD][0-7]HEX{2}|[dD][89abAB]HEX{2}\\u[dD][c-fC-F]HEX{2}))"
    rb"|[\xc2-\xdf][\x80-\xbf]"
    rb"|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}|\xed[\x80-\x9f][\x80-\xbf]"
    rb"|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2}"
    rb")*+".replace(b"HEX", _HEX)
)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]HEX{2}".replace(b"HEX", _HEX))
_WORDS = ((b"true", True), (b"false", False), (b"null", None))


@dataclass(frozen=True)
class Bounds:
    """The limits of one decoding. ValueError where one is out of range."""

    depth_max: int = 128
    string_bytes_max: int = 4194304
    number_bytes_max: int = 1024
    is_skipping: bool = False  # numbers are checked and not made

    def __post_init__(self) -> None:
        if not 1 <= self.depth_max <= DEPTH_CEILING:
            raise ValueError(f"depth_max must be 1 to {DEPTH_CEILING}, got {self.depth_max}")
        if self.string_bytes_max < 1 or not 1 <= self.number_bytes_max < 1 << 31:
            raise ValueError(
                f"limits must be positive, got string_bytes_max {self.string_bytes_max}, "
                f"number_bytes_max {self.number_bytes_max}"
            )

    def passed(self, limit: str, at: int) -> LimitError:
        return LimitError(limit, getattr(self, limit), f"at byte {at}")


def skip_blank(data: bytes, at: int) -> int:
    found = _BLANK.match(data, at)
    assert found is not None
    return found.end()


def expect(data: bytes, at: int, byte: bytes, otherwise: str) -> int:
    if data[at : at + 1] == byte:
        return at + 1
    raise JsonError(otherwise if at < len(data) else "the text ends within a value", at)


def read_string(data: bytes, at: int, bounds: Bounds) -> tuple[str, int]:
    """The string whose opening quote is at ``at``, and where it ends."""
    found = _BODY.match(data, at + 1)
    assert found is not None
    end = found.end()
    if data[end : end + 1] != b'"':
        if end == len(data):
            raise JsonError("the text ends within a value", end)
        if data[end] == 0x5C:
            what = "lone surrogate escape" if _SURROGATE.match(data, end) else "bad escape"
            raise JsonError(f"{what} in a string", end)
        raise JsonError("invalid UTF-8" if data[end] >= 0x80 else "control character in a string", end)
    if end - at - 1 > bounds.string_bytes_max:
        raise bounds.passed("string_bytes_max", at)
    return json.loads(data[at : end + 1]), end + 1


def _read_scalar(data: bytes, at: int, bounds: Bounds) -> tuple[Any, int]:
    if data[at : at + 1] == b'"':
        return read_string(data, at, bounds)
    number = _NUMBER.match(data, at)
    if number is not None:
        text = number[0]
        if len(text) > bounds.number_bytes_max:
            raise bounds.passed("number_bytes_max", at)
        if bounds.is_skipping or text.strip(b"-0123456789"):
            return float(text), number.end()
        try:
            return int(text), number.end()
        except ValueError:
            maximum = sys.get_int_max_str_digits()
            raise LimitError("int_max_str_digits", maximum, "see sys.set_int_max_str_digits") from None
    for word, value in _WORDS:
        if data.startswith(word, at):
            return value, at + len(word)
    raise JsonError("expected a value" if at < len(data) else "the text ends within a value", at)


def _read_key(data: bytes, at: int, bounds: Bounds) -> tuple[str, int]:
    expect(data, at, b'"', "expected a key in quotes")
    key, at = read_string(data, at, bounds)
    return key, skip_blank(data, expect(data, skip_blank(data, at), b":", "expected a colon"))


def read(data: bytes, at: int, bounds: Bounds, depth: int = 0) -> tuple[Any, int]:
    """The value at ``at``, around which ``depth`` containers are open, and where it ends."""
    open_containers: list[tuple[dict[str, Any] | list[Any], str]] = []  # with the key that waits for its value
    while True:
        opening = data[at : at + 1]
        if opening in (b"{", b"["):
            if depth + len(open_containers) >= bounds.depth_max:
                raise bounds.passed("depth_max", at)
            at = skip_blank(data, at + 1)
            value: Any = {} if opening == b"{" else []
            if data[at : at + 1] != (b"}" if opening == b"{" else b"]"):
                key = ""
                if opening == b"{":
                    key, at = _read_key(data, at, bounds)
                open_containers.append((value, key))
                continue
            at += 1
        else:
            value, at = _read_scalar(data, at, bounds)
        while open_containers:  # a value is complete: give it to its container, and see whether that is, too
            container, key = open_containers.pop()
            if isinstance(container, dict):
                container[key] = value
            else:
                container.append(value)
            at = skip_blank(data, at)
            if data[at : at + 1] == b",":
                at = skip_blank(data, at + 1)
                if isinstance(container, dict):
                    key, at = _read_key(data, at, bounds)
                open_containers.append((container, key))
                break
            closing = b"}" if isinstance(container, dict) else b"]"
            at = expect(data, at, closing, "expected a comma or a closing bracket")
            value = container
        else:
            return value, at


def read_whole(data: bytes, bounds: Bounds) -> Any:
    value, at = read(data, skip_blank(data, 0), bounds)
    at = skip_blank(data, at)
    if at != len(data):
        raise JsonError("expected the end of the text", at)
    return value


def decode(
    data: bytes | bytearray | memoryview | str,
    *,
    depth_max: int = 128,
    string_bytes_max: int = 4194304,
    number_bytes_max: int = 1024,
) -> Any:
    bounds = Bounds(depth_max, string_bytes_max, number_bytes_max)
    if isinstance(data, str):
        text = data
        try:
            data = text.encode()
        except UnicodeEncodeError as error:
            raise JsonError("lone surrogate in the text", len(text[: error.start].encode())) from None
    return read_whole(bytes(memoryview(data)), bounds)


@final
class Raw:
    def __init__(self, data: bytes) -> None:
        if not isinstance(data, bytes):
            raise TypeError(f"expected bytes, got {type(data).__name__}")
        self.data = data
        read_whole(data, Bounds(DEPTH_CEILING, sys.maxsize, (1 << 31) - 1, is_skipping=True))

    @staticmethod
    def trusted(data: bytes) -> Raw:
        raw = Raw(b"null")
        raw.data = data
        return raw

    def __repr__(self) -> str:
        return f"Raw({self.data!r})"


def _quote(text: str) -> str:
    escaped = json.dumps(str.__str__(text), ensure_ascii=False)
    try:
        escaped.encode()
    except UnicodeEncodeError:
        raise JsonError("a str with a lone surrogate is not JSON") from None
    return escaped


def _write(value: object, depth: int, depth_max: int) -> str:
    if isinstance(value, str):
        return _quote(value)
    if value is None or value is True or value is False:
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        try:
            return int.__repr__(value)
        except ValueError:
            raise JsonError("an int with more digits than sys.get_int_max_str_digits() allows is not written") from None
    if isinstance(value, float):
        if not math.isfinite(value):
            raise JsonError(f"the float {float.__repr__(value)} is not JSON")
        return float.__repr__(value)
    if isinstance(value, Raw):
        return value.data.decode("utf-8", "surrogateescape")
    if isinstance(value, dict | list | tuple):
        if depth >= depth_max:
            raise LimitError("depth_max", depth_max, "the value to encode is nested deeper, or holds itself")
        parts = []
        if not isinstance(value, dict):
            for item in list.__iter__(value) if isinstance(value, list) else tuple.__iter__(value):
                parts.append(_write(item, depth + 1, depth_max))
            return "[" + ",".join(parts) + "]"
        for key, item in dict.items(value):
            if not isinstance(key, str):
                raise JsonError(f"a key of type {type(key).__name__} is not JSON: keys must be str")
            parts.append(_quote(key) + ":" + _write(item, depth + 1, depth_max))
        return "{" + ",".join(parts) + "}"
    raise JsonError(f"a value of type {type(value).__name__} is not JSON")


def encode(value: object, *, depth_max: int = 128) -> bytes:
    if not 1 <= depth_max <= DEPTH_CEILING:
        raise ValueError(f"depth_max must be 1 to {DEPTH_CEILING}, got {depth_max}")
    return _write(value, 0, depth_max).encode("utf-8", "surrogateescape")
