"""An app of another SDK as a server of ours: its handlers, our transports, sessions and core."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from erlmcp.compat.accel.adapter import ASK, Adapter, adapter_of, mirrors_headers
from erlmcp.compat.accel.context import straight_tool
from erlmcp.compat.accel.kernel import PAGE_COUNT_MAX, Kernel
from erlmcp.compat.accel.level import L1, L3, OFF, Verdict, wanted_level
from erlmcp.compat.accel.service import KernelHub, KernelService
from erlmcp.compat.accel.straight import StraightPlan
from erlmcp.compat.accel.tested import untested
from erlmcp.compat.accel.visit import Visit, visit_of, within
from erlmcp.errors import ConfigurationError, McpError
from erlmcp.server.app import Server
from erlmcp.spec import method as m

if TYPE_CHECKING:
    from erlmcp.runtime.endpoint import Endpoint
    from erlmcp.runtime.exchange import Exchange
    from erlmcp.transports.asgi import AsgiApp
    from erlmcp.wire.header import Gate

log = logging.getLogger("erlmcp.accelerate")
LISTS: Final = {
    "tools": m.TOOLS_LIST,
    "resources": m.RESOURCES_LIST,
    "resourceTemplates": m.TEMPLATES_LIST,
    "prompts": m.PROMPTS_LIST,
}
PARAM_PREFIX: Final = "mcp-param-"
SCHEMA_COUNT_MAX: Final = 1024
# The options of a Server that have to do with serving, not with what is served.
SERVING: Final = (
    "limits",
    "flags",
    "event_store",
    "sse_transport",
    "allowed_hosts",
    "allowed_origins",
    "admission",
    "metrics",
    "metrics_token",
)
SPEC: Final = frozenset().union(*m.CLIENT_REQUESTS.values())


class Accelerated(Server):
    """Serves ``app``: a FastMCP, an MCPServer or a low-level Server of the installed packages.

    Each tool is called straight where it is plain (level 3), and through the app's own kernel where it is not (level
    1), as is everything else; ``verdict`` says which and why. A change of the app decides anew. ``level`` is how far
    to go at most: "auto" (or "l3"), "l1", or "off", which serves with the app's own transports.
    """

    def __init__(self, app: Any, level: str = "auto", **options: Any) -> None:
        unknown = options.keys() - SERVING
        if unknown:
            raise ConfigurationError(
                f"{', '.join(sorted(unknown))}: the app's own business; here: {', '.join(SERVING)}"
            )
        self.app = app
        self.level = wanted_level(level)
        self.adapter: Adapter = adapter_of(app)
        self.kernel = Kernel(self.adapter.server, is_lean=not untested(*self.adapter.packages))
        self.has_plans = False
        self._is_stale = False
        self._why_none = ""
        self._verdicts: dict[str, Verdict] = {}
        self._mirrors: dict[int, tuple[Any, bool]] = {}  # schemas, and whether a part of each is mirrored in a header
        self._tasks: set[asyncio.Task[Any]] = set()
        self.visit: Visit | None = None  # of the request that is being handed over
        self._warn()
        low = self.adapter.server
        super().__init__(low.name, version=low.version, instructions=low.instructions, lifespan=self._life, **options)
        self.info = low.server_info_stamp
        self.hub = KernelHub(self, self.limits.subscription_count_max)
        self.service: KernelService = KernelService(self)
        self.decide()
        changed = weakref.WeakMethod(self._app_changed)

        def tell() -> None:
            if (method := changed()) is not None:
                method()

        self.adapter.watch(tell)

    def _warn(self) -> None:
        if self.level == L3 and (reason := untested(*self.adapter.packages)):
            log.warning("%s: every tool of %s is called through its own kernel (level 1)", reason, self.adapter.kind)

    # -- what it is ----------------------------------------------------------------------------------------------------

    def methods(self) -> set[str]:
        """What a client may ask, the handshake and listen streams aside."""
        return {*SPEC, *self.adapter.server._request_handlers} - {m.INITIALIZE, m.LISTEN}

    def notifications(self) -> set[str]:
        """What the app wants to be told."""
        return set(self.adapter.server._notification_handlers)

    def verdict(self, name: str) -> Verdict:
        """The level of a tool; one that was not known when it was decided has what is said of all."""
        self._catch_up()
        return self._verdicts.get(name) or Verdict(name, L1, self._why_none or "it is not one of the app's own tools")

    @property
    def why_no_plans(self) -> str:
        """Why no tool at all is called straight; "" where it was looked at each."""
        self._catch_up()
        return self._why_none

    def decide(self) -> None:
        """Find the level of each tool anew."""
        self.adapter.forget()
        self._follow()

    def _catch_up(self) -> None:
        if self._is_stale:
            self._follow()

    def _follow(self) -> None:
        """Find the level of each tool; those that did not change keep their plans."""
        self._is_stale = False
        self._why_none = f"level {self.level}" if self.level != L3 else self.adapter.why_none()
        found: dict[str, Verdict] = {}
        plans: dict[str, StraightPlan] = {}
        for each in () if self._why_none else self.adapter.plans():
            if isinstance(each, Verdict):
                found[each.name] = each
            else:
                plans[each.name] = each
                found[each.name] = Verdict(each.name, L3, "", each.note)
        for name in [name for name, tool in self.tools.items() if self._is_other(tool, plans.get(name))]:
            del self.tools[name]
            self._drop_entry(m.TOOLS_CALL, name)
        for name in plans.keys() - self.tools.keys():
            self._place_tool(name, straight_tool(self, plans[name]))
        self._verdicts = found
        self.has_plans = bool(self.tools)
        custom = set(self.adapter.server._request_handlers) - SPEC
        if custom:
            self.client_requests = {version: asked | custom for version, asked in m.CLIENT_REQUESTS.items()}
        self.install()

    @staticmethod
    def _is_other(tool: Any, plan: StraightPlan | None) -> bool:
        return plan is None or plan.source is not tool.plan.source or plan.function is not tool.plan.function

    def _app_changed(self) -> None:
        """The app is not what it was; a change that comes from another thread is followed on the loop."""
        try:
            running: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if self._loop is None:
            self._is_stale = True  # Looked at when it serves, or is asked for.
        elif running is self._loop:
            self._follow()
        else:
            self._loop.call_soon_threadsafe(self._follow)

    # -- while it serves -----------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _life(self, _server: Server) -> AsyncIterator[Any]:
        """Around serving, in a task of its own: task groups and context variables of a lifespan belong to the task that
        entered it, and whoever stops a server is not always who started it."""
        loop = asyncio.get_running_loop()
        begun: asyncio.Future[Any] = loop.create_future()
        over = asyncio.Event()
        task = loop.create_task(self._live(begun, over))
        try:
            self.kernel.state = await begun
            self._catch_up()  # A lifespan may have added tools.
            yield self.kernel.state
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=self.limits.drain_timeout_s)
        finally:
            over.set()
            await task

    async def _live(self, begun: asyncio.Future[Any], over: asyncio.Event) -> None:
        try:
            async with self.adapter.lifespan() as state:
                begun.set_result(state)
                await over.wait()
        except BaseException as error:
            if begun.done():
                raise
            begun.set_exception(error)

    async def call(self, exchange: Exchange) -> dict[str, Any]:
        """A request through the app's kernel."""
        leave = self.adapter.enter(exchange)
        try:
            with within(visit_of(exchange.headers)):
                if exchange.headers is not None and exchange.peer.modern and exchange.call.method == m.TOOLS_CALL:
                    await self._judge_params(exchange)
                return await self.kernel.call(exchange)
        finally:
            if leave is not None:
                leave()

    async def _judge_params(self, exchange: Exchange) -> None:
        """Mcp-Param-* headers against the arguments that they mirror, as the SDK's HTTP server compares them. Raises
        McpError -32020."""
        name, arguments, headers = exchange.call.name, exchange.arguments, exchange.headers or {}
        given = any(header.startswith(PARAM_PREFIX) for header in headers)
        if name is None or not isinstance(arguments or {}, dict) or not (arguments or given):
            return
        try:
            schema = self.adapter.schema_of(name)
            if schema is ASK:
                schema = await self.kernel.listed_schema(exchange, name)
        except Exception as error:  # As there: what cannot be looked up breaks no call that works.
            log.error("the schema of %s could not be looked up, its headers are not compared", name, exc_info=error)
            return
        mirrors = self._mirrors.get(id(schema))
        if mirrors is None or mirrors[0] is not schema:
            if len(self._mirrors) >= SCHEMA_COUNT_MAX:
                self._mirrors.clear()
            mirrors = self._mirrors[id(schema)] = schema, mirrors_headers(schema)
        if mirrors[1]:
            self.kernel.compare_headers(schema, arguments or {}, headers)

    def make_endpoint(self, gate: Gate) -> Endpoint:
        """Ours, with the app's routes beside it, for those whom its auth lets in. Raises ConfigurationError where the
        app has to be left to its own server."""
        stock = self.adapter.stock(gate.path)
        if stock is None:
            return super().make_endpoint(gate)
        from erlmcp.compat.accel.front import Front, Guarded

        if stock.require is not None and self.sse_transport:
            raise ConfigurationError("auth and sse_transport cannot be together: that transport asks for no tokens")
        return (Front if stock.require is None else Guarded)(self, gate, stock, event_store=self.event_store)

    def spawn(self, coro: Coroutine[Any, Any, Any]) -> asyncio.Task[Any] | None:
        """Run what belongs to no request; None where the server has stopped."""
        if self._loop is None or self._loop.is_closed():
            coro.close()
            return None
        task = self._loop.create_task(coro)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def end_listening(self) -> None:
        """End the listen streams with their answers, where the app's own handler knows how to."""
        entry = self.adapter.server.get_request_handler(m.LISTEN)
        close = getattr(getattr(entry, "handler", None), "close", None)
        if close is not None:
            close()

    # -- ways to serve -------------------------------------------------------------------------------------------------

    def add_tool(self, fn: Callable[..., Any], **options: Any) -> Any:
        raise not_here("a tool")

    def add_prompt(self, fn: Callable[..., Any], **options: Any) -> Any:
        raise not_here("a prompt")

    def add_resource(self, fn: Callable[..., Any], uri: str, **options: Any) -> Any:
        raise not_here("a resource")

    def add_middleware(self, middleware: Any) -> None:
        raise not_here("a middleware")

    def completion(self, **target: Any) -> Any:
        raise not_here("a completion")

    def side(self, *given: Any, **options: Any) -> Any:
        raise ConfigurationError(
            "an app of another SDK has one side: roll-outs and candidates are for a Server of ours"
        )

    def candidate(self, name: str, fn: Any = None, /, **options: Any) -> Any:
        return self.side()

    def rollout(self, name: str, *given: Any, **options: Any) -> Any:
        return self.side()

    def describe(self) -> dict[str, list[dict[str, Any]]]:
        """The descriptors of everything that a client is shown; not to be called on a running loop."""
        return asyncio.run(self._describe())

    async def _describe(self) -> dict[str, list[dict[str, Any]]]:
        from erlmcp.client.client import Client
        from erlmcp.client.memory import MemoryChannel

        found: dict[str, list[dict[str, Any]]] = {}
        async with Client(MemoryChannel(self, objects=False), cache=False) as client:
            for field, method in LISTS.items():
                items = found[field] = []
                params: dict[str, Any] | None = None
                for _ in range(PAGE_COUNT_MAX):
                    try:
                        page = await client.request(method, params)
                    except McpError:  # It has none of these.
                        break
                    items += page.get(field) or []
                    if not isinstance(page.get("nextCursor"), str):
                        break
                    params = {"cursor": page["nextCursor"]}
        return found

    def run_stdio(self) -> None:
        """Serve over standard input and output."""
        if self.level == OFF:
            asyncio.run(self.adapter.run_stdio())
        else:
            super().run_stdio()

    def run_http(self, host: str = "127.0.0.1", port: int = 8080, path: str = "/mcp", **more: Any) -> None:
        """Serve over HTTP; by the app's own server where it has to be (``Adapter.why_stock_http``)."""
        why = self.adapter.why_stock_http("/" + path.strip("/"))
        if self.level != OFF and not why:
            super().run_http(host, port, path, **more)
            return
        if more.get("tls") is not None:
            raise ConfigurationError(f"{why or 'level off'}: its own HTTP server takes no TLS from here")
        if why and self.level != OFF:
            log.warning("%s: HTTP is not accelerated", why)
        import uvicorn

        # uvicorn drains at SIGTERM and raises it again; to have drained is a good end.
        signal.signal(signal.SIGTERM, lambda *_: None)
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.run(self.adapter.http_app(host, path), host=host, port=port, log_level="warning")

    def asgi(self, path: str = "/mcp") -> AsgiApp:
        """The endpoint for another ASGI server. Raises ConfigurationError where the app's own has to be served."""
        why = self.adapter.why_stock_http("/" + path.strip("/"))
        if why:
            raise ConfigurationError(f"{why}: mount the app's own ASGI application")
        return super().asgi(path)


def not_here(what: str) -> ConfigurationError:
    """What is said to who would register something."""
    return ConfigurationError(f"this server shows what its app has; add {what} to the app")


def accelerate(app: Any, level: str = "auto", **options: Any) -> Accelerated:
    """A server of ours that serves ``app``, a FastMCP (4.1), an MCPServer or a low-level Server of mcp (2.3), as it is.

    ``level`` is how far to go at most: "auto", "l1" or "off"; the variable ``ERLMCP_ACCEL`` comes before it. Further
    options are those of ``erlmcp.Server`` that have to do with serving (``limits``, ``flags``, ``allowed_hosts``,
    ``metrics`` ...). Raises ConfigurationError for what cannot be served.
    """
    return Accelerated(app, level, **options)
