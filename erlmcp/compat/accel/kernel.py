"""Level 1: a request of ours through the SDK's kernel.

``mcp.server.runner`` is the SDK's own seam between its transports and its handlers: a runner takes a method and its
params and gives the result as JSON values, whatever middleware, extension or handler stands behind it. FastMCP 4 stands
on the same kernel. One runner serves a handshake conversation; each request of 2026-07-28 has one of its own.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from mcp.server._otel import OpenTelemetryMiddleware
from mcp.server.connection import _NO_CHANNEL, Connection
from mcp.server.runner import ServerRunner, _extract_meta, aclose_shielded, modern_error_data
from mcp.shared.inbound import validate_mcp_param_headers
from mcp.shared.jsonrpc_dispatcher import handler_exception_to_error_data
from mcp_types import methods
from pydantic import ValidationError

from erlmcp.compat.accel.voice import NotificationVoice, NotifyOnly, RequestVoice, Standalone
from erlmcp.errors import McpError
from erlmcp.spec import key
from erlmcp.spec.method import TOOLS_CALL, TOOLS_LIST

if TYPE_CHECKING:
    from mcp.server.context import ServerRequestContext
    from mcp.server.lowlevel.server import Server as LowLevel

    from erlmcp.runtime.exchange import Exchange
    from erlmcp.runtime.session import Session
    from erlmcp.wire.peer import Peer

log = logging.getLogger("erlmcp.accelerate")
PLACE: Final = "erlmcp.accel"  # of a conversation's runner, in its state
PAGE_COUNT_MAX: Final = 100
PEER_COUNT_MAX: Final = 256


class Runner(ServerRunner[Any]):
    """The SDK's, without its tracing where nobody listens: no tracer is installed, and the client sent no trace to go
    on with. That is a quarter of what a call costs."""

    is_traced = True

    def _compose_server_middleware(self, inner: Any) -> Any:
        call = inner
        for middleware in reversed(self.server.middleware):
            if self.is_traced or type(middleware) is not OpenTelemetryMiddleware:
                call = partial(_through, middleware, call)
        return call


def _through(middleware: Any, call_next: Any, context: Any) -> Any:
    return middleware(context, call_next)


def exports_spans() -> bool:
    """Whether a tracer is installed: the kernel's spans are wanted then."""
    trace = sys.modules.get("opentelemetry.trace")
    return trace is not None and type(trace.get_tracer_provider()).__name__ != "ProxyTracerProvider"


async def close(connection: Connection) -> None:
    """End a connection: what its handlers left to be done then."""
    if getattr(connection.exit_stack, "_exit_callbacks", True):
        await aclose_shielded(connection)


