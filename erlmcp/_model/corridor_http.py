"""The corridor's way in over HTTP/1.1, in plain Python: bytes of a connection -> requests."""

from __future__ import annotations

import base64
import binascii
from typing import Any, Final

from erlmcp._model import http1
from erlmcp._model.correlation import Correlation
from erlmcp._model.corridor import Call, Routes, Scanner, bounded
from erlmcp._model.json import Bounds

MATCH_METHOD: Final = 1
MATCH_NAME: Final = 2
MATCH_VERSION: Final = 4

HEADS_MAX: Final = 4  # Head objects that a connection remembers


class Head:
    def __init__(self, parsed: http1.Request) -> None:
        self.tag: object = None
        self.verb, self.target, self.version = parsed.verb, parsed.target, parsed.version
        self.keep_alive, self.expect_continue = parsed.keep_alive, parsed.expect_continue
        self._names = [name.lower() for name, _ in parsed.fields]
        self.headers = parsed.headers
        self.headers.pop("content-length", None)
        # What makes a head the same as another.
        self.key = (self.verb, self.target, self.version, [
            (name, value) for name, value in parsed.fields if name.lower() != "content-length"
        ])  # fmt: skip

    def count(self, name: str) -> int:
        return self._names.count(name)

    def only(self, name: str) -> str | None:
        """The value of a header that is there once."""
        return self.headers[name] if self.count(name) == 1 else None


class HttpRequest:
    def __init__(self, head: Head | None, status: int = 0, message: str | None = None) -> None:
        self.head, self.status, self.message = head, status, message
        self.call: Call | None = None
        self.match = 0
        self.body = b""


class _Parser(http1.RequestParser):
    """Remembers the head of the request whose body is read."""

    head: Head | None = None

    def _start(self, head: bytes, events: list[Any]) -> None:
        super()._start(head, events)
        self.head = Head(self._message)

    def _complete(self, body: bytes | None, events: list[Any]) -> None:
        super()._complete(body, events)
        self.head = None


class HttpInbound:
    def __init__(
        self,
        routes: Routes | None = None,
        correlation: Correlation | None = None,
        *,
        head_bytes_max: int = 32768,
        header_count_max: int = 100,
        body_bytes_max: int = 4194304,
        depth_max: int = 128,
        string_bytes_max: int = 4194304,
        number_bytes_max: int = 1024,
        batch_count_max: int = 100,
    ) -> None:
        self.wants_continue = False
        bounds = Bounds(depth_max, string_bytes_max, number_bytes_max)
        self._scanner = Scanner(routes, correlation, batch_count_max, bounds)
        bounded("body_bytes_max", body_bytes_max, (1 << 32) - 1)
        self._parser = _Parser(head_bytes_max, header_count_max, body_bytes_max)
        self._heads: list[Head] = []

    @property
    def closed(self) -> bool:
        return self._parser.closed

    @property
    def phase(self) -> int:
        return 2 if self._parser.head is not None else 1 if self.buffered else 0

    @property
    def buffered(self) -> int:
        return self._parser.buffered

    def feed(self, data: bytes) -> list[HttpRequest]:
        before = self._parser.head
        requests = []
        for event in self._parser.feed(data):
            if isinstance(event, http1.HttpError):
                requests.append(HttpRequest(self._parser.head, event.status, event.message))
                self._parser.head = None
            else:
                requests.append(self._request(event))
        head = self._parser.head
        if head is None:
            self.wants_continue = False
        elif head is not before:
            self.wants_continue = self._parser.wants_continue and self.buffered == 0
        return requests

    def _request(self, event: http1.Request) -> HttpRequest:
        head = self._same(Head(event))
        request = HttpRequest(head)
        request.body = event.body
        kind = (head.only("content-type") or "").partition(";")[0].rstrip(" \t").lower()
        if head.verb == "POST" and kind == "application/json":
            request.call = self._scanner.scan(event.body)
            request.match = _match(head, request.call)
        return request

    def _same(self, head: Head) -> Head:
        for old in self._heads:
            if old.key == head.key:
                return old
        self._heads.append(head)
        del self._heads[:-HEADS_MAX]
        return head


def _match(head: Head, call: Call) -> int:
    bits = 0
    version = call.meta.protocol_version if call.meta is not None else None
    if call.method is not None and head.only("mcp-method") == call.method:
        bits |= MATCH_METHOD
    if call.name is not None and _header_name(head.only("mcp-name")) == call.name.encode():
        bits |= MATCH_NAME
    if version is not None and head.only("mcp-protocol-version") == version:
        bits |= MATCH_VERSION
    return bits


def _header_name(value: str | None) -> bytes | None:
    """The name that a Mcp-Name header says: base64 where it has its marks, else as it is; None if it is broken."""
    if value is None:
        return None
    if not (value.startswith("=?base64?") and value.endswith("?=") and len(value) >= 11):
        return value.encode("latin-1")
    try:
        return base64.b64decode(value[9:-2], validate=True)
    except (binascii.Error, ValueError):
        return None
