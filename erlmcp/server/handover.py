"""A request that belongs to another worker: its way there by that one's Unix socket, and its answer back.

A connection for each: a client keeps its own connections, so what comes to the wrong worker is the exception, not the
rule, for as long as clients pool a few. A worker that is gone took its sessions along: 404, after which clients begin
anew (2025-11-25, basic/transports, Session Management).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast

from erlmcp import core

if TYPE_CHECKING:
    from erlmcp.core import HttpRequest
    from erlmcp.wire.header import Verdict

log = logging.getLogger("erlmcp.worker")
NOT_FOUND: Final = b"Session not found; send initialize again"
# What says how the bytes between two processes are framed is that way's own.
HOP_BY_HOP: Final = frozenset(
    {"connection", "content-length", "date", "expect", "keep-alive", "transfer-encoding", "upgrade", "te", "trailer"}
)
SET_BY_REPLY: Final = HOP_BY_HOP | {"content-type"}
BODY_BYTES_MAX: Final = 1 << 30  # the other one has kept to its limits
EVENT_STREAM: Final = "text/event-stream"


class Handover:
    """``socket_of`` gives the path of each worker's socket."""

    def __init__(self, index: int, count: int, socket_of: Callable[[int], str]) -> None:
        self.prefix = f"{index}."
        self._index = index
        self._count = count
        self._socket_of = socket_of

    def owner_of(self, session_id: str | None) -> int | None:
        """The worker that a session lives in; None where that is this one, or none."""
        text, dot, _ = (session_id or "").partition(".")
        if not dot or not (text.isascii() and text.isdecimal()) or len(text) > 4:
            return None
        index = int(text)
        return index if index != self._index and index < self._count else None

    def take(self, request: HttpRequest, verdict: Verdict, reply: Any) -> bool:
        """Hand a request over; False where it belongs here."""
        owner = self.owner_of(verdict.session_id)
        if owner is None:
            return False
        head: Any = request.head
        body = request.call.raw if request.call is not None else b""
        fields = [(name, value) for name, value in head.headers.items() if name not in HOP_BY_HOP]
        fields.append(("content-length", str(len(body))))
        # A name of a worker of its own would be handed over again, and again.
        data = core.request_head(head.verb, head.target, fields) + body
        loop = asyncio.get_running_loop()
        passage = Passage(reply, head.verb, data)
        task = loop.create_task(loop.create_unix_connection(lambda: passage, self._socket_of(owner)))
        reply.gone = passage.leave
        task.add_done_callback(passage.connected)
        return True


class Passage(asyncio.Protocol):
    """One request at another worker. It ends once: with the answer, or without one."""

    def __init__(self, reply: Any, verb: str, data: bytes) -> None:
        self._reply = reply
        self._data = data
        self._transport: asyncio.Transport | None = None
        self._parser = core.ResponseParser(body_bytes_max=BODY_BYTES_MAX, stream_events=True)
        self._parser.expect(verb)
        self._is_streaming = self._is_over = False

    def connected(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and task.exception() is not None:
            log.info("a worker cannot be reached: %s", task.exception())
            self._fail()

    def leave(self) -> None:
        """The client is gone, or does not want the answer."""
        self._is_over = True
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._is_over:
            self._transport.abort()
        else:
            self._transport.write(self._data)

    def data_received(self, data: bytes) -> None:
        for event in self._parser.feed(data):
            self._heard(event)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._is_over:
            for event in self._parser.finish():
                self._heard(event)
        self._fail()

    def _heard(self, event: Any) -> None:
        reply = self._reply
        if self._is_over:
            return
        if isinstance(event, core.BodyPart):
            reply.send(event.data)
        elif isinstance(event, core.BodyEnd):
            self._end()
            reply.finish()
        elif isinstance(event, core.HttpError):
            self._fail()
        elif event.status >= 200:
            kind = event.headers.get("content-type", "")
            lines = b"".join(
                f"{name}: {value}\r\n".encode("latin-1")
                for name, value in event.fields
                if name.lower() not in SET_BY_REPLY
            )
            if event.body is None:
                self._is_streaming = True
                reply.open(b"Content-Type: %b\r\n%b" % (kind.encode("latin-1"), lines))
            else:
                self._end()
                reply.plain(event.status, event.body, lines, kind.encode("latin-1") or b"text/plain")

    def _end(self) -> None:
        self._is_over = True
        self._reply.gone = None
        if self._transport is not None:
            self._transport.close()

    def _fail(self) -> None:
        """There will be no answer, or no more of it."""
        if self._is_over:
            return
        self._end()
        if self._is_streaming:
            self._reply.finish()
        else:
            self._reply.plain(404, NOT_FOUND)


async def fetch(path: str, target: str) -> bytes:
    """The body of what a worker answers. Raises OSError, EOFError or ValueError where it answers nothing good."""
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        writer.write(core.request_head("GET", target, [("host", "localhost")]))
        parser = core.ResponseParser(body_bytes_max=BODY_BYTES_MAX)
        while data := await reader.read(1 << 18):
            for event in parser.feed(data):
                if not isinstance(event, core.Response) or event.status != 200:
                    raise ValueError(f"a worker answered {event!r}")
                return event.body or b""
        raise EOFError
    finally:
        writer.close()
