"""Some versions of what has several."""

from __future__ import annotations

from typing import Any, ClassVar

from erlmcp.compat.fastmcp.server.transforms.base import Transform, VersionSpec


class VersionFilter(Transform):
    """Components of versions from ``version_gte`` on and before ``version_lt``."""

    is_static: ClassVar[bool] = True

    def __init__(
        self, *, version_gte: str | None = None, version_lt: str | None = None, include_unversioned: bool = True
    ) -> None:
        if version_gte is None and version_lt is None:
            raise ValueError("At least one of version_gte or version_lt must be specified")
        self._spec = VersionSpec(gte=version_gte, lt=version_lt)
        self._include_unversioned = include_unversioned

    def apply(self, component: Any) -> Any:
        is_one = self._spec.matches(component.version, match_none=self._include_unversioned)
        return component if is_one else None
