"""The corridor's way in, in plain Python: bytes of a stream -> calls."""

from __future__ import annotations

import sys
from typing import Any, Final

from erlmcp._model import json, jsonrpc
from erlmcp._model.correlation import Correlation
from erlmcp._model.frame import LengthFramer, LineFramer
from erlmcp._model.jsonrpc import BATCH, ERROR, ID_INT, ID_STRING, INVALID, NOTIFICATION, REQUEST, RESULT
from erlmcp._model.registry import Registry
from erlmcp.errors import INVALID_REQUEST, PARSE_ERROR, LimitError

__all__ = [
    "BATCH", "ERROR", "INVALID", "NOTIFICATION", "REQUEST", "RESULT",
    "Call", "Inbound", "Meta", "Routes", "Scanner",
]  # fmt: skip

HINTS_MAX: Final = 4  # Meta objects that a connection remembers
META_BYTES_MAX: Final = 4096  # a longer _meta is not remembered


def decode(raw: bytes) -> Any:
    """The value of text that was validated before."""
    return json.decode(raw, depth_max=json.DEPTH_CEILING, string_bytes_max=sys.maxsize, number_bytes_max=(1 << 31) - 1)


def bounded(limit: str, value: int, maximum: int) -> int:
    if not 1 <= value <= maximum:
        raise ValueError(f"{limit} must be from 1 to {maximum}, got {value!r}")
    return value


class Method:
    def __init__(
        self,
        name: str,
        route: object,
        name_key: str | None,
        is_critical: bool,
        entries: Registry,
        critical: set[str],
    ) -> None:
        self.name, self.route, self.name_key, self.is_critical = name, route, name_key, is_critical
        self.entries, self.critical = entries, critical


class Routes:
    def __init__(self) -> None:
        self._methods = Registry()

    def find(self, method: str) -> Method | None:
        found = self._methods.get(method)
        return found if isinstance(found, Method) else None

    def set_method(self, method: str, route: object, name_key: str | None = None, *, is_critical: bool = False) -> None:
        old = self.find(method)
        same = old is not None and old.name_key == name_key
        entries, critical = (old.entries, old.critical) if old is not None and same else (Registry(), set())
        self._methods[method] = Method(method, route, name_key, is_critical, entries, critical)

    def drop_method(self, method: str) -> None:
        del self._methods[method]

    def method(self, method: str) -> object | None:
        found = self.find(method)
        return None if found is None else found.route

    def set_entry(self, method: str, name: str, entry: object, *, is_critical: bool = False) -> None:
        found = self.find(method)
        if found is None or found.name_key is None:
            raise KeyError(f"the method {method!r} has no route with a name key")
        found.entries[name] = entry
        if is_critical:
            found.critical.add(name)
        else:
            found.critical.discard(name)

    def drop_entry(self, method: str, name: str) -> None:
        found = self.find(method)
        if found is None:
            raise KeyError(name)
        del found.entries[name]
        found.critical.discard(name)

    def entry(self, method: str, name: str) -> object | None:
        found = self.find(method)
        return None if found is None else found.entries.get(name)


class Meta:
    def __init__(self, raw: bytes) -> None:
        self.tag: object = None
        self.raw = raw
        self.values: dict[str, object] = decode(raw)

    @property
    def protocol_version(self) -> str | None:
        found = self.values.get(jsonrpc.VERSION_KEY)
        return found if isinstance(found, str) else None


class Call:
    def __init__(self, kind: int, raw: bytes) -> None:
        self.kind = kind
        self.raw = raw
        self.id: str | int | None = None
        self.id_raw = b"null"
        self.method: str | None = None
        self.route: object | None = None
        self.name: str | None = None
        self.entry: object | None = None
        self.is_critical = False
        self.meta: Meta | None = None
        self.code = 0
        self.message: str | None = None
        self.is_response = False
        self.items: list[Call] = []
        self.pending: object | None = None
        self.params: Any = None
        self.has_params = False
        self.arguments: object | None = None
        self.result: object = None
        self.error: object = None
        self.envelope: jsonrpc.Envelope | None = None
        self.name_key: str | None = None


def invalid(raw: bytes, code: int, message: str | None) -> Call:
    call = Call(INVALID, raw)
    call.code, call.message = code, message
    return call


