"""How a façade's tools are served by erlmcp's own server: the short way where a tool is plain, the general way where
anything stands around it.

A plain tool is a function that takes nothing but its arguments, on a server without middleware: it is called by its
compiled plan, as a tool of ``erlmcp.Server`` is. What has a context, a timeout, or an owner with middleware runs
within a function of ours around the plan. With middleware, transforms of one's own, versions, proxies or rules of
single conversations the whole request goes by ``FastMCP.call_tool``.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from erlmcp.compat.fastmcp.current import CONTEXT, Ambient
from erlmcp.compat.fastmcp.exceptions import (
    AuthorizationError,
    DisabledError,
    FastMCPError,
    NotFoundError,
    ToolError,
    to_mcp_error,
)
from erlmcp.compat.fastmcp.schema import WRAPS
from erlmcp.compat.fastmcp.server.context import Context
from erlmcp.compat.fastmcp.server.middleware.middleware import MiddlewareContext, Notification, Request, chain
from erlmcp.compat.fastmcp.server.state import StateError, sealed
from erlmcp.compat.fastmcp.tools.base import InputRequiredToolResult, Tool, asks_for_input
from erlmcp.compat.fastmcp.tools.function_tool import FunctionTool
from erlmcp.errors import (
    MISSING_CLIENT_CAPABILITY,
    ArgumentError,
    InvalidParamsError,
    McpError,
    MethodNotFoundError,
)
from erlmcp.runtime.exchange import text_of
from erlmcp.server.content import dump_model
from erlmcp.server.context import Context as Made
from erlmcp.server.plan import ToolPlan, compile_tool
from erlmcp.server.service import Service
from erlmcp.server.tool import Tool as Served
from erlmcp.spec import method as m

if TYPE_CHECKING:
    from erlmcp.compat.fastmcp.server.server import FastMCP
    from erlmcp.core import Call
    from erlmcp.runtime.exchange import Exchange
    from erlmcp.runtime.guard import Guard
    from erlmcp.runtime.session import Session
    from erlmcp.server.context import Context as Core
    from erlmcp.server.listing import Listing
    from erlmcp.wire.peer import Peer

log = logging.getLogger("erlmcp.compat.fastmcp")
TOO_MANY = 429


def failed(what: str, error: Exception, mask: bool, cls: type[FastMCPError]) -> Exception:
    """What a component's exception is for the client: itself where the author meant it to be read."""
    if isinstance(error, FastMCPError | NotFoundError | DisabledError | StateError):
        return error
    if isinstance(error, McpError) and (cls is not ToolError or error.code == MISSING_CLIENT_CAPABILITY):
        return error
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status == TOO_MANY:
        return cls("Rate limited by upstream API, please retry later")
    if type(error).__name__.endswith("Timeout") or type(error).__name__ == "TimeoutException":
        return cls("Upstream request timed out, please retry")
    text = error.message if isinstance(error, McpError) else text_of(error)
    return cls(what if mask else f"{what}: {text}")


