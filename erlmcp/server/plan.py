"""Tool plans: everything about a tool that can be known before it is called, found out once at registration."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from erlmcp.errors import ConfigurationError
from erlmcp.server.bind import Argument, Binder, Binding, Bound, Overrides
from erlmcp.server.check import check_value
from erlmcp.server.content import dump_model
from erlmcp.server.convert import Conversion, plan_conversion
from erlmcp.server.depend import is_async_call, kind_of, target_of
from erlmcp.server.docstring import Docstring, parse_docstring
from erlmcp.server.schema import Json, ParamHeader, SchemaBuilder, apply_facts, param_headers
from erlmcp.server.source import Invoke, compile_invoke, must_await

RunSync = Callable[..., Awaitable[Any]]
PRIORITIES = ("critical", "normal", "bulk")


@dataclass(slots=True, eq=False)
class ToolPlan(Bound):
    """A tool, ready to be listed and called.

    ``descriptor`` is its entry in tools/list (2026-07-28), keys in a fixed order, absent ones left out.
    ``invoke(arguments, context)`` decodes, runs the dependencies and calls the function; it gives a coroutine where
    ``is_async``, and is to be called in a worker thread where ``in_thread``. It raises ArgumentError for arguments
    that do not fit. ``result_kind``, ``result_class`` and ``wraps_result`` say when a value can be written without
    ``convert`` (see ``erlmcp.server.convert``). ``priority`` is the lane of its calls. ``param_headers`` maps
    lower-case HTTP header names (``mcp-param-region``) to the arguments that they mirror.
    """

    name: str
    descriptor: Json
    invoke: Invoke
    is_async: bool
    in_thread: bool
    tags: frozenset[str]
    priority: str
    timeout_s: float | None
    param_headers: dict[str, ParamHeader]
    result_kind: str
    result_class: type | None
    wraps_result: bool
    binding: Binding
    conversion: Conversion
    _recompile: Callable[[Overrides], ToolPlan] = field(repr=False)

    def __post_init__(self) -> None:
        if self.priority not in PRIORITIES:
            wanted = ", ".join(PRIORITIES)
            raise ConfigurationError(f"tool {self.name!r}: priority must be one of {wanted}, got {self.priority!r}")

    def decode(self, arguments: Mapping[str, Any] | None) -> dict[str, Any]:
        """Arguments as sent -> values by parameter name. Raises ArgumentError naming every bad one."""
        return self.binding.decode(arguments)

    def convert(self, value: Any) -> Json:
        """A returned value -> the result: content, structuredContent, isError, _meta. Raises ToolError."""
        return self.conversion.result(value)

    def override(self, overrides: Overrides) -> ToolPlan:
        """The same tool with some dependencies replaced (``{real: fake}``), for tests."""
        return self._recompile(overrides)


def compile_tool(
    fn: Callable[..., Any],
    *,
    name: str | None = None,
    title: str | None = None,
    description: str | None = None,
    annotations: object = None,
    icons: object = None,
    meta: Mapping[str, Any] | None = None,
    input_schema: Mapping[str, Any] | None = None,
    output_schema: Mapping[str, Any] | None = None,
    structured_output: bool | None = None,
    tags: Iterable[str] = (),
    priority: str = "normal",
    timeout_s: float | None = None,
    run_in_thread: bool | None = None,
    strict: bool = False,
    is_context: Callable[[Any], bool] = lambda _: False,
    run_sync: RunSync | None = None,
    overrides: Overrides | None = None,
) -> ToolPlan:
    """Plan a tool from a function. Raises ConfigurationError, naming tool and parameter, for what cannot be served.

    ``strict`` refuses unknown arguments (they are ignored otherwise). An ``input_schema`` by the author is listed as
    it is; a function with one parameter that is no property of it is given the whole arguments object, any other its
    parameters by name (``**rest`` takes what is left). A sync function is meant for a thread unless
    ``run_in_thread=False``, and waits for one by its ``priority``; ``run_sync`` is the async ``(fn, *args, **kwargs)``
    by which a sync function with async dependencies gets into one.
    """
    given = {key: value for key, value in locals().items() if key not in ("fn", "overrides")}
    name = tool_name(fn, name)
    label = f"tool {name!r}"
    refuse_generator(fn, label)
    binding = Binder(label, is_context, overrides, free_names=input_schema is not None).bind(fn)
    doc = parse_docstring(doc_of(fn))
    schema = adopt_schema(binding, input_schema, label) if input_schema is not None else None
    schema = schema or input_schema_of(binding, doc, strict)
    conversion = plan_conversion(label, binding.return_hint, structured=structured_output, output_schema=output_schema)
    fn_async = is_async_call(fn)
    in_thread, awaits = not fn_async and run_in_thread is not False, must_await(binding, fn_async)
    invoke = compile_invoke(binding, is_async=fn_async, run_sync=(run_sync or to_thread) if in_thread else None)
    descriptor = {
        "name": name,
        "title": title,
        "description": doc.text or None if description is None else description,
        "inputSchema": schema,
        "outputSchema": conversion.output_schema,
        "annotations": dump_model(annotations),
        "icons": dump_model(icons),
        "_meta": dump_model(meta),
    }
    return ToolPlan(
        name=name,
        descriptor={key: value for key, value in descriptor.items() if value is not None},
        invoke=invoke,
        is_async=fn_async or awaits,
        in_thread=in_thread and not awaits,
        tags=frozenset(tags),
        priority=priority,
        timeout_s=timeout_s,
        param_headers=param_headers(schema, label),
        result_kind=conversion.kind,
        result_class=conversion.result_class,
        wraps_result=conversion.wraps,
        binding=binding,
        conversion=conversion,
        _recompile=lambda overrides: compile_tool(fn, **given, overrides=overrides),
    )


def tool_name(fn: Any, name: str | None) -> str:
    """The given name, or the function's own. Raises ConfigurationError where there is none."""
    if name is None:
        name = getattr(fn, "__name__", None) or getattr(target_of(fn), "__name__", None)
        if name == "__call__":
            name = type(fn).__name__
    if not name or name == "<lambda>":
        raise ConfigurationError(f"{fn!r} has no name of its own; give one with name=")
    return name


