"""What changes components on their way from where they are registered to who lists and calls them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from erlmcp.compat.fastmcp.component import Component, version_order

KINDS = ("tool", "resource", "template", "prompt")


@dataclass(frozen=True)
class VersionSpec:
    """Which versions: exactly ``eq``, or from ``gte`` on and before ``lt``."""

    gte: str | None = None
    lt: str | None = None
    eq: str | None = None

    def matches(self, version: str | None, *, match_none: bool = True) -> bool:
        """Whether a version is one of them; none at all where ``match_none`` says so."""
        if version is None:
            return match_none
        found = version_order(version)
        if self.eq is not None:
            return found == version_order(self.eq)
        if self.gte is not None and found < version_order(self.gte):
            return False
        return self.lt is None or found < version_order(self.lt)


class Transform:
    """Override ``list_tools`` and ``get_tool`` (and those of resources, templates and prompts): a list -> another one,
    and a name -> a component by way of ``call_next(name, version=...)``.

    What a subclass does may differ by request, so the calls of a server that has one take the general way. The
    transforms of this façade say what they do component by component instead (``apply``, with ``is_static``).
    """

    is_static: ClassVar[bool] = False

    def apply(self, component: Any) -> Any:
        """The component as it is seen from here, or None where it is not."""
        return component

    async def list_tools(self, tools: Sequence[Any]) -> Sequence[Any]:
        return self._all(tools)

    async def list_resources(self, resources: Sequence[Any]) -> Sequence[Any]:
        return self._all(resources)

    async def list_resource_templates(self, templates: Sequence[Any]) -> Sequence[Any]:
        return self._all(templates)

    async def list_prompts(self, prompts: Sequence[Any]) -> Sequence[Any]:
        return self._all(prompts)

    async def get_tool(self, name: str, call_next: Any, *, version: VersionSpec | None = None) -> Any:
        return await call_next(name, version=version)

    async def get_resource(self, uri: str, call_next: Any, *, version: VersionSpec | None = None) -> Any:
        return await call_next(uri, version=version)

    async def get_resource_template(self, uri: str, call_next: Any, *, version: VersionSpec | None = None) -> Any:
        return await call_next(uri, version=version)

    async def get_prompt(self, name: str, call_next: Any, *, version: VersionSpec | None = None) -> Any:
        return await call_next(name, version=version)

    def _all(self, components: Sequence[Component]) -> list[Component]:
        return [made for each in components if (made := self.apply(each)) is not None]
