"""A conversation over a byte stream, the client's end: many requests in flight, answers in any order.

Operations wanted: send, cancel, expire, and lose everything at once, with nothing per call but its future: no task, no
timer, no write of its own.

Plan. A request lies in the correlation from ``send`` to its end, with its deadline; one timer of the loop serves the
earliest of all. What is sent within a turn of the loop leaves in one write at its end. Not more than
``inflight_count_max`` are sent and unanswered, and none is written while the server does not read: the others wait in
a line, in the correlation already, so that they expire, are cancelled and are lost like those that were sent. Where the
limit is to follow the latency (``erlmcp.policy.inflight``), one request at a time is timed, and nothing else is.

Invariant: whoever takes a request out of the correlation ends it; so it ends once, whatever comes twice, late or never.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections import deque
from collections.abc import Callable
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any, Final

from erlmcp import core
from erlmcp.client.bound import ClientLimits
from erlmcp.client.flow import Flow
from erlmcp.client.following import take_overdue
from erlmcp.errors import CallTimeoutError, ConnectionClosedError, InvalidAnswerError, JsonError, LimitError, McpError
from erlmcp.flags import Flags
from erlmcp.policy.inflight import InflightSize
from erlmcp.spec import method as m
from erlmcp.spec.version import BATCH_VERSION

if TYPE_CHECKING:
    from erlmcp.client.channel import Front, Request
    from erlmcp.core import Call

NEVER: Final = sys.maxsize
SECOND_NS: Final = 1_000_000_000
RESULT, ERROR, BATCH = 3, 4, 5
_NOBODY: Final[Any] = object()  # timed where nothing is to be
_REQUEST: Final = re.compile(rb'\{"jsonrpc":"2\.0","id":\d+,"method":')
HIGH_WATER_BYTES: Final = 64 * 1024  # asyncio's: from there on nothing more is to be written


class Pipe(Flow):
    """What the channels of byte streams have in common; they bring ``_write`` and ``open``, and call ``feed``,
    ``_pause``, ``_resume`` and ``_lose``."""

    is_http = False

    def __init__(
        self, limits: ClientLimits | None = None, flags: Flags | None = None, *, json_rpc_batch: bool = False
    ) -> None:
        self.limits = limits = limits or ClientLimits()
        self.flags = flags = flags or Flags.load()
        self.stray_count = 0  # answers that nobody waited for: late ones, doubled ones, wrong ids
        self._json_rpc_batch = json_rpc_batch
        # A turn's requests leave together, and one more when the server has stopped reading; the rest is unasked for.
        self._unread_max = 2 * limits.outbox_bytes_max + HIGH_WATER_BYTES
        self._front: Front | None = None
        self._lost = _unopened
        self._timer: asyncio.TimerHandle | None = None
        self._begin()

    def _begin(self) -> None:
        """Nothing of an earlier conversation is left."""
        limits = self.limits
        self._correlation = core.Correlation(limits.inflight_count_max + limits.queue_count_max)
        self._inbound = core.Inbound(
            None,
            self._correlation,
            message_bytes_max=limits.message_bytes_max,
            string_bytes_max=limits.message_bytes_max,
            depth_max=limits.depth_max,
        )
        self._outbound = core.Outbound(bytes_max=limits.outbox_bytes_max, depth_max=limits.depth_max)
        self._queue = deque()
        self._streams: list[Request] = []  # requests that are not to be answered before their end
        self._timed_ns = 0
        self._version = ""  # that was found
        self._decide()
        self._sent_count = 0
        self._is_paused = False
        self._is_dirty = False
        self._armed_ns = NEVER

    def _decide(self) -> None:
        """What the flags and the revision say about requests that are sent from now on."""
        limits, flags = self.limits, self.flags
        count_min, count_max = limits.inflight_count_min, limits.inflight_count_max
        self._size = InflightSize(count_min, count_max) if count_min < count_max and flags.pipelining else None
        self._timed: Request | None = None if self._size is not None else _NOBODY
        self._inflight_max = self._size.limit if self._size is not None else count_max if flags.pipelining else 1
        is_array = self._json_rpc_batch and flags.aggregation and self._version == BATCH_VERSION
        self._array_count = limits.batch_count_max if is_array else 1  # requests that may be one array
        self._is_whole = flags.batching and not is_array  # what was gathered leaves as it is

    def use_flags(self, flags: Flags) -> None:
        """Other flags from the next request on."""
        self.flags = flags
        self._decide()
        if self._lost is None:
            self._pump()

    def _opened(self, front: Front) -> None:
        """The bytes have a way now."""
        self._loop = asyncio.get_running_loop()
        self._front = front
        self._lost = None

    def _write(self, data: bytes) -> None:
        raise NotImplementedError

    @property
    def inflight_count(self) -> int:
        """Requests sent and not answered."""
        return self._sent_count

    # -- what goes out -------------------------------------------------------------------------------------------------

    def send(self, request: Request) -> None:
        if self._lost is not None:
            raise self._lost()
        is_full = self._sent_count >= self._inflight_max and request.method not in m.PROBES and self._is_full()
        if self._is_paused or is_full:
            count_max = self.limits.queue_count_max
            if len(self._correlation) - self._sent_count >= count_max:
                raise LimitError("queue_count_max", count_max, "the server does not keep up")
            if len(self._queue) >= 2 * count_max:  # Half of them at least have expired, or were given up.
                self._queue = deque(each for each in self._queue if each.id in self._correlation)
            request.id = self._correlation.put_next(request, request.deadline_ns)
            self._queue.append(request)
        else:
            request.id = self._correlation.put_next(request, request.deadline_ns)
            try:
                self._post(request)
            except BaseException:
                self._correlation.take(request.id)
                raise
        if request.deadline_ns is None:
            self._open_streams().append(request)
        elif request.deadline_ns < self._armed_ns:
            self._arm(request.deadline_ns)

    def _is_full(self) -> bool:
        """Whether as many answers are waited for as may be; a listen stream is no answer that will come."""
        stream_count = sum(request.is_sent for request in self._open_streams())
        return self._sent_count - stream_count >= self._inflight_max

    def _open_streams(self) -> list[Request]:
        self._streams = [each for each in self._streams if each.id in self._correlation]
        return self._streams

    def _post(self, request: Request) -> None:
        try:
            self._outbound.request(request.id, request.method, request.params)
        except LimitError:
            if not len(self._outbound):
                raise
            self._flush()  # Much was gathered in this turn: the room is for one more message, not for the turn.
            self._outbound.request(request.id, request.method, request.params)
        request.is_sent = True
        self._sent_count += 1
        if self._timed is None and request.deadline_ns is not None:
            self._timed = request
            self._timed_ns = time.monotonic_ns()
        if not self._is_dirty:
            self._is_dirty = True
            self._loop.call_soon(self._flush)

    def _pump(self) -> None:
        """Send from the line what there is room for."""
        queue = self._queue
        while queue and not self._is_paused and self._lost is None:
            if self._sent_count >= self._inflight_max and self._is_full():
                return
            request = queue.popleft()
            if request.id not in self._correlation:
                continue  # expired, or given up
            try:
                self._post(request)
            except (JsonError, LimitError) as error:
                self._correlation.take(request.id)
                request.fail(error)

    def notify(self, method: str, params: dict[str, Any] | None) -> None:
        if self._lost is None:
            self._put(self._outbound.notification, method, params)

    def answer(self, id_raw: bytes, result: object, error: McpError | None = None) -> None:
        if self._lost is not None:
            return
        if error is None:
            self._put(self._outbound.result, id_raw, result)
        else:
            self._put(self._outbound.error, id_raw, error.code, error.message, error.data)

    def _put(self, write: Callable[..., None], *args: Any) -> None:
        try:
            write(*args)
        except LimitError:
            if not len(self._outbound):
                raise
            self._flush()
            write(*args)
        if not self._is_dirty:
            self._is_dirty = True
            self._loop.call_soon(self._flush)

    def _flush_pieces(self) -> None:
        data = self._outbound.take()
        if not data or self._lost is not None:
            return
        for piece in [data] if self._is_whole else self._pieces(data):
            if self._lost is None:
                self.write_count += 1
                self._write(piece)

    def _pieces(self, data: bytes) -> list[bytes]:
        """The writes that what was gathered leaves in. Requests that follow each other may be one array; notifications
        and answers are not put into one with them, as a batch of 2025-03-26 is of one kind."""
        messages: list[bytes] = []
        for is_request, lines in groupby(data.split(b"\n")[:-1], _is_request):
            count = self._array_count if is_request else 1
            while group := [*islice(lines, count)]:
                messages.append(b"[%b]\n" % b",".join(group) if len(group) > 1 else group[0] + b"\n")
        return [b"".join(messages)] if self.flags.batching else messages

    def _pause(self) -> None:
        """The server does not read: no request is written until it does."""
        self._is_paused = True

    def _resume(self) -> None:
        self._is_paused = False
        self._pump()

    def negotiated(self, era: str, version: str) -> None:
        """The bytes of a stream are the same in all eras, but for the arrays of one."""
        self._version = version
        self._decide()

    # -- what comes in -------------------------------------------------------------------------------------------------

    def _receive(self, call: Call) -> None:
        """One message; the members of a batch (2025-03-26) one by one."""
        request: Any = call.pending
        if request is not None:
            self._sent_count -= request.is_sent
            if request is self._timed:
                self._time()
            request.settle(call)
        elif call.kind == BATCH:
            for item in call.items:
                self._receive(item)
        elif call.kind in (RESULT, ERROR):
            self.stray_count += 1
        elif call.method is None and call.id in self._correlation:
            request = self._correlation.take(call.id)
            self._sent_count -= request.is_sent
            if request is self._timed:
                self._time()
            request.fail(InvalidAnswerError(f"the answer to {request.method} is no JSON-RPC message: {call.message}"))
        elif self._front is not None:
            self._front.received(call)

    def _time(self) -> None:
        """The timed request was answered."""
        self._timed = None
        now_ns = time.monotonic_ns()
        if self._size is not None:
            self._inflight_max = self._size.answered(now_ns, now_ns - self._timed_ns, is_full=bool(self._queue))

    # -- ends ----------------------------------------------------------------------------------------------------------

    def cancel(self, request: Request, reason: str) -> None:
        if self._lost is None and self._correlation.take(request.id) is not None:
            self._withdraw(request, reason)
            self._pump()

    def _withdraw(self, request: Request, reason: str) -> None:
        if request is self._timed:
            self._timed = None
        if request.is_sent:
            self._sent_count -= 1
            if request.method != m.INITIALIZE:  # MUST NOT be cancelled (basic/utilities/cancellation)
                self.notify(m.CANCELLED, {"requestId": request.id, "reason": reason})

    def _arm(self, deadline_ns: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed_ns = deadline_ns
        delay_s = max(deadline_ns - time.monotonic_ns(), 0) / SECOND_NS
        self._timer = self._loop.call_later(delay_s, self._expire)

    def _expire(self) -> None:
        self._timer = None
        self._armed_ns = NEVER
        expired = take_overdue(self._correlation, time.monotonic_ns())
        if self._size is not None and any(request.is_sent for _id, request in expired):
            self._inflight_max = self._size.slowed()
        for _id, request in expired:
            self._withdraw(request, "timed out")
            request.fail(CallTimeoutError("timeout_s", request.timeout_s, request.method))
        deadline_ns = self._correlation.next_deadline_ns()
        if deadline_ns is not None:
            self._arm(deadline_ns)
        self._pump()

    def _lose(self, make: Callable[[], ConnectionClosedError], *, by_us: bool = False) -> None:
        """The conversation is over: all that wait fail, each with an error of its own, as errors keep tracebacks."""
        if self._lost is not None:
            return
        self._lost = make
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting: list[tuple[Any, Any]] = self._correlation.drain()
        self._queue.clear()
        self._sent_count = 0
        for _id, request in waiting:
            request.fail(make())
        front, self._front = self._front, None
        if front is not None and not by_us:
            front.lost(make())


def _is_request(line: bytes) -> bool:
    """Of a line that ``Outbound`` wrote."""
    return _REQUEST.match(line) is not None


def _unopened() -> ConnectionClosedError:
    return ConnectionClosedError("the connection is not open")


def closed_by_us() -> ConnectionClosedError:
    return ConnectionClosedError("the client closed the connection")
