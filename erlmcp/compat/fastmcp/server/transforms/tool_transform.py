"""Tools under other faces, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from erlmcp.compat.fastmcp.server.transforms.base import Transform
from erlmcp.compat.fastmcp.tools.tool_transform import ToolTransformConfig


class ToolTransform(Transform):
    """What the named tools are turned into. Raises ValueError where two get one name."""

    is_static: ClassVar[bool] = True

    def __init__(self, transforms: Mapping[str, ToolTransformConfig]) -> None:
        self._transforms = dict(transforms)
        seen: dict[str, str] = {}
        for original, config in self._transforms.items():
            shown = config.name or original
            if shown in seen:
                raise ValueError(f"ToolTransform has duplicate target name {shown!r}: {seen[shown]!r} and {original!r}")
            seen[shown] = original

    def apply(self, component: Any) -> Any:
        if component.KEY_PREFIX != "tool" or component.name not in self._transforms:
            return component
        return self._transforms[component.name].apply(component)

    def __repr__(self) -> str:
        return f"ToolTransform({list(self._transforms)!r})"