class ServedTool(Served):
    """A façade's tool in the server's table. ``home`` is the server whose context it runs in."""

    __slots__ = ("component", "home")

    def __init__(self, server: Any, component: Tool, home: FastMCP, guard: Guard | None = None) -> None:
        self.component = component
        self.home = home
        function = component if isinstance(component, FunctionTool) and component.owner is None else None
        plan = _general_plan(component) if function is None else function.plan
        super().__init__(server, plan, guard)
        self.needs_context = (
            function is None
            or function.timeout is not None
            or plan.needs_context
            or bool(plan.dependencies)
            or Ambient.is_wanted
            or home.strict_input_validation
        )
        if function is not None and not self.needs_context:
            self.invoke = function.decided
            return
        self.is_simple = self.may_be_simple = False
        self.invoke = self._invoked_within
        if function is not None and function.timeout is not None:
            self.invoke = self._invoked_in_time
            self.in_thread = False  # It is the timeout's affair to wait for a thread.

    def again(self, server: Any, guard: Guard | None) -> ServedTool:
        return ServedTool(server, self.component, self.home, guard)

    def _template(self, suffix: bytes, *, structured: bool) -> Any:
        """As the server's, by the component's output schema: what is wrapped says so."""
        schema = self.component.output_schema
        if (schema is None) is not (self.plan.conversion.output_schema is None):
            return None  # The author's schema, or none where the annotation has one: the general way.
        if schema is not None and bool(schema.get(WRAPS)) is not self.plan.wraps_result:
            return None
        if not (self.plan.wraps_result and structured):
            return super()._template(suffix, structured=structured)
        mark = b'"fastmcp":{"wrap_result":true}'
        opening = b',"_meta":{'
        if opening in suffix:
            before, _, after = suffix.partition(opening)
            return super()._template(before + opening + mark + b"," + after, structured=True)
        return super()._template(suffix + opening + mark + b"}", structured=True)

    # -- the call ------------------------------------------------------------------------------------------------------

    def _invoked_within(self, arguments: Any, core: Core) -> Any:
        """Within the context that ``get_context()`` gives."""
        context = Context(self.home, core)
        if self.plan.is_async:
            return self._later(arguments, context)
        token = CONTEXT.set(context)
        try:
            return self._decided(arguments, context)
        finally:
            CONTEXT.reset(token)

    async def _later(self, arguments: Any, context: Context) -> Any:
        token = CONTEXT.set(context)
        try:
            value = self._decided(arguments, context)
            return await value if hasattr(value.__class__, "__await__") else value
        finally:
            CONTEXT.reset(token)

    def _decided(self, arguments: Any, context: Context) -> Any:
        if not isinstance(self.component, FunctionTool) or self.component.owner is not None:
            return self.plan.invoke(arguments, context)
        if self.home.strict_input_validation:
            self.component.check(arguments)
        return self.component.decided(arguments, context)

    def _invoked_in_time(self, arguments: Any, core: Core) -> Any:
        """A function with a timeout."""
        return self._bounded(arguments, Context(self.home, core))

    async def _bounded(self, arguments: Any, context: Context) -> Any:
        async with context:
            return await self.component.run(arguments)

    # -- its answer ----------------------------------------------------------------------------------------------------

    def _done(self, exchange: Exchange, value: Any, error: BaseException | None) -> None:
        if isinstance(value, InputRequiredToolResult):  # of a server that is mounted
            value = value.input_required
        if error is None and asks_for_input(value):
            service: FastService = self.server.service  # type: ignore[assignment]
            try:
                exchange.result(service.asked(self.component.name, value, exchange))
            except McpError as refusal:
                exchange.fail(refusal)
        else:
            super()._done(exchange, value, error)

    def result(self, value: Any, peer: Peer) -> dict[str, Any]:
        return self.server.service.answer(self.component, value, peer)  # type: ignore[no-any-return, attr-defined]


def _general_plan(component: Tool) -> ToolPlan:
    """A plan for what is no function of its own: it gets the arguments as they came."""

    async def run(arguments: Any) -> Any:
        return await component._run(arguments)

    return compile_tool(run, name=component.name, input_schema={"type": "object"}, structured_output=False)


