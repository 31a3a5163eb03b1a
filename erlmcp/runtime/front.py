"""Where a call over HTTP goes on that began the short way (``erlmcp.runtime.stride_http``) and did not end there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from erlmcp.runtime.exchange import Exchange
from erlmcp.runtime.reply import HttpChannel

if TYPE_CHECKING:
    from erlmcp.core import Call
    from erlmcp.runtime.endpoint import Endpoint
    from erlmcp.runtime.reply import Reply
    from erlmcp.runtime.session import Session
    from erlmcp.wire.header import Verdict
    from erlmcp.wire.peer import Peer


class HttpFront:
    """The front of the tool calls of one HTTP connection, one after the other."""

    __slots__ = ("endpoint", "reply", "verdict")

    def __init__(self, endpoint: Endpoint, reply: Reply) -> None:
        self.endpoint = endpoint
        self.reply = reply
        self.verdict: Any = None

    def exchange(self, call: Call, peer: Peer) -> Exchange:
        verdict = self.verdict
        channel = HttpChannel(self.reply, verdict.extra, verdict.accepts_json, verdict.accepts_stream)
        return Exchange(call, peer, self.endpoint.requests, channel, verdict.headers)  # type: ignore[arg-type]

    def waits(self, exchange: Exchange) -> None:
        self.endpoint.wait(exchange, self.reply)


class SessionFront:
    """The front of one tool call within a session, which the verdict on its head knows."""

    __slots__ = ("endpoint", "reply", "session", "verdict")

    def __init__(self, endpoint: Endpoint, verdict: Verdict, reply: Reply) -> None:
        self.endpoint = endpoint
        self.session: Session = verdict.session()
        self.verdict = verdict
        self.reply = reply

    def exchange(self, call: Call, peer: Peer) -> Exchange:
        channel = self.endpoint.channel(self.session, self.verdict, self.reply)
        return Exchange(call, peer, self.session, channel, self.verdict.headers)  # type: ignore[arg-type]

    def waits(self, exchange: Exchange) -> None:
        """The session keeps it: a client that leaves has not cancelled it."""
