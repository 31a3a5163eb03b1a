"""Which objects are apps of another SDK, told without importing one."""

from __future__ import annotations

from typing import Any, Final

CLASSES: Final = frozenset(
    {
        ("fastmcp.server.server", "FastMCP"),
        ("mcp.server.mcpserver.server", "MCPServer"),
        ("mcp.server.lowlevel.server", "Server"),
    }
)


def is_app(value: Any) -> bool:
    """Whether ``accelerate`` takes it."""
    return any((cls.__module__, cls.__name__) in CLASSES for cls in type(value).__mro__)