def doc_of(fn: Any) -> str | None:
    """The docstring of what runs; not the one of functools.partial."""
    while hasattr(fn, "func") and hasattr(fn, "keywords"):
        fn = fn.func
    if inspect.isroutine(fn) or inspect.isclass(fn):
        return inspect.getdoc(fn)
    own: str | None = type(fn).__call__.__doc__ or type(fn).__doc__
    return own


def refuse_generator(fn: Any, label: str) -> None:
    """A tool, prompt or resource returns; only dependencies yield."""
    if kind_of(fn) in ("generator", "async_generator"):
        raise ConfigurationError(f"{label}: the function yields; return the whole value instead")


def input_schema_of(binding: Binding, doc: Docstring, strict: bool) -> Json:
    """The input schema of the function's own parameters; ``strict`` binds the call as well."""
    binding.strict = strict
    builder = SchemaBuilder()
    properties: Json = {}
    for each in binding.arguments:
        properties[each.key] = property_schema(builder, each, doc)
    root: Json = {"type": "object", "properties": properties}
    required = [each.key for each in binding.arguments if each.required]
    if required:
        root["required"] = required
    if strict:
        root["additionalProperties"] = False
    return builder.finish(root)


def property_schema(builder: SchemaBuilder, each: Argument, doc: Docstring) -> Json:
    """The schema of one argument, with its default, and its description from the docstring where it has no other."""
    made = builder.build(each.shape)
    if each.shape.kind not in ("bounded", "foreign"):
        made = apply_facts(made, each.facts)
    if "description" not in made and each.name in doc.params:
        made["description"] = doc.params[each.name]
    return builder.with_default(made, each.default)


def adopt_schema(binding: Binding, given: Mapping[str, Any], label: str) -> Json:
    """Take the author's input schema as it is, and fit the function's parameters to it."""
    schema = dict(given)
    if schema.get("type") != "object":
        raise ConfigurationError(f"{label}: input_schema must have 'type': 'object' at its root")
    known = schema.get("properties", {})
    binding.check = lambda arguments: check_value(schema, arguments)
    own = [slot for slot in binding.slots if slot.source in ("argument", "rest")]
    if len(own) == 1 and own[0].source == "argument" and own[0].argument and own[0].argument.key not in known:
        if not own[0].argument.required and known:
            return schema
        own[0].source, own[0].argument = "whole", None
        binding.arguments.clear()
        binding.whole = True
        return schema
    takes_rest = any(slot.source == "rest" for slot in own)
    for each in binding.arguments:
        if known and each.key not in known and each.required and not takes_rest:
            raise ConfigurationError(f"{label}: parameter {each.name!r} is no property of input_schema")
    return schema


def to_thread(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Awaitable[Any]:
    """Where the server gave no thread pool of its own: asyncio's."""
    import asyncio

    return asyncio.to_thread(fn, *args, **kwargs)
