"""The shape of FastMCP 4.1 over erlmcp's core: ``from erlmcp.compat.fastmcp import FastMCP, Context, Client``.

Its modules have FastMCP's names, so that an app moves with ``sed s/fastmcp/erlmcp.compat.fastmcp/`` on its imports.
What is not here raises where it is imported or registered, and says what to use instead: docs/moving.md.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from erlmcp.compat.fastmcp.exceptions import FastMCPDeprecationWarning, absent
from erlmcp.compat.fastmcp.shape import VERSION as __version__
from erlmcp.compat.fastmcp.shape import settings

if TYPE_CHECKING:
    from erlmcp.compat.fastmcp.client import Client as Client
    from erlmcp.compat.fastmcp.server.context import Context as Context
    from erlmcp.compat.fastmcp.server.server import FastMCP as FastMCP

__all__ = ["Client", "Context", "FastMCP", "FastMCPDeprecationWarning", "__version__", "settings"]

_HOME = {
    "Client": "erlmcp.compat.fastmcp.client",
    "Context": "erlmcp.compat.fastmcp.server.context",
    "FastMCP": "erlmcp.compat.fastmcp.server.server",
}
_MODULES = ("client", "server", "tools", "resources", "prompts", "utilities", "dependencies", "exceptions")
SHELF = (
    "erlmcp.compat.fastmcp.dependencies",
    "erlmcp.compat.fastmcp.server.lifespan",
    "erlmcp.compat.fastmcp.types",
)
_ABSENT = {
    "ClientGroup": ("many servers have one endpoint elsewhere", "the gateway (docs/gateway.md)"),
    "FastMCPApp": ("MCP Apps are an extension of their own", "a resource with the app's ui:// URI"),
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _ABSENT:
        absent(__name__, name, *_ABSENT[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
