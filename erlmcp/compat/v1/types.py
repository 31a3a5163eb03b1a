"""The protocol's objects, by the names of ``mcp.types`` of mcp 1.x; their fields have the wire's names too."""

from __future__ import annotations

from erlmcp.compat.sdk.types import *  # noqa: F403
