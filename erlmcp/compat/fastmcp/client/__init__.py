"""The client's side of the façade."""

from __future__ import annotations

from erlmcp.compat.fastmcp.client.client import CallToolResult, Client, ElicitResult
from erlmcp.compat.fastmcp.client.transports import (
    FastMCPTransport,
    NodeStdioTransport,
    PythonStdioTransport,
    SSETransport,
    StdioTransport,
    StreamableHttpTransport,
)
from erlmcp.compat.fastmcp.exceptions import absent

__all__ = [
    "CallToolResult",
    "Client",
    "ElicitResult",
    "FastMCPTransport",
    "NodeStdioTransport",
    "PythonStdioTransport",
    "SSETransport",
    "StdioTransport",
    "StreamableHttpTransport",
]

# Modules that a program names itself.
SHELF = (
    "erlmcp.compat.fastmcp.client.elicitation",
    "erlmcp.compat.fastmcp.client.logging",
    "erlmcp.compat.fastmcp.client.messages",
)
_ABSENT = {
    "BearerAuth": ("it is one header", "auth='the token'"),
    "OAuth": ("there is no sign-in by a browser here", "a bearer token: auth='...'"),
}


def __getattr__(name: str) -> object:
    if name in _ABSENT:
        absent(__name__, name, *_ABSENT[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
