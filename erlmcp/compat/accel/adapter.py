"""What is asked of an app of another SDK, and how it is answered for a low-level ``Server`` of the official SDK."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any, Final

from mcp.server._otel import OpenTelemetryMiddleware
from mcp.server.auth.middleware.bearer_auth import RequireAuthMiddleware
from mcp.server.lowlevel.server import Server as LowLevel
from mcp.server.request_state import RequestStateBoundary
from mcp_types import InputRequiredResult

from erlmcp.compat.accel.kernel import exports_spans
from erlmcp.compat.accel.level import Verdict, name_of
from erlmcp.compat.accel.tested import untested
from erlmcp.compat.accel.watch import watch
from erlmcp.errors import ConfigurationError

if TYPE_CHECKING:
    from mcp.server.context import ServerRequestContext

    from erlmcp.compat.accel.stock import StockApp
    from erlmcp.compat.accel.straight import StraightPlan
    from erlmcp.runtime.exchange import Exchange

# What gives the request at hand to code that was not handed it: a function that names one of these needs the kernel.
AMBIENT: Final = frozenset(
    {
        "get_context",
        "get_access_token",
        "get_http_request",
        "get_http_headers",
        "get_task_context",
        "get_server",
        "auth_context_var",
    }
)
REACH_MAX: Final = 200  # functions that are looked through for them
ASK: Final = object()
OWN_MIDDLEWARE: Final = (OpenTelemetryMiddleware, RequestStateBoundary)


class Adapter:
    """An app: its low-level server, its lifespan, and the plans that its tools may have."""

    packages: tuple[str, ...] = ("mcp",)
    kind = "low-level Server"
    sdk_class: type = LowLevel
    makers: tuple[str, ...] = ("streamable_http_app",)  # of its HTTP application
    guards: tuple[type, ...] = (RequireAuthMiddleware,)  # what may stand before its endpoint there
    http_middleware: tuple[type, ...] = ()  # what may stand around it, besides what finds out who asks

    def __init__(self, app: Any) -> None:
        self.app = app
        self.server: LowLevel[Any] = self._low_level()
        self._judged: dict[int, tuple[Any, StraightPlan | Verdict]] = {}

    def _low_level(self) -> Any:
        return self.app

    def lifespan(self) -> AbstractAsyncContextManager[Any]:
        """Around serving; its value is what the handlers find as ``lifespan_context``."""
        return self.server.lifespan(self.server)

    def watch(self, changed: Callable[[], None]) -> None:
        """Have ``changed`` called where something changes that plans depend on."""
        watch(self.server, "middleware", changed)
        watch(self.server, "_request_handlers", changed)
        watch(self.server, "_notification_handlers", changed)

    def plans(self) -> Iterable[StraightPlan | Verdict]:
        """A plan for each tool that may have one, and why not for each other that is known."""
        return ()

    def judged(self, tool: Any, judge: Callable[[], StraightPlan | Verdict]) -> StraightPlan | Verdict:
        """What was found of a tool, once for each object."""
        kept = self._judged.get(id(tool))
        if kept is None or kept[0] is not tool:
            kept = self._judged[id(tool)] = tool, judge()
        return kept[1]

    def forget(self, tools: Iterable[Any] = ()) -> None:
        """Judge all tools anew but these."""
        kept = {id(tool) for tool in tools}
        self._judged = {key: found for key, found in self._judged.items() if key in kept}

    def why_none(self) -> str:
        """Why no tool has a plan; "" where some may."""
        return "one handler of a low-level Server answers for all tools"

    def why_stock_http(self, path: str = "/mcp") -> str:
        """Why HTTP is left to the app's own server; "" where it need not be."""
        try:
            self.stock(path)
        except ConfigurationError as error:
            return str(error)
        return ""

    def stock(self, path: str) -> StockApp | None:
        """The SDK's own HTTP application, where it has more to say than ours: auth, or routes of the author's. Raises
        ConfigurationError where the app has to be left to it."""
        for name in self.makers:
            if name in vars(self.app) or getattr(type(self.app), name) is not getattr(self.sdk_class, name):
                raise ConfigurationError(f"{type(self.app).__name__}.{name} is overridden: served by its own server")
        if not (self.has_auth() or self.routes()):
            return None
        from erlmcp.compat.accel.stock import StockApp

        return StockApp(self, path)

    def has_auth(self) -> bool:
        """Whether clients have to say who they are."""
        return False

    def routes(self) -> list[Any]:
        """The app's own HTTP routes."""
        return []

    async def run_stdio(self) -> None:
        """Serve over stdio as the app does by itself."""
        from mcp.server.stdio import stdio_server

        async with stdio_server() as (read, write):
            await self.server.run(read, write, self.server.create_initialization_options())

    def http_app(self, host: str, path: str) -> Any:
        """The app's own ASGI application."""
        return self.server.streamable_http_app(streamable_http_path=path, host=host)

    def front_app(self, path: str) -> Any:
        """The same behind our endpoint, which looks at hosts and origins itself."""
        return self.http_app("0.0.0.0", path)

    def schema_of(self, name: str) -> Any:
        """The input schema of a tool as everybody sees it; ASK where only the app's own list can tell."""
        return ASK if self.server.get_tool_input_schema is None else self.server.get_tool_input_schema(name)

    def enter(self, exchange: Exchange) -> Callable[[], None] | None:
        """Set what the app's handlers look for outside of their context; a function that takes it back."""
        return None

    # -- results of plans ----------------------------------------------------------------------------------------------

    def is_question(self, value: Any) -> bool:
        """Whether what a tool returned is no result yet, but what the client is to be asked."""
        return isinstance(value, InputRequiredResult)

    def seal(self, context: ServerRequestContext[Any, Any], found: dict[str, Any]) -> dict[str, Any]:
        """The state of such a question as it may travel."""
        for each in self.server.middleware:
            if isinstance(each, RequestStateBoundary):
                sealed: Any = each._seal_result(context, found, None)
                return dict(sealed)
        return found

    # -- what stands in the way ----------------------------------------------------------------------------------------

    def in_the_way(self) -> str:
        """What of the low-level server stands between a call and the tools; "" where nothing does."""
        reason = untested(*self.packages)
        if reason:
            return reason
        for each in self.server.middleware:
            if type(each) not in self.own_middleware():
                return f"middleware {name_of(each)}"
        if "tools/call" in self.server.cache_hints:
            return "a cache hint for tools/call"
        return "spans are exported by OpenTelemetry" if exports_spans() else ""

    def own_middleware(self) -> tuple[type, ...]:
        """Middleware that the SDK puts there itself, and that plans do the work of."""
        return OWN_MIDDLEWARE