class Kernel:
    """The SDK's low-level server, asked request by request. ``state`` is what its lifespan gave; ``is_lean`` where the
    SDK's version was tested, and what has no effect may be left out."""

    def __init__(self, server: LowLevel[Any], *, is_lean: bool = True) -> None:
        self.server = server
        self.state: Any = None
        self._is_lean = is_lean
        self._peers: dict[int, tuple[Peer, Connection, bool]] = {}

    def _runner(self, connection: Connection, meta: Any) -> ServerRunner[Any]:
        if not self._is_lean:
            return ServerRunner(self.server, connection, self.state)
        runner = Runner(self.server, connection, self.state)
        runner.is_traced = exports_spans() or (isinstance(meta, dict) and "traceparent" in meta)
        return runner

    # -- conversations -------------------------------------------------------------------------------------------------

    def runner_of(self, session: Session) -> ServerRunner[Any]:
        """The runner of a handshake conversation."""
        runner: ServerRunner[Any] | None = session.state.get(PLACE)
        if runner is None:
            connection = Connection.for_loop(Standalone(session), session_id=session.id)
            runner = session.state[PLACE] = self._runner(connection, None)
        return runner

    def forget(self, session: Session) -> Any:
        """Take a conversation's runner out; the coroutine that ends it, None where there was none."""
        runner: ServerRunner[Any] | None = None if session._state is None else session._state.pop(PLACE, None)
        return None if runner is None else aclose_shielded(runner.connection)

    def _known(self, peer: Peer) -> tuple[Peer, Connection, bool]:
        """A peer with the connection that those of its requests are copies of, and whether the SDK takes what it says
        of itself: both are found out once."""
        kept = self._peers.get(id(peer))
        if kept is None or kept[0] is not peer:
            if len(self._peers) >= PEER_COUNT_MAX:
                self._peers.clear()
            connection = Connection.from_envelope(peer.version, peer.info, peer.capabilities)
            kept = self._peers[id(peer)] = peer, connection, is_sound(peer)
        return kept

    def _modern_connection(self, exchange: Exchange) -> Connection:
        """A connection born ready, as ``from_envelope`` makes it, with a state and an end of its own."""
        made = Connection.__new__(Connection)
        vars(made).update(vars(self._known(exchange.peer)[1]))
        made.state, made.exit_stack = {}, AsyncExitStack()
        if exchange.headers is None:
            made.outbound = NotifyOnly(exchange.session)
        return made

    def connection_of(self, exchange: Exchange) -> Connection:
        """The connection that a request is of: its conversation's, or one of its own."""
        return (
            self._modern_connection(exchange) if exchange.peer.modern else self.runner_of(exchange.session).connection
        )

    def takes(self, exchange: Exchange) -> bool:
        """Whether the kernel would hand a request that is well-formed on to its handler."""
        if exchange.peer.modern:
            return self._known(exchange.peer)[2]
        return self.runner_of(exchange.session).connection.initialize_accepted

    # -- messages ------------------------------------------------------------------------------------------------------

    async def call(self, exchange: Exchange) -> dict[str, Any]:
        """The result of a request. Raises McpError: what the SDK's transports would have answered."""
        voice: Any = RequestVoice(exchange)
        method, params = exchange.call.method or "", exchange.params
        given: Any = params if isinstance(params, Mapping) else None
        try:
            meta = None if exchange.call.meta is None else exchange.call.meta.values
            if not exchange.peer.modern:
                runner = self.runner_of(exchange.session)
                if isinstance(runner, Runner):
                    runner.is_traced = exports_spans() or (meta is not None and "traceparent" in meta)
                return await runner.on_request(voice, method, given)
            connection = self._modern_connection(exchange)
            try:
                return await self._runner(connection, meta).on_request(voice, method, given)
            finally:
                await close(connection)
        except asyncio.CancelledError:
            voice.cancelled()
            raise
        except Exception as error:
            raise as_ours(error, exchange.peer.modern) from error

    async def listed_schema(self, exchange: Exchange, name: str) -> Any:
        """A tool's input schema as this client is shown it; None where it is shown none."""
        meta = {} if exchange.call.meta is None else dict(exchange.call.meta.values)
        meta.pop(key.PROGRESS_TOKEN, None)
        params: dict[str, Any] = {"_meta": meta}
        voice: Any = RequestVoice(exchange)
        for _ in range(PAGE_COUNT_MAX):
            connection = self._modern_connection(exchange)
            try:
                page = await self._runner(connection, meta).on_request(voice, TOOLS_LIST, params)
            finally:
                await close(connection)
            for tool in page.get("tools", ()):
                if tool.get("name") == name:
                    return tool.get("inputSchema")
            cursor = page.get("nextCursor")
            if not isinstance(cursor, str):
                break
            params = {"_meta": meta, "cursor": cursor}
        return None

    @staticmethod
    def compare_headers(schema: Any, arguments: dict[str, Any], headers: Mapping[str, str]) -> None:
        """Raises McpError where a header does not say what the argument that it mirrors says."""
        found = validate_mcp_param_headers(schema, arguments, headers)
        if found is not None:
            raise McpError(found.code, found.message, found.data)

    def finish(self, peer: Peer, result: Any) -> dict[str, Any]:
        """What goes out of a result that a plan gave: the fields of the revision, and who we are. Raises McpError."""
        runner = ServerRunner(self.server, Connection(_NO_CHANNEL, protocol_version=peer.version), self.state)
        try:
            return runner._serialize("tools/call", peer.version, result)
        except Exception as error:
            raise as_ours(error, peer.modern) from error

    def context_of(self, exchange: Exchange, voice: Any, connection: Connection) -> ServerRequestContext[Any, Any]:
        """The SDK's own context of a request."""
        runner = ServerRunner(self.server, connection, self.state)
        params = exchange.params if isinstance(exchange.params, dict) else {}
        return runner._make_context(
            voice, exchange.call.method or "", params, _extract_meta(params), exchange.peer.version
        )

    async def note(self, session: Session, method: str, params: Any) -> None:
        """Hand a notification on."""
        voice: Any = NotificationVoice(session)
        given = params if isinstance(params, Mapping) else None
        if session.connection.era != "modern":
            await self.runner_of(session).on_notify(voice, method, given)
            return
        outbound: Any = NotifyOnly(session)
        connection = Connection.from_envelope(session.connection.version or "", None, None, outbound=outbound)
        try:
            await ServerRunner(self.server, connection, self.state).on_notify(voice, method, given)
        finally:
            await aclose_shielded(connection)


def is_sound(peer: Peer) -> bool:
    """Whether what a peer says of itself in each request is what the SDK's model of it takes."""
    meta = {key.PROTOCOL_VERSION: peer.version, key.CLIENT_CAPABILITIES: peer.capabilities}
    if peer.info is not None:
        meta[key.CLIENT_INFO] = peer.info
    try:
        methods.validate_client_request(TOOLS_CALL, peer.version, {"name": "", "_meta": meta})
    except ValidationError:
        return False
    return True


def as_ours(error: Exception, is_modern: bool) -> McpError:
    """What the SDK's transport of that era answers an exception with."""
    if isinstance(error, McpError):
        return error
    found = modern_error_data(error) if is_modern else handler_exception_to_error_data(error)
    if found is None:
        log.exception("a handler of the app raised", exc_info=error)
        return McpError(0, str(error))  # The SDK's handshake transports answer so.
    return McpError(found.code, found.message, found.data)
