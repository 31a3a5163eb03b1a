"""Not in this façade: what others gave to FastMCP."""

from __future__ import annotations

from erlmcp.compat.fastmcp.exceptions import absent


def __getattr__(name: str) -> object:
    absent(__name__, name, "it is what others gave to FastMCP", "a copy of it in your app")
