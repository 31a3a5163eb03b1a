"""Answers that are kept for a while."""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from erlmcp.compat.fastmcp.exceptions import unsupported
from erlmcp.compat.fastmcp.server.middleware.middleware import CallNext, Middleware, MiddlewareContext
from erlmcp.compat.fastmcp.tools.base import ToolResult
from erlmcp.server.jsonable import to_jsonable

LIST_TTL_S, ITEM_TTL_S = 300, 3600
ENTRY_COUNT_MAX = 1000


@dataclass
class CacheStats:
    """How often an answer was there, and how often not."""

    hits: int = 0
    misses: int = 0


class ResponseCachingMiddleware(Middleware):
    """Keeps the answers of lists for five minutes and those of calls, reads and prompts for an hour, in this process.

    Settings are dicts by method: ``enabled``, ``ttl`` in seconds, and for calls ``included_tools`` or
    ``excluded_tools``. Results longer than ``max_item_size`` bytes, and those of failed calls, are not kept.
    """

    def __init__(
        self,
        cache_storage: Any = None,
        list_tools_settings: Mapping[str, Any] | None = None,
        list_resources_settings: Mapping[str, Any] | None = None,
        list_prompts_settings: Mapping[str, Any] | None = None,
        read_resource_settings: Mapping[str, Any] | None = None,
        get_prompt_settings: Mapping[str, Any] | None = None,
        call_tool_settings: Mapping[str, Any] | None = None,
        max_item_size: int = 1024 * 1024,
    ) -> None:
        if cache_storage is not None:
            unsupported("cache_storage=", "answers are kept in this process", "no storage, or the cache of the gateway")
        self._settings = {
            "tools/list": list_tools_settings,
            "resources/list": list_resources_settings,
            "prompts/list": list_prompts_settings,
            "resources/read": read_resource_settings,
            "prompts/get": get_prompt_settings,
            "tools/call": call_tool_settings,
        }
        self.max_item_size = max_item_size
        self._kept: OrderedDict[str, tuple[float, Any]] = OrderedDict()
        self.stats: dict[str, CacheStats] = {}

    def statistics(self) -> dict[str, CacheStats]:
        """By method."""
        return self.stats

    async def on_request(self, context: MiddlewareContext[Any], call_next: CallNext) -> Any:
        method = context.method or ""
        settings = self._settings.get(method) or {}
        if method not in self._settings or not settings.get("enabled", True) or not self._may_keep(context, settings):
            return await call_next(context)
        key = self._key(context)
        if key is None:
            return await call_next(context)
        stats = self.stats.setdefault(method, CacheStats())
        found = self._kept.get(key)
        if found is not None and found[0] > time.monotonic():
            stats.hits += 1
            return found[1]
        stats.misses += 1
        made = await call_next(context)
        if not (isinstance(made, ToolResult) and (made.is_error or _length(made) > self.max_item_size)):
            ttl_s = settings.get("ttl", LIST_TTL_S if method.endswith("/list") else ITEM_TTL_S)
            self._kept[key] = time.monotonic() + ttl_s, made
            if len(self._kept) > ENTRY_COUNT_MAX:
                self._kept.popitem(last=False)
        return made

    @staticmethod
    def _may_keep(context: MiddlewareContext[Any], settings: Mapping[str, Any]) -> bool:
        name = getattr(context.message, "name", None)
        included, excluded = settings.get("included_tools"), settings.get("excluded_tools")
        return not ((included is not None and name not in included) or (excluded is not None and name in excluded))

    @staticmethod
    def _key(context: MiddlewareContext[Any]) -> str | None:
        """What tells a question from another one, and who asks: lists and answers may differ by their credential."""
        ctx = context.fastmcp_context
        request = None if ctx is None else ctx.http_request
        who = "" if request is None else request.headers.get("authorization", "")
        said = {name: each for name, each in context.message.model_dump().items() if name != "meta"}
        try:
            return json.dumps([context.method, who, to_jsonable(said)], sort_keys=True)
        except (TypeError, ValueError):
            return None


def _length(result: ToolResult) -> int:
    return len(json.dumps(result.to_wire()))
