"""Results that are not too long."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from erlmcp.compat.fastmcp.server.middleware.middleware import CallNext, Middleware, MiddlewareContext
from erlmcp.compat.fastmcp.tools.base import ToolResult
from erlmcp.compat.fastmcp.values import json_text

log = logging.getLogger("fastmcp.server.middleware.response_limiting")
ROOM_BYTES = 50  # for what is around the text


class ResponseLimitingMiddleware(Middleware):
    """Cuts the text of results of more than ``max_size`` bytes of JSON, of the named tools or all. Those tools are
    listed without an output schema, as a text that was cut has no structure."""

    def __init__(
        self,
        *,
        max_size: int = 1_000_000,
        truncation_suffix: str = "\n\n[Response truncated due to size limit]",
        tools: Sequence[str] | None = None,
    ) -> None:
        if max_size <= 0:
            raise ValueError(f"max_size must be positive, got {max_size}")
        self.max_size = max_size
        self.truncation_suffix = truncation_suffix
        self.tools = None if tools is None else set(tools)

    def _limits(self, name: str) -> bool:
        return self.tools is None or name in self.tools

    async def on_list_tools(self, context: MiddlewareContext[Any], call_next: CallNext) -> Any:
        return [
            each.model_copy(update={"output_schema": None}) if self._limits(each.name) else each
            for each in await call_next(context)
        ]

    async def on_call_tool(self, context: MiddlewareContext[Any], call_next: CallNext) -> Any:
        found = await call_next(context)
        name = context.message.name
        if not isinstance(found, ToolResult) or not self._limits(name):
            return found
        whole = json_text(found.to_wire())
        count = len(whole.encode())
        if count <= self.max_size:
            return found
        log.warning("Tool %r response exceeds size limit: %d bytes > %d bytes, truncating", name, count, self.max_size)
        texts = [block["text"] for block in found.blocks if block.get("type") == "text"]
        return ToolResult(
            content=self._cut("\n\n".join(texts) if texts else whole), meta=found.meta, is_error=found.is_error
        )

    def _cut(self, text: str) -> str:
        room = self.max_size - len(self.truncation_suffix.encode()) - ROOM_BYTES
        kept = text.encode()[: max(0, room)].decode("utf-8", errors="ignore")
        return kept + self.truncation_suffix
