"""Not in this façade: who may call is settled before the server."""

from __future__ import annotations

from erlmcp.compat.fastmcp.exceptions import absent


def __getattr__(name: str) -> object:
    absent(
        __name__, name, "who may call is settled before the server", "the front door of the gateway (docs/gateway.md)"
    )
