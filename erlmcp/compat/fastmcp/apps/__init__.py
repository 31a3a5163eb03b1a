"""Not in this façade: MCP Apps."""

from __future__ import annotations

from erlmcp.compat.fastmcp.exceptions import absent


def __getattr__(name: str) -> object:
    absent(__name__, name, "MCP Apps are an extension of their own", "a resource with the app's ui:// URI")
