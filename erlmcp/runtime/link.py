"""The driver of one byte-stream connection (stdio, TCP, Unix socket, memory): bytes in, answers out, one write per
read.

Where its transport can stop reading, a connection has its turn like every other (``erlmcp.runtime.turn``): what the
budget does not reach waits in ``backlog``, in its order. Critical messages pass it (``overtake``), and their answers
pass the answers that are not written yet (``Express``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from erlmcp.errors import JsonError, LimitError, NoBackChannelError
from erlmcp.runtime.exchange import Exchange
from erlmcp.runtime.express import Express
from erlmcp.runtime.parts import SPLIT_BYTES, Parts
from erlmcp.runtime.session import BATCH, REQUEST, Session, cancelled_id
from erlmcp.runtime.turn import Arrivals
from erlmcp.spec.method import CANCELLED, INITIALIZE

if TYPE_CHECKING:
    from erlmcp import core
    from erlmcp.core import Call, Template
    from erlmcp.runtime.quick import Budget
    from erlmcp.runtime.session import Host
    from erlmcp.runtime.turn import Pacer
    from erlmcp.wire.peer import Peer

log = logging.getLogger("erlmcp.server")
OVERTAKE_MAX = 16  # critical messages of one read that pass others: with more of them they are the crowd
HELD_BYTES_MAX = 256 * 1024  # answers that wait here, not in the transport, for a peer that does not read


class Link:
    """One connection. ``write(bytes)`` takes what is to be sent; ``feed`` takes what was read.

    Answers that are ready when ``feed`` returns leave in one write; those that come later leave together at the end
    of the loop turn in which they came. All messages are handled before ``feed`` returns, unless ``pace`` was called.
    """

    __slots__ = (
        "_backlog_bytes",
        "_budget",
        "_dirty",
        "_express",
        "_held",
        "_held_max",
        "_in_line",
        "_is_paused",
        "_is_plain",
        "_lines",
        "_pacer",
        "_stride",
        "_write",
        "arrivals",
        "backlog",
        "closed",
        "framing",
        "inbound",
        "kind",
        "outbound",
        "place",
        "session",
        "slot",
        "write_parts",
    )

    def __init__(
        self, host: Host, write: Callable[[bytes], None], *, framing: str = "newline", kind: str = "memory"
    ) -> None:
        limits = host.limits
        self.session = Session(host)
        self.session.standalone = self
        self.framing: str = framing
        self.session.kind = kind
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
        self.kind: str = kind
        self.slot = -1  # where the short way's calls are timed; not known yet
        self._dirty = False  # True while a flush is sure to come: within feed, or scheduled
        self._held = False  # the peer does not read: what is gathered stays here for now
        self._held_max = min(HELD_BYTES_MAX, limits.outbox_bytes_max // 4)
        self._express: Express | None = None
        self._pacer: Pacer | None = None
        self._budget: Budget | None = None
        self._is_paused = False
        self.backlog: list[Call] = []  # what was read and has not had its turn
        self.arrivals = Arrivals()  # of it
        self._backlog_bytes = 0  # of the reads that it came from, at most
        self._in_line = False
        self.place = 0
        self._settle()
        host.links.add(self)

    def pace(self, pacer: Pacer) -> None:
        """Take turns with the other connections of the server from now on; ``pacer`` is asked not to read while what
        waits passes ``backlog_count_max`` or ``backlog_bytes_max``."""
        self._pacer = pacer
        self._budget = self.session.host.turn.budget

    def feed(self, data: bytes) -> None:
        """Handle the messages that are complete with this read. Never raises for what the peer sent."""
        self._dirty = True
        try:
            lines = self._lines
            if lines is None:
                rest = self._read(data)
            else:
                rest = lines(self.inbound, data, self, self.session, self.outbound, self._budget)
            if rest is not None and not self.closed:
                self._wait(rest, len(data))
        finally:
            self.flush()
            if self.closed:  # By a handler: calls that came after it were remembered all the same.
                self.session.close()

    def _read(self, data: bytes) -> list[Call] | None:
        inbound = self.inbound
        calls = inbound.feed(data)
        if inbound.critical_count:
            calls = self.overtake(calls, inbound.critical_count)
        return calls if self.backlog or self._held else self._handle(calls)

    def _handle(self, calls: list[Call]) -> list[Call] | None:
        """Handle calls until the budget is spent; those that it did not reach."""
        budget, session = self._budget, self.session
        if self._stride is not None:
            return self._stride.calls(calls, self, session, self.outbound, budget)
        executor = session.host.executor
        outer = executor.enter()
        if budget is not None:
            budget.begin()
        try:
            for index, call in enumerate(calls):
                if budget is not None:
                    if budget.is_spent:
                        return calls[index:]
                    session.receive(call, self)
                    budget.add()
                else:
                    session.receive(call, self)
        finally:
            executor.leave(outer)
        return None

    # -- what has to wait, and what does not ---------------------------------------------------------------------------

    def _wait(self, calls: list[Call], size: int) -> None:
        self.backlog += calls
        self.arrivals.settle(len(self.backlog))
        self._backlog_bytes += size
        self._settle()
        self._join()
        limits = self.session.host.limits
        is_full = len(self.backlog) >= limits.backlog_count_max or self._backlog_bytes >= limits.backlog_bytes_max
        if is_full and not self._is_paused and self._pacer is not None:
            self._is_paused = True
            self._pacer.pause()

    @property
    def patience_s(self) -> float | None:
        """For how long a client may read nothing of what it was sent before it is given up; None: for ever."""
        host = self.session.host
        return host.limits.outbox_timeout_s if host.flags.backpressure else None

    def _join(self) -> None:
        if self.backlog and not (self._in_line or self._held):
            self._in_line = True
            self.session.host.turn.join(self)

    def work(self) -> None:
        """It is this connection's turn."""
        self._in_line = False
        if self._held:
            return
        quantum = self.session.host.turn.quantum
        calls, self.backlog = self.backlog[:quantum], [] if quantum is None else self.backlog[quantum:]
        self._dirty = True
        try:
            rest = self._handle(calls) if calls else None
            if rest is not None and not self.closed:
                self.backlog[:0] = rest
        finally:
            self.flush()
            if self.closed:
                self.session.close()
            self.arrivals.settle(len(self.backlog))
            self._join()
        if not self.backlog:
            self._settle()
            self._backlog_bytes = 0
            if self._is_paused and self._pacer is not None:
                self._is_paused = False
                self._pacer.resume()

    def finish(self) -> None:
        """No more is to be read: handle what waits, all of it, before the end."""
        self._budget = None
        self._held = False
        calls, self.backlog = self.backlog, []
        self._settle()
        self._dirty = True
        try:
            if calls and not self.closed:
                self._handle(calls)
        finally:
            self.flush()

    def overtake(self, calls: list[Call], critical_count: int) -> list[Call]:
        """Handle what is critical among calls that were just read; the others, in their order.

        Nothing overtakes before the conversation has found its era, which goes by what comes first, and ``initialize``
        never does. A cancellation takes back what has not had its turn; one whose call may wait within an array waits
        behind it.
        """
        session = self.session
        if critical_count > OVERTAKE_MAX or not session.host.flags.priority_messages:
            return calls
        rest: list[Call] = []
        executor = session.host.executor
        outer = executor.enter()
        try:
            for call in calls:
                passes = rest or self.backlog
                if not call.is_critical or (passes and (session.connection.era is None or call.method == INITIALIZE)):
                    rest.append(call)
                elif call.method != CANCELLED:
                    session.receive(call, self.express)
                elif not (self._take_back(call, rest) or self._take_back(call, self.backlog)):
                    if any(each.kind == BATCH for each in rest) or any(each.kind == BATCH for each in self.backlog):
                        rest.append(call)
                    else:
                        session.receive(call, self)
        finally:
            executor.leave(outer)
        return rest

    @staticmethod
    def _take_back(cancellation: Call, waiting: list[Call]) -> bool:
        """Whether the call that is cancelled was waiting; it is not any more."""
        id = cancelled_id(cancellation)
        for index in range(len(waiting) - 1 if id is not None else -1, -1, -1):
            call = waiting[index]
            if call.kind == REQUEST and call.id == id and not call.is_critical:
                del waiting[index]
                return True
        return False

    @property
    def express(self) -> Express:
        """The channel whose answers leave before those that are gathered."""
        if self._express is None:
            self._express = Express(self)
            self._settle()
        return self._express

    def exchange(self, call: Call, peer: Peer) -> Exchange:
        """The exchange of a request that does not end at once."""
        return Exchange(call, peer, self.session, self)

    def waits(self, exchange: Exchange) -> None:
        """Its handler waits; nothing more is to be known of it here."""

    def flush(self) -> None:
        """Write what is gathered."""
        self._dirty = False
        first = b""
        if not self._is_plain:
            first = b"" if self._express is None else self._express.take()
            if self._held and len(self.outbound) < self._held_max:
                if first and not self.closed:
                    self._write(first)
                return
        if self.outbound.is_large and self.write_parts is not None and not self.closed:
            flags = self.session.host.flags
            if flags.zero_copy and flags.batching:
                if first:
                    self._write(first)
                self.write_parts(self.outbound.take_parts())
                return
        data = first + self.outbound.take()
        if data and not self.closed:
            self._write(data)

    def hold(self, held: bool) -> None:
        """The peer does not read (or does again): what is gathered stays here, where critical answers can pass it, as
        long as it is not much; and what waits has no turn."""
        self._held = held
        self._settle()
        if not held:
            self.flush()
            self._join()

    def _settle(self) -> None:
        """Choose the ways of the next read and the next write."""
        is_direct = self._stride is not None and not (self.backlog or self._held)
        self._lines = self._stride.lines if is_direct else None  # type: ignore[union-attr]
        self._is_plain = self._express is None and not self._held

    def touch(self) -> None:
        """Something was gathered: write it at the end of this turn, unless a write is sure to come."""
        if not self._dirty:
            self._dirty = True
            self.session.loop.call_soon(self.flush)

    # -- the channel of every request on this connection ---------------------------------------------------------------

    def fill(self, id_raw: bytes, template: Template, values: tuple[object, ...]) -> None:
        self.outbound.fill(id_raw, template, values)
        if not self._dirty:
            self.touch()

    def result(self, id_raw: bytes, value: object) -> None:
        self.outbound.result(id_raw, value)
        self.touch()

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
        self.touch()

    def whole(self, message: bytes, code: int = 0) -> None:
        self.outbound.message(message)
        self.touch()

    def notify(self, method: str, params: dict[str, Any] | None) -> None:
        if self.closed:
            return
        try:
            self.outbound.notification(method, params)
        except (JsonError, LimitError) as error:
            log.error("the notification %s could not be written: %s", method, error)
            return
        self.touch()

    def ask(self, id: int, method: str, params: dict[str, Any] | None) -> None:
        if self.closed:
            raise NoBackChannelError(f"{method} cannot be sent: the connection is closed")
        self.outbound.request(id, method, params)
        self.touch()

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
            self.backlog = []
            self._write = _nowhere  # What it belongs to holds this link.
            self._express = self._pacer = None
            self.write_parts = None
            self.session.host.links.discard(self)
            self._settle()
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
