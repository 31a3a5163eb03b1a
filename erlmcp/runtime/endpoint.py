"""Streamable HTTP: one endpoint, both eras.

A request with the modern version header or a modern ``_meta`` stands alone (2026-07-28); any other belongs to a
session that an ``initialize`` opened. A session is made only after its ``initialize`` was found valid; it ends by
DELETE, by idleness, or as the longest idle when a new one needs its place.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import secrets
import time
import weakref
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, cast

from erlmcp import core
from erlmcp.errors import INVALID_REQUEST, McpError, MethodNotFoundError
from erlmcp.runtime.current import CURRENT
from erlmcp.runtime.exchange import Exchange
from erlmcp.runtime.front import HttpFront, SessionFront
from erlmcp.runtime.load import busy
from erlmcp.runtime.reply import STREAM_HEAD, HttpChannel, Reply, SessionChannel
from erlmcp.runtime.session import BATCH, ERROR, INVALID, NOTIFICATION, REQUEST, RESULT, Session, is_exempt
from erlmcp.runtime.stream import StandaloneChannel, StreamStore
from erlmcp.spec import method as m
from erlmcp.spec.version import LATEST_MODERN
from erlmcp.wire.header import Gate, Verdict, judge_head
from erlmcp.wire.ladder import judge_params, judge_request
from erlmcp.wire.peer import Peer, is_enveloped, judge_initialize

if TYPE_CHECKING:
    from erlmcp.core import Call, Head, HttpRequest
    from erlmcp.runtime.exchange import Front
    from erlmcp.runtime.session import Host

log = logging.getLogger("erlmcp.http")
ROUTING_HEADERS = ("mcp-protocol-version", "mcp-method", "mcp-name", "mcp-session-id")
_FULL_MATCH, _NAMELESS_MATCH = 7, 5
PRIMING_VERSION = "2025-11-25"


class Requests:
    """The conversation of modern HTTP requests: there is none, each stands alone. Holds those in flight."""

    __slots__ = (
        "count_max",
        "host",
        "id",
        "inflight",
        "log_level",
        "loop",
        "mask_errors",
        "resources",
        "standalone",
        "state",
    )

    def __init__(self, host: Host, count_max: int) -> None:
        self.host = host
        self.loop = host.loop
        self.mask_errors = host.mask_errors
        self.count_max = count_max
        self.inflight: dict[Exchange, float] = {}  # and since when
        self.id = self.log_level = self.standalone = self.state = self.resources = None

    def remember(self, exchange: Exchange) -> None:
        self.inflight[exchange] = self.loop.time()

    def forget(self, exchange: Exchange) -> None:
        self.inflight.pop(exchange, None)

    def dispatch(self, exchange: Exchange) -> None:
        route: Any = exchange.call.route
        outer, CURRENT.exchange = CURRENT.exchange, exchange
        try:
            if route is None:
                raise MethodNotFoundError(exchange.call.method or "")
            refusal = self.host.turn.load.refusal(exchange.call)
            if len(self.inflight) >= self.count_max and not is_exempt(self.host, exchange.call):
                refusal = busy(f"connection_count_max={self.count_max} requests are in flight")
            if refusal is None:
                route(exchange)
            else:
                exchange.fail(refusal)
        except Exception as error:
            exchange.fail(error)
        finally:
            CURRENT.exchange = outer


class Desk(Protocol):
    """What answers the paths beside the endpoint."""

    def take(self, head: Any, reply: Any) -> bool: ...
    def end_streams(self) -> None: ...


class Elsewhere(Protocol):
    """The other processes behind the same address; a session's id begins with ``prefix`` where it lives in this one."""

    prefix: str

    def take(self, request: HttpRequest, verdict: Verdict, reply: Any) -> bool:
        """Hand a request over to the one whose session it names; False where it belongs here."""


