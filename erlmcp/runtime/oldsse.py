"""The HTTP+SSE transport of 2024-11-05, for clients that know no other: GET /sse opens the one stream that everything
is sent on, its first event names the URL to post to. Deprecated; served only where ``sse_transport`` is on."""

from __future__ import annotations

import hmac
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from erlmcp import core
from erlmcp.errors import JsonError, LimitError, NoBackChannelError
from erlmcp.runtime.endpoint import owner_of
from erlmcp.runtime.reply import STREAM_HEAD, Reply
from erlmcp.runtime.session import ERROR, INVALID, RESULT, Session
from erlmcp.wire.header import judge_head

if TYPE_CHECKING:
    from erlmcp.core import HttpRequest, Template
    from erlmcp.runtime.endpoint import Endpoint
    from erlmcp.runtime.session import Host
    from erlmcp.wire.header import Verdict

SSE_PATH = "/sse"
POST_PATH = "/messages"


class OldSse:
    """Stands before the endpoint and takes what is for its two paths."""

    def __init__(self, host: Host, endpoint: Endpoint) -> None:
        self.host = host
        self.endpoint = endpoint
        self.streams: dict[str, SseChannel] = {}
        self._get_gate = replace(endpoint.gate, path=SSE_PATH)
        self._post_gate = replace(endpoint.gate, path=POST_PATH)

    def handle(self, request: HttpRequest, reply: Reply) -> None:
        head: Any = request.head
        path, _, query = head.target.partition("?")
        if path not in (SSE_PATH, POST_PATH):
            self.endpoint.handle(request, reply)
            return
        gate = self._get_gate if path == SSE_PATH else self._post_gate
        verdict = judge_head(head.verb, head.target, head.headers, {}, gate)
        if verdict.status:
            reply.plain(verdict.status, verdict.reason.encode(), verdict.extra)
        elif verdict.verb != ("GET" if path == SSE_PATH else "POST"):
            reply.plain(405, b"Method not allowed", verdict.extra)
        elif path == SSE_PATH:
            self._open(reply, verdict)
        else:
            self._post(request, query, reply, verdict)

    def _open(self, reply: Reply, verdict: Verdict) -> None:
        extra = verdict.extra
        if len(self.streams) >= self.host.limits.session_count_max:
            reply.plain(503, f"session_count_max={self.host.limits.session_count_max} is reached".encode(), extra)
            return
        id = secrets.token_urlsafe(24)
        channel = self.streams[id] = SseChannel(self.host, reply, owner_of(verdict))
        reply.open(STREAM_HEAD + extra)
        reply.gone = lambda: self._lost(id)
        reply.send(core.frame_sse(f"{POST_PATH}?session_id={id}".encode(), event="endpoint"))
        self._beat(id, channel)

    def _beat(self, id: str, channel: SseChannel) -> None:
        if self.streams.get(id) is channel:
            channel.beat()
            self.host.loop.call_later(self.host.limits.sse_keepalive_s, self._beat, id, channel)

    def _lost(self, id: str) -> None:
        channel = self.streams.pop(id, None)
        if channel is not None:
            channel.session.close("the client closed its stream")

    def _post(self, request: HttpRequest, query: str, reply: Reply, verdict: Verdict) -> None:
        extra = verdict.extra
        id = dict(part.partition("=")[::2] for part in query.split("&")).get("session_id", "")
        channel = self.streams.get(id)
        call = request.call
        if channel is None or not hmac.compare_digest(channel.session.owner or b"", owner_of(verdict)):
            reply.plain(404, b"Session not found; open a stream with GET /sse", extra)
        elif call is None or call.kind == INVALID:
            reply.plain(400, b"The body must be a JSON-RPC message", extra)
        else:
            reply.plain(202, b"Accepted", extra)
            if call.kind in (RESULT, ERROR):
                channel.session.settle(call, channel.session.correlation.take(call.id))
            else:
                channel.session.receive(call, channel, dict(verdict.headers))

    def front_of(self, request: HttpRequest, reply: Reply) -> object:
        return self.endpoint.front_of(request, reply)

    def end_streams(self) -> None:
        for id, channel in list(self.streams.items()):
            self.streams.pop(id, None)
            channel.session.close("the server stopped")
            channel.reply.gone = None
            channel.reply.finish()
        self.endpoint.end_streams()

    def close(self) -> None:
        self.end_streams()
        self.endpoint.close()


class SseChannel:
    """One open stream: the channel of all requests of its session."""

    kind = "sse"

    def __init__(self, host: Host, reply: Reply, owner: bytes) -> None:
        self.reply = reply
        self.session = Session(host, owner=owner)
        self.session.standalone = self
        self.session.kind = self.kind
        self._out = core.Outbound(framing="none")

    def _send(self) -> None:
        self.reply.send(core.frame_sse(self._out.take()))

    def fill(self, id_raw: bytes, template: Template, values: tuple[object, ...]) -> None:
        self._out.fill(id_raw, template, values)
        self._send()

    def result(self, id_raw: bytes, value: object) -> None:
        self._out.result(id_raw, value)
        self._send()

    def error(self, id_raw: bytes, code: int, message: str, data: object) -> None:
        self._out.error(id_raw, code, message, data)
        self._send()

    def whole(self, message: bytes, code: int = 0) -> None:
        self.reply.send(core.frame_sse(message))

    def notify(self, method: str, params: dict[str, Any] | None) -> None:
        try:
            self._out.notification(method, params)
        except (JsonError, LimitError):
            return
        self._send()

    def ask(self, id: int, method: str, params: dict[str, Any] | None) -> None:
        if self.reply.gone is None:
            raise NoBackChannelError(f"{method} cannot be sent: the client's stream is closed")
        self._out.request(id, method, params)
        self._send()

    def detach(self) -> None:
        """This transport cannot be resumed."""

    def drop(self) -> None:
        """Nothing is sent for a request that was cancelled."""

    def beat(self) -> None:
        self.reply.send(b":\n\n")
