"""How long requests take, for the log."""

from __future__ import annotations

import logging
import time
from typing import Any

from erlmcp.compat.fastmcp.server.middleware.middleware import CallNext, Middleware, MiddlewareContext


class _Timed(Middleware):
    logger_name = ""

    def __init__(self, logger: logging.Logger | None = None, log_level: int = logging.INFO) -> None:
        self.logger = logger or logging.getLogger(self.logger_name)
        self.log_level = log_level

    async def timed(self, what: str, context: MiddlewareContext[Any], call_next: CallNext) -> Any:
        """The call, and a record of how it ended and after how many milliseconds."""
        began = time.perf_counter()
        try:
            found = await call_next(context)
        except Exception as error:
            self.logger.log(self.log_level, "%s failed after %.2fms: %s", what, _since_ms(began), error)
            raise
        self.logger.log(self.log_level, "%s completed in %.2fms", what, _since_ms(began))
        return found


def _since_ms(began: float) -> float:
    return (time.perf_counter() - began) * 1000


class TimingMiddleware(_Timed):
    """A record for each request."""

    logger_name = "fastmcp.timing"

    async def on_request(self, context: MiddlewareContext[Any], call_next: CallNext) -> Any:
        return await self.timed(f"Request {context.method or 'unknown'}", context, call_next)


class DetailedTimingMiddleware(_Timed):
    """A record for each call, read and list, with its name."""

    logger_name = "fastmcp.timing.detailed"

    async def on_call_tool(self, context: MiddlewareContext[Any], call_next: CallNext) -> Any:
        return await self.timed(f"Tool '{context.message.name}'", context, call_next)

    async def on_read_resource(self, context: MiddlewareContext[Any], call_next: CallNext) -> Any:
        return await self.timed(f"Resource '{context.message.uri}'", context, call_next)

    async def on_get_prompt(self, context: MiddlewareContext[Any], call_next: CallNext) -> Any:
        return await self.timed(f"Prompt '{context.message.name}'", context, call_next)

    async def on_list_tools(self, context: MiddlewareContext[Any], call_next: CallNext) -> Any:
        return await self.timed("List tools", context, call_next)

    async def on_list_resources(self, context: MiddlewareContext[Any], call_next: CallNext) -> Any:
        return await self.timed("List resources", context, call_next)

    async def on_list_resource_templates(self, context: MiddlewareContext[Any], call_next: CallNext) -> Any:
        return await self.timed("List resource templates", context, call_next)

    async def on_list_prompts(self, context: MiddlewareContext[Any], call_next: CallNext) -> Any:
        return await self.timed("List prompts", context, call_next)
