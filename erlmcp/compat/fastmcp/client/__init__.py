"""The client's side of the façade."""

from erlmcp.compat.fastmcp.client.client import CallToolResult, Client, ElicitResult
from erlmcp.compat.fastmcp.client.transports import (
    FastMCPTransport,
    NodeStdioTransport,
    PythonStdioTransport,
    SSETransport,
    StdioTransport,
    StreamableHttpTransport,
)

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
