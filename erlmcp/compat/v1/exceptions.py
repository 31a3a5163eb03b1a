"""What a tool or a resource raises, by the names of mcp 1.x."""

from __future__ import annotations

from erlmcp.compat.sdk.exceptions import InvalidSignature as InvalidSignature
from erlmcp.compat.sdk.exceptions import McpError as McpError
from erlmcp.compat.sdk.exceptions import MCPServerError as FastMCPError
from erlmcp.compat.sdk.exceptions import ResourceError as ResourceError
from erlmcp.compat.sdk.exceptions import ToolError as ToolError
from erlmcp.compat.sdk.exceptions import UrlElicitationRequiredError as UrlElicitationRequiredError
from erlmcp.compat.sdk.exceptions import ValidationError as ValidationError

__all__ = [
    "FastMCPError",
    "InvalidSignature",
    "McpError",
    "ResourceError",
    "ToolError",
    "UrlElicitationRequiredError",
    "ValidationError",
]