class Scanner:
    """Message bytes -> Call: what the stream and the HTTP side share."""

    def __init__(
        self, routes: Routes | None, correlation: Correlation | None, batch_count_max: int, bounds: json.Bounds
    ) -> None:
        self.routes = routes if routes is not None else Routes()
        self._correlation = correlation
        self._batch_count_max = bounded("batch_count_max", batch_count_max, (1 << 32) - 1)
        self._bounds = bounds
        self._metas: list[Meta] = []
        self.critical_count = 0  # of the calls that the last read gave

    def scan(self, raw: bytes, is_item: bool = False) -> Call:
        envelope = jsonrpc.scan(
            raw,
            depth_max=self._bounds.depth_max,
            string_bytes_max=self._bounds.string_bytes_max,
            number_bytes_max=self._bounds.number_bytes_max,
        )
        call = Call(envelope.kind, raw)
        call.envelope = envelope
        if envelope.id is not None and envelope.id_kind in (ID_INT, ID_STRING):
            call.id, call.id_raw = decode(envelope.id), envelope.id
        match envelope.kind:
            case jsonrpc.REQUEST | jsonrpc.NOTIFICATION:
                self._route(call, envelope)
            case jsonrpc.RESULT if envelope.result is not None:
                call.result = decode(envelope.result)
            case jsonrpc.ERROR if envelope.error is not None:
                call.error = decode(envelope.error)
            case jsonrpc.INVALID:
                call.code, call.message = envelope.code, envelope.message
                call.is_response = envelope.is_response
            case jsonrpc.BATCH if is_item:
                return invalid(raw, INVALID_REQUEST, "Invalid Request: a batch within a batch")
            case jsonrpc.BATCH if len(envelope.items) > self._batch_count_max:
                limit = LimitError("batch_count_max", self._batch_count_max)
                return invalid(raw, INVALID_REQUEST, f"Invalid Request: {limit}")
            case jsonrpc.BATCH:
                call.items = [self.scan(item, is_item=True) for item in envelope.items]
        if call.kind in (RESULT, ERROR) and self._correlation is not None:
            call.pending = self._correlation.take(call.id)
        return call

    def _route(self, call: Call, envelope: jsonrpc.Envelope) -> None:
        call.method = envelope.method
        if envelope.params is not None:
            call.has_params, call.params = True, decode(envelope.params)
        if envelope.arguments is not None:
            call.arguments = decode(envelope.arguments)
        if envelope.meta is not None and envelope.meta.startswith(b"{"):
            call.meta = self._meta(envelope.meta, envelope.progress_token is not None)
        assert call.method is not None
        found = self.routes.find(call.method)
        if found is None:
            return
        call.method, call.route, call.is_critical = found.name, found.route, found.is_critical
        call.name_key = found.name_key
        if found.name_key is not None and isinstance(call.params, dict):
            name = call.params.get(found.name_key)
            if isinstance(name, str):
                call.name, call.entry = name, found.entries.get(name)
                call.is_critical = found.is_critical or name in found.critical
        self.critical_count += call.is_critical

    def _meta(self, raw: bytes, has_token: bool) -> Meta:
        if has_token or len(raw) > META_BYTES_MAX:
            return Meta(raw)
        for meta in self._metas:
            if meta.raw == raw:
                return meta
        self._metas.append(Meta(raw))
        del self._metas[:-HINTS_MAX]
        return self._metas[-1]


class Inbound:
    def __init__(
        self,
        routes: Routes | None = None,
        correlation: Correlation | None = None,
        *,
        framing: str = "newline",
        message_bytes_max: int = 4194304,
        depth_max: int = 128,
        string_bytes_max: int = 4194304,
        number_bytes_max: int = 1024,
        batch_count_max: int = 100,
    ) -> None:
        if framing not in ("newline", "content_length"):
            raise ValueError(f"framing must be 'newline' or 'content_length', got {framing!r}")
        self.closed = False
        bounds = json.Bounds(depth_max, string_bytes_max, number_bytes_max)
        self._scanner = Scanner(routes, correlation, batch_count_max, bounds)
        bounded("message_bytes_max", message_bytes_max, (1 << 32) - 1)
        self._framer = LineFramer(message_bytes_max) if framing == "newline" else LengthFramer(message_bytes_max)

    @property
    def critical_count(self) -> int:
        return self._scanner.critical_count

    @property
    def buffered(self) -> int:
        return self._framer.buffered

    def feed(self, data: bytes) -> list[Call]:
        self._scanner.critical_count = 0
        calls = []
        for found in self._framer.feed(data):
            if isinstance(found, bytes):
                calls.append(self._scanner.scan(found))
            elif isinstance(found, LimitError):
                limit = LimitError(found.limit, found.maximum)
                calls.append(invalid(b"", INVALID_REQUEST, f"Invalid Request: {limit}"))
            else:
                calls.append(invalid(b"", PARSE_ERROR, f"Parse error: {found}"))
                self.closed = True
        return calls
