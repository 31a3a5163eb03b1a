"""The answer to one HTTP request: a JSON message, or a stream of them once the first one that is not the answer
comes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Protocol

from erlmcp import core
from erlmcp.errors import (
    HEADER_MISMATCH,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    MISSING_CLIENT_CAPABILITY,
    PARSE_ERROR,
    SERVER_BUSY,
    UNSUPPORTED_PROTOCOL_VERSION,
    JsonError,
    LimitError,
    NoBackChannelError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from erlmcp.core import Outbound, Template
    from erlmcp.runtime.stream import EventStream

log = logging.getLogger("erlmcp.server")

# 2026-07-28, basic/transports: statuses that an error answer MUST have; others travel under 200.
STATUS_OF = {
    PARSE_ERROR: 400,
    INVALID_REQUEST: 400,
    METHOD_NOT_FOUND: 404,
    HEADER_MISMATCH: 400,
    MISSING_CLIENT_CAPABILITY: 400,
    UNSUPPORTED_PROTOCOL_VERSION: 400,
}
STREAM_HEAD = b"Content-Type: text/event-stream\r\nCache-Control: no-cache, no-transform\r\nX-Accel-Buffering: no\r\n"


class Reply(Protocol):
    """The transport's side of one HTTP answer."""

    front: object | None  # the endpoint's own, kept with the connection
    kind: str  # http, http2 or asgi

    @property
    def client(self) -> object:
        """The address of the client, as sockets tell it; None where there is none."""

    gone: Callable[[], None] | None  # called when the client closes the connection before the answer is whole

    def plain(self, status: int, body: bytes, extra: bytes = b"", content_type: bytes = b"text/plain") -> None: ...
    def whole(self, status: int, lines: bytes, body: bytes) -> None:
        """An answer whose header lines are all given, that of its length too; ``body`` as it is, of HEAD none."""

    def begin(self, status: int, extra: bytes) -> Outbound:
        """Where the one JSON message of the answer is to be written; ``end`` sends it."""

    def end(self) -> None: ...
    def open(self, extra: bytes, status: int = 200) -> None:
        """Begin a stream; ``extra`` are its header lines."""

    @property
    def unsent_bytes(self) -> int:
        """What of the answer has not left yet."""

    def send(self, data: bytes) -> None: ...
    def finish(self) -> None:
        """End the stream."""

    def abort(self) -> None:
        """Let the client see that the stream is not whole."""


