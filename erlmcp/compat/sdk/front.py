"""The HTTP side of a façade: its endpoint, with what stands beside it, and who is let in.

One endpoint serves Streamable HTTP at its path, the HTTP+SSE transport at the paths of it, an app's own routes
(Starlette's, which their authors brought along), and the protected-resource metadata. The same stands behind our own
HTTP protocol and behind an ASGI host.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from erlmcp import core
from erlmcp.errors import ConfigurationError
from erlmcp.runtime.endpoint import Endpoint, owner_of
from erlmcp.runtime.oldsse import POST_PATH, SSE_PATH, OldSse, SseChannel
from erlmcp.runtime.reply import STREAM_HEAD
from erlmcp.runtime.session import NOTIFICATION, Session
from erlmcp.spec import method as m
from erlmcp.transports.asgi import AsgiApp, Receive, Scope, Send
from erlmcp.wire.header import LOOPBACK_NAMES, Gate
from erlmcp.wire.peer import Peer

if TYPE_CHECKING:
    from erlmcp.compat.sdk.kernel import Kernel

log = logging.getLogger("erlmcp.http")
METADATA = "/.well-known/oauth-protected-resource"
FIRST_VERSION = "2025-03-26"  # what a request without the header speaks (spec: basic/transports)
ROOT: contextvars.ContextVar[str] = contextvars.ContextVar("erlmcp_root_path", default="")


@dataclass(frozen=True)
class Setting:
    """How an app is served. ``has_sse``: by HTTP+SSE, else by Streamable HTTP."""

    path: str = "/mcp"
    stateless: bool = False
    has_sse: bool = False
    mount_path: str = ""
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    is_local: bool = True

    @property
    def gate(self) -> Gate:
        return Gate("/" + self.path.strip("/"), self.is_local, self.hosts, self.origins)


def who_may_ask(host: str, security: Any) -> dict[str, Any]:
    """``hosts``, ``origins`` and ``is_local`` of a setting, from the SDK's ``transport_security``.

    Raises ConfigurationError for an origin with a port of "*" that is no loopback address.
    """
    if security is None:
        if host in LOOPBACK_NAMES:
            return {"is_local": True}
        return {"is_local": False, "hosts": ("*",), "origins": ("*",)}
    if not security.enable_dns_rebinding_protection:
        return {"is_local": False, "hosts": ("*",), "origins": ("*",)}
    hosts = tuple(each.removesuffix(":*") for each in security.allowed_hosts)
    origins = []
    for origin in security.allowed_origins:
        if not origin.endswith(":*"):
            origins.append(origin)
        elif urlsplit(origin.removesuffix(":*")).hostname not in LOOPBACK_NAMES:
            raise ConfigurationError(f"allowed_origins: {origin!r} has a port of '*'; name each port that is meant")
    is_local = all(each in LOOPBACK_NAMES for each in hosts)
    return {"is_local": is_local, "hosts": hosts or ("localhost",), "origins": tuple(origins)}


def metadata_path(resource: str) -> str:
    """Where the metadata of a protected resource is (RFC 9728, section 3.1)."""
    return METADATA + urlsplit(resource).path.rstrip("/")


class SdkEndpoint(Endpoint):
    """Streamable HTTP, and what stands beside it."""

    host: Kernel

    def __init__(self, host: Kernel, setting: Setting, *, event_store: bool = True) -> None:
        super().__init__(host, setting.gate, event_store=event_store)
        self.setting = setting
        self.face = host.face
        self.sse = Sse(host, self, setting.mount_path) if setting.has_sse else None
        self.metadata = self._metadata()
        self._tasks: set[asyncio.Task[None]] = set()

    def _metadata(self) -> dict[str, bytes]:
        """Path -> the metadata of the protected resource."""
        bearer = self.face.bearer
        if bearer is None or bearer.resource is None:
            return {}
        return {metadata_path(bearer.resource): json.dumps(bearer.metadata()).encode()}

    def handle(self, request: Any, reply: Any) -> None:
        head = request.head
        verdict = head.tag
        bearer = self.face.bearer
        if verdict is not None and verdict.gate is self.gate:
            self._enter(request, reply, bearer)
            return
        path = head.target.partition("?")[0]
        if path in self.metadata:
            reply.plain(200, self.metadata[path], b"Access-Control-Allow-Origin: *\r\n", b"application/json")
        elif self._is_own(path):
            self._enter(request, reply, bearer)
        elif self.face.routes and self.face.takes(head.verb, path):
            self._keep(self._run_route(request, reply))
        elif self.desk is None or not self.desk.take(head, reply):
            self._enter(request, reply, bearer)

    def _is_own(self, path: str) -> bool:
        """Is it a path of the protocol, which no route of the app's takes away?"""
        bare = path.rstrip("/")
        return bare == self.gate.path.rstrip("/") or (self.sse is not None and bare in (SSE_PATH, POST_PATH))

    def _enter(self, request: Any, reply: Any, bearer: Any) -> None:
        if bearer is None:
            self._serve(request, reply)
        else:
            self._keep(self._admit(request, reply, bearer))

    def _serve(self, request: Any, reply: Any) -> None:
        if self.sse is not None and request.head.target.partition("?")[0].rstrip("/") in (SSE_PATH, POST_PATH):
            self.sse.handle(request, reply)
        else:
            super().handle(request, reply)

    def _keep(self, coro: Any) -> None:
        task = asyncio.ensure_future(coro)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _admit(self, request: Any, reply: Any, bearer: Any) -> None:
        """Let in who brings a good token."""
        try:
            _token, status, error, text = await bearer.judge(request.head.headers.get("authorization"))
        except Exception:
            log.exception("the token verifier failed")
            reply.plain(500, b"Internal Server Error")
            return
        if not status:
            self._serve(request, reply)
            return
        parts = [f'error="{error}"', f'error_description="{text}"']
        if bearer.resource is not None:
            split = urlsplit(bearer.resource)
            parts.append(f'resource_metadata="{split.scheme}://{split.netloc}{next(iter(self.metadata))}"')
        body = json.dumps({"error": error, "error_description": text}).encode()
        reply.plain(status, body, f"WWW-Authenticate: Bearer {', '.join(parts)}\r\n".encode(), b"application/json")

    # -- routes of the app's own ---------------------------------------------------------------------------------------

    async def _run_route(self, request: Any, reply: Any) -> None:
        head = request.head
        path, _, query = head.target.partition("?")
        body = request.body if request.call is None else bytes(request.call.raw)
        scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": head.verb,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": query.encode("latin-1"),
            "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in head.headers.items()],
            "client": getattr(reply, "client", None),
            "server": None,
        }
        status, lines, parts = 500, b"", [b""]
        kind = b"text/plain"

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            nonlocal status, lines, kind
            if message["type"] == "http.response.start":
                status = message["status"]
                for name, value in message.get("headers", ()):
                    if name.lower() == b"content-type":
                        kind = value.removesuffix(b"; charset=utf-8")
                    elif name.lower() not in (b"content-length", b"connection", b"transfer-encoding"):
                        lines += name + b": " + value + b"\r\n"
            elif message["type"] == "http.response.body":
                parts.append(message.get("body", b""))

        try:
            await self.face.router(scope, receive, send)
        except Exception:
            log.exception("the route %s failed", path)
            status, lines, parts, kind = 500, b"", [b"Internal Server Error"], b"text/plain"
        reply.plain(status, b"".join(parts), lines, kind)

    # -- without sessions ----------------------------------------------------------------------------------------------

    def _post_legacy(self, call: Any, verdict: Any, reply: Any, channel: Any) -> None:
        if not self.setting.stateless:
            super()._post_legacy(call, verdict, reply, channel)
            return
        session = Session(self.host, owner=owner_of(verdict))
        session.kind = reply.kind
        if call.method != m.INITIALIZE:
            version = verdict.version or FIRST_VERSION
            session.connection.initialized(version, Peer(version))
        if call.kind == NOTIFICATION or call.is_response:
            reply.plain(202, b"", verdict.extra)
            return
        session.receive(call, self.channel(session, verdict, reply), dict(verdict.headers))
        self.host.hub.leave(session)
        self._tick_soon()

    def _get(self, verdict: Any, reply: Any) -> None:
        if self.setting.stateless:
            reply.plain(405, b"Method not allowed: this server keeps no sessions", b"Allow: POST\r\n" + verdict.extra)
        else:
            super()._get(verdict, reply)

    def end_streams(self) -> None:
        if self.sse is not None:
            self.sse.end_own()
        super().end_streams()

    def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        super().close()


