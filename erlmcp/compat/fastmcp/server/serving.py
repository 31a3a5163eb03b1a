"""The half of ``FastMCP`` that serves: transports, the ASGI app, and routes beside the endpoint."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from erlmcp.compat.fastmcp.exceptions import unsupported
from erlmcp.compat.fastmcp.shape import settings
from erlmcp.runtime.endpoint import Endpoint
from erlmcp.server.app import Server

if TYPE_CHECKING:
    from erlmcp.transports.asgi import AsgiApp

log = logging.getLogger("erlmcp.compat.fastmcp")
HTTP = ("http", "streamable-http", "sse")
ANSWER_BYTES_MAX = 64 * 1024 * 1024  # of a route of one's own, which is gathered before it is sent
_PLAIN = ("show_banner", "log_level")
# Arguments of run(transport="http") that only another ASGI server understands.
_OTHERS = {
    "uvicorn_config": "uvicorn.run(mcp.http_app(), ...)",
    "middleware": "uvicorn.run(mcp.http_app(middleware=...))",
    "sockets": "uvicorn.run(mcp.http_app(), fd=...), or mcp.run_unix(path)",
}


class Serving(Server):
    """``run`` and its kind."""

    def _begin_serving(self) -> None:
        self.custom_routes: list[Any] = []

    def custom_route(
        self, path: str, methods: Sequence[str], name: str | None = None, include_in_schema: bool = True
    ) -> Callable[[Any], Any]:
        """A route of one's own beside the endpoint: ``async (request) -> response`` of Starlette, which must be
        installed."""
        try:
            from starlette.routing import Route
        except ImportError:
            unsupported("custom_route()", "its requests and responses are Starlette's", "pip install starlette")

        def register(fn: Any) -> Any:
            self.custom_routes.append(
                Route(path, endpoint=fn, methods=list(methods), name=name, include_in_schema=include_in_schema)
            )
            return fn

        return register

    # -- running -------------------------------------------------------------------------------------------------------

    def run(self, transport: str | None = None, show_banner: bool | None = None, **options: Any) -> None:
        """Serve until the input ends (stdio), or until SIGINT or SIGTERM ("http", "sse": host, port, path)."""
        from erlmcp.server.serve import run

        run(self._serve(transport, options))

    async def run_async(self, transport: str | None = None, show_banner: bool | None = None, **options: Any) -> None:
        """The same in a loop that runs."""
        await self._serve(transport, options)

    async def run_stdio_async(self, show_banner: bool = True, **options: Any) -> None:
        await self._serve("stdio", options)

    async def run_http_async(self, show_banner: bool = True, transport: str = "http", **options: Any) -> None:
        await self._serve(transport, options)

    def _serve(self, transport: str | None, options: dict[str, Any]) -> Any:
        from erlmcp.server.serve import stdio

        chosen = transport or settings.transport
        given = {name: each for name, each in options.items() if name not in _PLAIN and each is not None}
        if chosen == "stdio":
            given.pop("stateless", None)
            if given:
                raise TypeError(f"stdio takes no {', '.join(given)}")
            return stdio(self)
        if chosen not in HTTP:
            raise ValueError(f"Unknown transport: {chosen}; expected stdio, {', '.join(HTTP)}")
        return self._serve_http(chosen, given)

    def _serve_http(self, transport: str, given: dict[str, Any]) -> Any:
        from erlmcp import core
        from erlmcp.server.serve import http, until_stopped

        for name, instead in _OTHERS.items():
            if given.pop(name, None):
                unsupported(f"run({name}=)", "it is served by erlmcp's own HTTP", instead)
        host, port = given.pop("host", settings.host), given.pop("port", settings.port)
        path = given.pop("path", settings.streamable_http_path)
        self._allow(given)
        if given:
            raise TypeError(f"run() got unexpected arguments: {', '.join(given)}")
        self.sse_transport = transport == "sse"
        shown = f"[{host}]" if ":" in host else host

        def announce(listener: Any) -> str:
            return f"{self.name}: serving http://{shown}:{listener.port}/{path.strip('/')} ({core.IMPLEMENTATION})"

        return until_stopped(self, http(self, host, port, path), announce)

    def _allow(self, given: dict[str, Any]) -> None:
        """Take who is let in, and what says how sessions and answers are to be, which the client and we agree on."""
        self.allowed_hosts = (*self.allowed_hosts, *given.pop("allowed_hosts", ()))
        self.allowed_origins = (*self.allowed_origins, *given.pop("allowed_origins", ()))
        protection = given.pop("host_origin_protection", None)
        if protection is False:
            unsupported("host_origin_protection=False", "it stays on", "allowed_hosts and allowed_origins")
        if given.pop("stateless_http", None) or given.pop("stateless", None):
            log.info("stateless_http: clients of 2026-07-28 have no session here; those before it get one")
        for name in ("json_response", "event_store", "retry_interval", "session_idle_timeout"):
            if given.pop(name, None) not in (None, False, True, "auto"):
                unsupported(f"{name}=", "it is a limit of the server here", "Limits (docs/limits.md)")

    def make_endpoint(self, gate: Any) -> Endpoint:
        """The endpoint of a listener, with the routes beside it."""
        if not self.custom_routes:
            return super().make_endpoint(gate)
        return RoutedEndpoint(self, gate, self.custom_routes, event_store=self.event_store)

    # -- as an application ---------------------------------------------------------------------------------------------

    def http_app(
        self,
        path: str | None = None,
        middleware: Sequence[Any] | None = None,
        json_response: bool | None = None,
        stateless_http: bool | None = None,
        transport: str = "http",
        **options: Any,
    ) -> HttpApp:
        """The endpoint and the routes beside it as an ASGI application. Its ``lifespan`` is for the app that mounts
        it; without it the server starts with the first request."""
        if transport not in ("http", "streamable-http"):
            unsupported(f"http_app(transport={transport!r})", "that pair of endpoints needs our own HTTP", 'run("sse")')
        self._allow({"stateless_http": stateless_http, "json_response": json_response, **options})
        inner = self.asgi(path or settings.streamable_http_path)
        app: Any = HttpApp(self, inner, list(self.custom_routes))
        made: Any = app
        for each in reversed(middleware or ()):
            made = each.cls(made, *getattr(each, "args", ()), **getattr(each, "kwargs", {}))
        app.outer = made
        return app  # type: ignore[no-any-return]


class HttpApp:
    """``app(scope, receive, send)``: ``state.fastmcp_server`` is the server, ``path`` its endpoint's."""

    def __init__(self, server: Server, inner: AsgiApp, routes: list[Any]) -> None:
        self._inner = inner
        self._routes = routes
        self._server = server
        self.path = inner.path
        self.outer: Any = self

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self.outer is not self and not scope.get("erlmcp.through"):
            await self.outer({**scope, "erlmcp.through": True}, receive, send)
            return
        found = None if scope["type"] != "http" else _route_for(self._routes, scope)
        if found is None:
            await self._inner(scope, receive, send)
        else:
            await found.handle(scope, receive, send)

    @asynccontextmanager
    async def lifespan(self, app: Any) -> AsyncIterator[None]:
        """For ``FastAPI(lifespan=app.lifespan)``: the server runs within it."""
        async with self._server.running():
            yield


