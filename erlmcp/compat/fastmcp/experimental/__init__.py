"""Not in this façade: what FastMCP may change at any time."""

from __future__ import annotations

from erlmcp.compat.fastmcp.exceptions import absent


def __getattr__(name: str) -> object:
    absent(__name__, name, "FastMCP may change it at any time", "stock FastMCP")
