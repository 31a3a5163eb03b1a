"""Which components are seen."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any, ClassVar

from erlmcp.compat.fastmcp.server.transforms.base import KINDS, Transform, VersionSpec


class Visibility(Transform):
    """Shows or hides what matches all that is given: names or URIs, keys, a version, one of the tags, kinds. Nothing
    given matches nothing, ``match_all`` everything. Of several rules the last one that matches counts."""

    is_static: ClassVar[bool] = True

    def __init__(
        self,
        enabled: bool,
        *,
        names: Iterable[str] | None = None,
        keys: Iterable[str] | None = None,
        version: VersionSpec | None = None,
        tags: Iterable[str] | None = None,
        components: Iterable[str] | None = None,
        match_all: bool = False,
    ) -> None:
        self.enabled = enabled
        self.names = None if names is None else frozenset(names)
        self.keys = None if keys is None else frozenset(keys)
        self.version = version
        self.tags = None if tags is None else frozenset(tags)
        self.components = None if components is None else frozenset(components)
        self.match_all = match_all
        if unknown := (self.components or frozenset()) - set(KINDS):
            raise ValueError(f"components are {', '.join(KINDS)}; got {', '.join(sorted(unknown))}")
        if malformed := sorted(key for key in self.keys or () if "@" not in key):
            warnings.warn(
                f"keys end in '@' and the version, as 'tool:name@'; these match nothing: {malformed}",
                UserWarning,
                stacklevel=3,
            )

    def matches(self, component: Any) -> bool:
        if self.match_all:
            return True
        given = (self.names, self.keys, self.version, self.tags, self.components)
        if all(each is None for each in given):
            return False
        return (
            (self.components is None or component.KEY_PREFIX in self.components)
            and (self.keys is None or component.key in self.keys)
            and (self.names is None or component.name in self.names or component.identifier in self.names)
            and (self.version is None or self.version.matches(component.version, match_none=False))
            and (self.tags is None or bool(component.tags & self.tags))
        )

    def apply(self, component: Any) -> Any:
        if not self.matches(component) or component.is_enabled is self.enabled:
            return component
        return component.model_copy(update={"is_enabled": self.enabled})

    def __repr__(self) -> str:
        given = {"names": self.names, "keys": self.keys, "tags": self.tags, "components": self.components}
        shown = ", ".join(f"{name}={set(each)}" for name, each in given.items() if each is not None)
        return f"Visibility({self.enabled}, {'match_all=True' if self.match_all else shown})"


def is_enabled(component: Any) -> bool:
    """Whether a component is seen."""
    return bool(component.is_enabled)
