"""One conversation with one client: a stream connection, a legacy HTTP session, or nothing but the present request."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from typing import TYPE_CHECKING, Any, Protocol

from erlmcp.errors import (
    INVALID_REQUEST,
    REQUEST_TIMEOUT,
    ConnectionClosedError,
    McpError,
    MethodNotFoundError,
    NoBackChannelError,
)
from erlmcp.runtime.batch import Collector
from erlmcp.runtime.current import CURRENT
from erlmcp.runtime.exchange import Channel, Exchange, Recorder
from erlmcp.runtime.load import busy
from erlmcp.spec.method import CANCELLED, CLIENT_REQUESTS, INITIALIZE
from erlmcp.spec.version import BATCH_VERSION, LATEST_LEGACY, LEGACY, MODERN
from erlmcp.wire.connection import Connection
from erlmcp.wire.peer import Peer, is_enveloped, judge_meta

if TYPE_CHECKING:
    from erlmcp import core
    from erlmcp.core import Call, Meta, Routes
    from erlmcp.flags import Flags
    from erlmcp.limits import Limits
    from erlmcp.runtime.codec import Codec
    from erlmcp.runtime.executor import Executor
    from erlmcp.runtime.lane import ThreadLanes
    from erlmcp.runtime.link import Link
    from erlmcp.runtime.quick import Stride
    from erlmcp.runtime.roll import Roll, Rolls
    from erlmcp.runtime.scheduler import Scheduler
    from erlmcp.runtime.subscription import Hub
    from erlmcp.runtime.timers import Timers
    from erlmcp.runtime.turn import Turn

log = logging.getLogger("erlmcp.server")

REQUEST, NOTIFICATION, RESULT, ERROR, BATCH, INVALID = 1, 2, 3, 4, 5, 6
UNKNOWN_PEER = Peer(LATEST_LEGACY)
_SERIALS = itertools.count(1)
_ANY_REQUEST = frozenset().union(*CLIENT_REQUESTS.values())


class Host(Protocol):
    """What a conversation needs of the server it is held with."""

    stack: Any  # the rooms that its conversations are made of, as ``erlmcp.core`` offers them
    routes: Routes
    limits: Limits
    flags: Flags
    mask_errors: bool
    codec: Codec | None  # the library for values, where the core does not decode them
    hub: Hub
    executor: Executor
    lanes: ThreadLanes
    timers: Timers
    scheduler: Scheduler
    links: Roll[Link]  # those that are open
    session_rolls: Rolls
    turn: Turn
    stride: Stride | None
    admission: str
    quick_route: object  # the route whose entries have ``start(call, peer, front)``; None where there is none
    client_requests: dict[str, frozenset[str]]  # revision -> what a client may ask

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...
    @property
    def recorder(self) -> Recorder | None: ...


def judge(meta: Meta) -> Peer | McpError | bool:
    """The verdict on a ``_meta``, kept in its tag: a modern peer, the error to answer with, or False (not modern)."""
    verdict: Peer | McpError | bool
    if not is_enveloped(meta.values):
        verdict = False
    else:
        try:
            verdict = judge_meta(meta.values)
        except McpError as error:
            verdict = error
    meta.tag = verdict
    return verdict


def requested_version(call: Call) -> object:
    """The protocolVersion that an ``initialize`` asks for; None for any other request."""
    if call.method != INITIALIZE:
        return None
    params = call.params
    return params.get("protocolVersion") if isinstance(params, dict) else None


def is_exempt(host: Host, call: Call) -> bool:
    """Whether no limit of work in progress holds a call up."""
    return call.is_critical and host.flags.priority_messages


def cancelled_id(call: Call) -> str | int | None:
    """The id of the request that a ``notifications/cancelled`` takes back; None where it names none."""
    params = call.params
    id = params.get("requestId") if isinstance(params, dict) else None
    return id if isinstance(id, str | int) and not isinstance(id, bool) else None


class Session:
    """The state of one conversation.

    ``standalone`` is where messages go that belong to no request (None where the client opened no such stream);
    ``resources`` the URIs subscribed to; ``state`` the author's own values.
    """

    __slots__ = (
        "__weakref__",
        "_correlation",
        "_serial",
        "_state",
        "connection",
        "host",
        "id",
        "inflight",
        "kind",
        "log_level",
        "loop",
        "mask_errors",
        "opened_ns",
        "owner",
        "resources",
        "standalone",
        "streams",
    )

    def __init__(self, host: Host, *, id: str | None = None, owner: bytes | None = None) -> None:
        self.host = host
        self.loop = host.loop
        self.mask_errors = host.mask_errors
        self.id = id
        self.kind = "memory"  # of its transport
        self.opened_ns = time.perf_counter_ns()
        self.owner = owner
        self.connection = Connection(host.client_requests)
        self._correlation: core.Correlation | None = None
        self._serial = 0
        self.inflight: dict[str | int, Exchange] = {}
        self.log_level: str | None = None
        self.resources: set[str] | None = None
        self.standalone: Channel | None = None
        self._state: dict[str, Any] | None = None
        self.streams: Any = None  # the HTTP endpoint's resumable streams

    @property
    def correlation(self) -> core.Correlation:
        """The questions that wait for the client's answer. Made when first used: most sessions never ask."""
        if self._correlation is None:
            self._correlation = self.host.stack.Correlation()
        return self._correlation

    @property
    def serial(self) -> int:
        """A number that no other session of this process has, from when it was first asked for."""
        if not self._serial:
            self._serial = next(_SERIALS)
        return self._serial

    @property
    def state(self) -> dict[str, Any]:
        """The author's own values."""
        if self._state is None:
            self._state = {}
        return self._state

    # -- what comes in -------------------------------------------------------------------------------------------------

    def receive(self, call: Call, channel: Channel, headers: dict[str, str] | None = None) -> None:
        """Handle one message of a conversation that may be of either era. Never raises."""
        kind = call.kind
        if kind == REQUEST:
            meta = call.meta
            verdict = None if meta is None else meta.tag
            if verdict is None and meta is not None:
                verdict = judge(meta)
            peer = self.connection.peer or UNKNOWN_PEER
            if isinstance(verdict, Peer):
                refusal = self.connection.admit_modern(call.method)
                peer = verdict
            elif isinstance(verdict, McpError):
                refusal = verdict if self.connection.era != LEGACY else self.connection.admit_modern(call.method)
            else:
                refusal = self.connection.admit_legacy(call.method, requested_version(call))
            exchange = Exchange(call, peer, self, channel, headers)
            if refusal is None:
                self.dispatch(exchange)
            else:
                exchange.fail(refusal)
        elif kind == NOTIFICATION:
            self.note(call)
        elif kind in (RESULT, ERROR):
            self.settle(call)
        elif kind == BATCH:
            self.receive_batch(call, channel, headers)
        elif not call.is_response:
            channel.error(call.id_raw, call.code, call.message or "Invalid request", None)

    def dispatch(self, exchange: Exchange) -> None:
        """Hand an admitted request to its route."""
        call = exchange.call
        route: Any = call.route
        if route is None:
            exchange.fail(MethodNotFoundError(call.method or ""))
            return
        if self.inflight:
            if call.id in self.inflight:
                exchange.fail(McpError(INVALID_REQUEST, f"Request id {call.id!r} is already in use"))
                return
            if len(self.inflight) >= self.host.limits.inflight_count_max and not is_exempt(self.host, call):
                exchange.fail(busy(f"inflight_count_max={self.host.limits.inflight_count_max} requests are in flight"))
                return
        outer, CURRENT.exchange = CURRENT.exchange, exchange
        try:
            refusal = self.host.turn.load.refusal(call)
            if refusal is None:
                route(exchange)
            else:
                exchange.fail(refusal)
        except Exception as error:
            exchange.fail(error)
        finally:
            CURRENT.exchange = outer

    def note(self, call: Call) -> None:
        """Handle a notification; unknown ones, and requests without an id, are passed over (JSON-RPC 2.0, section
        4.1)."""
        route: Any = call.route
        if route is None or call.method in _ANY_REQUEST:
            return
        try:
            route(self, call)
        except Exception:
            log.exception("the notification %s could not be handled", call.method)

    def settle(self, call: Call, pending: object = None) -> None:
        """The client's answer to a question of ours; ``pending`` is what waits, where the call itself does not know."""
        future: Any = call.pending or pending
        if future is None or future.done():
            return
        if call.kind == RESULT:
            future.set_result(call.result)
            return
        error = call.error if isinstance(call.error, dict) else {}
        code, message = error.get("code"), error.get("message")
        future.set_exception(
            McpError(
                code if isinstance(code, int) else 0,
                str(message or "the client answered with an error"),
                error.get("data"),
            )
        )

    def receive_batch(self, call: Call, channel: Channel, headers: dict[str, str] | None) -> None:
        """A JSON-RPC batch: part of 2025-03-26 only."""
        if self.connection.version != BATCH_VERSION:
            channel.error(b"null", INVALID_REQUEST, f"JSON-RPC batches exist in {BATCH_VERSION} only", None)
            return
        collector = Collector(channel, call.items, self.host.stack)
        for item in call.items:
            self.receive(item, collector, headers)
        collector.seal()

    # -- requests that wait --------------------------------------------------------------------------------------------

    def remember(self, exchange: Exchange) -> None:
        if exchange.call.id is not None:
            self.inflight[exchange.call.id] = exchange

    def forget(self, exchange: Exchange) -> None:
        if exchange.call.id is not None and self.inflight.get(exchange.call.id) is exchange:
            del self.inflight[exchange.call.id]

    # -- what goes out by itself ---------------------------------------------------------------------------------------

    async def ask(
        self, channel: Channel | None, method: str, params: dict[str, Any] | None, timeout_s: float
    ) -> dict[str, Any]:
        """Send the client a request and wait for its result (legacy eras only).

        Raises McpError with the client's error or on a timeout, NoBackChannelError where no stream can carry the
        question, ConnectionClosedError where the connection is lost meanwhile.
        """
        recorder = self.host.recorder
        if recorder is None:
            return await self._ask(channel, method, params, timeout_s)
        return await recorder.asking(self, method, params, lambda given: self._ask(channel, method, given, timeout_s))

    async def _ask(
        self, channel: Channel | None, method: str, params: dict[str, Any] | None, timeout_s: float
    ) -> dict[str, Any]:
        channel = channel or self.standalone
        if channel is None or self.connection.era == MODERN:
            raise NoBackChannelError(f"{method} cannot be sent: the client has no stream open for it")
        future: asyncio.Future[Any] = self.loop.create_future()
        id = self.correlation.next_id()
        self.correlation.put(id, future)
        try:
            channel.ask(id, method, params)
            async with asyncio.timeout(timeout_s):
                value = await future
        except TimeoutError:
            channel.notify(CANCELLED, {"requestId": id, "reason": "timed out"})
            raise McpError(REQUEST_TIMEOUT, f"the client did not answer {method} within {timeout_s:g} s") from None
        except asyncio.CancelledError:
            channel.notify(CANCELLED, {"requestId": id, "reason": "no longer needed"})
            raise
        finally:
            self.correlation.take(id)
        if not isinstance(value, dict):
            raise McpError(INVALID_REQUEST, f"the client's answer to {method} is not an object")
        return value

    def scan_pending(self, cursor: int, count: int) -> tuple[int, list[tuple[str | int, Any]]]:
        """Up to ``count`` of the questions that wait for the client, and the cursor to go on with, 0 at the end."""
        return (0, []) if self._correlation is None else self._correlation.scan(cursor, count)

    def close(self, reason: str = "the connection was closed") -> None:
        """End the conversation: cancel what runs, fail what waits for the client. May be called more than once."""
        self.host.hub.leave(self)
        self.host.scheduler.drop(self)
        for exchange in list(self.inflight.values()):
            exchange.cancel()
        waiting: list[tuple[Any, Any]] = [] if self._correlation is None else self._correlation.drain()
        for _id, future in waiting:
            if not future.done():
                future.set_exception(ConnectionClosedError(reason))
                future.exception()
        self.standalone = None
        opened_ns, self.opened_ns = self.opened_ns, 0
        version, recorder = self.connection.version, self.host.recorder
        if opened_ns and version is not None and self.connection.era == LEGACY and recorder is not None:
            recorder.end_session(self.kind, version, time.perf_counter_ns() - opened_ns)
