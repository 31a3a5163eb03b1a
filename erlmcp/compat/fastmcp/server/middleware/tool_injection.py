"""Tools that a middleware adds to those of the server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from erlmcp.compat.fastmcp.server.middleware.middleware import CallNext, Middleware, MiddlewareContext
from erlmcp.compat.fastmcp.tools.base import Tool


class ToolInjectionMiddleware(Middleware):
    """Lists ``tools`` before the server's own, and answers their calls."""

    def __init__(self, tools: Sequence[Tool]) -> None:
        self.injected_tools = list(tools)

    def get_injected_tool(self, name: str) -> Tool | None:
        return next((each for each in self.injected_tools if each.name == name), None)

    async def on_list_tools(self, context: MiddlewareContext[Any], call_next: CallNext) -> Any:
        return [*self.injected_tools, *await call_next(context)]

    async def on_call_tool(self, context: MiddlewareContext[Any], call_next: CallNext) -> Any:
        tool = self.get_injected_tool(context.message.name)
        if tool is None:
            return await call_next(context)
        return await tool.run(context.message.arguments or {})
