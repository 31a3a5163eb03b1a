"""A tool under another face: other names, other defaults, hidden arguments, or a function around it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final

from erlmcp.compat.fastmcp.component import Json
from erlmcp.compat.fastmcp.exceptions import Unfit
from erlmcp.compat.fastmcp.schema import without_titles
from erlmcp.compat.fastmcp.shape import NOT_SET
from erlmcp.compat.fastmcp.tools.base import Tool, ToolResult
from erlmcp.compat.fastmcp.tools.function_tool import FunctionTool
from erlmcp.server.jsonable import to_jsonable
from erlmcp.server.schema import SchemaBuilder
from erlmcp.server.shape import Reader

_CURRENT: Final[ContextVar[Any]] = ContextVar("erlmcp_fastmcp_transformed", default=None)


@dataclass(kw_only=True)
class ArgTransform:
    """How one argument is shown. ``...`` leaves a thing as it is; ``hide`` takes the argument away, and the tool gets
    ``default`` or what ``default_factory`` gives."""

    name: Any = NOT_SET
    description: Any = NOT_SET
    default: Any = NOT_SET
    default_factory: Any = NOT_SET
    type: Any = NOT_SET
    hide: bool = False
    required: Any = NOT_SET
    examples: Any = NOT_SET

    def __post_init__(self) -> None:
        has_default, has_factory = self.default is not NOT_SET, self.default_factory is not NOT_SET
        if has_default and has_factory:
            raise ValueError("an ArgTransform has a default or a default_factory, not both")
        if has_factory and not self.hide:
            raise ValueError("default_factory can only be used with hide=True: a schema has no place for it")
        if self.required is True and (has_default or has_factory):
            raise ValueError("an argument with a default is not required")
        if self.hide and self.required is True:
            raise ValueError("a hidden argument cannot be required")
        if self.required is False:
            raise ValueError("Cannot specify 'required=False'. Set a default value instead.")


@dataclass(kw_only=True)
class ToolTransformConfig:
    """What a ``ToolTransform`` does to one tool."""

    name: str | None = None
    version: str | None = None
    title: str | None = None
    description: str | None = None
    tags: set[str] | None = None
    meta: dict[str, Any] | None = None
    enabled: bool = True
    arguments: dict[str, ArgTransform] = field(default_factory=dict)

    def apply(self, tool: Tool) -> TransformedTool:
        """The tool's other face."""
        changed: dict[str, Any] = {"title": self.title, "description": self.description, "meta": self.meta}
        made = TransformedTool.from_tool(
            tool,
            name=self.name,
            tags=self.tags,
            transform_args=self.arguments,
            **{key: each for key, each in changed.items() if each is not None},
        )
        if self.version is not None:
            made.version = self.version
        made.is_enabled = self.enabled
        return made


