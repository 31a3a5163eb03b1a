"""One HTTP/1.1 connection to a server, and what an exchange on it owes it.

An *exchange* is one HTTP request and its answer. A connection carries one at a time: head and body leave in one write,
the answer comes as ``answered`` (and, where its body is an event stream, ``part`` and ``ended`` after it), or the
exchange is ``lost``; each ends exactly once. Then the connection goes back to its pool. What comes while no exchange
is under way belongs to nobody, and ends the connection.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
from typing import TYPE_CHECKING, Any, Protocol, cast

from erlmcp import core
from erlmcp.errors import ConnectionClosedError, ErlmcpError, InvalidAnswerError, LimitError

if TYPE_CHECKING:
    from erlmcp.client.http_pool import HttpPool
    from erlmcp.client.http_proxy import Proxy

KEEPALIVE_S = 30  # of silence, before the system asks whether the peer is alive; the fourth question is the last


class Answer(Protocol):
    """The head of an answer, and its body: None where that is a stream that follows."""

    @property
    def status(self) -> int: ...
    @property
    def reason(self) -> str: ...
    @property
    def headers(self) -> dict[str, str]: ...
    @property
    def body(self) -> bytes | None: ...


class RequestHead:
    """The head of a request, written once for all that differ only in their body."""

    __slots__ = ("fields", "kept", "start", "target", "verb")

    def __init__(
        self,
        verb: str,
        target: str,
        authority: str,
        fields: list[tuple[str, str]],
        *,
        is_last: bool = False,
        proxy: Proxy | None = None,
    ) -> None:
        """Of HTTP/1.1 alone: ``is_last``, the connection is not to be kept; ``proxy``, who reads it on its way.
        ValueError where a part holds what its place does not allow."""
        self.verb = verb
        self.target = target
        self.fields = fields
        self.kept: object = None  # for HTTP/2, which has another form of it
        own = [("Host", authority)]
        if is_last:
            own.append(("Connection", "close"))
        if proxy is not None:
            target = f"http://{authority}{target}"
            if proxy.authorization:
                own.append(("Proxy-Authorization", proxy.authorization))
        head = core.request_head(verb, target, [*own, *fields])
        # Of HTTP/1.1: all of it, or all up to the length of the body.
        self.start = head[:-2] + b"Content-Length: " if verb == "POST" else head


class Exchange:
    """One request and its answer. ``body`` is None where the verb has none."""

    __slots__ = ("body", "connection", "head", "is_aside", "is_over", "since_ns")

    def __init__(self, head: RequestHead, body: bytes | None, *, is_aside: bool = False) -> None:
        self.head = head
        self.body = body
        self.is_aside = is_aside  # goes before the others, as they may wait for it
        self.is_over = False
        self.since_ns = 0  # when it began to wait for a connection, where that is timed
        self.connection: HttpConnection | Any = None  # while it is under way there

    @property
    def what(self) -> str:
        """What it is called where it is told of."""
        return f"{type(self).__name__} ({self.head.verb} {self.head.target})"

    def sending(self) -> None:
        """Bytes of it leave now."""

    def answered(self, answer: Answer) -> bool | None:
        """True where it was the answer to something else: then its connection carries no other exchange, as that would
        get the answer to this one."""
        raise NotImplementedError

    def part(self, data: bytes) -> None:
        """Bytes of a streamed body."""

    def ended(self) -> None:
        """The streamed body is complete."""

    def lost(self, error: ErlmcpError, *, is_unsent: bool = False, is_stale: bool = False) -> None:
        """No answer, or no more of it, will come. ``is_unsent``: the server has not acted on it. ``is_stale``: the
        connection was kept from before, and said nothing."""
        raise NotImplementedError


class HttpConnection(asyncio.Protocol):
    """A connection of a pool."""

    __slots__ = (
        "_is_heard",
        "_parser",
        "_use_count",
        "exchange",
        "fault",
        "is_open",
        "is_spare",
        "opened_s",
        "place",
        "pool",
        "successor",
        "tick",
        "transport",
    )

    is_shared = False  # carries one exchange at a time

    def __init__(self, pool: HttpPool) -> None:
        limits = pool.limits
        self.pool = pool
        self.place = 0
        self.exchange: Exchange | None = None
        self.transport: asyncio.Transport | None = None
        self.is_open = False
        self.is_spare = False  # beyond the pool's count
        self.tick = 0  # of the pool, when it became idle
        self.opened_s = 0.0
        self.fault: ErlmcpError | None = None
        self.successor: Any = None  # what the connection is where TLS found another protocol than HTTP/1.1
        self._is_heard = False
        self._use_count = 0
        self._parser = core.ResponseParser(
            limits.head_bytes_max, limits.header_count_max, limits.body_bytes_max, stream_events=True
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() == "h2":
            from erlmcp.client.http2 import Http2Connection

            self.successor = Http2Connection(self.pool)
            transport.set_protocol(self.successor)
            self.successor.connection_made(transport)
            return
        self.transport = cast(asyncio.Transport, transport)
        self.is_open = True
        keep_alive(self.transport)

    # ---- an exchange

    def start(self, exchange: Exchange) -> None:
        assert self.transport is not None
        self.exchange = exchange
        self._is_heard = False
        self._use_count += 1
        exchange.connection = self
        exchange.sending()
        body = exchange.body
        start = exchange.head.start
        self.transport.write(start if body is None else b"%b%d\r\n\r\n%b" % (start, len(body), body))

    def exchanges(self) -> list[Exchange]:
        """What is under way."""
        return [] if self.exchange is None else [self.exchange]

    def abandon(self, exchange: Exchange) -> None:
        """The answer is not wanted any more; on HTTP/1.1 there is no other way than to close."""
        if self.exchange is exchange:
            self.exchange = None
            exchange.connection = None
            self.abort()

    def data_received(self, data: bytes) -> None:
        self._is_heard = True
        self._take(self._parser.feed(data))

    def _take(self, events: list[Any]) -> None:
        """Bring the events of one read to the exchange. The connection is free after the last of them, not before: one
        more would be an answer to nobody."""
        exchange = self.exchange
        is_free = False
        for event in events:
            if exchange is None or is_free:
                self.abort()
                break
            kind = type(event)
            if kind is core.Response:
                if event.status >= 200:
                    is_free = event.body is not None
                    if is_free:
                        exchange.connection = None
                        self.exchange = None
                    if exchange.answered(event) and is_free:
                        self.close()
                    if not is_free:
                        exchange = self.exchange  # which may have had enough
                elif event.status == 101:
                    what = "answered 101 Switching Protocols, which nobody asked for"
                    self._break(InvalidAnswerError(f"{self.pool.url} {what}"))
            elif kind is core.BodyPart:
                exchange.part(event.data)
                exchange = self.exchange
            elif kind is core.BodyEnd:
                is_free = True
                exchange.connection = None
                self.exchange = None
                exchange.ended()
            else:
                self._break(self._fault_of(event.message))
        if is_free and self.is_open:
            if self._parser.closed or not self.pool.is_keeping:
                self.close()
            else:
                self.pool.release(self)

    def _fault_of(self, message: str) -> ErlmcpError:
        """What the parser stumbled over: a limit of ours, or no HTTP."""
        name = message.partition(" ")[0]
        if name.endswith("_max") and hasattr(self.pool.limits, name):
            return LimitError(name, getattr(self.pool.limits, name), f"in an answer of {self.pool.url}")
        return InvalidAnswerError(f"{self.pool.url} answered what is not HTTP: {message}")

    def _break(self, error: ErlmcpError) -> None:
        exchange, self.exchange = self.exchange, None
        self.abort()
        if exchange is not None:
            exchange.connection = None
            exchange.lost(error)

    # ---- the end

    def eof_received(self) -> bool:
        self.is_open = False
        # A message that is cut short is a loss of the connection, of which connection_lost tells.
        self._take([event for event in self._parser.finish() if type(event) is not core.HttpError])
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        self.pool.forget(self)
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.connection = None
            is_stale = self._use_count > 1 and not self._is_heard
            when = "before it answered" if not self._is_heard else "within its answer"
            cause = f": {exc}" if exc is not None else ""
            error = ConnectionClosedError(f"{self.pool.url} closed the connection {when}{cause}")
            exchange.lost(error, is_stale=is_stale)

    def is_alive(self) -> bool:
        """Whether an idle connection has nothing to be read: neither bytes that belong to nobody, nor its end."""
        if not self.is_open or self.transport is None:
            return False
        found = self.transport.get_extra_info("socket")
        poll = select.poll()
        poll.register(found.fileno(), select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        self.is_open = False
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        self.is_open = False
        if self.transport is not None:
            self.transport.abort()


def keep_alive(transport: asyncio.BaseTransport) -> None:
    """Have the system find out where a silent peer is gone: a stream may be silent for hours."""
    found = transport.get_extra_info("socket")
    if found is None or found.family not in (socket.AF_INET, socket.AF_INET6):
        return
    with socket.socket(fileno=os.dup(found.fileno())) as own:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (("TCP_KEEPIDLE", KEEPALIVE_S), ("TCP_KEEPINTVL", KEEPALIVE_S // 3), ("TCP_KEEPCNT", 4)):
            if hasattr(socket, name):
                own.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
