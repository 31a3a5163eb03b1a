"""The paths beside the MCP endpoint: /metrics, /health/live, /health/ready, a stream of traces, and pages given to it.

The endpoint shows a desk each head that it has not judged before; so a request of MCP pays nothing. Who may ask is
judged as for the endpoint (Host and Origin, docs/security.md). Besides, what tells of the server's work is shown on a
loopback address only, or to who brings the token: as a bearer, as the cookie that the page sets, or once in the query
(``?token=``). Health says nothing of anybody and needs no token.
"""

from __future__ import annotations

import hmac
import json
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import parse_qsl

from erlmcp import core
from erlmcp.metrics import prometheus
from erlmcp.wire.header import LOOPBACK_NAMES, Gate, split_host

if TYPE_CHECKING:
    from erlmcp.metrics.recorder import Recorder
    from erlmcp.metrics.trace import Trace

METRICS, LIVE, READY, TRACE = "/metrics", "/health/live", "/health/ready", "/metrics/trace"
COOKIE: Final = "erlmcp_token"
STREAMS_MAX: Final = 16
QUERY_CHARS_MAX: Final = 2048
NO_STORE: Final = b"Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
STREAM: Final = b"Content-Type: text/event-stream\r\nX-Accel-Buffering: no\r\n" + NO_STORE
FORWARDED: Final = frozenset({"forwarded", "via", "x-real-ip", "cdn-loop", "cf-connecting-ip", "true-client-ip"})


class Reply(Protocol):
    """The transport's side of one answer: what a desk uses of it."""

    gone: Callable[[], None] | None

    def plain(self, status: int, body: bytes, extra: bytes = b"", content_type: bytes = b"text/plain") -> None: ...
    def open(self, extra: bytes) -> None: ...
    def send(self, data: bytes) -> None: ...
    def finish(self) -> None: ...


class Ask:
    """A request for one of the desk's paths."""

    __slots__ = ("headers", "query", "reply", "verb", "version")

    def __init__(
        self, verb: str, headers: Mapping[str, str], query: Mapping[str, str], reply: Reply, version: int = 11
    ) -> None:
        self.verb = verb
        self.version = version
        self.headers = headers
        self.query = query
        self.reply = reply

    def answer(self, body: bytes, content_type: bytes, status: int = 200, extra: bytes = b"") -> None:
        self.reply.plain(status, body, NO_STORE + extra, content_type)

    def answer_json(self, value: Any, status: int = 200) -> None:
        self.answer(_json(value), b"application/json", status)


Page = Callable[["Desk", Ask], None]


