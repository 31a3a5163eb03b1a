"""The doors of a façade: routes of the app's own, and what it is served by."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar

from erlmcp.errors import ConfigurationError
from erlmcp.server import serve

if TYPE_CHECKING:
    from erlmcp.compat.sdk.front import SdkApp, SessionManager, Setting
    from erlmcp.compat.sdk.kernel import Kernel

F = TypeVar("F", bound=Callable[..., Any])
log = logging.getLogger("erlmcp.compat")
SSE_PATH, MESSAGE_PATH = "/sse", "/messages/"
UNBOUNDED_S, UNBOUNDED_COUNT = 10.0 * 365 * 86400, 1_000_000
NO_EVENT_STORE = (
    "event_store: the server keeps the events of its streams itself, in memory (limits event_count_max and "
    "event_age_s); leave it out. A store of your own is not asked"
)
NO_RETRY = "retry_interval: clients are told to come back after one second; leave it out"


class Routes:
    """Custom routes and ways to serve."""

    kernel: Kernel
    bearer: Any
    settings: Any

    def _begin_routes(self) -> None:
        self.routes: list[Any] = []
        self._router: Any = None
        self._manager: SessionManager | None = None

    # -- routes of the app's own ---------------------------------------------------------------------------------------

    def custom_route(
        self, path: str, methods: list[str], name: str | None = None, include_in_schema: bool = True
    ) -> Callable[[F], F]:
        """``async fn(request) -> response`` of Starlette's, at a path beside the endpoint; nobody has to authenticate.

        Raises ConfigurationError where Starlette is not installed.
        """
        if find_spec("starlette") is None:
            raise ConfigurationError("custom_route: its requests and responses are Starlette's; install starlette")
        from starlette.routing import Route

        def register(fn: F) -> F:
            self.routes.append(Route(path, fn, methods=methods, name=name, include_in_schema=include_in_schema))
            self._router = None
            return fn

        return register

    @property
    def router(self) -> Any:
        """The ASGI application of the custom routes."""
        if self._router is None:
            from starlette.routing import Router

            self._router = Router(self.routes)
        return self._router

    def takes(self, method: str, path: str) -> bool:
        """Is there a custom route for this path?"""
        from starlette.routing import Match

        scope = {"type": "http", "method": method, "path": path, "root_path": "", "headers": []}
        return any(route.matches(scope)[0] is not Match.NONE for route in self.routes)

    def _sse(self, sse_path: str, message_path: str, mount_path: str, body_bytes: int, who: dict[str, Any]) -> Setting:
        """The setting of HTTP+SSE. Raises ConfigurationError for paths of one's own."""
        from erlmcp.compat.sdk.front import Setting

        if sse_path != SSE_PATH or message_path.rstrip("/") != MESSAGE_PATH.rstrip("/"):
            raise ConfigurationError(
                f"HTTP+SSE is served at {SSE_PATH} and {MESSAGE_PATH}; mount the application to move both"
            )
        self._limit(body_bytes=body_bytes, idle_s=None, sessions=None)
        return Setting(has_sse=True, mount_path=mount_path, **who)

    def _limit(self, *, body_bytes: int, idle_s: float | None, sessions: int | None) -> None:
        """The bounds of HTTP, by the kernel's names; None is as much as a number can say."""
        self.kernel.limits = replace(
            self.kernel.limits,
            body_bytes_max=body_bytes,
            message_bytes_max=max(body_bytes, self.kernel.limits.message_bytes_max),
            session_idle_s=UNBOUNDED_S if idle_s is None else idle_s,
            session_count_max=UNBOUNDED_COUNT if sessions is None else sessions,
        )

    # -- as an application ---------------------------------------------------------------------------------------------

    @property
    def session_manager(self) -> SessionManager:
        """What a host application runs. Raises RuntimeError before ``streamable_http_app()``."""
        if self._manager is None:
            raise RuntimeError("session_manager: call streamable_http_app() first, which makes it")
        return self._manager

    def _application(self, setting: Setting) -> Any:
        """A Starlette application where Starlette is there, as the SDK gives; else a plain ASGI application."""
        from erlmcp.compat.sdk.front import SessionManager, asgi_app

        app = asgi_app(self.kernel, setting)
        if not setting.has_sse:
            self._manager = SessionManager(app)
        if find_spec("starlette") is None:
            return app
        return self._starlette(app, setting)

    def _starlette(self, app: SdkApp, setting: Setting) -> Any:
        from starlette.applications import Starlette
        from starlette.routing import Route

        from erlmcp.compat.sdk.front import SessionManager, metadata_path

        endpoint = _Whole(app)
        routes: list[Any] = [Route(setting.gate.path, endpoint)]
        if setting.has_sse:
            routes = [Route(path, endpoint) for path in (SSE_PATH, MESSAGE_PATH, MESSAGE_PATH.rstrip("/"))]
        if self.bearer is not None and self.bearer.resource is not None:
            routes.append(Route(metadata_path(self.bearer.resource), endpoint))
        manager = SessionManager(app)
        return Starlette(
            debug=self.settings.debug,
            routes=[*routes, *self.routes],
            lifespan=lambda _app: manager.run(),
        )

    # -- until it ends -------------------------------------------------------------------------------------------------

    async def run_stdio_async(self) -> None:
        """Serve over standard input and output until the input ends."""
        await serve.stdio(self.kernel)

    def _opening(self, setting: Setting, host: str, port: int) -> Any:
        """A context in which our own HTTP protocol serves; its value has the ``port``."""
        from erlmcp.compat.sdk.front import SdkEndpoint

        def make(_gate: Any) -> Any:
            return SdkEndpoint(self.kernel, setting, event_store=self.kernel.event_store)

        return serve.http(self.kernel, host, port, setting.gate.path, make_endpoint=make)

    async def _run_http(self, setting: Setting, host: str, port: int) -> Any:
        """Serve by our own HTTP protocol until SIGINT or SIGTERM."""
        shown = f"[{host}]" if ":" in host else host
        path = SSE_PATH if setting.has_sse else setting.gate.path

        def announce(listener: Any) -> str:
            return f"{self.kernel.name}: serving http://{shown}:{listener.port}{path}"

        return await serve.until_stopped(self.kernel, self._opening(setting, host, port), announce)

    @staticmethod
    def _run(main: Any) -> None:
        """On uvloop where it is installed; within a loop that runs already there is no way."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            serve.run(main)
            return
        main.close()
        raise RuntimeError("run() starts an event loop of its own; await run_..._async() within one that runs")


class _Whole:
    """An ASGI application that takes every method of its route."""

    def __init__(self, app: SdkApp) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._app(scope, receive, send)


def configure_logging(level: str) -> None:
    """Log to standard error from this level on, where nothing else was set up."""
    logging.basicConfig(format="%(message)s", level=level, stream=sys.stderr)
