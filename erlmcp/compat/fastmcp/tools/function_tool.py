"""Tools that are functions: compiled once, when they are registered."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from erlmcp.compat.fastmcp.current import current_context, is_context
from erlmcp.compat.fastmcp.described import description_of
from erlmcp.compat.fastmcp.exceptions import Unfit, ValidationError, unsupported
from erlmcp.compat.fastmcp.schema import listed_input, listed_output, validator
from erlmcp.compat.fastmcp.shape import NOT_SET
from erlmcp.compat.fastmcp.thread import in_thread
from erlmcp.compat.fastmcp.tools.base import Tool, ToolResult
from erlmcp.errors import ArgumentError, ConfigurationError, McpError
from erlmcp.server.depend import kind_of
from erlmcp.server.plan import ToolPlan, compile_tool
from erlmcp.server.scalar import Mismatch

if TYPE_CHECKING:
    from erlmcp.compat.fastmcp.server.server import FastMCP

MARK = "__fastmcp__"
TIMED_OUT = -32000


@dataclass
class Marked:
    """What ``@tool``, ``@resource`` or ``@prompt`` outside of a server leaves at a function."""

    kind: str
    options: dict[str, Any]


def mark_of(fn: Any, kind: str) -> dict[str, Any] | None:
    """The options that a decorator left at a function."""
    found = getattr(fn, MARK, None) or getattr(getattr(fn, "__func__", None), MARK, None)
    return found.options if isinstance(found, Marked) and found.kind == kind else None


def mark(fn: Any, kind: str, options: dict[str, Any]) -> Any:
    """Leave the options of a decorator at a function."""
    setattr(getattr(fn, "__func__", fn), MARK, Marked(kind, options))
    return fn


def naming(name_or_fn: Any, name: str | None, apply: Callable[[Any, str | None], Any]) -> Any:
    """The forms of a decorator: bare, with a name, with options, or with the function at once."""
    if isinstance(name_or_fn, classmethod):
        raise Unfit("a classmethod is decorated by @classmethod above, and registered with add_tool(Class.method)")
    if isinstance(name_or_fn, str):
        if name is not None:
            raise Unfit(f"two names: {name_or_fn!r} and name={name!r}")
        return lambda fn: apply(fn, name_or_fn)
    if name_or_fn is None:
        return lambda fn: apply(fn, name)
    if callable(name_or_fn) or isinstance(name_or_fn, staticmethod):
        return apply(name_or_fn, name)
    raise Unfit(f"a decorator takes a function or a name, got {type(name_or_fn).__name__}")


def gathered(fn: Any) -> Any:
    """A function that yields, as one that returns all that it yields."""
    kind = kind_of(fn)
    if kind == "generator":

        @functools.wraps(fn)
        def collect(*args: Any, **kwargs: Any) -> Any:
            return list(fn(*args, **kwargs))

        return collect
    if kind == "async_generator":

        @functools.wraps(fn)
        async def collect_later(*args: Any, **kwargs: Any) -> Any:
            return [each async for each in fn(*args, **kwargs)]

        return collect_later
    return fn


def refuse_unnamed(fn: Any, kind: str) -> None:
    """Raises Unfit for parameters that cannot be given by name."""
    target = fn.__func__ if isinstance(fn, staticmethod) else fn
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):
        return
    words = {
        inspect.Parameter.POSITIONAL_ONLY: "positional-only parameters",
        inspect.Parameter.VAR_POSITIONAL: "*args",
        inspect.Parameter.VAR_KEYWORD: "**kwargs",
    }
    for each in parameters:
        if each.kind in words:
            raise Unfit(f"Functions with {words[each.kind]} are not supported as {kind}: arguments come by name")


class FunctionTool(Tool):
    """A tool whose ``fn`` is called with the arguments. ``plan`` is how."""

    def __init__(self, fn: Callable[..., Any], plan: ToolPlan, **options: Any) -> None:
        super().__init__(**options)
        self.fn = fn
        self.plan = plan
        self._validator: Any = None

    @classmethod
    def from_function(cls, fn: Callable[..., Any], **options: Any) -> FunctionTool:
        """With the options of ``@mcp.tool``, or those that ``@tool`` left at the function.

        Raises Unfit for a function that cannot be a tool, Unsupported for an option that is not here.
        """
        if "output_schema" not in options and all(each is None for each in options.values()):
            options = mark_of(fn, "tool") or {}
        return cls._make(fn, **options)

    @classmethod
    def _make(
        cls,
        fn: Callable[..., Any],
        *,
        name: str | None = None,
        description: str | None = None,
        output_schema: Any = NOT_SET,
        app: Any = None,
        task: Any = None,
        timeout: float | None = None,
        enabled: bool | None = None,
        run_in_thread: bool | None = None,
        **options: Any,
    ) -> FunctionTool:
        if app:
            unsupported("app=", "MCP Apps are an extension of their own", "a resource with the app's ui:// URI")
        if task:
            unsupported("task=", "background tasks need a queue beside the server", "server.schedule(fn, ...)")
        if enabled is not None:
            unsupported("enabled=", "FastMCP 4 took it away too", "mcp.disable(names={...})")
        refuse_unnamed(fn, "tools")
        if timeout is not None and run_in_thread is False and kind_of(fn) in ("sync", "generator"):
            raise Unfit(f"tool {name or fn!r}: a timeout cannot end a function that runs on the loop")
        plan = _compiled(fn, name, run_in_thread)
        schema = listed_output(plan) if output_schema is NOT_SET else output_schema
        if schema is not None and not _is_object(schema):
            raise Unfit(f"tool {plan.name!r}: Output schemas must represent object types, got {schema!r}")
        return cls(
            fn,
            plan,
            name=plan.name,
            description=description_of(fn) if description is None else description,
            parameters=listed_input(plan),
            output_schema=schema,
            timeout=timeout,
            **options,
        )

    def dumped(self, value: Any) -> Any:
        """By the annotation where it has a meaning of its own, as that of a model has."""
        conversion = self.plan.conversion
        if conversion.output_schema is not None and value is not None:
            try:
                return conversion.dump(value)
            except (Mismatch, TypeError, ValueError):
                pass
        return super().dumped(value)

    # -- arguments -----------------------------------------------------------------------------------------------------

    def again(self, arguments: Any, refusal: ArgumentError, *, strict: bool = False) -> dict[str, Any]:
        """The values of arguments that our own decoders refused, where pydantic takes them; raises ValidationError, in
        its words, where it does not either."""
        try:
            if self._validator is None:
                self._validator = validator(self.plan)
            found: dict[str, Any] = self._validator.validate_python(arguments or {}, strict=strict or None)
            return found
        except ImportError:
            raise ValidationError(str(refusal)) from refusal
        except ValueError as error:
            raise ValidationError(str(error)) from refusal

    def call_again(self, arguments: Any, context: Any, refusal: ArgumentError) -> Any:
        """The call with such values, where nothing but the context has to be added to them."""
        found = self.again(arguments, refusal)
        binding = self.plan.binding
        if binding.nodes:
            raise ValidationError(str(refusal)) from refusal
        given = dict.fromkeys(binding.context_names, context)
        return binding.call(**found, **given)

    def check(self, arguments: Any) -> None:
        """Raises ValidationError for arguments that only fit where types may be converted."""
        from erlmcp.server.check import check_value

        if check_value(self.parameters, arguments or {}):
            self.again(arguments, ArgumentError(f"Invalid arguments for tool {self.name!r}"), strict=True)

    # -- calls ---------------------------------------------------------------------------------------------------------

    async def run(self, arguments: dict[str, Any]) -> ToolResult:
        context = current_context()
        server: FastMCP | None = context.fastmcp if context is not None else None
        if server is not None and server.strict_input_validation:
            self.check(arguments)
        return self.convert_result(await self.bounded(self._value(arguments, context)))

    async def _value(self, arguments: dict[str, Any], context: Any) -> Any:
        if self.plan.in_thread:
            return await in_thread(self.decided, arguments, context)
        value = self.decided(arguments, context)
        return await value if hasattr(value.__class__, "__await__") else value

    def decided(self, arguments: Any, context: Any) -> Any:
        """The call: by our decoders, or by pydantic where they refuse."""
        try:
            value = self.plan.invoke(arguments, context)
        except ArgumentError as refusal:
            return self.call_again(arguments, context, refusal)
        if self.plan.binding.nodes and hasattr(value.__class__, "__await__"):
            return self._decided_later(value, arguments)
        return value

    async def _decided_later(self, value: Awaitable[Any], arguments: Any) -> Any:
        try:
            return await value
        except ArgumentError as refusal:
            self.again(arguments, refusal)
            raise ValidationError(str(refusal)) from refusal

    async def bounded(self, call: Awaitable[Any]) -> Any:
        """The call within its timeout; McpError where that passes."""
        if self.timeout is None:
            return await call
        try:
            async with asyncio.timeout(self.timeout):
                return await call
        except TimeoutError as error:
            text = f"Tool '{self.name}' execution timed out after {self.timeout}s"
            raise McpError(TIMED_OUT, text) from error


def _compiled(fn: Any, name: str | None, run_in_thread: bool | None) -> ToolPlan:
    options: dict[str, Any] = {"name": name, "strict": True, "is_context": is_context, "run_sync": in_thread}
    if run_in_thread is False:
        options["run_in_thread"] = False
    try:
        return compile_tool(gathered(fn), **options)
    except ConfigurationError as error:
        raise Unfit(str(error)) from error


def _is_object(schema: Any) -> bool:
    return isinstance(schema, dict) and (schema.get("type") == "object" or "properties" in schema or "$ref" in schema)


def tool(name_or_fn: Any = None, *, name: str | None = None, **options: Any) -> Any:
    """Mark a function as a tool; ``mcp.add_tool`` registers it."""
    return naming(name_or_fn, name, lambda fn, found: mark(fn, "tool", {**options, "name": found}))
