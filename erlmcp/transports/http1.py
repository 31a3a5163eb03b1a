"""A connection that speaks HTTP/1.1: keep-alive, pipelining, time limits, and the end of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from erlmcp import core
from erlmcp.runtime.parts import write_parts
from erlmcp.runtime.turn import Arrivals
from erlmcp.transports.stream import PAUSE_BYTES

if TYPE_CHECKING:
    from erlmcp.core import Head, HttpRequest, Outbound
    from erlmcp.limits import Limits
    from erlmcp.runtime.quick import Budget
    from erlmcp.transports.contract import Stride
    from erlmcp.transports.listener import HttpListener

log = logging.getLogger("erlmcp.http")
LINGER_S = 1.0
WRITE_BYTES = 256 * 1024


def write_now(transport: asyncio.Transport, data: bytes) -> None:
    """Write to the socket itself, where nothing waits before it: uvloop writes at the end of a turn, when the reads of
    all other connections were handled."""
    if getattr(transport, "writes_at_once", False):
        transport.write(data)
        return
    if not transport.get_write_buffer_size() and transport.get_extra_info("ssl_object") is None:
        sock = transport.get_extra_info("socket")
        with contextlib.suppress(OSError):  # The transport meets the error, too, and knows what to do.
            data = data[os.write(sock.fileno(), data) :] if sock is not None else data
    if data:
        transport.write(data)


class Rest:
    """Takes what still comes of a request that was refused before its end."""

    phase = 0
    wants_continue = False

    def feed(self, data: bytes) -> None:
        """Pass it over."""


if TYPE_CHECKING or core.IMPLEMENTATION == "core":
    from erlmcp.transports.intake import Intake
else:

    class Intake:
        """What a connection has to do for each read."""

        __slots__ = (
            "_budget",
            "_busy",
            "_draining",
            "_inbound",
            "_out",
            "_queue",
            "_stride",
            "is_urgent",
            "served",
            "transport",
        )

        def data_received(self, data: bytes) -> None:
            requests = self._inbound.feed(data)
            if requests:
                self._take(requests)
            if self._inbound.wants_continue:
                self._invite()
            if not len(self._out) or self.transport is None:
                return
            self.served += 1
            if self._out.is_large:
                self._write()
            elif self.is_urgent:
                self.is_urgent = False
                self._write_now(self._out.take())
            else:
                self.transport.write(self._out.take())


class HttpConnection(Intake, asyncio.Protocol):
    """One connection, and the reply to the request that is being answered on it.

    Requests are answered one after the other, in the order in which they came; a client that pipelines more than
    ``pipeline_count_max`` of them is not read from until some were answered. Where the budget of the turn is spent they
    wait for the next one, but for critical ones that have their connection to themselves.
    """

    kind = "http"
    __slots__ = (
        "_chunked",
        "_date",
        "_extra",
        "_handle",
        "_head",
        "_in_line",
        "_in_read",
        "_is_open",
        "_is_set",
        "_keep",
        "_lingers",
        "_listener",
        "_paused",
        "_verb",
        "arrivals",
        "front",
        "gone",
        "mark",
        "mark_since",
        "place",
    )

    def __init__(self, listener: HttpListener) -> None:
        self._listener = listener
        self._inbound = listener.make_inbound()
        self._out = listener.make_outbound()
        self._queue = deque()
        self._busy = False
        self._handle = listener.handler.handle
        self._stride = listener.stride
        self._budget = listener.turn.budget
        self._in_line = False
        self.is_urgent = False  # something critical was answered in this read
        # Of the request that is being answered:
        self._head: Head | None = None
        self._keep = True
        self._chunked = True
        self._verb = ""
        # Whether the prefix of the answers is that of a 200 with these, so that it need not be set again:
        self._is_set = False
        self._is_open = False  # whether the answer is a stream that has begun
        self._date = self._extra = b""
        self._in_read = False
        self._paused = False
        self.place = 0
        self._draining = False
        self._lingers = False
        self.front: object | None = None
        self.gone: Callable[[], None] | None = None
        self.transport = None
        self.served = 0
        self.arrivals = Arrivals()  # of what is in the queue
        self.mark = (0, 0, 0)
        self.mark_since = 0.0

    # -- the connection ------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.mark_since = time.monotonic()
        if self._listener.limits.outbox_pause_bytes != PAUSE_BYTES:
            self.transport.set_write_buffer_limits(int(self._listener.limits.outbox_pause_bytes))
        if not self._listener.admit(self):
            self._keep = False
            self.plain(503, b"Too many connections: connection_count_max is reached", b"Retry-After: 1\r\n")
        elif self._listener.is_closing:
            self.drain()

    def _write_now(self, data: bytes) -> None:
        assert self.transport is not None
        write_now(self.transport, data)

    def flush(self) -> None:
        """Write the answers that are ready."""
        if not self.is_urgent and len(self._out):
            self.served += 1
            self._flush()

    def _take(self, requests: list[HttpRequest]) -> None:
        self._queue.extend(requests)
        self._pump()
        if len(self._queue) > self._listener.limits.pipeline_count_max and self.transport is not None:
            self.transport.pause_reading()

    def use_prefix(self, extra: bytes) -> bytes:
        """Make the next message a 200 of a connection that is kept; the value is its head."""
        self._is_set = False
        self._out.prefix = prefix = self._listener.prefix(200, extra, True, True)
        return prefix

    def front_of(self, request: HttpRequest) -> object:
        """A request that began the short way goes on the general way."""
        self._set_request(request.head)
        return self._listener.handler.front_of(request, self)

    def hurry(self, request: HttpRequest, stride: Stride, budget: Budget) -> bool:
        """Answer the request at hand the short way after all, now that its handler let it in; False where that way does
        not take it, and nothing was done. What it costs counts for who handed it over."""
        if self._draining:
            return False
        self._busy = False
        stride.date = self._listener.date
        if stride.requests([request], self, self._out, budget):
            self._busy = True
            return False
        return True

    def _set_request(self, head: Head | None) -> None:
        self._busy = True
        self.served += 1
        if head is not self._head:
            self._head = head
            self._is_set = False
            if head is None:
                self._keep, self._chunked, self._verb = False, True, ""
            else:
                self._keep = head.keep_alive and not self._draining
                self._chunked = head.version == 11
                self._verb = head.verb

    def _start(self, request: HttpRequest) -> None:
        self._set_request(request.head)
        if request.status:
            self._keep = False
            self._lingers = True
            self.plain(request.status, (request.message or "Bad Request").encode())
            return
        if request.call is not None and request.call.is_critical:
            self.is_urgent = True
        try:
            self._handle(request, self)
        except Exception:
            log.exception("a request could not be handled")
            self._keep = False
            if self._is_open:
                self.abort()
            elif self._busy:
                self.plain(500, b"Internal Server Error")

    def _pump(self, *, to_the_end: bool = False, is_owed: bool = False) -> None:
        """Answer requests that were read, until one has to wait, the client does not take the answers, or (unless
        ``to_the_end``) the turn is over. Who ``is_owed`` gets one answered, even if to look at it took the turn."""
        budget = self._budget
        budget.begin()
        self._in_read = True
        while self._queue and not self._busy and not self._paused and not self._is_closing():
            if budget.is_spent and not (to_the_end or is_owed or self._listener.is_exempt(self._queue[0])):
                self._join()
                break
            is_owed = False
            self._start(self._queue.popleft())
            budget.add()
            if len(self._out) > WRITE_BYTES:
                self._flush()
        self._in_read = False
        if self._queue or self.arrivals.since_ns:
            self.arrivals.settle(len(self._queue))

    def _join(self) -> None:
        if not self._in_line:
            self._in_line = True
            self._listener.turn.join(self)

    def work(self) -> None:
        """It is this connection's turn."""
        self._in_line = False
        queue, stride = self._queue, self._listener.stride
        if queue and stride is not None and not (self._busy or self._paused or self._draining or self._is_closing()):
            quantum = self._listener.turn.quantum
            taken = [queue.popleft() for _ in range(min(len(queue), quantum or len(queue)))]
            self._in_read = True
            rest = stride.requests(taken, self, self._out, self._budget) or ()
            queue.extendleft(reversed(rest))
            self._in_read = False
            self._resume(is_owed=len(rest) == len(taken))
        else:
            self._resume(is_owed=True)

    def _resume(self, *, is_owed: bool = False) -> None:
        """Go on with what was read and not answered, then with reading."""
        self._pump(is_owed=is_owed)
        self._invite()
        self._flush()
        if not self._paused and not self._is_closing() and len(self._queue) <= self._listener.limits.pipeline_count_max:
            assert self.transport is not None
            self.transport.resume_reading()

    def end(self) -> None:
        """The answer is whole."""
        self._busy = self._is_open = False
        self.gone = None
        if not self._keep or self._draining:
            self._queue.clear()
            self._flush()
            self._close()
        elif not self._in_read:
            if self._queue:
                self._resume()
            self._invite()
            self._flush()

    def _invite(self) -> None:
        """Let the client send the body that it holds back, once its request has its turn (RFC 9110, section 10.1.1)."""
        if self._inbound.wants_continue and not self._busy and not self._queue:
            self._inbound.wants_continue = False
            self._out.raw(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _flush(self) -> None:
        if self._is_closing():
            self._out.take()
        elif len(self._out):
            self._write()

    def _write(self) -> None:
        """Send what is gathered; in pieces where it is large."""
        assert self.transport is not None
        if self._out.is_large and self._listener.has_zero_copy():
            write_parts(self.transport, self._out.take_parts())
        else:
            self.transport.write(self._out.take())

    def _is_closing(self) -> bool:
        return self.transport is None or self.transport.is_closing()

    def _close(self) -> None:
        transport = self.transport
        if transport is None:
            return
        if self._lingers and not transport.is_closing():
            # A request was refused before its end. To close on what the client still sends would reset the connection,
            # and with it the refusal that it has not read: say that nothing follows, pass over the rest for a moment.
            self._lingers = False
            if transport.can_write_eof():
                transport.write_eof()
            asyncio.get_running_loop().call_later(LINGER_S, transport.close)
            return
        transport.close()

    def eof_received(self) -> bool:
        """A client that shuts down its side is taken to have left: one that closed the connection looks the same here.
        Where ``cancels_at_eof`` is off it still gets the answer that is under way."""
        if self._in_line:
            self._pump(to_the_end=True)
            self._flush()
        self._draining = True
        return self._busy and not self._listener.cancels_at_eof

    def pause_writing(self) -> None:
        self._paused = True
        if self.transport is not None:
            self.transport.pause_reading()

    def resume_writing(self) -> None:
        self._paused = False
        self._resume()

    def connection_lost(self, exc: Exception | None) -> None:
        self._listener.forget(self)
        self._queue.clear()
        self._busy = False
        gone, self.gone = self.gone, None
        self.transport = self.front = None
        if gone is not None:
            gone()

    @property
    def client(self) -> object:
        return None if self.transport is None else self.transport.get_extra_info("peername")

    # -- the reply -----------------------------------------------------------------------------------------------------

    def begin(self, status: int, extra: bytes) -> Outbound:
        if len(self._out) > WRITE_BYTES:
            self._flush()
        date = self._listener.date
        if not (self._is_set and self._date is date and status == 200 and extra is self._extra):
            self._out.prefix = self._listener.prefix(status, extra, self._keep, self._chunked)
            self._is_set, self._date, self._extra = status == 200, date, extra
        return self._out

    def plain(self, status: int, body: bytes, extra: bytes = b"", content_type: bytes = b"text/plain") -> None:
        head = self._listener.head(status, self._keep, self._chunked) + extra
        if status != 204:
            if body:
                head += b"Content-Type: " + content_type + b"; charset=utf-8\r\n"
            head += b"Content-Length: %d\r\n" % len(body)
        self._out.raw(head + b"\r\n" + (b"" if self._verb == "HEAD" else body))
        self.end()

    def whole(self, status: int, lines: bytes, body: bytes) -> None:
        self._out.raw(self._listener.head(status, self._keep, self._chunked) + lines + b"\r\n" + body)
        self.end()

    @property
    def unsent_bytes(self) -> int:
        return 0 if self.transport is None else self.transport.get_write_buffer_size()

    def open(self, extra: bytes, status: int = 200) -> None:
        self._is_open = True
        if not self._chunked:
            self._keep = False
        head = self._listener.head(status, self._keep, self._chunked) + extra
        self._out.raw(head + (b"Transfer-Encoding: chunked\r\n\r\n" if self._chunked else b"\r\n"))
        self._flush_stream()

    def send(self, data: bytes) -> None:
        self._out.raw(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)
        self._flush_stream()

    def finish(self) -> None:
        if self._chunked:
            self._out.raw(b"0\r\n\r\n")
        self.end()

    def _flush_stream(self) -> None:
        if self._in_read and len(self._out) < WRITE_BYTES:
            return
        self._flush()
        if self._paused and self.transport is not None:
            limit = self._listener.limits.outbox_bytes_max
            if self.transport.get_write_buffer_size() > limit:
                log.warning("a client does not read its stream: outbox_bytes_max=%d passed", limit)
                self.transport.abort()

    # -- time ----------------------------------------------------------------------------------------------------------

    def sweep(self, now: float, limits: Limits) -> None:
        """Close a connection that is slow or idle: called about once a second, for all of them."""
        unsent_bytes = self.transport.get_write_buffer_size() if self.transport is not None else 0
        mark = (self.served, self._inbound.phase, unsent_bytes)
        if mark != self.mark or (self._busy and not self._paused):
            self.mark = mark
            self.mark_since = now
            return
        age_s = now - self.mark_since
        if self._paused and age_s > limits.outbox_timeout_s and self._listener.turn.is_guarded:
            log.warning(
                "a client does not read: outbox_timeout_s=%g passed with %d bytes unsent",
                limits.outbox_timeout_s,
                unsent_bytes,
            )
            self.abort()
        if self._busy:
            return
        if self._is_closing():
            # What was written last does not leave: the client does not read it.
            if age_s > limits.keepalive_timeout_s:
                self.abort()
        elif self._inbound.phase == 0:
            if age_s > (limits.keepalive_timeout_s if self.served else limits.head_timeout_s):
                self._close()
        elif self._queue:
            if age_s > limits.keepalive_timeout_s:  # Requests before this one wait for the client to read.
                self.abort()
        elif age_s > (limits.head_timeout_s if self._inbound.phase == 1 else limits.body_timeout_s):
            self._keep = False
            what = "head_timeout_s" if self._inbound.phase == 1 else "body_timeout_s"
            self._lingers = self._draining = True
            self._inbound = cast(Any, Rest())
            self.plain(408, f"Request Timeout: {what} passed".encode())

    def drain(self) -> None:
        """Close now if idle, else after the answer that is under way."""
        self._draining = True
        self._keep = False
        self._is_set = False
        self._head = None if not self._busy else self._head
        if not (self._busy or self._in_line):
            self._close()

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    @property
    def is_busy(self) -> bool:
        """Whether the next request has to wait: for the answer under way, or for a client that does not read."""
        return self._busy or self._paused
