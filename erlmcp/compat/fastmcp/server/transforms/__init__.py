"""What changes components on their way to who lists and calls them."""

from __future__ import annotations

from typing import Any

from erlmcp.compat.fastmcp.server.transforms.base import Transform, VersionSpec
from erlmcp.compat.fastmcp.server.transforms.namespace import Namespace
from erlmcp.compat.fastmcp.server.transforms.tool_transform import ToolTransform
from erlmcp.compat.fastmcp.server.transforms.version_filter import VersionFilter
from erlmcp.compat.fastmcp.server.transforms.visibility import Visibility, is_enabled

__all__ = ["Namespace", "ToolTransform", "Transform", "VersionFilter", "VersionSpec", "Visibility", "is_enabled"]

_ABSENT = {
    "PromptsAsTools": "a tool that calls ctx.get_prompt",
    "ResourcesAsTools": "a tool that calls ctx.read_resource",
}


def __getattr__(name: str) -> Any:
    if name in _ABSENT:
        raise ImportError(f"{name} is not in this façade: instead, {_ABSENT[name]} (docs/moving.md)")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
