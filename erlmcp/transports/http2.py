"""HTTP/2 (RFC 9113) for a server, on the h2 library: each stream is a request and its answer.

A listener that offers it looks at a connection once: ALPN, or the first bytes (prior knowledge), say which protocol it
is; from then on HTTP/1.1 costs what it always does. A request is put together again as HTTP/1.1 bytes and read by the
same parser as on a socket, so that the same limits and checks hold, and there is one way to judge a request.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import ProtocolError

from erlmcp import core
from erlmcp.runtime.turn import Arrivals
from erlmcp.transports.http1 import HttpConnection
from erlmcp.wire.http2 import PREFACE, make_connection

if TYPE_CHECKING:
    from erlmcp.core import HttpRequest, Outbound
    from erlmcp.limits import Limits
    from erlmcp.transports.listener import HttpListener

log = logging.getLogger("erlmcp.http")
RESETS_PER_STREAM = 10  # a client may reset so many times ``stream_count_max`` within a second
WINDOW_BYTES = 256 * 1024
_BREAK = re.compile(r"[\r\n\0]")
# Of HTTP/1.1 alone (RFC 9113, section 8.2.2), or counted here.
_LEFT_OUT = frozenset({"content-length", "transfer-encoding", "connection", "keep-alive", "upgrade", "expect", "host"})


class Sniffer(asyncio.Protocol):
    """A connection until it is known what it speaks."""

    def __init__(self, listener: HttpListener) -> None:
        self._listener = listener
        self._data = b""
        self.place = 0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._listener.admit(self)  # where there are too many, what it becomes says so
        tls = transport.get_extra_info("ssl_object")
        if tls is not None:
            self._become(tls.selected_alpn_protocol() == "h2")
            return
        self._timer = asyncio.get_running_loop().call_later(self._listener.limits.head_timeout_s, self._transport.abort)

    def data_received(self, data: bytes) -> None:
        self._data += data
        if len(self._data) >= len(PREFACE) or not PREFACE.startswith(self._data):
            self._become(self._data.startswith(PREFACE))

    def _become(self, is_http2: bool) -> None:
        self.connection_lost(None)  # of the sniffer alone
        made: Any = Http2Connection(self._listener) if is_http2 else HttpConnection(self._listener)
        self._transport.set_protocol(made)
        made.connection_made(self._transport)
        if self._data:
            made.data_received(self._data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._listener.forget(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def sweep(self, now: float, limits: Limits) -> None:
        """It has a timer of its own."""

    def drain(self) -> None:
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()


class Http2Reply:
    """The answer to one request."""

    kind = "http2"
    __slots__ = ("_connection", "_out", "_start", "_stream", "front", "gone")

    def __init__(self, connection: Http2Connection, stream: int, out: Outbound) -> None:
        self.front: object | None = None
        self.gone: Callable[[], None] | None = None
        self._connection = connection
        self._stream = stream
        self._out = out
        self._start = (200, b"")

    @property
    def transport(self) -> asyncio.Transport | None:
        return self._connection.transport

    @property
    def client(self) -> object:
        transport = self._connection.transport
        return None if transport is None else transport.get_extra_info("peername")

    def plain(self, status: int, body: bytes, extra: bytes = b"", content_type: bytes = b"text/plain") -> None:
        more = [("content-type", content_type.decode() + "; charset=utf-8")] if body else []
        self._answer(status, extra, more, body)

    def whole(self, status: int, lines: bytes, body: bytes) -> None:
        self.gone = None
        self._connection.answer(self._stream, status, _fields(lines), body, is_whole=True)

    def begin(self, status: int, extra: bytes) -> Outbound:
        self._start = (status, extra)
        return self._out

    def end(self) -> None:
        status, extra = self._start
        self._answer(status, extra, [("content-type", "application/json")], self._out.take())

    def _answer(self, status: int, extra: bytes, more: list[tuple[str, str]], body: bytes) -> None:
        self.gone = None
        fields = [*more, *_fields(extra)]
        if status != 204:
            fields.append(("content-length", str(len(body))))
        self._connection.answer(self._stream, status, fields, body, is_whole=True)

    def open(self, extra: bytes, status: int = 200) -> None:
        self._connection.answer(self._stream, status, _fields(extra), b"", is_whole=False)

    def send(self, data: bytes) -> None:
        self._connection.send(self._stream, data, is_end=False)

    @property
    def unsent_bytes(self) -> int:
        return self._connection.unsent_bytes(self._stream)

    def finish(self) -> None:
        self.gone = None
        self._connection.send(self._stream, b"", is_end=True)

    def abort(self) -> None:
        self._connection.reset(self._stream, ErrorCodes.INTERNAL_ERROR)

    def leave(self) -> None:
        """Nobody reads the answer any more."""
        gone, self.gone = self.gone, None
        if gone is not None:
            gone()


def _fields(lines: bytes) -> list[tuple[str, str]]:
    found = []
    for line in lines.split(b"\r\n"):
        name, colon, value = line.decode("latin-1").partition(":")
        if colon:
            found.append((name.strip().lower(), value.strip()))
    return found


class _Stream:
    """A request as far as it came, and what of its answer the client's window has not let through yet."""

    __slots__ = ("body", "fields", "is_asked", "is_ended", "is_open", "reply", "since", "unsent")

    def __init__(self, fields: Any) -> None:
        self.fields = fields
        self.body = bytearray()
        self.unsent = bytearray()
        self.is_asked = False  # the request is whole
        self.is_open = False  # the head of the answer was sent
        self.is_ended = False  # nothing will be added to ``unsent``
        self.reply: Http2Reply | None = None
        self.since = time.monotonic()


