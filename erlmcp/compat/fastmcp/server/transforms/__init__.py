"""What changes components on their way to who lists and calls them."""

from __future__ import annotations

from typing import Any

from erlmcp.compat.fastmcp.exceptions import absent
from erlmcp.compat.fastmcp.server.transforms.base import Transform, VersionSpec
from erlmcp.compat.fastmcp.server.transforms.namespace import Namespace
from erlmcp.compat.fastmcp.server.transforms.tool_transform import ToolTransform
from erlmcp.compat.fastmcp.server.transforms.version_filter import VersionFilter
from erlmcp.compat.fastmcp.server.transforms.visibility import Visibility, is_enabled

__all__ = ["Namespace", "ToolTransform", "Transform", "VersionFilter", "VersionSpec", "Visibility", "is_enabled"]

_ABSENT = {
    "PromptsAsTools": ("it needs a client that has only tools", "a tool that calls ctx.get_prompt"),
    "ResourcesAsTools": ("it needs a client that has only tools", "a tool that calls ctx.read_resource"),
}


def __getattr__(name: str) -> Any:
    if name in _ABSENT:
        absent(__name__, name, *_ABSENT[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
