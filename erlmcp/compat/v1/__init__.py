"""The shape of the SDK's first line, mcp 1.x: ``from erlmcp.compat.v1 import FastMCP, Context, Image`` where an app has
``from mcp.server.fastmcp import ...``. Names are imported when first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from erlmcp.compat.sdk.convert import Audio as Audio
    from erlmcp.compat.sdk.convert import Image as Image
    from erlmcp.compat.sdk.types import Icon as Icon
    from erlmcp.compat.v1.server import Context as Context
    from erlmcp.compat.v1.server import FastMCP as FastMCP

_HOME = {
    "Audio": "sdk.convert",
    "Image": "sdk.convert",
    "Icon": "sdk.types",
    "Context": "v1.server",
    "FastMCP": "v1.server",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"erlmcp.compat.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
