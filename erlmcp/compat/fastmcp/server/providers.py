"""Where a server's components come from: its own decorators, servers that are mounted, providers of one's own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import ref

from erlmcp.compat.fastmcp.component import Component, version_order
from erlmcp.compat.fastmcp.prompts.base import Prompt
from erlmcp.compat.fastmcp.resources.base import Resource
from erlmcp.compat.fastmcp.resources.template import ResourceTemplate
from erlmcp.compat.fastmcp.server.transforms.base import Transform
from erlmcp.compat.fastmcp.server.transforms.namespace import Namespace
from erlmcp.compat.fastmcp.tools.base import Tool

if TYPE_CHECKING:
    from erlmcp.compat.fastmcp.server.server import FastMCP

log = logging.getLogger("erlmcp.compat.fastmcp")
DUPLICATES = ("warn", "error", "replace", "ignore")
LISTERS = {
    "tool": "list_tools",
    "resource": "list_resources",
    "template": "list_resource_templates",
    "prompt": "list_prompts",
}


class Provider:
    """Override ``_list_tools``, ``_list_resources``, ``_list_resource_templates`` and ``_list_prompts``: they are
    asked with each request, so a server with such a provider answers all of them by the general way."""

    is_static: ClassVar[bool] = False

    def __init__(self) -> None:
        self.transforms: list[Transform] = []

    def add_transform(self, transform: Transform) -> None:
        """Change what comes from here."""
        self.transforms.append(transform)

    async def _list_tools(self) -> Sequence[Tool]:
        return []

    async def _list_resources(self) -> Sequence[Resource]:
        return []

    async def _list_resource_templates(self) -> Sequence[ResourceTemplate]:
        return []

    async def _list_prompts(self) -> Sequence[Prompt]:
        return []

    async def components(self, kind: str) -> Sequence[Any]:
        """All of one kind, with the transforms."""
        found: Sequence[Any] = await getattr(self, f"_{LISTERS[kind]}")()
        for transform in self.transforms:
            found = await getattr(transform, LISTERS[kind])(found)
        return found

    @property
    def stands(self) -> bool:
        """Whether what it has stands until it is said to have changed."""
        return self.is_static and all(each.is_static for each in self.transforms)

    def standing(self, kind: str) -> list[Any]:
        """The same at once, where it stands."""
        return [made for each in self.own(kind) if (made := applied(self.transforms, each)) is not None]

    def own(self, kind: str) -> list[Any]:
        return []


def applied(transforms: Sequence[Transform], component: Any) -> Any:
    """The component behind some transforms, or None."""
    for transform in transforms:
        component = transform.apply(component)
        if component is None:
            return None
    return component


class LocalProvider(Provider):
    """What was registered here, by kind, identifier and version."""

    is_static: ClassVar[bool] = True

    def __init__(self, on_duplicate: str = "error", changed: Callable[[str], None] | None = None) -> None:
        super().__init__()
        if on_duplicate not in DUPLICATES:
            raise ValueError(f"on_duplicate is one of {', '.join(DUPLICATES)}; got {on_duplicate!r}")
        self._on_duplicate = on_duplicate
        self._found: dict[str, Component] = {}
        self._changed = changed or (lambda kind: None)

    def add(self, component: Any) -> Any:
        """Register one; the one that is registered then. ValueError for a second one of its name, if so wanted."""
        key = component.key
        known = self._found.get(key)
        if known is not None:
            if self._on_duplicate == "error":
                raise ValueError(f"Component already exists: {key}")
            if self._on_duplicate == "ignore":
                return known
            if self._on_duplicate == "warn":
                log.warning("Component already exists: %s", key)
        for each in self._found.values():
            is_same = type(each).KEY_PREFIX == component.KEY_PREFIX and each.identifier == component.identifier
            if is_same and (each.version is None) is not (component.version is None):
                raise ValueError(f"{component.identifier!r} has a version in one place and none in another")
        self._found[key] = component
        self._changed(component.KEY_PREFIX)
        return component

    def remove(self, kind: str, identifier: str, version: str | None = None) -> None:
        """Take one out, or all its versions. KeyError where there is none."""
        keys = [
            key
            for key, each in self._found.items()
            if kind == each.KEY_PREFIX and each.identifier == identifier and version in (None, each.version)
        ]
        if not keys:
            raise KeyError(f"{kind.title()} {identifier!r} not found")
        for key in keys:
            del self._found[key]
        self._changed(kind)

    def remove_tool(self, name: str, version: str | None = None) -> None:
        self.remove("tool", name, version)

    def remove_resource(self, uri: str, version: str | None = None) -> None:
        self.remove("resource", uri, version)

    def remove_template(self, uri_template: str, version: str | None = None) -> None:
        self.remove("template", uri_template, version)

    def remove_prompt(self, name: str, version: str | None = None) -> None:
        self.remove("prompt", name, version)

    def add_tool(self, tool: Any) -> Tool:
        made: Tool = self.add(tool if isinstance(tool, Tool) else Tool.from_function(tool))
        return made

    def add_prompt(self, prompt: Any) -> Prompt:
        made: Prompt = self.add(prompt if isinstance(prompt, Prompt) else Prompt.from_function(prompt))
        return made

    def add_resource(self, resource: Any) -> Any:
        return self.add(resource)

    def own(self, kind: str) -> list[Any]:
        return [each for each in self._found.values() if kind == each.KEY_PREFIX]

    async def components(self, kind: str) -> Sequence[Any]:
        found: Sequence[Any] = self.own(kind)
        for transform in self.transforms:
            found = await getattr(transform, LISTERS[kind])(found)
        return found


class MountProvider(Provider):
    """What another server offers, as long as it does, in its own context and behind its own middleware."""

    is_static: ClassVar[bool] = True

    def __init__(self, child: FastMCP, namespace: str | None, tool_names: dict[str, str] | None) -> None:
        super().__init__()
        self.child = child
        self._tool_names = dict(tool_names or {})
        self._namespace = Namespace(namespace) if namespace else None

    @property
    def stands(self) -> bool:
        return super().stands and self.child.stands

    def own(self, kind: str) -> list[Any]:
        return [self._mounted(each) for each in self.child.standing(kind)]

    async def components(self, kind: str) -> Sequence[Any]:
        found: Sequence[Any] = [self._mounted(each) for each in await self.child.seen(kind)]
        for transform in self.transforms:
            found = await getattr(transform, LISTERS[kind])(found)
        return found

    def _mounted(self, component: Any) -> Any:
        """The component under its name here."""
        own = component.identifier
        changed: dict[str, Any] = {}
        if not self.child.is_plain:
            changed |= {"owner": self.child, "own_name": own}
            if component.KEY_PREFIX == "template":
                changed["own_template"] = own
        if component.home is None:
            changed["home"] = ref(self.child)
        made = component.model_copy(update=changed)
        if component.KEY_PREFIX == "tool" and own in self._tool_names:
            parameters = {"required": [], **made.parameters}
            made = made.model_copy(update={"name": self._tool_names[own], "parameters": parameters})
        return made if self._namespace is None else self._namespace.apply(made)


def newest_of(components: Sequence[Any], version: str | None) -> Any:
    """The highest version, or the one that is asked for; None where there is none."""
    found = [each for each in components if version is None or each.version == version]
    return max(found, key=lambda each: version_order(each.version)) if found else None