def retry_after(data: object) -> bytes:
    """The header line of a refusal that says when to come back (RFC 9110, section 10.2.3): in whole seconds, and never
    too soon."""
    found = data.get("retryAfterMs") if isinstance(data, dict) else None
    if not isinstance(found, int) or isinstance(found, bool) or found < 0:
        return b""
    return b"Retry-After: %d\r\n" % -(-found // 1000)


class HttpChannel:
    """The channel of a modern request: JSON, or a stream from the first notification on (delayed commit)."""

    __slots__ = ("_extra", "accepts_stream", "out", "reply", "streaming")

    def __init__(self, reply: Reply, extra: bytes, accepts_json: bool, accepts_stream: bool) -> None:
        self.reply = reply
        self._extra = extra
        self.accepts_stream = accepts_stream
        self.streaming = False
        self.out: Outbound | None = None
        if not accepts_json:
            self.commit()

    @property
    def kind(self) -> str:
        return self.reply.kind

    def commit(self) -> None:
        """Become a stream."""
        if not self.streaming:
            self.streaming = True
            self.out = core.Outbound(framing="sse")
            self.reply.open(STREAM_HEAD + self._extra)

    def _last(self) -> None:
        assert self.out is not None
        self.reply.send(self.out.take())
        self.reply.finish()

    def fill(self, id_raw: bytes, template: Template, values: tuple[object, ...]) -> None:
        if self.out is not None:
            self.out.fill(id_raw, template, values)
            self._last()
            return
        self.reply.begin(200, self._extra).fill(id_raw, template, values)
        self.reply.end()

    def result(self, id_raw: bytes, value: object) -> None:
        if self.out is not None:
            self.out.result(id_raw, value)
            self._last()
            return
        self.reply.begin(200, self._extra).result(id_raw, value)
        self.reply.end()

    @staticmethod
    def status_of(code: int) -> int:
        """The HTTP status of an answer; ``code`` is that of an error, 0 for a result."""
        return STATUS_OF.get(code, 200)

    def error(self, id_raw: bytes, code: int, message: str, data: object) -> None:
        self.refuse(id_raw, self._busy(code, data) or self.status_of(code), code, message, data)

    def _busy(self, code: int, data: object) -> int:
        """The status of a server that cannot keep up, which says nothing of a tool's own guard; 0 for other errors.
        Whatever says when to come back has the header line for it, too."""
        line = retry_after(data)
        if not line:
            return 0
        if not self.streaming:
            self._extra = line + self._extra
        return 503 if code == SERVER_BUSY and isinstance(data, dict) and "reason" not in data else 0

    def refuse(self, id_raw: bytes, status: int, code: int, message: str, data: object) -> None:
        """An error answer under a status of its own, where the stream has not begun."""
        if self.out is not None:
            self.out.error(id_raw, code, message, data)
            self._last()
            return
        self.reply.begin(status, self._extra).error(id_raw, code, message, data)
        self.reply.end()

    def whole(self, message: bytes, code: int = 0) -> None:
        if self.out is not None:
            self.out.message(message)
            self._last()
            return
        self.reply.begin(self.status_of(code) if code else 200, self._extra).message(message)
        self.reply.end()

    def notify(self, method: str, params: dict[str, Any] | None) -> None:
        if not self.accepts_stream:
            return
        self.commit()
        assert self.out is not None
        try:
            self.out.notification(method, params)
        except (JsonError, LimitError) as error:
            log.error("the notification %s could not be written: %s", method, error)
            return
        self.reply.send(self.out.take())

    def ask(self, id: int, method: str, params: dict[str, Any] | None) -> None:
        raise NoBackChannelError(f"{method}: a 2026-07-28 server asks by input_required results")

    def detach(self) -> None:
        """Streams of this era cannot be resumed."""

    def drop(self) -> None:
        """The client has closed the connection, which is how it cancels (2026-07-28, basic/transports); where it has
        not, the server stops."""
        if self.reply.gone is None:
            return
        if self.streaming:
            self.reply.finish()
        else:
            self.reply.plain(503, b"The server stopped", self._extra)

    def beat(self) -> None:
        """A keep-alive tick: commit if the answer is still to come, then a comment that keeps proxies from closing."""
        if self.accepts_stream:
            self.commit()
            self.reply.send(b":\n\n")


class SessionChannel(HttpChannel):
    """The channel of a request within a legacy session: a committed stream has event ids and can be resumed."""

    __slots__ = ("_make_stream", "stream")

    def __init__(
        self,
        reply: Reply,
        extra: bytes,
        accepts_json: bool,
        accepts_stream: bool,
        make_stream: Callable[[], EventStream],
    ) -> None:
        self._make_stream = make_stream
        self.stream: EventStream | None = None
        super().__init__(reply, extra, accepts_json, accepts_stream)

    def commit(self) -> None:
        if not self.streaming:
            self.streaming = True
            self.out = core.Outbound(framing="none")
            self.stream = self._make_stream()
            self.reply.open(STREAM_HEAD + self._extra)
            self.stream.attach(self.reply)

    def _last(self) -> None:
        assert self.out is not None
        assert self.stream is not None
        self.stream.push(self.out.take())
        self.stream.end()

    @staticmethod
    def status_of(code: int) -> int:
        return 400 if code in (PARSE_ERROR, INVALID_REQUEST) else 200

    def notify(self, method: str, params: dict[str, Any] | None) -> None:
        if not self.accepts_stream:
            return
        self.commit()
        assert self.out is not None
        assert self.stream is not None
        try:
            self.out.notification(method, params)
        except (JsonError, LimitError) as error:
            log.error("the notification %s could not be written: %s", method, error)
            return
        self.stream.push(self.out.take())

    def ask(self, id: int, method: str, params: dict[str, Any] | None) -> None:
        if not self.accepts_stream:
            raise NoBackChannelError(f"{method} cannot be sent: the client accepts no text/event-stream")
        self.commit()
        assert self.out is not None
        assert self.stream is not None
        self.out.request(id, method, params)
        self.stream.push(self.out.take())

    def detach(self) -> None:
        if self.accepts_stream:
            self.commit()
            assert self.stream is not None
            if self.stream.primes:  # Without its first event's id the client could not come back.
                self.stream.release()

    def drop(self) -> None:
        """End the HTTP answer of a cancelled request without a message: its stream, or a 202 where none was begun."""
        if self.stream is not None:
            self.stream.end()
        else:
            self.reply.plain(202, b"", self._extra)

    def beat(self) -> None:
        if self.accepts_stream:
            self.commit()
            assert self.stream is not None
            self.stream.beat()