class FastService(Service):
    """The methods of MCP as FastMCP answers them."""

    server: Any

    @property
    def fastmcp(self) -> FastMCP:
        found: FastMCP = self.server.whole
        return found

    # -- tools ---------------------------------------------------------------------------------------------------------

    def _start_tool(self, exchange: Exchange) -> None:
        if exchange.call.entry is None and exchange.call.name is not None:
            exchange.result(self.error_result(exchange.peer, f"Unknown tool: {exchange.call.name!r}"))
        else:
            super()._start_tool(exchange)

    def failure(self, exchange: Exchange, name: str, error: BaseException) -> Any:
        if isinstance(error, ArgumentError):
            log.warning("Invalid arguments for tool %r", name)
            return self.error_result(exchange.peer, text_of(error))
        if not isinstance(error, Exception) or isinstance(error, BaseExceptionGroup):
            return super().failure(exchange, name, error)
        entry: Any = exchange.call.entry
        if isinstance(entry, ServedTool):
            name = entry.component.name if entry.home is self.fastmcp else entry.component.own_name
        found = failed(f"Error calling tool {name!r}", error, self.server.mask_errors, ToolError)
        if isinstance(found, McpError):
            return found
        if found is not error:
            log.error("Error calling tool %r", name, exc_info=error)
        return self.error_result(exchange.peer, text_of(found))

    def answer(self, component: Tool, value: Any, peer: Peer) -> dict[str, Any]:
        """The CallToolResult of a returned value."""
        found = component.convert_result(value).to_wire()
        if not (peer.modern or peer.version >= "2025-06-18"):
            found.pop("structuredContent", None)
        return self.stamp(found, peer)

    def asked(self, name: str, value: Any, exchange: Exchange) -> dict[str, Any]:
        """An InputRequiredResult that a tool gave itself, its state sealed. Raises InvalidParamsError in the handshake
        revisions, which have no such thing."""
        peer = exchange.peer
        if not peer.modern:
            raise InvalidParamsError(
                f"Tool {name!r} returned an InputRequiredResult to request client input, but the multi-round-trip "
                "result type (SEP-2322) only exists at MCP 2026-07-28; this connection negotiated "
                f"{peer.version!r}. Use ctx.elicit() for server-initiated input on handshake-era connections."
            )
        found = dump_model(value)
        if "requestState" in found:
            found["requestState"] = sealed(found["requestState"], Made(exchange, self.server))
        return self.stamp(found, peer)

    async def _call_tool(self, context: Core) -> dict[str, Any]:
        name, arguments = context.params.get("name"), context.params.get("arguments")
        if not isinstance(name, str):
            raise InvalidParamsError("Invalid params: name must be a string")
        if arguments is not None and not isinstance(arguments, dict):
            raise InvalidParamsError("Invalid params: arguments must be an object")
        peer = context._exchange.peer
        async with Context(self.fastmcp, context):
            try:
                found = await self.fastmcp.call_tool(name, arguments or {}, version=version_of(context))
            except (NotFoundError, DisabledError):
                return self.error_result(peer, f"Unknown tool: {name!r}")
            except FastMCPError as error:
                return self.error_result(peer, text_of(error))
        if isinstance(found, InputRequiredToolResult):
            return self.asked(name, found.input_required, context._exchange)
        made = found.to_wire()
        if not (peer.modern or peer.version >= "2025-06-18"):
            made.pop("structuredContent", None)
        return self.stamp(made, peer)

    # -- resources and prompts -----------------------------------------------------------------------------------------

    async def _read(self, context: Core) -> dict[str, Any]:
        uri = context.params.get("uri")
        if not isinstance(uri, str):
            raise InvalidParamsError("Invalid params: uri must be a string")
        async with Context(self.fastmcp, context):
            try:
                found = await self.fastmcp.read_resource(uri, version=version_of(context))
            except (NotFoundError, DisabledError) as error:
                raise McpError(-32602, f"Resource not found: {uri!r}", {"uri": uri}) from error
            except FastMCPError as error:
                raise to_mcp_error(error) from error
        return self.stamp(found.to_wire(uri), context._exchange.peer, cacheable=True)

    async def read(self, uri: str, context: Core) -> list[dict[str, Any]]:
        contents: list[dict[str, Any]] = (await self._read_plain(uri, context)).to_wire(uri)["contents"]
        return contents

    async def _read_plain(self, uri: str, context: Core) -> Any:
        async with Context(self.fastmcp, context):
            return await self.fastmcp.read_resource(uri)

    async def _get_prompt(self, context: Core) -> dict[str, Any]:
        name, arguments = context.params.get("name"), context.params.get("arguments")
        if not isinstance(name, str):
            raise InvalidParamsError("Invalid params: name must be a string")
        if arguments is not None and not isinstance(arguments, dict):
            raise InvalidParamsError("Invalid params: arguments must be an object")
        async with Context(self.fastmcp, context):
            try:
                found = await self.fastmcp.render_prompt(name, arguments, version=version_of(context))
            except (NotFoundError, DisabledError) as error:
                raise McpError(-32602, f"Unknown prompt: {name!r}") from error
            except FastMCPError as error:
                raise to_mcp_error(error) from error
        return self.stamp(found.to_wire(), context._exchange.peer)

    # -- lists and the rest --------------------------------------------------------------------------------------------

    async def _list(self, listing: Listing, context: Core) -> dict[str, Any]:
        if not self.server.middleware:
            return await super()._list(listing, context)
        async with Context(self.fastmcp, context):
            try:
                descriptors = await self.fastmcp.descriptors(listing.field)
            except AuthorizationError as error:
                raise to_mcp_error(error) from error
        shown = listing.over(descriptors)
        page = shown.page(context._exchange.peer.version, context.params.get("cursor"))
        return self.stamp(page, context._exchange.peer, cacheable=True)

    async def _complete(self, context: Core) -> dict[str, Any]:
        if self.fastmcp.completion_handler is None:
            raise MethodNotFoundError(m.COMPLETE)
        async with Context(self.fastmcp, context):
            found = await self.fastmcp.complete(context.params)
        return self.stamp({"completion": found}, context._exchange.peer)

    # -- what middleware sees besides ----------------------------------------------------------------------------------

    async def through(self, context: Core, call_next: Any) -> Any:
        """The server's one middleware of erlmcp's own kind: around what has no hooks of its own further in."""
        method = context.method
        if method in (m.TOOLS_CALL, m.RESOURCES_READ, m.PROMPTS_GET) or method.endswith("/list"):
            return await call_next(context)

        async def innermost(_: MiddlewareContext[Any]) -> Any:
            return await call_next(context)

        message = Request(method=method, params=context.params)
        return await self._around(context, message, method, innermost)

    async def _around(self, context: Core, message: Any, method: str, innermost: Any, kind: Any = "request") -> Any:
        async with Context(self.fastmcp, context) as shown:
            given = MiddlewareContext(message=message, method=method, fastmcp_context=shown, type=kind)
            return await chain(self.fastmcp.chain, innermost)(given)

    def install(self) -> None:
        super().install()
        if not self.fastmcp.chain:
            return
        for method in (m.INITIALIZED, m.CANCELLED, m.PROGRESS, m.ROOTS_CHANGED):
            route = partial(self._notified, self.server.routes.method(method))
            self.server.routes.set_method(method, route, is_critical=method == m.CANCELLED)

    def _notified(self, route: Any, session: Session, call: Call) -> None:
        """A notification does what it does at once; the middleware sees it beside that."""
        route(session, call)

        async def innermost(_: MiddlewareContext[Any]) -> None:
            return None

        async def run() -> None:
            params = call.params if isinstance(call.params, dict) else {}
            method = str(call.method)
            message = Notification(method=method, params=params)
            async with Context(self.fastmcp) as shown:
                given = MiddlewareContext(message=message, method=method, fastmcp_context=shown, type="notification")
                await chain(self.fastmcp.chain, innermost)(given)

        self.fastmcp.drive(run(), _dropped)

    def _initialize(self, exchange: Exchange) -> None:
        if not self.fastmcp.chain:
            super()._initialize(exchange)
            return

        async def innermost(_: MiddlewareContext[Any]) -> None:
            super(FastService, self)._initialize(exchange)

        core = Made(exchange, self.server)
        message = Request(method=m.INITIALIZE, params=core.params)

        def done(_: Any, error: BaseException | None) -> None:
            if error is not None and not exchange.done:
                exchange.fail(error)

        self.fastmcp.drive(self._around(core, message, m.INITIALIZE, innermost), done)


def _dropped(_: Any, error: BaseException | None) -> None:
    if error is not None:
        log.error("a middleware failed at a notification", exc_info=error)


def version_of(context: Core) -> str | None:
    """The version of a component that the request asks for."""
    found = context.meta.get("fastmcp")
    version = found.get("version") if isinstance(found, dict) else None
    return version if isinstance(version, str) else None
