"""What stands around the requests of a server."""

from __future__ import annotations

from typing import Any

from erlmcp.compat.fastmcp.server.middleware.middleware import CallNext, Middleware, MiddlewareContext

__all__ = ["CallNext", "Middleware", "MiddlewareContext"]

# Modules that a program names itself.
SHELF = (
    "erlmcp.compat.fastmcp.server.middleware.caching",
    "erlmcp.compat.fastmcp.server.middleware.error_handling",
    "erlmcp.compat.fastmcp.server.middleware.logging",
    "erlmcp.compat.fastmcp.server.middleware.rate_limiting",
    "erlmcp.compat.fastmcp.server.middleware.response_limiting",
    "erlmcp.compat.fastmcp.server.middleware.timing",
    "erlmcp.compat.fastmcp.server.middleware.tool_injection",
)
_ABSENT = {
    "AuthMiddleware": "access rules of the gateway (docs/gateway.md), or a Middleware that reads get_http_headers()",
    "PingMiddleware": "nothing: connections are watched by the transports themselves",
}


def __getattr__(name: str) -> Any:
    if name in _ABSENT:
        raise ImportError(f"{name} is not in this façade: instead, {_ABSENT[name]} (docs/moving.md)")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