class Http2Connection(asyncio.Protocol):
    """One connection, as its listener keeps it."""

    def __init__(self, listener: HttpListener) -> None:
        self._listener = listener
        self._limits = limits = listener.limits
        self._h2 = make_connection(
            is_client=False,
            window_bytes=WINDOW_BYTES,
            head_bytes_max=limits.head_bytes_max,
            stream_count_max=limits.stream_count_max,
        )
        self._inbound = listener.make_inbound()
        self._streams: dict[int, _Stream] = {}
        self._budget = listener.turn.budget
        self._waiting: deque[tuple[int, _Stream, HttpRequest]] = deque()  # for its turn
        self.arrivals = Arrivals()  # of it
        self._flush_handle: asyncio.Handle | None = None
        self._reset_count = 0
        self._idle_since = time.monotonic()
        self._is_draining = False
        self.place = 0
        self.transport: asyncio.Transport | None = None

    # ---- the connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._flush()
        if not self._listener.admit(self):
            self._close(ErrorCodes.REFUSED_STREAM)
        elif self._listener.is_closing:
            self.drain()

    def data_received(self, data: bytes) -> None:
        try:
            events = self._h2.receive_data(data)
        except ProtocolError as error:
            log.debug("a client broke HTTP/2: %s", error)
            self._flush()
            self._close(None)
            return
        for event in events:
            self._take(event)
        self._flush()

    def _take(self, event: Any) -> None:
        kind = type(event)
        if kind is RequestReceived and self._is_draining:
            self.reset(event.stream_id, ErrorCodes.REFUSED_STREAM)
        elif kind is RequestReceived:
            self._streams[event.stream_id] = _Stream(event.headers)
        elif kind is DataReceived:
            self._part(event)
        elif kind is StreamEnded:
            stream = self._streams.get(event.stream_id)
            if stream is not None and not stream.is_asked:
                stream.is_asked = True
                self._handle(event.stream_id, stream)
        elif kind is StreamReset:
            self._reset_count += 1
            self._forget(event.stream_id)
            if self._reset_count > RESETS_PER_STREAM * self._limits.stream_count_max:
                log.warning("a client resets streams by the thousand: its connection is closed")
                self._close(ErrorCodes.ENHANCE_YOUR_CALM)
        elif kind in (WindowUpdated, RemoteSettingsChanged):
            for id, stream in [*self._streams.items()]:
                self._push(id, stream)
        elif kind is ConnectionTerminated:
            self.drain()

    def _part(self, event: DataReceived) -> None:
        id = event.stream_id
        stream = self._streams.get(id)
        if event.flow_controlled_length:
            self._h2.acknowledge_received_data(event.flow_controlled_length, id)
        if stream is None or stream.is_asked:
            return
        stream.body += event.data or b""
        if len(stream.body) > self._limits.body_bytes_max:
            stream.is_asked = True
            stream.body.clear()
            what = f"Content Too Large: body_bytes_max={self._limits.body_bytes_max}"
            self._reply(id, stream).plain(413, what.encode())

    # ---- requests

    def _reply(self, id: int, stream: _Stream) -> Http2Reply:
        stream.reply = Http2Reply(self, id, core.Outbound(framing="none", bytes_max=self._limits.outbox_bytes_max))
        return stream.reply

    def _handle(self, id: int, stream: _Stream) -> None:
        reply = self._reply(id, stream)
        requests = self._inbound.feed(_as_bytes(stream))
        stream.body.clear()
        if len(requests) != 1 or requests[0].status:
            self._inbound = self._listener.make_inbound()  # the other one has closed
            status, what = (requests[0].status, requests[0].message) if requests else (400, None)
            reply.plain(status or 400, (what or "Bad Request").encode())
            return
        self._budget.begin()
        if (self._waiting or self._budget.is_spent) and not self._listener.is_exempt(requests[0]):
            self._wait(id, stream, requests[0])
            return
        self._begin(id, stream, requests[0])
        self._budget.add()
        self._budget.end()

    def _wait(self, id: int, stream: _Stream, request: HttpRequest) -> None:
        if not self._waiting:
            self._listener.turn.join(self)
        self._waiting.append((id, stream, request))
        self.arrivals.settle(len(self._waiting))

    def work(self) -> None:
        """It is this connection's turn: of requests that the budget did not reach."""
        budget, waiting = self._budget, self._waiting
        left = self._listener.turn.quantum or len(waiting)
        budget.begin()
        while waiting and left and not budget.is_spent:
            id, stream, request = waiting.popleft()
            if self._streams.get(id) is stream:  # its client has not reset it
                self._begin(id, stream, request)
                budget.add()
                left -= 1
        budget.end()
        self.arrivals.settle(len(waiting))
        if waiting:
            self._listener.turn.join(self)

    def _begin(self, id: int, stream: _Stream, request: HttpRequest) -> None:
        try:
            self._listener.handler.handle(request, cast(Any, stream.reply))
        except Exception:
            log.exception("a request could not be handled")
            if stream.is_open:
                self.reset(id, ErrorCodes.INTERNAL_ERROR)
            else:
                assert stream.reply is not None
                stream.reply.plain(500, b"Internal Server Error")

    # ---- answers

    def answer(self, id: int, status: int, fields: list[tuple[str, str]], body: bytes, *, is_whole: bool) -> None:
        stream = self._streams.get(id)
        if stream is None:
            return
        stream.is_open = True
        body = b"" if (":method", "HEAD") in stream.fields else body
        head = [(":status", str(status)), ("date", self._listener.date.decode()), *fields]
        try:
            self._h2.send_headers(id, head, end_stream=is_whole and not body)
        except ProtocolError:
            self._forget(id)
            return
        if is_whole and not body:
            self._done(id)
        else:
            self.send(id, body, is_end=is_whole)
        self._flush_soon()

    def send(self, id: int, data: bytes, *, is_end: bool) -> None:
        stream = self._streams.get(id)
        if stream is None:
            return
        stream.unsent += data
        stream.is_ended = is_end
        self._push(id, stream)
        self._flush_soon()
        if len(stream.unsent) > self._limits.outbox_bytes_max:
            log.warning("a client does not read its stream: outbox_bytes_max=%d passed", self._limits.outbox_bytes_max)
            self.reset(id, ErrorCodes.CANCEL)

    def unsent_bytes(self, id: int) -> int:
        """What of an answer the client's windows, or its connection, have not let through."""
        before = 0 if self.transport is None else self.transport.get_write_buffer_size()
        return before + len(self._streams[id].unsent) if id in self._streams else before

    def _push(self, id: int, stream: _Stream) -> None:
        """As much of the answer as the client's windows allow."""
        if not stream.is_open:
            return
        h2 = self._h2
        try:
            while stream.unsent:
                size = min(len(stream.unsent), h2.local_flow_control_window(id), h2.max_outbound_frame_size)
                if size <= 0:
                    return
                h2.send_data(id, bytes(stream.unsent[:size]))
                del stream.unsent[:size]
            if stream.is_ended:
                h2.end_stream(id)
                self._done(id)
        except ProtocolError:
            self._forget(id)

    def _done(self, id: int) -> None:
        """The answer is whole; a request that is not is not wanted any more."""
        stream = self._streams.pop(id, None)
        if stream is not None and not stream.is_asked:
            self.reset(id, ErrorCodes.NO_ERROR)
        self._rest()

    def reset(self, id: int, code: ErrorCodes) -> None:
        try:
            self._h2.reset_stream(id, code)
        except ProtocolError:
            pass  # it has ended already
        self._forget(id)
        self._flush_soon()

    def _forget(self, id: int) -> None:
        stream = self._streams.pop(id, None)
        if stream is not None and stream.reply is not None:
            stream.reply.leave()
        self._rest()

    def _rest(self) -> None:
        if not self._streams:
            self._idle_since = time.monotonic()
            if self._is_draining:
                self._close(ErrorCodes.NO_ERROR)

    def _flush_soon(self) -> None:
        """At the end of this turn of the loop: the answers of one turn leave in one write."""
        if self._flush_handle is None:
            self._flush_handle = asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        if self._flush_handle is not None:
            self._flush_handle.cancel()
            self._flush_handle = None
        data = self._h2.data_to_send()
        transport = self.transport
        if data and transport is not None and not transport.is_closing():
            transport.write(data)
            if transport.get_write_buffer_size() > self._limits.outbox_bytes_max:
                log.warning("a client does not read: outbox_bytes_max=%d passed", self._limits.outbox_bytes_max)
                transport.abort()

    # ---- the end

    def _close(self, code: ErrorCodes | None) -> None:
        if code is not None and not self._is_draining:
            self._h2.close_connection(code)
        self._flush()
        if self.transport is not None:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._listener.forget(self)
        self.transport = None
        if self._flush_handle is not None:
            self._flush_handle.cancel()
            self._flush_handle = None
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            if stream.reply is not None:
                stream.reply.leave()

    def sweep(self, now: float, limits: Limits) -> None:
        """Called about once a second: close what is idle, refuse what does not come to its end."""
        self._reset_count = 0
        if not self._streams:
            if now - self._idle_since > limits.keepalive_timeout_s:
                self._close(ErrorCodes.NO_ERROR)
            return
        for id, stream in [*self._streams.items()]:
            if not stream.is_asked and now - stream.since > limits.body_timeout_s:
                stream.is_asked = True
                self._reply(id, stream).plain(408, b"Request Timeout: body_timeout_s passed")

    def drain(self) -> None:
        """Take no more requests; close after the answers that are under way."""
        if not self._is_draining:
            if self._streams:
                self._h2.close_connection(ErrorCodes.NO_ERROR)
                self._is_draining = True
                self._flush()
            else:
                self._close(ErrorCodes.NO_ERROR)

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()


def _as_bytes(stream: _Stream) -> bytes:
    """The request as it would have come over HTTP/1.1."""
    pseudo: dict[str, str] = {}
    lines: list[str] = []
    cookies: list[str] = []
    for name, value in stream.fields:
        if name.startswith(":"):
            pseudo[name] = value
        elif name == "host":
            pseudo.setdefault(":authority", value)
        elif name == "cookie":
            cookies.append(value)  # in pieces (RFC 9113, section 8.2.3)
        elif name not in _LEFT_OUT:
            lines.append(f"{name}: {value}")
    if cookies:
        lines.append(f"cookie: {'; '.join(cookies)}")
    first = f"{pseudo.get(':method', '')} {pseudo.get(':path', '')} HTTP/1.1"
    lines = [first, f"host: {pseudo.get(':authority', '')}", *lines]
    if stream.body or pseudo.get(":method") == "POST":
        lines.append(f"content-length: {len(stream.body)}")
    if any(_BREAK.search(line) for line in lines):
        return b"\0\r\n\r\n"  # no request at all
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "replace") + bytes(stream.body)
