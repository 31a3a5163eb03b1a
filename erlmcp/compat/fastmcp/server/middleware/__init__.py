"""What stands around the requests of a server."""

from __future__ import annotations

from typing import Any

from erlmcp.compat.fastmcp.exceptions import absent
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
    "AuthMiddleware": (
        "there are no access tokens behind it",
        "access rules of the gateway (docs/gateway.md), or a Middleware that reads get_http_headers()",
    ),
    "PingMiddleware": ("connections are watched by the transports themselves", "nothing"),
}


def __getattr__(name: str) -> Any:
    if name in _ABSENT:
        absent(__name__, name, *_ABSENT[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