class Desk:
    """Answers the requests for its paths.

    ``ready()`` is "" or why the server should get no requests now. ``pages`` are further paths.
    """

    def __init__(
        self,
        gate: Gate,
        recorder: Recorder | None,
        *,
        token: str | None = None,
        ready: Callable[[], str] = lambda: "",
        pages: Mapping[str, Page] | None = None,
    ) -> None:
        self.gate = gate
        self.recorder = recorder
        self.token = token
        self.ready = ready
        self.together: Callable[[Ask, bool, bytes], None] | None = None  # answers for several processes
        self.streams: set[Stream] = set()
        self._open: dict[str, Page] = {LIVE: Desk._live, READY: Desk._ready}
        self._guarded: dict[str, Page] = dict(pages or {})
        if recorder is not None:
            self._guarded |= {METRICS: Desk._metrics, TRACE: Desk._trace}

    def take(self, head: Any, reply: Reply) -> bool:
        """Answer what is for one of the paths; False where it is not."""
        path, _, query = head.target.partition("?")
        page = self._open.get(path) or self._guarded.get(path)
        if page is None or path == self.gate.path:
            return False
        headers = head.headers
        host, origin = headers.get("host"), headers.get("origin")
        if not self.gate.admits_host(host):
            reply.plain(421, b"This Host is not allowed here; add it to allowed_hosts (or ERLMCP_ALLOWED_HOSTS)")
        elif origin is not None and not self.gate.admits_origin(origin, host):
            reply.plain(403, b"This Origin is not allowed here; add it to allowed_origins (or ERLMCP_ALLOWED_ORIGINS)")
        elif head.verb not in ("GET", "HEAD"):
            reply.plain(405, b"Method not allowed", b"Allow: GET, HEAD\r\n")
        else:
            ask = Ask(head.verb, headers, dict(parse_qsl(query[:QUERY_CHARS_MAX])), reply, head.version)
            if path in self._open or self._admit(ask):
                page(self, ask)
        return True

    def end_streams(self) -> None:
        for stream in list(self.streams):
            stream.close()

    def _admit(self, ask: Ask) -> bool:
        if self.token is not None:
            given = [ask.query.get("token", ""), _bearer(ask.headers), _cookie(ask.headers)]
            wanted = self.token.encode()
            if any(hmac.compare_digest(one.encode("utf-8", "replace"), wanted) for one in given):
                return True
            text = b"The token is wrong or missing: send it as Authorization: Bearer, or once as ?token="
            ask.answer(text, b"text/plain", 401, b"WWW-Authenticate: Bearer\r\n")
            return False
        if is_local(self.gate, ask):
            return True
        text = b"Shown on a loopback address only; set metrics_token (or ERLMCP_METRICS_TOKEN) and send it as a bearer"
        ask.answer(text, b"text/plain", 403)
        return False

    # -- the pages -----------------------------------------------------------------------------------------------------

    def _live(self, ask: Ask) -> None:
        ask.answer_json({"status": "alive"})

    def _ready(self, ask: Ask) -> None:
        reason = self.ready()
        ask.answer_json({"status": reason or "ready"}, 503 if reason else 200)

    def _metrics(self, ask: Ask) -> None:
        assert self.recorder is not None
        is_open = prometheus.wants_openmetrics(ask.headers.get("accept"))
        kind = prometheus.OPENMETRICS if is_open else prometheus.TEXT
        if self.together is not None:
            self.together(ask, is_open, kind.encode())
        else:
            ask.answer(prometheus.expose(self.recorder, openmetrics=is_open), kind.encode())

    def _trace(self, ask: Ask) -> None:
        """The traces of the ring that are newer than ``Last-Event-ID`` or ``?since=``, then what happens."""
        assert self.recorder is not None
        traces = self.recorder.traces
        text = ask.headers.get("last-event-id") or ask.query.get("since") or "0"
        stream = self.stream(ask)
        if stream is None:
            return
        for trace in traces.since(int(text) if text.isdecimal() and len(text) < 20 else 0):
            stream.send(trace.as_json(), id=str(trace.number))

        def follow(trace: Trace) -> None:
            stream.send(trace.as_json(), id=str(trace.number))

        traces.follow(follow)
        stream.after_close = lambda: traces.leave(follow)

    def stream(self, ask: Ask) -> Stream | None:
        """An open event stream; None, and a refusal is sent, where there are too many."""
        if ask.verb == "HEAD":  # there is nothing to say of what has no end
            ask.answer(b"", b"text/plain", 405, b"Allow: GET\r\n")
            return None
        if len(self.streams) >= STREAMS_MAX:
            ask.answer(f"{STREAMS_MAX} streams are open".encode(), b"text/plain", 503, b"Retry-After: 5\r\n")
            return None
        return Stream(self.streams, ask.reply)


class Stream:
    """One open event stream. It ends by ``close``, or when its reader leaves; then ``after_close`` is called."""

    def __init__(self, streams: set[Stream], reply: Reply) -> None:
        self._streams = streams
        self._reply = reply
        self.after_close: Callable[[], None] = lambda: None
        self.is_closed = False
        streams.add(self)
        reply.open(STREAM)
        reply.gone = self._gone

    def send(self, value: Any, *, event: str | None = None, id: str | None = None) -> None:
        if not self.is_closed:
            self._reply.send(core.frame_sse(_json(value), event=event, id=id))

    def close(self) -> None:
        if not self.is_closed:
            self._gone()
            self._reply.gone = None
            self._reply.finish()

    def _gone(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            self._streams.discard(self)
            self.after_close()


def _json(value: Any) -> bytes:
    """As JSON, which has no infinity and no NaN: null stands for them."""
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
    except ValueError:
        return json.dumps(_finite(value), separators=(",", ":")).encode()


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def is_local(gate: Gate, ask: Ask) -> bool:
    """Whether a request came over a loopback address, and by no proxy that can be told: by a header of its own, or by
    HTTP/1.0, which nginx before 1.30 speaks where it is not told otherwise, with no such header."""
    host = ask.headers.get("host")
    is_loopback = gate.local and (host is None or split_host(host) in LOOPBACK_NAMES)
    is_direct = ask.version > 10 and not any(map(_tells_of_proxy, ask.headers))
    return is_loopback and is_direct


def _tells_of_proxy(name: str) -> bool:
    return name in FORWARDED or name.startswith("x-forwarded-")


def _bearer(headers: Mapping[str, str]) -> str:
    kind, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


def _cookie(headers: Mapping[str, str]) -> str:
    for part in headers.get("cookie", "").split(";"):
        name, _, value = part.strip().partition("=")
        if name == COOKIE:
            return value
    return ""
