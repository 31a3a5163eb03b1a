"""Tools and their results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from erlmcp.compat.fastmcp import values
from erlmcp.compat.fastmcp.component import Component, Json
from erlmcp.compat.fastmcp.schema import WRAPS
from erlmcp.compat.fastmcp.shape import NOT_SET
from erlmcp.server.content import dump_model, is_protocol_model
from erlmcp.server.jsonable import to_jsonable

if TYPE_CHECKING:
    from erlmcp.compat.fastmcp.tools.function_tool import FunctionTool
    from erlmcp.compat.fastmcp.tools.tool_transform import TransformedTool


class ToolResult:
    """A tool's whole result. ``content`` are objects of ``mcp_types``, made where somebody looks at them."""

    __slots__ = ("_blocks", "_content", "is_error", "meta", "structured_content")

    def __init__(
        self,
        content: Any = None,
        structured_content: Any = None,
        meta: Mapping[str, Any] | None = None,
        is_error: bool = False,
    ) -> None:
        if content is None and structured_content is None:
            raise ValueError("a ToolResult needs content or structured_content")
        if structured_content is not None:
            structured_content = to_jsonable(structured_content)
            if not isinstance(structured_content, dict):
                raise ValueError(
                    "structured_content is an object: a dict, a dataclass or a model; "
                    f"got {type(structured_content).__name__}"
                )
        self.structured_content: Json | None = structured_content
        self.meta: Json | None = None if meta is None else dict(meta)
        self.is_error = is_error
        self._blocks = values.blocks_of(structured_content if content is None else content)
        self._content: list[Any] | None = None

    @property
    def content(self) -> list[Any]:
        if self._content is None:
            self._content = values.typed_blocks(self._blocks)
        return self._content

    @content.setter
    def content(self, content: Any) -> None:
        self._blocks, self._content = values.blocks_of(content), None

    @property
    def blocks(self) -> list[Json]:
        """The content as JSON."""
        return self._blocks if self._content is None else [values.dumped(each) for each in self._content]

    @classmethod
    def from_wire(cls, result: Mapping[str, Any]) -> ToolResult:
        """From a CallToolResult as it came."""
        made = cls.__new__(cls)
        made._blocks, made._content = list(result.get("content") or ()), None
        made.structured_content = result.get("structuredContent")
        made.meta = result.get("_meta")
        made.is_error = result.get("isError") is True
        return made

    @classmethod
    def from_mcp_result(cls, result: Any) -> ToolResult:
        """From a CallToolResult of ``mcp_types``."""
        return cls.from_wire(dump_model(result))

    def to_wire(self) -> Json:
        """The CallToolResult as JSON."""
        made: Json = {"content": self.blocks}
        if self.structured_content is not None:
            made["structuredContent"] = self.structured_content
        made["isError"] = self.is_error
        if self.meta is not None:
            made["_meta"] = to_jsonable(self.meta)
        return made

    def to_mcp_result(self) -> Any:
        """The CallToolResult of ``mcp_types``."""
        from erlmcp.client.result import typed

        return typed("CallToolResult", self.to_wire())

    def __repr__(self) -> str:
        return f"ToolResult(content={self.blocks!r}, structured_content={self.structured_content!r})"


class InputRequiredToolResult(ToolResult):
    """What a tool gives that asks the client for input by an InputRequiredResult: it has no content."""

    __slots__ = ("input_required",)

    def __init__(self, input_required: Any) -> None:
        super().__init__(content=[])
        self.input_required = input_required


def asks_for_input(value: Any) -> bool:
    """Whether a returned value is an InputRequiredResult of ``mcp_types``."""
    return is_protocol_model(value) and hasattr(value, "input_requests")


def default_title(name: str) -> str:
    """What a tool without a title is shown as: some clients leave out those that have none."""
    return name.replace("_", " ").replace("-", " ").title()


