"""The ways to serve a server: bytes of one's own, memory, ASGI, and the transports that run until they end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

from erlmcp.errors import ConfigurationError
from erlmcp.runtime.link import Link

if TYPE_CHECKING:
    from erlmcp.auth.keeper import Keeper
    from erlmcp.auth.rule import Auth
    from erlmcp.runtime.endpoint import Endpoint
    from erlmcp.server.app import Server
    from erlmcp.transports.asgi import AsgiApp
    from erlmcp.transports.memory import MemoryConnection
    from erlmcp.wire.header import Gate


class Doors:
    """What a ``Server`` is served by."""

    @property
    def _server(self) -> Server:
        return cast("Server", self)

    def link(self, write: Callable[[bytes], None], *, kind: str = "memory") -> Link:
        """A conversation over a byte stream of your own: ``feed`` it what you read; it calls ``write``. The server
        must be running. ``kind`` is what the metrics call it: stdio, tcp, unix or memory."""
        return self._server._make_link(write, kind)

    def make_endpoint(self, gate: Gate) -> Endpoint:
        """What takes the requests that come over HTTP."""
        from erlmcp.runtime.endpoint import Endpoint

        server = self._server
        if server.keeper is None:
            return Endpoint(server, gate, event_store=server.event_store)
        from erlmcp.auth.porter import Porter

        return Porter(server, gate, server.keeper, event_store=server.event_store)

    @asynccontextmanager
    async def memory(self) -> AsyncIterator[MemoryConnection]:
        """An in-memory connection to this server, for tests: ``async with server.memory() as wire``."""
        from erlmcp.transports.memory import MemoryConnection

        async with self._server.running(), MemoryConnection(self.link) as wire:
            yield wire

    def asgi(self, path: str = "/mcp") -> AsgiApp:
        """The Streamable HTTP endpoint as an ASGI application, to be mounted in another. It starts itself with the
        first request where the host never ran its lifespan."""
        from erlmcp.server.serve import asgi

        return asgi(self._server, path)

    def run_stdio(self) -> None:
        """Serve over standard input and output until the input ends."""
        from erlmcp.server.serve import run_stdio

        run_stdio(self._server)

    def run_http(self, host: str = "127.0.0.1", port: int = 8080, path: str = "/mcp", **more: Any) -> None:
        """Serve Streamable HTTP until SIGINT or SIGTERM, with ``tls`` and ``http2`` if so; OSError: no such address."""
        from erlmcp.server.serve import run_http

        run_http(self._server, host, port, path, **more)

    def run_tcp(self, host: str = "127.0.0.1", port: int = 8081) -> None:
        """Serve newline-framed MCP over TCP until SIGINT or SIGTERM. There is no authentication: bind to loopback."""
        from erlmcp.server.serve import run_tcp

        run_tcp(self._server, host, port)

    def run_unix(self, path: str) -> None:
        """Serve newline-framed MCP on a Unix socket that only this user can open."""
        from erlmcp.server.serve import run_unix

        run_unix(self._server, path)


def make_keeper(server: Server, auth: Auth | None) -> Keeper | None:
    """What lets in by access tokens. Raises ConfigurationError where that cannot be."""
    if auth is None:
        return None
    if server.sse_transport:
        raise ConfigurationError("auth and sse_transport cannot be together: that transport asks for no tokens")
    from erlmcp.auth.keeper import Keeper

    return Keeper(auth, server.limits, server.name)
