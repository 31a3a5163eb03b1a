"""The driver of one byte-stream connection (stdio, TCP, Unix socket, memory): bytes in, answers out, one write per
read."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from erlmcp.errors import JsonError, LimitError, NoBackChannelError
from erlmcp.runtime.exchange import Exchange
from erlmcp.runtime.parts import SPLIT_BYTES, Parts
from erlmcp.runtime.session import Session

if TYPE_CHECKING:
    from erlmcp import core
    from erlmcp.core import Call, Template
    from erlmcp.runtime.session import Host
    from erlmcp.wire.peer import Peer

log = logging.getLogger("erlmcp.server")


class Link:
    """One connection. ``write(bytes)`` takes what is to be sent; ``feed`` takes what was read.

    Answers that are ready when ``feed`` returns leave in one write; those that come later leave together at the end
    of the loop turn in which they came.
    """

    __slots__ = ("_dirty", "_stride", "_write", "closed", "inbound", "outbound", "place", "session", "write_parts")

    def __init__(self, host: Host, write: Callable[[bytes], None], *, framing: str = "newline") -> None:
        limits = host.limits
        self.session = Session(host)
        self.session.standalone = self
        self.inbound: core.Inbound = host.stack.Inbound(
            host.routes,
            self.session.correlation,
            framing=framing,
            message_bytes_max=limits.message_bytes_max,
            depth_max=limits.depth_max,
            string_bytes_max=limits.string_bytes_max,
            number_bytes_max=limits.number_bytes_max,
            batch_count_max=limits.batch_count_max,
        )
        self.outbound: core.Outbound = host.stack.Outbound(
            framing=framing,
            bytes_max=limits.outbox_bytes_max,
            split_bytes=SPLIT_BYTES if host.flags.zero_copy else 0,
        )
        self._write = write if host.flags.batching else _apart(write, framing)
        self.write_parts: Callable[[Parts], None] | None = None  # set by a transport that takes pieces
        self._stride = host.stride
        self.closed = False
        self._dirty = False  # True while a flush is sure to come: within feed, or scheduled
        self.place = 0
        host.links.add(self)

    def feed(self, data: bytes) -> None:
        """Handle all messages that are complete with this read. Never raises for what the peer sent."""
        self._dirty = True
        try:
            if self._stride is None:
                self._feed(data)
            else:
                self._stride.lines(self.inbound, data, self, self.session, self.outbound)
        finally:
            self.flush()
            if self.closed:  # By a handler: calls that came after it were remembered all the same.
                self.session.close()

    def _feed(self, data: bytes) -> None:
        session = self.session
        executor = session.host.executor
        outer = executor.enter()
        try:
            for call in self.inbound.feed(data):
                session.receive(call, self)
        finally:
            executor.leave(outer)

    def exchange(self, call: Call, peer: Peer) -> Exchange:
        """The exchange of a request that does not end at once."""
        return Exchange(call, peer, self.session, self)

    def waits(self, exchange: Exchange) -> None:
        """Its handler waits; nothing more is to be known of it here."""

    def flush(self) -> None:
        """Write what is gathered."""
        self._dirty = False
        if len(self.outbound) >= SPLIT_BYTES and self.write_parts is not None and not self.closed:
            flags = self.session.host.flags
            if flags.zero_copy and flags.batching:
                self.write_parts(self.outbound.take_parts())
                return
        data = self.outbound.take()
        if data and not self.closed:
            self._write(data)

    def _touch(self) -> None:
        if not self._dirty:
            self._dirty = True
            self.session.loop.call_soon(self.flush)

    # -- the channel of every request on this connection ---------------------------------------------------------------

    def fill(self, id_raw: bytes, template: Template, values: tuple[object, ...]) -> None:
        self.outbound.fill(id_raw, template, values)
        if not self._dirty:
            self._touch()

    def result(self, id_raw: bytes, value: object) -> None:
        self.outbound.result(id_raw, value)
        self._touch()

    def error(self, id_raw: bytes, code: int, message: str, data: object) -> None:
        try:
            self.outbound.error(id_raw, code, message, data)
        except LimitError:
            if not len(self.outbound):
                raise
            # Results may be refused for want of room; their refusals must get out, so what is gathered leaves first.
            gathered = self.outbound.take()
            if not self.closed:
                self._write(gathered)
            self.outbound.error(id_raw, code, message, data)
        self._touch()

    def whole(self, message: bytes) -> None:
        self.outbound.message(message)
        self._touch()

    def notify(self, method: str, params: dict[str, Any] | None) -> None:
        if self.closed:
            return
        try:
            self.outbound.notification(method, params)
        except (JsonError, LimitError) as error:
            log.error("the notification %s could not be written: %s", method, error)
            return
        self._touch()

    def ask(self, id: int, method: str, params: dict[str, Any] | None) -> None:
        if self.closed:
            raise NoBackChannelError(f"{method} cannot be sent: the connection is closed")
        self.outbound.request(id, method, params)
        self._touch()

    def detach(self) -> None:
        """A byte stream has nothing to come back to."""

    def drop(self) -> None:
        """Nothing is sent for a request that was cancelled."""

    def beat(self) -> None:
        """Nothing between the ends of a byte stream closes it for being idle."""

    def close(self, reason: str = "the connection was closed") -> None:
        """The connection is gone: nothing more is written, whatever waits is cancelled."""
        if not self.closed:
            self.closed = True
            self._write = _nowhere  # What it belongs to holds this link.
            self.write_parts = None
            self.session.host.links.discard(self)
            self.session.close(reason)


def _apart(write: Callable[[bytes], None], framing: str) -> Callable[[bytes], None]:
    """``write`` for each message of what is to be written."""

    def write_each(data: bytes) -> None:
        start = 0
        while start < len(data):
            if framing == "newline":
                end = data.index(b"\n", start) + 1
            else:
                body = data.index(b"\r\n\r\n", start) + 4
                end = body + int(data[data.index(b":", start) + 1 : body])
            write(data[start:end])
            start = end

    return write_each


def _nowhere(_data: bytes) -> None:
    """Where a closed link writes."""
