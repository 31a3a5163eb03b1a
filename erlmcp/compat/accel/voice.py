"""What a handler of the SDK may say to its client, said through our channels.

The SDK's kernel wants two things of a transport: a dispatch context for each message, and an outbound channel for each
conversation. Both are duck-typed there (``mcp.shared.dispatcher``); these stand on our exchanges and sessions.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import anyio
from mcp.shared.exceptions import MCPError, NoBackChannelError
from mcp.shared.message import ServerMessageMetadata
from mcp.shared.subscriptions import LISTEN_STREAM_METHODS
from mcp.shared.transport_context import TransportContext

from erlmcp.compat.accel.visit import visit_of
from erlmcp.errors import McpError
from erlmcp.spec.key import PROGRESS_TOKEN
from erlmcp.spec.method import PROGRESS

if TYPE_CHECKING:
    from erlmcp.runtime.exchange import Channel, Exchange
    from erlmcp.runtime.session import Session

ANSWER_TIMEOUT_S: Final = 86_400.0  # a question waits for its client as long as its conversation lasts
HEADERS_COUNT_MAX: Final = 256  # of the heads whose encoded form is kept
FOLLOWERS: Final = "erlmcp.accel.followers"  # of a conversation's questions, in its state
HTTP_KINDS: Final = frozenset({"http", "http2", "asgi", "sse"})


async def ask(
    session: Session, channel: Channel | None, method: str, params: Mapping[str, Any] | None, opts: Any
) -> dict[str, Any]:
    """Send the client a request; raises the SDK's errors. What it reports meanwhile goes to ``on_progress``."""
    wished: Mapping[str, Any] = opts or {}
    timeout_s = wished.get("timeout") or ANSWER_TIMEOUT_S
    given = None if params is None else dict(params)
    followers: dict[str, Any] = {}
    token = ""
    if wished.get("on_progress") is not None:
        token = f"question-{next(_TOKENS)}"
        given = {**(given or {}), "_meta": {**((given or {}).get("_meta") or {}), PROGRESS_TOKEN: token}}
        followers = session.state.setdefault(FOLLOWERS, {})
        followers[token] = wished["on_progress"]
    try:
        return await session.ask(channel, method, given, timeout_s)
    except McpError as error:
        raise MCPError(code=error.code, message=error.message, data=error.data) from error
    finally:
        followers.pop(token, None)


async def reported(session: Session, params: Any) -> None:
    """The client says how far it is with a question."""
    if not isinstance(params, dict):
        return
    follow = session.state.get(FOLLOWERS, {}).get(params.get(PROGRESS_TOKEN))
    if follow is not None:
        await follow(params.get("progress"), params.get("total"), params.get("message"))


_TOKENS = itertools.count(1)


class Standalone:
    """The conversation's own channel, for what belongs to no request."""

    __slots__ = ("_session",)

    def __init__(self, session: Session) -> None:
        self._session = session

    async def send_raw_request(self, method: str, params: Mapping[str, Any] | None, opts: Any = None) -> dict[str, Any]:
        return await ask(self._session, None, method, params, opts)

    async def notify(self, method: str, params: Mapping[str, Any] | None, opts: Any = None) -> None:
        channel = self._session.standalone
        if channel is not None:
            channel.notify(method, None if params is None else dict(params))


class NotifyOnly(Standalone):
    """That of a conversation of 2026-07-28: no questions, and changes only by listen streams."""

    __slots__ = ()

    async def send_raw_request(self, method: str, params: Mapping[str, Any] | None, opts: Any = None) -> dict[str, Any]:
        raise NoBackChannelError(method)

    async def notify(self, method: str, params: Mapping[str, Any] | None, opts: Any = None) -> None:
        if method not in LISTEN_STREAM_METHODS:
            await super().notify(method, params, opts)


