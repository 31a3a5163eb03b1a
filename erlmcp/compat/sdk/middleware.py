"""The SDK's middleware, ``async (ctx, call_next)``, around our requests.

It sees every request that is answered by a handler; ``initialize``, pings, listen streams and notifications are
answered before. What it gives ``call_next`` is looked at: with other ``params`` the handler runs with those.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from erlmcp.compat.sdk import types
from erlmcp.compat.sdk.context import RequestContext
from erlmcp.compat.sdk.record import give
from erlmcp.errors import ConfigurationError
from erlmcp.server.content import dump_model
from erlmcp.server.context import Context as Inner
from erlmcp.spec import method as m

if TYPE_CHECKING:
    from erlmcp.compat.sdk.server import MCPServer

InnerNext = Callable[[Inner], Awaitable[Any]]


class Rewritten(Inner):
    """A request with other params than it came with."""

    __slots__ = ("_params",)

    def __init__(self, inner: Inner, params: dict[str, Any]) -> None:
        super().__init__(inner._exchange, inner._server)
        self._params = params

    @property
    def params(self) -> dict[str, Any]:
        return self._params


def as_ours(face: MCPServer[Any], middleware: Any) -> Callable[[Inner, InnerNext], Awaitable[Any]]:
    """A middleware of the SDK's as one of ours."""

    async def around(inner: Inner, call_next: InnerNext) -> Any:
        return await _run(face, inner, call_next, middleware)

    return around


def interceptor(face: MCPServer[Any], extension: Any) -> Callable[[Inner, InnerNext], Awaitable[Any]]:
    """An extension's interceptor as a middleware of ours."""

    async def around(inner: Inner, call_next: InnerNext) -> Any:
        if inner.method != m.TOOLS_CALL:
            return await call_next(inner)
        params = give(CallToolRequestParams, inner.params)

        async def intercept(ctx: RequestContext, following: Any) -> Any:
            async def call(ctx: RequestContext) -> Any:
                return _result(await following(ctx))

            return await extension.intercept_tool_call(params, ctx, call)

        return await _run(face, inner, call_next, intercept, may_rewrite=False)

    return around


def _result(wire: dict[str, Any]) -> Any:
    """The result of a tool call as an object."""
    is_question = wire.get("resultType") == "input_required"
    return give(types.InputRequiredResult if is_question else types.CallToolResult, wire)


class CallToolRequestParams(types.Params):
    """The params of a tool call."""


async def _run(
    face: MCPServer[Any], inner: Inner, call_next: InnerNext, around: Any, *, may_rewrite: bool = True
) -> Any:
    context: RequestContext = face.context_class(mcp_server=face, inner=inner).request_context

    async def following(ctx: RequestContext) -> Any:
        if ctx.method != context.method:
            raise ConfigurationError(f"a middleware cannot make a {ctx.method} of a {context.method}")
        is_same = ctx.params is context.params or not may_rewrite
        return await call_next(inner if is_same else Rewritten(inner, dump_model(ctx.params or {})))

    found = dump_model(await around(context, following))
    if found is None:
        found = {}
    exchange = inner._exchange
    if inner.method == m.TOOLS_CALL and found.get("resultType", "complete") == "complete":
        found.setdefault("isError", False)
    return found if "_meta" in found and not exchange.peer.modern else inner._server.service.stamp(found, exchange.peer)