class Sse(OldSse):
    """HTTP+SSE, whose clients are told to post below what the app is mounted at."""

    def __init__(self, host: Any, endpoint: SdkEndpoint, mount_path: str) -> None:
        super().__init__(host, endpoint)
        self._mount_path = mount_path.rstrip("/")

    def _open(self, reply: Any, verdict: Any) -> None:
        if len(self.streams) >= self.host.limits.session_count_max:
            super()._open(reply, verdict)
            return
        id = secrets.token_urlsafe(24)
        channel = self.streams[id] = SseChannel(self.host, reply, owner_of(verdict))
        reply.open(STREAM_HEAD + verdict.extra)
        reply.gone = lambda: self._lost(id)
        where = f"{self._mount_path or ROOT.get()}{POST_PATH}?session_id={id}"
        reply.send(core.frame_sse(where.encode(), event="endpoint"))
        self._beat(id, channel)

    def end_own(self) -> None:
        """End the streams, and let the endpoint end its own."""
        for id, channel in list(self.streams.items()):
            self.streams.pop(id, None)
            channel.session.close("the server stopped")
            channel.reply.gone = None
            channel.reply.finish()


class SdkApp(AsgiApp):
    """The endpoint as an ASGI application, with what stands beside it."""

    async def _http(self, handler: Any, scope: Scope, receive: Receive, send: Send) -> None:
        token = ROOT.set(scope.get("root_path", ""))
        try:
            await super()._http(handler, scope, receive, send)
        finally:
            ROOT.reset(token)


def asgi_app(kernel: Kernel, setting: Setting) -> SdkApp:
    """The application of a façade."""

    def make_handler() -> Any:
        endpoint = SdkEndpoint(kernel, setting, event_store=kernel.event_store)
        kernel.board.show("asgi", None, endpoint)
        return endpoint

    return SdkApp(make_handler, kernel.routes, kernel.limits, setting.gate.path, kernel.start, kernel.stop)


class SessionManager:
    """What a host application runs while it serves: ``async with mcp.session_manager.run()``."""

    def __init__(self, app: SdkApp) -> None:
        self._app = app

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """A context in which the app serves."""
        await self._app.started()
        try:
            yield
        finally:
            await self._app.close()

    async def handle_request(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)