class Endpoint:
    """Handles the requests of all HTTP connections of a server."""

    is_quick = True  # whether what is known of a head says all of who asks, so that the compiled short way may answer

    def __init__(self, host: Host, gate: Gate, *, event_store: bool = True) -> None:
        limits = host.limits
        self.host = host
        self.gate = gate
        self._modern_requests = host.client_requests[LATEST_MODERN]
        self.requests = Requests(host, limits.connection_count_max)
        self.sessions = core.SessionStore(
            limits.session_count_max, idle_ns=int(limits.session_idle_s * 1e9), now_ns=time.monotonic_ns()
        )
        self.desk: Desk | None = None
        self.elsewhere: Elsewhere | None = None
        self._event_count_max = limits.event_count_max if event_store else 0
        self._timer: asyncio.TimerHandle | None = None
        self._event_age_s = limits.event_age_s
        self._beat_s = limits.sse_keepalive_s
        self._tick_s = min(limits.sse_keepalive_s, limits.session_idle_s / 3)
        self._beat_due = 0.0
        self._place = host.session_rolls.put(self)

    # -- one request ---------------------------------------------------------------------------------------------------

    def handle(self, request: HttpRequest, reply: Reply) -> None:
        """Answer a request that kept the rules of HTTP, now or later, through ``reply``."""
        head: Any = request.head
        verdict = head.tag
        call = request.call
        if verdict is None or verdict.gate is not self.gate:  # A server's listeners share the heads, not the gates.
            if self.desk is not None and self.desk.take(head, reply):
                return
            verdict = self.judge(head)
        elif verdict.quick and call is not None and call.kind == REQUEST:
            # All routing headers are equal to what the body says, and the peer was judged before.
            match, method = request.match, call.method
            if match == _FULL_MATCH or (match == _NAMELESS_MATCH and method not in m.NAME_KEYS):
                peer: Any = call.meta.tag  # type: ignore[union-attr]  # a match has a _meta
                if peer.__class__ is Peer and method in self._modern_requests:
                    self._dispatch(call, peer, verdict, reply)
                    return
        if verdict.status:
            reply.plain(verdict.status, verdict.reason.encode(), verdict.extra)
        elif self.elsewhere is not None and verdict.session_id and self.elsewhere.take(request, verdict, reply):
            pass
        elif verdict.verb == "POST":
            self._post(request, verdict, reply)
        elif verdict.verb == "GET":
            self._get(verdict, reply)
        else:
            self._delete(verdict, reply)

    def judge(self, head: Head) -> Verdict:
        headers = head.headers
        counts = {name: head.count(name) for name in ROUTING_HEADERS if name in headers}
        verdict = judge_head(head.verb, head.target, headers, counts, self.gate)
        if not (head.keep_alive and head.version == 11):
            verdict.plain = verdict.quick = False
        verdict.gate = self.gate
        verdict.headers = MappingProxyType(headers)  # Handlers see it, and other requests share it.
        head.tag = verdict
        return verdict

    def _front(self, verdict: Verdict, reply: Reply) -> HttpFront:
        front: Any = reply.front
        if front is None:
            front = reply.front = HttpFront(self, reply)
        front.verdict = verdict
        return front  # type: ignore[no-any-return]

    def front_of(self, request: HttpRequest, reply: Reply) -> Front:
        """Where a call that began the short way, and did not end there, goes on."""
        head: Any = request.head
        verdict = head.tag
        return self._front(verdict, reply) if verdict.quick else SessionFront(self, verdict, reply)

    def _params_hold(self, entry: Any, call: Call, verdict: Verdict, reply: Reply) -> bool:
        try:
            judge_params(entry.plan.param_headers, call.arguments, verdict.headers)
        except McpError as error:
            channel = HttpChannel(reply, verdict.extra, True, False)
            channel.error(call.id_raw, error.code, error.message, error.data)
            return False
        return True

    def _dispatch(self, call: Call, peer: Peer, verdict: Verdict, reply: Reply) -> None:
        entry: Any = call.entry
        mirrors = entry is not None and call.method == m.TOOLS_CALL and entry.plan.param_headers
        if mirrors and not self._params_hold(entry, call, verdict, reply):
            return
        channel = HttpChannel(reply, verdict.extra, verdict.accepts_json, verdict.accepts_stream)
        exchange = Exchange(call, peer, self.requests, channel, verdict.headers)  # type: ignore[arg-type]
        self.requests.dispatch(exchange)
        if not exchange.done:
            self.wait(exchange, reply)

    def wait(self, exchange: Exchange, reply: Reply) -> None:
        """The answer comes later: cancel it if the client leaves, keep its connection alive meanwhile."""
        reply.gone = exchange.cancel
        self._tick_soon()

    # -- POST ----------------------------------------------------------------------------------------------------------

    def _post(self, request: HttpRequest, verdict: Verdict, reply: Reply) -> None:
        call = request.call
        channel = HttpChannel(reply, verdict.extra, True, False)
        if call is None:
            channel.refuse(b"null", 400, INVALID_REQUEST, "Invalid request: the body must be a JSON-RPC message", None)
        elif call.kind == INVALID:
            channel.refuse(call.id_raw, 400, call.code, call.message or "Invalid request", None)
        elif verdict.modern or (call.kind == REQUEST and self._claims_modern(call, verdict)):
            self._post_modern(call, verdict, reply, channel)
        elif verdict.unknown_version:
            channel.refuse(b"null", 400, INVALID_REQUEST, f"Unsupported MCP-Protocol-Version: {verdict.version}", None)
        else:
            self._post_legacy(call, verdict, reply, channel)

    @staticmethod
    def _claims_modern(call: Call, verdict: Verdict) -> bool:
        return call.meta is not None and is_enveloped(call.meta.values)

    def _post_modern(self, call: Call, verdict: Verdict, reply: Reply, channel: HttpChannel) -> None:
        if call.kind == NOTIFICATION:
            reply.plain(202, b"", verdict.extra)
        elif call.kind != REQUEST:
            what = "a batch" if call.kind == BATCH else "a response"
            channel.refuse(b"null", 400, INVALID_REQUEST, f"Invalid request: {what} cannot be posted", None)
        else:
            try:
                peer = judge_request(verdict, call.method or "", call.name, call.meta.values if call.meta else None)
                if call.method not in self._modern_requests:
                    raise MethodNotFoundError(call.method or "")
            except McpError as error:
                status = 404 if isinstance(error, MethodNotFoundError) else 400
                channel.refuse(call.id_raw, status, error.code, error.message, error.data)
            else:
                if call.meta is not None:
                    call.meta.tag = peer
                self._dispatch(call, peer, verdict, reply)

    def _post_legacy(self, call: Call, verdict: Verdict, reply: Reply, channel: HttpChannel) -> None:
        if call.kind == REQUEST and call.method == m.INITIALIZE:
            self._open_session(call, verdict, reply, channel)
            return
        recorder = self.host.recorder
        began_ns = time.perf_counter_ns() if recorder is not None and recorder.is_sampling else 0
        session = self._session(verdict)
        if began_ns and recorder is not None:
            recorder.found_session(began_ns)
        if isinstance(session, str):
            status = 404 if verdict.session_id else 400
            channel.refuse(call.id_raw, status, INVALID_REQUEST, session, None)
            return
        if verdict.version is not None and session.connection.version != verdict.version:
            channel.refuse(
                call.id_raw,
                400,
                INVALID_REQUEST,
                f"MCP-Protocol-Version is {verdict.version}, the session speaks {session.connection.version}",
                None,
            )
            return
        if verdict.session is None and verdict.plain:
            verdict.session = weakref.ref(session)
        if call.kind not in (REQUEST, INVALID) and not (
            call.kind == BATCH and any(item.kind in (REQUEST, INVALID) for item in call.items)
        ):
            self._take(call, session, verdict, reply)
            return
        own = self.channel(session, verdict, reply)
        session.receive(call, own, verdict.headers)  # type: ignore[arg-type]  # read alone, and shared

    def _take(self, call: Call, session: Session, verdict: Verdict, reply: Reply) -> None:
        """Notifications and answers, alone or in a batch: 202 without a body."""
        for each in call.items if call.kind == BATCH else [call]:
            if each.kind in (RESULT, ERROR):
                session.settle(each, session.correlation.take(each.id))
            else:
                session.note(each)
        reply.plain(202, b"", verdict.extra)

    def channel(self, session: Session, verdict: Verdict, reply: Reply) -> SessionChannel:
        primes = (session.connection.version or "") >= PRIMING_VERSION

        def make() -> Any:
            if session.streams is None:
                session.streams = StreamStore(self._event_count_max)
            return session.streams.make(primes=primes)

        return SessionChannel(reply, verdict.extra, verdict.accepts_json, verdict.accepts_stream, make)

    # -- sessions ------------------------------------------------------------------------------------------------------

    def _open_session(self, call: Call, verdict: Verdict, reply: Reply, channel: HttpChannel) -> None:
        try:
            judge_initialize(call.params, len(call.raw))
        except McpError as error:
            channel.refuse(call.id_raw, 200, error.code, error.message, error.data)
            return
        id = secrets.token_urlsafe(24) if self.elsewhere is None else self.elsewhere.prefix + secrets.token_urlsafe(24)
        session = Session(self.host, id=id, owner=owner_of(verdict))
        session.kind = reply.kind
        self.sessions.now_ns = time.monotonic_ns()
        for _id, evicted in self.sessions.put(id, session):
            self._end(evicted, "the session was the longest idle and its place was needed")
        extra = b"Mcp-Session-Id: " + id.encode() + b"\r\n" + verdict.extra
        own = self.channel(session, verdict, reply)
        own._extra = extra
        session.receive(call, own, verdict.headers)  # type: ignore[arg-type]  # read alone, and shared
        if session.connection.version is None:  # It was refused after all.
            self.sessions.pop(id)
        self._tick_soon()

    def _session(self, verdict: Verdict) -> Session | str:
        """The session of a request, or why there is none."""
        if verdict.session_id is None:
            return "Bad Request: Missing session ID; send initialize first"
        self.sessions.now_ns = time.monotonic_ns()
        session = self.sessions.get(verdict.session_id)
        if session is not None and verdict.session is not None and verdict.session() is session:
            return session  # type: ignore[return-value]  # this head was found to be its owner's
        if not isinstance(session, Session) or not hmac.compare_digest(session.owner or b"", owner_of(verdict)):
            return "Session not found; send initialize again"
        return session

    def _get(self, verdict: Verdict, reply: Reply) -> None:
        session = self._session(verdict)
        if isinstance(session, str):
            reply.plain(404 if verdict.session_id else 400, session.encode(), verdict.extra)
            return
        if session.streams is None:
            session.streams = StreamStore(self._event_count_max)
        streams: StreamStore = session.streams
        if verdict.last_event_id:
            found = streams.find(verdict.last_event_id)
            if found is None:
                reply.plain(400, b"Last-Event-ID is unknown in this session", verdict.extra)
                return
            stream, number = found
            if stream.reply is not None:
                stream.release()
            reply.open(STREAM_HEAD + verdict.extra)
            stream.attach(reply, number)
        else:
            if streams.standalone is not None and streams.standalone.stream.reply is not None:
                reply.plain(409, b"Conflict: the session has a GET stream already", verdict.extra)
                return
            stream = streams.make(primes=(session.connection.version or "") >= PRIMING_VERSION)
            streams.standalone = StandaloneChannel(stream)
            session.standalone = streams.standalone
            reply.open(STREAM_HEAD + verdict.extra)
            stream.attach(reply)
        self._tick_soon()

    def _delete(self, verdict: Verdict, reply: Reply) -> None:
        session = self._session(verdict)
        if isinstance(session, str):
            reply.plain(404 if verdict.session_id else 400, session.encode(), verdict.extra)
            return
        self.sessions.pop(session.id or "")
        self._end(session, "the client ended the session")
        reply.plain(200, b"", verdict.extra)

    @staticmethod
    def _end(session: Any, reason: str) -> None:
        session.close(reason)
        if session.streams is not None:
            session.streams.close()
            session.streams = None

    # -- time ----------------------------------------------------------------------------------------------------------

    def _tick_soon(self) -> None:
        if self._timer is None:
            now = self.host.loop.time()
            if self._beat_due <= now:
                self._beat_due = now + self._beat_s
            self._timer = self.host.loop.call_later(self._tick_s, self._tick)

    def _tick(self) -> None:
        """One timer for all: keep-alive comments, delayed commits, and sessions that were idle too long."""
        self._timer = None
        now = self.host.loop.time()
        beats = now >= self._beat_due - self._tick_s / 2
        if beats:
            self._beat_due = now + self._beat_s
            for exchange, since in list(self.requests.inflight.items()):
                if since <= now - self._beat_s / 2:
                    exchange.channel.beat()
        self.sessions.now_ns = now_ns = time.monotonic_ns()
        cursor, found = self.sessions.scan(0, 1000)
        while True:
            for id, session in found:
                if self._is_used(session, beats):
                    self.sessions.get(id)
                if beats and session.streams is not None:  # type: ignore[attr-defined]
                    session.streams.expire(now, self._event_age_s)  # type: ignore[attr-defined]
            if not cursor:
                break
            cursor, found = self.sessions.scan(cursor, 1000)
        for _id, session in self.sessions.expire(now_ns):
            self._end(session, "the session was idle too long")
        if self.requests.inflight or len(self.sessions):
            self._tick_soon()

    @staticmethod
    def _is_used(session: Any, beats: bool) -> bool:
        """Whether a session is in use; with ``beats`` its streams are kept alive."""
        if beats:
            for exchange in list(session.inflight.values()):
                exchange.channel.beat()
        is_open = session.streams is not None and session.streams.is_open
        if beats and is_open:
            session.streams.standalone.stream.beat()
        return bool(session.inflight) or is_open

    def scan(self, cursor: int = 0, count: int = 100) -> tuple[int, list[Any]]:
        """Up to ``count`` sessions, untouched, and the cursor to go on with, 0 at the end."""
        cursor, found = self.sessions.scan(cursor, count)
        return cursor, [session for _id, session in found]

    def end_streams(self) -> None:
        """End the GET streams: nothing else would."""
        if self.desk is not None:
            self.desk.end_streams()
        cursor = 0
        while True:
            cursor, found = self.sessions.scan(cursor, 1000)
            for _id, session in found:
                streams = cast(Session, session).streams
                if streams is not None and streams.standalone is not None:
                    streams.standalone.stream.release()
            if not cursor:
                return

    def close(self) -> None:
        """End all sessions and streams; the answers already given still leave."""
        if self._place:
            self.host.session_rolls.take(self._place)
            self._place = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for _id, session in self.sessions.drain():
            self._end(session, "the server stopped")
        for exchange in list(self.requests.inflight):
            exchange.cancel()


def owner_of(verdict: Verdict) -> bytes:
    """What a session is bound to: a digest of the credential that made it."""
    return hashlib.sha256(verdict.credential.encode("latin-1", "replace")).digest()
