"""The jsonrpc room in plain Python: the envelope of a JSON-RPC 2.0 message, without the values in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final, final

from erlmcp._model.json import Bounds, expect, read, read_string, skip_blank
from erlmcp.errors import INVALID_REQUEST, PARSE_ERROR, JsonError, LimitError

REQUEST: Final = 1
NOTIFICATION: Final = 2
RESULT: Final = 3
ERROR: Final = 4
BATCH: Final = 5
INVALID: Final = 6

ID_NONE: Final = 0
ID_INT: Final = 1
ID_STRING: Final = 2
ID_NULL: Final = 3
ID_BAD: Final = 4

ID_BYTES_MAX: Final = 1024
VERSION_KEY: Final = "io.modelcontextprotocol/protocolVersion"

_TOP: Final = ("jsonrpc", "id", "method", "params", "result", "error")
_PARAMS: Final = ("name", "uri", "arguments", "_meta")
_META: Final = (VERSION_KEY, "progressToken")


@final
class Envelope:
    def __init__(self) -> None:
        self.kind = INVALID
        self.code = 0
        self.message: str | None = None
        self.position = 0
        self.is_response = False
        self.meta_hit = False
        self.items: list[bytes] = []
        self.found: dict[str, bytes] = {}  # the value of each key that is looked for
        self.twice: set[str] = set()
        self.seen: set[str] = set()

    def _raw(self, key: str) -> bytes | None:
        return None if self.kind == INVALID else self.found.get(key)

    def _text(self, key: str) -> str | None:
        raw = self._raw(key)
        return json.loads(raw) if raw is not None and raw.startswith(b'"') else None

    @property
    def id_kind(self) -> int:
        raw = self.found.get("id")
        if raw is None or (self.kind == INVALID and (self.code == PARSE_ERROR or "id" in self.twice)):
            return ID_NONE
        if len(raw) > ID_BYTES_MAX:
            return ID_BAD
        if raw == b"null":
            return ID_NULL
        if raw.startswith(b'"'):
            return ID_STRING
        return ID_INT if not raw.strip(b"-0123456789") else ID_BAD

    @property
    def id(self) -> bytes | None:
        if self.kind == INVALID and self.id_kind not in (ID_INT, ID_STRING):
            return None
        return self.found.get("id")

    @property
    def method(self) -> str | None:
        return self._text("method")

    @property
    def params(self) -> bytes | None:
        return self._raw("params")

    @property
    def result(self) -> bytes | None:
        return self._raw("result")

    @property
    def error(self) -> bytes | None:
        return self._raw("error")

    @property
    def name(self) -> str | None:
        return self._text("name")

    @property
    def uri(self) -> str | None:
        return self._text("uri")

    @property
    def arguments(self) -> bytes | None:
        return self._raw("arguments")

    @property
    def meta(self) -> bytes | None:
        return self._raw("_meta")

    @property
    def protocol_version(self) -> str | None:
        return self._text(VERSION_KEY)

    @property
    def progress_token(self) -> bytes | None:
        return self._raw("progressToken")


def _members(data: bytes, at: int, bounds: Bounds, depth: int, visit: Callable[[str, int], int]) -> int:
    """The object at ``at``: ``visit`` is told of each key and of where its value starts, and says where it ends."""
    if depth >= bounds.depth_max:
        raise bounds.passed("depth_max", at)
    at = skip_blank(data, at + 1)
    if data[at : at + 1] == b"}":
        return at + 1
    while True:
        expect(data, at, b'"', "expected a key in quotes")
        key, at = read_string(data, at, bounds)
        at = expect(data, skip_blank(data, at), b":", "expected a colon")
        at = skip_blank(data, visit(key, skip_blank(data, at)))
        if data[at : at + 1] != b",":
            return expect(data, at, b"}", "expected a comma or a closing bracket")
        at = skip_blank(data, at + 1)


def _scan_object(data: bytes, at: int, bounds: Bounds, depth: int, keys: tuple[str, ...], into: Envelope) -> int:
    """Notes the values of ``keys``, and goes into params and into its _meta."""

    def visit(key: str, at: int) -> int:
        if key not in keys:
            return read(data, at, bounds, depth + 1)[1]
        (into.twice if key in into.seen else into.seen).add(key)
        if key == "params" and data[at : at + 1] == b"{":
            end = _scan_object(data, at, bounds, 1, _PARAMS, into)
        elif key == "_meta" and data[at : at + 1] == b"{":
            end = _scan_object(data, at, bounds, 2, _META, into)
        else:
            end = read(data, at, bounds, depth + 1)[1]
        into.found[key] = data[at:end]
        return end

    return _members(data, at, bounds, depth, visit)


def _scan_batch(data: bytes, at: int, bounds: Bounds) -> list[bytes]:
    items: list[bytes] = []
    at = skip_blank(data, at + 1)
    if data[at : at + 1] != b"]":
        while True:
            end = read(data, at, bounds, 1)[1]
            items.append(data[at:end])
            at = skip_blank(data, end)
            if data[at : at + 1] != b",":
                break
            at = skip_blank(data, at + 1)
    _expect_end(data, expect(data, at, b"]", "expected a comma or a closing bracket"))
    return items


def _expect_end(data: bytes, at: int) -> None:
    at = skip_blank(data, at)
    if at != len(data):
        raise JsonError("expected the end of the text", at)


def _wrong_shape(envelope: Envelope) -> str | None:
    found = envelope.found
    if envelope.twice & set(_TOP):
        return "a key of the message stands there twice"
    version = found.get("jsonrpc", b"")
    if not version.startswith(b'"') or json.loads(version) != "2.0":
        return 'jsonrpc must be "2.0"'
    if envelope.id_kind == ID_BAD:
        return "id must be a string or an integer of at most 1024 bytes"
    if "method" in found:
        if not found["method"].startswith(b'"'):
            return "method must be a string"
        if "result" in found or "error" in found:
            return "method together with result or error"
        if envelope.id_kind == ID_NULL:
            return "id must not be null"
        if not found.get("params", b"{").startswith((b"{", b"[")):
            return "params must be an object or an array"
        return "a key of params stands there twice" if envelope.twice else None
    if "result" not in found and "error" not in found:
        return "neither method, result nor error"
    if "result" in found and "error" in found:
        return "result together with error"
    if not found.get("error", b"{").startswith(b"{"):
        return "error must be an object"
    if "result" in found and envelope.id_kind not in (ID_INT, ID_STRING):
        return "a result must have an id"
    return None


def _scan(data: bytes, bounds: Bounds, envelope: Envelope) -> None:
    at = skip_blank(data, 0)
    if data[at : at + 1] == b"[":
        envelope.items = _scan_batch(data, at, bounds)
        if not envelope.items:
            raise _ShapeError("an empty batch")
        envelope.kind = BATCH
        return
    if data[at : at + 1] != b"{":
        _expect_end(data, read(data, at, bounds)[1])
        raise _ShapeError("a message must be an object")
    _expect_end(data, _scan_object(data, at, bounds, 0, _TOP, envelope))
    wrong = _wrong_shape(envelope)
    if wrong is not None:
        raise _ShapeError(wrong)
    if "method" in envelope.found:
        envelope.kind = REQUEST if "id" in envelope.found else NOTIFICATION
    else:
        envelope.kind = RESULT if "result" in envelope.found else ERROR


class _ShapeError(Exception):
    pass


def scan(
    data: bytes | bytearray | memoryview,
    *,
    depth_max: int = 128,
    string_bytes_max: int = 4194304,
    number_bytes_max: int = 1024,
    like: Envelope | None = None,
) -> Envelope:
    bounds = Bounds(depth_max, string_bytes_max, number_bytes_max, is_skipping=True)
    envelope = Envelope()
    try:
        _scan(bytes(memoryview(data)), bounds, envelope)
    except JsonError as error:
        envelope.code = PARSE_ERROR
        envelope.message = f"Parse error: {error.message}"
        envelope.position = error.position
    except LimitError as error:
        envelope.code = INVALID_REQUEST
        envelope.message = f"Invalid Request: limit {error.limit} exceeded"
        envelope.position = int(error.detail.removeprefix("at byte "))
    except _ShapeError as error:
        envelope.code = INVALID_REQUEST
        envelope.message = f"Invalid Request: {error}"
    answer = bool(envelope.seen & {"result", "error"}) and "method" not in envelope.seen
    envelope.is_response = envelope.code == INVALID_REQUEST and answer
    meta = like.meta if like is not None else None
    envelope.meta_hit = meta is not None and meta.startswith(b"{") and meta == envelope.meta
    return envelope
