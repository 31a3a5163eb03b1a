"""What changed, and who hears of it: the events, and the bus they travel on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from erlmcp.spec import method as m

log = logging.getLogger("erlmcp.compat")


@dataclass(frozen=True)
class ToolsListChanged:
    """The list of tools is another one."""


@dataclass(frozen=True)
class PromptsListChanged:
    """The list of prompts is another one."""


@dataclass(frozen=True)
class ResourcesListChanged:
    """The list of resources is another one."""


@dataclass(frozen=True)
class ResourceUpdated:
    """What this URI stands for is another content."""

    uri: str


ServerEvent = ToolsListChanged | PromptsListChanged | ResourcesListChanged | ResourceUpdated
Listener = Callable[[Any], None]
_METHODS = {
    "ToolsListChanged": m.TOOLS_CHANGED,
    "PromptsListChanged": m.PROMPTS_CHANGED,
    "ResourcesListChanged": m.RESOURCES_CHANGED,
    "ResourceUpdated": m.RESOURCE_UPDATED,
}


class SubscriptionBus(Protocol):
    """Hands events on, within a process or between processes."""

    async def publish(self, event: Any) -> None: ...
    def subscribe(self, listener: Listener) -> Callable[[], None]: ...


class InMemorySubscriptionBus:
    """The bus of one process."""

    def __init__(self) -> None:
        self._listeners: dict[object, Listener] = {}

    async def publish(self, event: Any) -> None:
        """Tell all; one that raises keeps it from nobody else."""
        for listener in list(self._listeners.values()):
            try:
                listener(event)
            except Exception:
                log.exception("a subscription listener failed")

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        token = object()
        self._listeners[token] = listener
        return lambda: self._listeners.pop(token, None) and None


def method_of(event: Any) -> tuple[str, str | None]:
    """The notification that an event is told by, and the URI it is about. Those of ``mcp`` are known by name."""
    return _METHODS[type(event).__name__], getattr(event, "uri", None)