class Tool(Component):
    """A tool. A subclass with a ``run(arguments)`` of its own is served as it is; most are made by a decorator."""

    KEY_PREFIX: ClassVar[str] = "tool"

    def __init__(
        self,
        *,
        name: str,
        parameters: Mapping[str, Any] | None = None,
        output_schema: Mapping[str, Any] | None = None,
        annotations: Any = None,
        timeout: float | None = None,
        **options: Any,
    ) -> None:
        super().__init__(name=name, **options)
        self.parameters: Json = dict(parameters) if parameters is not None else {"type": "object", "properties": {}}
        self.output_schema: Json | None = None if output_schema is None else dict(output_schema)
        self.annotations = annotations
        self.timeout = timeout

    def descriptor(self) -> Json:
        """Its entry in tools/list."""
        annotations = dump_model(self.annotations)
        shown = self.title or (annotations or {}).get("title") or default_title(self.name)
        return {
            "name": self.name,
            **self.public(
                title=shown, inputSchema=self.parameters, outputSchema=self.output_schema, annotations=annotations
            ),
        }

    def to_mcp_tool(self, **overrides: Any) -> Any:
        """The Tool of ``mcp_types``; ``overrides`` by their names in JSON."""
        from erlmcp.client.result import typed

        return typed("Tool", {**self.descriptor(), **dump_model(overrides)})

    async def run(self, arguments: dict[str, Any]) -> ToolResult:
        """Run it. Raises NotImplementedError where the subclass has no ``run`` of its own."""
        raise NotImplementedError(f"{type(self).__name__} has no run(arguments)")

    async def _run(self, arguments: dict[str, Any]) -> ToolResult:
        """As a server runs it: within the server that it belongs to."""
        if self.owner is not None:
            found: ToolResult = await self.owner.call_tool(self.own_name, arguments)
            return found
        return await self.run(arguments)

    def convert_result(self, value: Any) -> ToolResult:
        """A returned value -> a ToolResult, by the output schema."""
        if isinstance(value, ToolResult):
            return value
        if asks_for_input(value):
            return InputRequiredToolResult(value)
        if is_protocol_model(value) and hasattr(value, "content") and hasattr(value, "is_error"):
            return ToolResult.from_mcp_result(value)
        schema = self.output_schema
        if isinstance(value, bytes | bytearray) or (schema is None and values.is_content(value)):
            return ToolResult(content=value)
        plain = self.dumped(value)
        content = value if values.is_content(value) else plain
        made = ToolResult.__new__(ToolResult)
        made._blocks, made._content = values.blocks_of(content), None
        made.is_error, made.meta = False, None
        wraps = schema is not None and bool(schema.get(WRAPS))
        if wraps:
            made.structured_content, made.meta = {"result": plain}, {"fastmcp": {"wrap_result": True}}
        elif isinstance(plain, dict):
            made.structured_content = plain
        elif schema is None:
            made.structured_content = None
        else:
            raise ValueError(f"structured_content is an object, and tool {self.name!r} returned {plain!r}")
        return made

    def dumped(self, value: Any) -> Any:
        """A returned value as JSON."""
        return to_jsonable(value, fallback=str)

    @classmethod
    def from_function(cls, fn: Callable[..., Any], **options: Any) -> FunctionTool:
        """A tool from a function; the options of ``@mcp.tool``."""
        from erlmcp.compat.fastmcp.tools.function_tool import FunctionTool

        return FunctionTool.from_function(fn, **options)

    @classmethod
    def from_tool(
        cls,
        tool: Tool | Callable[..., Any],
        *,
        name: str | None = None,
        title: Any = NOT_SET,
        description: Any = NOT_SET,
        tags: Iterable[str] | None = None,
        annotations: Any = NOT_SET,
        output_schema: Any = NOT_SET,
        meta: Any = NOT_SET,
        transform_args: Mapping[str, Any] | None = None,
        transform_fn: Callable[..., Any] | None = None,
    ) -> TransformedTool:
        """The same tool under another face; see ``ArgTransform``."""
        from erlmcp.compat.fastmcp.tools.tool_transform import TransformedTool

        changed = {
            "title": title,
            "description": description,
            "annotations": annotations,
            "output_schema": output_schema,
            "meta": meta,
        }
        given = {key: each for key, each in changed.items() if each is not NOT_SET}
        return TransformedTool.from_tool(
            tool, name=name, tags=tags, transform_args=transform_args, transform_fn=transform_fn, **given
        )


def as_tools(given: Sequence[Any]) -> list[Tool]:
    """Tools from tools and functions."""
    return [each if isinstance(each, Tool) else Tool.from_function(each) for each in given]