def mirrors_headers(schema: Any) -> bool:
    """Whether a part of an input schema is mirrored in a header."""
    if isinstance(schema, dict):
        return "x-mcp-header" in schema or any(mirrors_headers(part) for part in schema.values())
    return isinstance(schema, list) and any(mirrors_headers(part) for part in schema)


def ambient_name(function: Any) -> str:
    """The function by which this one, or one that it reaches, looks for the request at hand; "" where none does."""
    return names_reached(function, AMBIENT)


def names_reached(function: Any, wanted: frozenset[str]) -> str:
    """One of the wanted names that a function, or one that it reaches by its globals and cells, uses; "" where none
    does. What a library does is seen as far as it is Python."""
    waiting, seen = [function], {id(function)}
    while waiting and len(seen) < REACH_MAX:
        each = waiting.pop()
        each = getattr(each, "__func__", each)
        if not isinstance(each, FunctionType):
            continue
        names = _names_of(each.__code__)
        cells = [cell.cell_contents for cell in each.__closure__ or () if _is_filled(cell)]
        others = [*(each.__globals__.get(name) for name in names), *cells, getattr(each, "__wrapped__", None)]
        found = names & wanted or wanted & {getattr(other, "__name__", "") for other in others if callable(other)}
        if found:
            return min(found)
        for other in others:
            if callable(other) and id(other) not in seen:
                seen.add(id(other))
                waiting.append(other)
    return ""


def _names_of(code: CodeType) -> set[str]:
    found = {*code.co_names, *code.co_freevars}
    for part in code.co_consts:
        if isinstance(part, CodeType):
            found |= _names_of(part)
    return found


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def adapter_of(app: Any) -> Adapter:
    """The adapter for an app. Raises ConfigurationError for what is none."""
    if isinstance(app, LowLevel):
        return Adapter(app)
    from mcp.server.mcpserver import MCPServer

    if isinstance(app, MCPServer):
        from erlmcp.compat.accel.sdk import SdkAdapter

        return SdkAdapter(app)
    if "fastmcp" in sys.modules:
        from fastmcp import FastMCP

        if isinstance(app, FastMCP):
            from erlmcp.compat.accel.fastmcp import FastAdapter

            return FastAdapter(app)
    raise ConfigurationError(
        f"cannot accelerate a {type(app).__module__}.{type(app).__name__}: expected a FastMCP of fastmcp 4, an "
        "MCPServer or a low-level Server of mcp 2; an app of mcp 1 moves by erlmcp.compat.v1 (docs/moving.md)"
    )


def is_cancelled(error: BaseException) -> bool:
    """Whether an exception is no outcome of the function but its end."""
    return isinstance(error, asyncio.CancelledError) or not isinstance(error, Exception)