class RequestVoice:
    """The dispatch context of one request."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self.request_id = exchange.call.id

    @property
    def can_send_request(self) -> bool:
        exchange = self._exchange
        return not (exchange.peer.modern or exchange.done) and getattr(exchange.channel, "accepts_stream", True)

    @cached_property
    def transport(self) -> TransportContext:
        exchange = self._exchange
        kind = "streamable-http" if exchange.channel.kind in HTTP_KINDS else "jsonrpc"
        return TransportContext(kind=kind, can_send_request=self.can_send_request, headers=exchange.headers)

    @cached_property
    def message_metadata(self) -> ServerMessageMetadata | None:
        if self._exchange.channel.kind not in HTTP_KINDS:
            return None
        return ServerMessageMetadata(
            request_context=http_request(self._exchange.headers or {}),
            close_sse_stream=self._close_stream,
            close_standalone_sse_stream=self._close_standalone,
        )

    @cached_property
    def cancel_requested(self) -> anyio.Event:
        return anyio.Event()

    def cancelled(self) -> None:
        """The client took the request back."""
        self.cancel_requested.set()

    async def _close_stream(self) -> None:
        self._exchange.channel.detach()

    async def _close_standalone(self) -> None:
        standalone = self._exchange.session.standalone
        if standalone is not None:
            standalone.detach()

    async def send_raw_request(self, method: str, params: Mapping[str, Any] | None, opts: Any = None) -> dict[str, Any]:
        if not self.can_send_request:
            raise NoBackChannelError(method)
        return await ask(self._exchange.session, self._exchange.channel, method, params, opts)

    async def notify(self, method: str, params: Mapping[str, Any] | None, opts: Any = None) -> None:
        self._exchange.notify(method, None if params is None else dict(params))

    async def progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        token = self._exchange.progress_token
        if token is None:
            return
        params: dict[str, Any] = {"progressToken": token, "progress": progress}
        if total is not None:
            params["total"] = total
        if message is not None:
            params["message"] = message
        self._exchange.notify(PROGRESS, params)


class NotificationVoice:
    """The dispatch context of a notification: what is said to it goes the conversation's own way."""

    request_id = None
    message_metadata = None
    can_send_request = False

    def __init__(self, session: Session) -> None:
        self._standalone = Standalone(session)
        self.transport = TransportContext(kind="jsonrpc", can_send_request=False)

    @cached_property
    def cancel_requested(self) -> anyio.Event:
        return anyio.Event()

    async def send_raw_request(self, method: str, params: Mapping[str, Any] | None, opts: Any = None) -> dict[str, Any]:
        raise NoBackChannelError(method)

    async def notify(self, method: str, params: Mapping[str, Any] | None, opts: Any = None) -> None:
        await self._standalone.notify(method, params)

    async def progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        """A notification has no progress."""


_ENCODED: dict[int, tuple[Mapping[str, str], list[tuple[bytes, bytes]]]] = {}


def _encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """As ASGI has them; requests with equal heads share their mapping, and so this."""
    kept = _ENCODED.get(id(headers))
    if kept is not None and kept[0] is headers:
        return kept[1]
    if len(_ENCODED) >= HEADERS_COUNT_MAX:
        _ENCODED.clear()
    made = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    _ENCODED[id(headers)] = headers, made
    return made


def http_request(headers: Mapping[str, str]) -> Any:
    """The Starlette request that a handler finds in its context: its headers; the body was read."""
    from starlette.requests import Request

    visit = visit_of(headers)
    host, _, port = headers.get("host", "localhost").rpartition(":")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/mcp",
        "raw_path": b"/mcp",
        "query_string": b"",
        "root_path": "",
        "headers": _encoded(headers if visit is None else visit.headers),
        "server": (host, int(port)) if port.isdigit() else (port, None),
        "client": None,
        "state": {},
    }
    if visit is not None:
        scope |= {"app": visit.app, "auth": visit.auth, "user": visit.user}
    return Request(scope)
