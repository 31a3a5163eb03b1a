"""The server's side of the façade."""

from __future__ import annotations

from erlmcp.compat.fastmcp.server.context import Context
from erlmcp.compat.fastmcp.server.server import FastMCP

__all__ = ["Context", "FastMCP", "create_proxy"]


def __getattr__(name: str) -> object:
    if name == "create_proxy":
        from erlmcp.compat.fastmcp.server.proxy import create_proxy

        return create_proxy
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
