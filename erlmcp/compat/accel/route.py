"""An ASGI application of the app's own, served by our listener: its routes, whatever they take and give.

The body of a request has come whole, within ``body_bytes_max``; an answer leaves as it is made. Where a client does not
read, its application waits, and where it has left, it is told so (``http.disconnect``) and goes on, as behind uvicorn.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

if TYPE_CHECKING:
    from erlmcp.core import HttpRequest
    from erlmcp.runtime.reply import Reply

log = logging.getLogger("erlmcp.accelerate")
# What is the transport's business, and is written there.
OURS: Final = frozenset({b"content-length", b"connection", b"keep-alive", b"transfer-encoding", b"date", b"server"})
BREAK: Final = re.compile(rb"[\r\n\0]")
BODILESS: Final = frozenset({204, 304})
AHEAD_BYTES: Final = 1 << 20  # of an answer that its client has not read
LOOK_S: Final = 0.01  # between two looks at whether it has
Message = MutableMapping[str, Any]


def split_target(target: str) -> tuple[str, str]:
    """Path, as it was sent, and query of a request's target, which may be a whole address."""
    path, _, query = target.partition("?")
    if "://" in path:
        path = "/" + path.partition("://")[2].partition("/")[2]
    return path, query


def pairs_of(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Header lines as ASGI has them."""
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


def scope_of(request: HttpRequest, reply: Reply) -> dict[str, Any]:
    """The ASGI scope of a request."""
    head: Any = request.head
    path, query = split_target(head.target)
    transport = getattr(reply, "transport", None)
    is_tls = transport is not None and transport.get_extra_info("ssl_object") is not None
    name = None if transport is None else transport.get_extra_info("sockname")
    outer = getattr(reply, "scope", None) or {}  # where an ASGI host serves, at a path of its own
    root = outer.get("root_path", "")
    headers = [pair for pair in pairs_of(head.headers) if pair[0] != b"transfer-encoding"]
    if request.body or head.verb in ("POST", "PUT", "PATCH"):
        headers.append((b"content-length", b"%d" % len(request.body)))
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": head.verb,
        "scheme": outer.get("scheme") or ("https" if is_tls else "http"),
        "path": root + unquote(path),
        "raw_path": root.encode() + path.encode("latin-1"),
        "query_string": query.encode("latin-1"),
        "root_path": root,
        "headers": headers,
        "client": _address(reply.client),
        "server": outer.get("server") or _address(name),
        "state": {},
    }


def _address(found: Any) -> tuple[str, int] | None:
    return found[:2] if isinstance(found, tuple) and len(found) >= 2 else None


class Answer:
    """What an application sends for one request, as a reply of ours; ``extra`` are further header lines."""

    def __init__(self, reply: Reply, verb: str, body: bytes, wait_s: float, extra: bytes = b"") -> None:
        self.reply = reply
        self.is_over = False
        self._is_head = verb == "HEAD"
        self._body: bytes | None = body
        self._wait_s = wait_s
        self._extra = extra
        self._left = asyncio.Event()  # nobody waits for the answer any more
        self._status = 0  # none yet
        self._lines = b""
        self._length: bytes | None = None  # as the application said it
        self._is_open = False

    def leave(self) -> None:
        self.is_over = True
        self._left.set()

    async def receive(self) -> Message:
        body, self._body = self._body, None
        if body is not None:
            return {"type": "http.request", "body": body, "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Raises ValueError for header lines that would be read as others."""
        if self.is_over:
            await asyncio.sleep(0)  # so that who sends without end hears that nobody listens
            return
        if message["type"] == "http.response.start":
            headers = [(bytes(name).lower(), bytes(value)) for name, value in message.get("headers", ())]
            self._lines = lines_of(headers) + self._extra
            self._length = dict(headers).get(b"content-length")
            self._status = message["status"]
        elif message["type"] == "http.response.body" and self._status:
            body, has_more = bytes(message.get("body", b"")), message.get("more_body", False)
            if self._is_head or self._status in BODILESS:
                if self._is_head and self._length is None and not has_more:
                    self._length = b"%d" % len(body)
                self._whole(b"", self._length)
            elif not (has_more or self._is_open):
                self._whole(body, b"%d" % len(body))
            else:
                await self._part(body, has_more)

    def _whole(self, body: bytes, length: bytes | None) -> None:
        self._end()
        line = b"" if length is None else b"Content-Length: %b\r\n" % length
        self.reply.whole(self._status, self._lines + line, body)

    async def _part(self, body: bytes, has_more: bool) -> None:
        if not self._is_open:
            self._is_open = True
            self.reply.open(self._lines, self._status)
        if body:
            self.reply.send(body)
        if has_more:
            await self._leave_room()
        elif not self.is_over:  # the client may be cut off by what is sent
            self._end()
            self.reply.finish()

    async def _leave_room(self) -> None:
        """Wait until the client has read; one that does not within ``wait_s`` is not waited for."""
        before, since = self.reply.unsent_bytes, asyncio.get_running_loop().time()
        while not self.is_over and (unsent := self.reply.unsent_bytes) > AHEAD_BYTES:
            now = asyncio.get_running_loop().time()
            if unsent < before:
                before, since = unsent, now
            elif now - since > self._wait_s:
                log.warning("a client does not read an answer: outbox_timeout_s=%g passed", self._wait_s)
                self.fail()
                return
            await asyncio.sleep(LOOK_S)

    def _end(self) -> None:
        self.leave()
        self.reply.gone = None

    def fail(self, status: int = 500, why: bytes = b"Internal Server Error") -> None:
        """There is no answer, or no more of it."""
        if self.is_over:
            return
        self._end()
        if self._is_open:
            self.reply.abort()
        else:
            self.reply.plain(status, why, self._extra)


def lines_of(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The header lines of an answer, but for those that the transport writes. Raises ValueError for one that breaks."""
    found = [b"%b: %b" % pair for pair in headers if pair[0] not in OURS]
    if BREAK.search(b"".join(found)):
        raise ValueError("a header of the answer holds the end of a line")
    return b"".join(line + b"\r\n" for line in found)


async def run(app: Any, scope: dict[str, Any], body: bytes, reply: Reply, wait_s: float) -> None:
    """Have an application answer a request; it is answered when this returns, whatever comes."""
    answer = Answer(reply, scope["method"], body, wait_s)
    reply.gone = answer.leave
    try:
        await app(scope, answer.receive, answer.send)
        answer.fail()  # where it said nothing, or not all
    except Exception:
        log.exception("the route %s of the app raised", scope["path"])
        answer.fail()
    finally:
        answer.fail(503, b"The server stopped")
