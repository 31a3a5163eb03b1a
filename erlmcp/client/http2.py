"""One HTTP/2 connection (RFC 9113) to a server, on the h2 library: many exchanges at a time, each a stream.

How many is the server's word (``SETTINGS_MAX_CONCURRENT_STREAMS``), at most ``stream_count_max``; nothing is sent
before its settings came, so that nothing has to be refused. What is begun in one turn of the loop leaves in one write.
A GOAWAY ends the taking of new exchanges; those that it says were not looked at go to another connection, as do refused
streams, and the others may end. A connection that is silent for ``ping_s`` while it is used is asked with a PING, and
is lost where nothing comes for as long again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, cast

from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import NoAvailableStreamIDError, ProtocolError
from hpack import HeaderTuple, NeverIndexedHeaderTuple

from erlmcp.client.http_connection import Exchange, RequestHead, keep_alive
from erlmcp.errors import ConnectionClosedError, ErlmcpError, InvalidAnswerError, LimitError
from erlmcp.wire.http2 import make_connection, name_of

if TYPE_CHECKING:
    from erlmcp.client.http_limit import HttpLimits
    from erlmcp.client.http_pool import HttpPool

log = logging.getLogger("erlmcp.client.http")


class Http2Answer:
    """The head of an answer, and its body, as ``Answer`` of http_connection has it."""

    __slots__ = ("body", "headers", "reason", "status")

    def __init__(self, fields: Any) -> None:
        self.headers: dict[str, str] = {}
        self.status = 0
        self.reason = ""
        self.body: bytes | None = None
        for name, value in fields:
            if name == ":status":
                self.status = int(value)
            elif name in self.headers:
                self.headers[name] += f", {value}"
            else:
                self.headers[name] = value


class _Stream:
    """What is known of one exchange on its way."""

    __slots__ = ("answer", "exchange", "parts", "size", "unsent")

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.unsent = memoryview(exchange.body or b"")  # what the server's window has not let through yet
        self.answer: Http2Answer | None = None
        self.parts: list[bytes] | None = []  # None where they go to the exchange as they come
        self.size = 0


class Http2Connection(asyncio.Protocol):
    """A connection of a pool."""

    is_shared = True

    def __init__(self, pool: HttpPool) -> None:
        limits = pool.limits
        self.pool = pool
        self.place = 0
        self.is_open = False
        self.is_spare = False
        self.tick = 0
        self.opened_s = 0.0
        self.settled = asyncio.Event()  # the server's settings came, or never will
        self.fault: ErlmcpError | None = None  # why they never will
        self.successor = None
        self.transport: asyncio.Transport | None = None
        self._streams: dict[int, _Stream] = {}
        self._ids: dict[Exchange, int] = {}
        self._takes_more = True
        self._flush_handle: asyncio.Handle | None = None
        self._heard_s = self._used_s = 0.0
        self._ping_s = 0.0  # when one was sent that was not answered yet
        self._use_count = 0
        self._h2 = make_connection(
            is_client=True,
            window_bytes=limits.window_bytes,
            head_bytes_max=limits.head_bytes_max,
            stream_count_max=limits.stream_count_max,
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.is_open = True
        self._heard_s = self._used_s = time.monotonic()
        keep_alive(transport)
        self._flush()

    @property
    def room(self) -> int:
        """How many more exchanges may begin."""
        if not (self.is_open and self._takes_more):
            return 0
        allowed = min(self._h2.remote_settings.max_concurrent_streams, self.pool.limits.stream_count_max)
        return max(0, allowed - len(self._streams))

    # ---- exchanges

    def start(self, exchange: Exchange) -> None:
        h2 = self._h2
        try:
            id = h2.get_next_available_stream_id()
        except NoAvailableStreamIDError:  # two to the thirtieth were used
            self._retire()
            self.pool.send(exchange)
            return
        stream = self._streams[id] = _Stream(exchange)
        self._ids[exchange] = id
        self._use_count += 1
        exchange.connection = self
        exchange.sending()
        fields = cast(list[HeaderTuple], exchange.head.kept) or self._fields_of(exchange.head)
        if exchange.body is not None:
            # As a literal: it is another one each time, and would push what comes again out of the server's table.
            fields = [*fields, NeverIndexedHeaderTuple(b"content-length", b"%d" % len(exchange.body))]
        h2.send_headers(id, fields, end_stream=not stream.unsent)
        if stream.unsent:
            self._push(id, stream)
        self._flush_soon()

    def _fields_of(self, head: RequestHead) -> list[HeaderTuple]:
        """The head as HTTP/2 has it, made once for all that share it: all of this connection's are for one endpoint."""
        endpoint = self.pool.endpoint
        pseudo = [(":method", head.verb), (":scheme", endpoint.scheme), (":authority", endpoint.authority)]
        fields = [*pseudo, (":path", head.target), *((name.lower(), value) for name, value in head.fields)]
        made = [HeaderTuple(name.encode(), value.encode()) for name, value in fields]
        head.kept = made
        return made

    def _push(self, id: int, stream: _Stream) -> None:
        """As much of the body as the server's windows allow."""
        h2 = self._h2
        while stream.unsent:
            size = min(len(stream.unsent), h2.local_flow_control_window(id), h2.max_outbound_frame_size)
            if size <= 0:
                return
            data, stream.unsent = stream.unsent[:size], stream.unsent[size:]
            h2.send_data(id, data.tobytes(), end_stream=not stream.unsent)

    def exchanges(self) -> list[Exchange]:
        """What is under way."""
        return [*self._ids]

    def abandon(self, exchange: Exchange) -> None:
        """The answer is not wanted any more: the server learns it by RST_STREAM."""
        id = self._ids.get(exchange)
        if id is not None:
            self._drop(id)
            self._reset(id, ErrorCodes.CANCEL)
            self.pool.serve(self)

    def _reset(self, id: int, code: ErrorCodes) -> None:
        try:
            self._h2.reset_stream(id, code)
        except ProtocolError:
            return  # it has ended, or the connection has
        self._flush_soon()

    def _drop(self, id: int) -> Exchange | None:
        stream = self._streams.pop(id, None)
        if stream is None:
            return None
        del self._ids[stream.exchange]
        stream.exchange.connection = None
        self._used_s = time.monotonic()
        return stream.exchange

    def _flush_soon(self) -> None:
        if self._flush_handle is None and self.is_open:
            self._flush_handle = asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        if self._flush_handle is not None:
            self._flush_handle.cancel()
            self._flush_handle = None
        data = self._h2.data_to_send()
        if data and self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    # ---- what arrives

    def data_received(self, data: bytes) -> None:
        self._heard_s, self._ping_s = time.monotonic(), 0.0
        self._flush()
        try:
            events = self._h2.receive_data(data)
        except ProtocolError as error:
            self._flush()  # says why to the server
            self._break(InvalidAnswerError(f"{self.pool.url} broke HTTP/2: {error}"))
            return
        for event in events:
            self._take(event)
        self._flush()
        if self.is_open and self._takes_more:
            self.pool.serve(self)
        elif not self._streams:
            self.close()

    def _take(self, event: Any) -> None:
        kind = type(event)
        if kind is ResponseReceived:
            self._begin(event)
        elif kind is DataReceived:
            self._part(event)
        elif kind is StreamEnded:
            stream = self._streams.get(event.stream_id)
            self._drop(event.stream_id)
            if stream is not None:
                self._finish(stream)
        elif kind is StreamReset:
            self._was_reset(event)
        elif kind is WindowUpdated:
            for id, stream in [*self._streams.items()]:
                self._push(id, stream)
        elif kind is RemoteSettingsChanged:
            self.settled.set()
            for id, stream in [*self._streams.items()]:
                self._push(id, stream)
        elif kind is ConnectionTerminated:
            self._told_to_go(event)

    def _begin(self, event: ResponseReceived) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is None:
            return
        try:
            stream.answer = answer = Http2Answer(event.headers)
        except ValueError:
            self._fail(event.stream_id, InvalidAnswerError(f"{self.pool.url} answered without a status"))
            return
        kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "text/event-stream":
            stream.parts = None
            stream.exchange.answered(answer)

    def _part(self, event: DataReceived) -> None:
        id, data = event.stream_id, event.data
        stream = self._streams.get(id)
        if event.flow_controlled_length:
            self._h2.acknowledge_received_data(event.flow_controlled_length, id)
        if stream is None or not data:
            return
        if stream.parts is None:
            stream.exchange.part(data)
            return
        stream.size += len(data)
        if stream.size > self.pool.limits.body_bytes_max:
            detail = f"in an answer of {self.pool.url}"
            self._fail(id, LimitError("body_bytes_max", self.pool.limits.body_bytes_max, detail))
        else:
            stream.parts.append(data)

    def _finish(self, stream: _Stream) -> None:
        answer = stream.answer
        if stream.parts is None:
            stream.exchange.ended()
        elif answer is None:
            stream.exchange.lost(InvalidAnswerError(f"{self.pool.url} ended a stream without an answer"))
        else:
            answer.body = b"".join(stream.parts)
            stream.exchange.answered(answer)

    def _fail(self, id: int, error: ErlmcpError) -> None:
        exchange = self._drop(id)
        self._reset(id, ErrorCodes.CANCEL)
        if exchange is not None:
            exchange.lost(error)

    def _was_reset(self, event: StreamReset) -> None:
        exchange = self._drop(event.stream_id)
        if exchange is not None:
            name = name_of(event.error_code)
            is_unsent = event.error_code == ErrorCodes.REFUSED_STREAM
            error = ConnectionClosedError(f"{self.pool.url} ended the stream with {name}")
            exchange.lost(error, is_unsent=is_unsent)

    def _told_to_go(self, event: ConnectionTerminated) -> None:
        self._retire()
        last = event.last_stream_id or 0
        error = ConnectionClosedError(f"{self.pool.url} said GOAWAY ({name_of(event.error_code)})")
        for id in [id for id in self._streams if id > last]:
            exchange = self._drop(id)
            if exchange is not None:
                exchange.lost(error, is_unsent=True)

    # ---- the end

    def _retire(self) -> None:
        """No more exchanges are begun here."""
        self._takes_more = False
        self.pool.retire(self)

    def _break(self, error: ErlmcpError) -> None:
        self.is_open = False
        self.fault = error
        self.settled.set()
        self._retire()
        if self.transport is not None:
            self.transport.abort()
        for id in [*self._streams]:
            exchange = self._drop(id)
            if exchange is not None:
                exchange.lost(error)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.pool.forget(self)
        cause = f": {exc}" if exc is not None else ""
        error = ConnectionClosedError(f"{self.pool.url} closed the connection{cause}")
        is_kept = self._use_count > len(self._streams)
        self.is_open = self._takes_more = False
        self.settled.set()
        if self._flush_handle is not None:
            self._flush_handle.cancel()
            self._flush_handle = None
        for id, stream in [*self._streams.items()]:
            self._drop(id)
            stream.exchange.lost(error, is_stale=is_kept and stream.answer is None)

    def keep_up(self, now_s: float, limits: HttpLimits, is_needed: bool) -> None:
        """Once a second: is the server there, is the connection still of use?"""
        if self._ping_s and now_s - self._ping_s > limits.ping_s:
            self._break(ConnectionClosedError(f"{self.pool.url} did not answer a PING within ping_s={limits.ping_s:g}"))
        elif self._streams and not self._ping_s and now_s - self._heard_s > limits.ping_s:
            self._ping_s = now_s
            self._h2.ping(b"erlmcp__")
            self._flush()
        elif now_s - self.opened_s > limits.age_s:
            self._retire()
            if not self._streams:
                self.close()
        elif not self._streams and not is_needed and now_s - self._used_s > limits.idle_s:
            self._retire()
            self.close()

    def close(self) -> None:
        """Say goodbye and close."""
        if self.is_open:
            self.is_open = False
            try:
                self._h2.close_connection()
            except ProtocolError:
                pass  # it is closed already
            self._flush()
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        self.is_open = False
        if self.transport is not None:
            self.transport.abort()