def _route_for(routes: list[Any], scope: Any) -> Any:
    """The route of one's own that a request is for; what it says of the path is added to the scope."""
    for route in routes:
        match, child = route.matches(scope)
        if match.value:  # full, or with another method
            scope.update(child)
            return route
    return None


class RoutedEndpoint(Endpoint):
    """An endpoint with routes of one's own beside it."""

    def __init__(self, host: Any, gate: Any, routes: list[Any], *, event_store: bool = True) -> None:
        super().__init__(host, gate, event_store=event_store)
        self._routes = routes

    def handle(self, request: Any, reply: Any) -> None:
        head = request.head
        path, _, query = head.target.partition("?")
        scope = None if path == self.gate.path else _scope_of(head, path, query, reply)
        route = None if scope is None else _route_for(self._routes, scope)
        if route is None or scope is None:
            super().handle(request, reply)
        elif not self.gate.admits_host(head.headers.get("host")):
            reply.plain(421, b"This Host is not allowed here; add it to allowed_hosts")
        else:
            server: Any = self.host
            server.drive(_answer(route, scope, request.body, reply), _settled(reply))


def _scope_of(head: Any, path: str, query: str, reply: Any) -> dict[str, Any]:
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in head.headers.items()]
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": head.verb,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode("latin-1", "replace"),
        "root_path": "",
        "query_string": query.encode("latin-1", "replace"),
        "headers": headers,
        "client": getattr(reply, "client", None),
        "server": None,
        "state": {},
    }


async def _answer(route: Any, scope: dict[str, Any], body: bytes, reply: Any) -> None:
    """Run a route, gather what it sends, and send that."""
    status, headers, parts, length = 500, [], [], 0
    given = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if given:
            return given.pop()
        await asyncio.get_running_loop().create_future()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        nonlocal status, headers, length
        if message["type"] == "http.response.start":
            status, headers = message["status"], message.get("headers", [])
        else:
            length += len(message.get("body", b""))
            if length > ANSWER_BYTES_MAX:
                raise ValueError(f"the answer of a custom route is longer than {ANSWER_BYTES_MAX} bytes")
            parts.append(message.get("body", b""))

    await route.handle(scope, receive, send)
    kind = b"text/plain"
    extra = b""
    for name, value in headers:
        if name.lower() == b"content-type":
            kind = value.partition(b";")[0]
        elif name.lower() != b"content-length":
            extra += name + b": " + value + b"\r\n"
    reply.plain(status, b"".join(parts), extra, kind)


def _settled(reply: Any) -> Callable[[Any, BaseException | None], None]:
    def done(_: Any, error: BaseException | None) -> None:
        if error is not None:
            log.error("a custom route failed", exc_info=error)
            reply.plain(500, b"Internal Server Error")

    return done