class TransformedTool(Tool):
    """A tool that hands its calls to ``parent_tool``, by way of ``fn`` where there is one."""

    def __init__(
        self, parent: Tool, arguments: Mapping[str, ArgTransform], fn: FunctionTool | None, **options: Any
    ) -> None:
        super().__init__(**options)
        self.parent_tool = parent
        self.transform_args = dict(arguments)
        self.fn = fn

    @classmethod
    def from_tool(
        cls,
        tool: Tool | Callable[..., Any],
        *,
        name: str | None = None,
        tags: Iterable[str] | None = None,
        transform_args: Mapping[str, Any] | None = None,
        transform_fn: Callable[..., Any] | None = None,
        **changed: Any,
    ) -> TransformedTool:
        """Raises Unfit for arguments that the tool has not, and for two with one name."""
        parent = tool if isinstance(tool, Tool) else Tool.from_function(tool)
        arguments = {
            key: each if isinstance(each, ArgTransform) else ArgTransform(**each)
            for key, each in (transform_args or {}).items()
        }
        known = parent.parameters.get("properties", {})
        if unknown := set(arguments) - set(known):
            raise Unfit(
                f"Unknown arguments in transform_args: {', '.join(sorted(unknown))}. "
                f"Parent tool `{parent.name}` has: {', '.join(sorted(known))}"
            )
        fn = None if transform_fn is None else FunctionTool.from_function(transform_fn, name=name or parent.name)
        schema = _transformed(parent.parameters, arguments)
        given = {
            "title": parent.title,
            "description": parent.description,
            "annotations": parent.annotations,
            "output_schema": parent.output_schema,
            "meta": parent.meta,
            **changed,
        }
        if fn is not None:
            schema = _joined(fn.parameters, schema)
            if "output_schema" not in changed and fn.output_schema is not None:
                given["output_schema"] = fn.output_schema
        made = cls(
            parent,
            arguments,
            fn,
            name=name or parent.name,
            version=parent.version,
            icons=parent.icons,
            tags=parent.tags if tags is None else tags,
            parameters=schema,
            timeout=parent.timeout,
            **given,
        )
        made.is_enabled = parent.is_enabled
        return made

    async def run(self, arguments: dict[str, Any]) -> ToolResult:
        if self.fn is None:
            return await self.forward(arguments)
        before = _CURRENT.set(self)
        try:
            defaults = {
                name: each["default"]
                for name, each in self.parameters.get("properties", {}).items()
                if "default" in each and name in self.fn.parameters.get("properties", {})
            }
            found = await self.fn.run({**defaults, **arguments})
        finally:
            _CURRENT.reset(before)
        return found

    async def forward(self, arguments: Mapping[str, Any]) -> ToolResult:
        """The parent's result for arguments by their names here. Raises TypeError for others."""
        given: dict[str, Any] = {}
        taken = dict(arguments)
        for original in self.parent_tool.parameters.get("properties", {}):
            change = self.transform_args.get(original, _UNCHANGED)
            if change.hide:
                if change.default_factory is not NOT_SET:
                    given[original] = change.default_factory()
                elif change.default is not NOT_SET:
                    given[original] = change.default
                continue
            shown = _shown(original, change)
            if shown in taken:
                given[original] = taken.pop(shown)
            elif change.default is not NOT_SET:
                given[original] = change.default
        if taken:
            raise TypeError(f"Got unexpected keyword argument(s): {', '.join(sorted(taken))}")
        missing = [name for name in self.parameters.get("required", ()) if name not in arguments and self.fn is None]
        if missing:
            raise TypeError(f"Missing required argument(s): {', '.join(sorted(missing))}")
        return await self.parent_tool._run(given)


_UNCHANGED: Final = ArgTransform()


def _shown(original: str, change: ArgTransform) -> str:
    return original if change.name is NOT_SET or change.name is None else str(change.name)


def _transformed(schema: Json, arguments: Mapping[str, ArgTransform]) -> Json:
    """The parent's schema with the changes."""
    properties: Json = {}
    required: list[str] = []
    for original, given in schema.get("properties", {}).items():
        change = arguments.get(original, _UNCHANGED)
        needed = original in schema.get("required", ())
        if change.hide:
            if needed and change.default is NOT_SET and change.default_factory is NOT_SET:
                raise Unfit(f"Hidden parameter '{original}' has no default, and the tool needs it")
            continue
        shown = _shown(original, change)
        if shown in properties:
            raise Unfit(f"Multiple arguments would be mapped to the same names: {shown}")
        properties[shown] = _changed(given, change)
        if change.required is True or (needed and change.default is NOT_SET):
            required.append(shown)
            properties[shown].pop("default", None)
    return {**schema, "properties": properties, "required": required}


def _changed(given: Json, change: ArgTransform) -> Json:
    made = dict(given)
    if change.type is not NOT_SET:
        builder = SchemaBuilder()
        typed = without_titles(builder.finish(builder.build(Reader().read(change.type))))
        made = {**{key: made[key] for key in ("description", "default", "title") if key in made}, **typed}
    if change.description is not NOT_SET:
        made.pop("description", None)
        if change.description is not None:
            made["description"] = change.description
    if change.default is not NOT_SET:
        made["default"] = to_jsonable(change.default)
    if change.examples is not NOT_SET:
        made["examples"] = to_jsonable(change.examples)
    return made


def _joined(own: Json, parent: Json) -> Json:
    """The parameters of a function around a tool: those that it names."""
    properties = {**own.get("properties", {})}
    for name, each in parent.get("properties", {}).items():
        if name in properties:
            properties[name] = {**each, **properties[name]}
    required = [name for name in own.get("required", ()) if "default" not in parent["properties"].get(name, {})]
    return {**own, "properties": properties, "required": required}


async def forward(**arguments: Any) -> ToolResult:
    """Within a ``transform_fn``: call the tool that is transformed, with the arguments by their new names."""
    tool = _CURRENT.get()
    if tool is None:
        raise RuntimeError("forward() can only be called within a transformed tool")
    found: ToolResult = await tool.forward(arguments)
    return found


async def forward_raw(**arguments: Any) -> ToolResult:
    """The same with the arguments as the tool itself names them."""
    tool = _CURRENT.get()
    if tool is None:
        raise RuntimeError("forward_raw() can only be called within a transformed tool")
    found: ToolResult = await tool.parent_tool._run(arguments)
    return found
