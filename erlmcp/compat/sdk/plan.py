"""Tools, resources and prompts planned in the SDK's manner, from our plans.

A tool keeps the compiled plan of ``Server``: its arguments are read and its function is called by the same code, so a
plain tool goes the short way. What differs is what is listed (schemas, the docstring as it stands) and how a value
becomes a result.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import re
import typing
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from erlmcp.compat.sdk.context import BaseContext, is_context, is_foreign_context
from erlmcp.compat.sdk.convert import content_of, indented, is_named, plan_result
from erlmcp.compat.sdk.exceptions import InvalidSignature
from erlmcp.compat.sdk.lenient import make_lenient
from erlmcp.compat.sdk.resolve import ResolverGraph, asks_by_itself, resolved_parameters
from erlmcp.compat.sdk.schema import TitledBuilder, argument_schema, input_schema
from erlmcp.errors import ConfigurationError
from erlmcp.server.bind import Binding, Overrides, read_signature
from erlmcp.server.content import ResourceContents, dump_model
from erlmcp.server.depend import is_async_call
from erlmcp.server.plan import ToolPlan, compile_tool, tool_name
from erlmcp.server.prompt import PromptPlan, compile_prompt
from erlmcp.server.resource import ResourcePlan, compile_resource
from erlmcp.server.schema import param_headers
from erlmcp.server.shape import unwrap
from erlmcp.server.source import compile_invoke

if TYPE_CHECKING:
    from erlmcp.compat.sdk.kernel import Kernel

log = logging.getLogger("erlmcp.compat")
_TOOL_NAME = re.compile(r"[A-Za-z0-9_.\-]{1,128}")
CONTEXT = "erlmcp_context"  # the parameter by which a resolved tool gets its context


def doc_of(fn: Any) -> str:
    """The docstring as it stands, which is what the SDK lists."""
    return fn.__doc__ or ""


def name_of(fn: Any, name: str | None) -> str:
    """Raises ValueError, as the SDK does, where a function has no name of its own."""
    try:
        return tool_name(fn, name)
    except ConfigurationError:
        raise ValueError("You must provide a name for lambda functions") from None


def hints_for(fn: Any, label: str) -> dict[str, Any]:
    """The annotations of a function, looked at for what was imported from another SDK."""
    signature, hints = read_signature(fn, label)
    for name, parameter in signature.parameters.items():
        if name.startswith("_"):
            raise InvalidSignature(f"{label}: parameter {name} cannot start with '_'")
        hint = unwrap(hints.get(name))[0]
        if any(is_foreign_context(each) for each in (hint, *typing.get_args(hint))):
            raise InvalidSignature(
                f"{label}: parameter {name!r} takes the Context of another package ({parameter.annotation}); import it "
                "from where the server comes from"
            )
    return hints


def compile_sdk_tool(
    kernel: Kernel,
    fn: Callable[..., Any],
    *,
    name: str | None,
    title: str | None,
    description: str | None,
    annotations: Any,
    icons: Any,
    meta: Mapping[str, Any] | None,
    structured_output: bool | None,
    overrides: Overrides | None = None,
) -> ToolPlan:
    """Plan a tool. Raises InvalidSignature (a ConfigurationError) for what cannot be served."""
    given = {key: value for key, value in locals().items() if key not in ("kernel", "fn", "overrides")}
    own_name = name_of(fn, name)
    if _TOOL_NAME.fullmatch(own_name) is None:
        log.warning("the tool name %r is not of 1 to 128 letters, digits, '_', '-' and '.'", own_name)
    label = f"tool {own_name!r}"
    hints = hints_for(fn, label)
    returns = hints.get("return", inspect.signature(fn).return_annotation)
    resolved = resolved_parameters(label, hints)
    if resolved and asks_by_itself(returns):
        raise InvalidSignature(
            f"{label} has Resolve(...) parameters and returns an InputRequiredResult; a call has one way to ask"
        )
    called = _with_resolvers(kernel, fn, label, hints, resolved) if resolved else fn
    plan = compile_tool(
        called,
        name=own_name,
        title=title,
        description=description or doc_of(fn),
        annotations=annotations,
        icons=icons,
        meta=meta,
        structured_output=False,
        run_in_thread=kernel.runs_in_thread,
        is_context=is_context,
        run_sync=kernel.in_thread,
        overrides=overrides,
    )
    _dress(kernel, plan, fn, label, hints, returns, structured_output)
    plan._recompile = lambda overrides: compile_sdk_tool(kernel, fn, **given, overrides=overrides)
    return plan


def _dress(
    kernel: Kernel, plan: ToolPlan, fn: Any, label: str, hints: Mapping[str, Any], returns: Any, structured: Any
) -> None:
    """Put the SDK's schemas and results into a plan."""
    fn_name = getattr(fn, "__name__", plan.name)
    conversion = plan_result(label, fn_name, returns, structured)
    schema = input_schema(plan.binding, fn_name, hints)
    plan.conversion = conversion
    plan.result_kind, plan.result_class, plan.wraps_result = conversion.kind, conversion.result_class, conversion.wraps
    try:
        plan.param_headers = param_headers(schema, label)
    except ConfigurationError as error:
        raise InvalidSignature(str(error)) from error
    listed = {**plan.descriptor, "inputSchema": schema}
    if conversion.output_schema is not None:
        listed["outputSchema"] = conversion.output_schema
    plan.descriptor = listed
    plan.invoke = _lenient_invoke(kernel, plan.binding)
    if plan.needs_context:
        plan.invoke = with_face(kernel, plan.invoke)


def _lenient_invoke(kernel: Kernel, binding: Binding) -> Any:
    """The call of a plan's function, with arguments read as the SDK reads them."""
    make_lenient(binding)
    return compile_invoke(binding, is_async=is_async_call(binding.call), run_sync=kernel.in_thread)


def with_face(kernel: Kernel, invoke: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """``invoke`` with our context handed over as the façade's."""
    make = kernel.face_context

    def invoke_with_face(arguments: Any, context: Any) -> Any:
        return invoke(arguments, context if isinstance(context, BaseContext) else make(context))

    return invoke_with_face


def _with_resolvers(
    kernel: Kernel, fn: Callable[..., Any], label: str, hints: Mapping[str, Any], resolved: Mapping[str, Any]
) -> Callable[..., Any]:
    """The tool as a function of what the caller sends, and the context."""
    signature = inspect.signature(fn)
    own = {name: each for name, each in signature.parameters.items() if name not in resolved}
    takers = [name for name in own if is_context(unwrap(hints.get(name))[0])]
    graph = ResolverGraph(label, resolved, set(own) - set(takers))
    is_async, run_sync = is_async_call(fn), kernel.run_sync

    async def call(**given: Any) -> Any:
        context = given.pop(CONTEXT)
        values = await graph.values(given, context, run_sync)
        passed = {**given, **dict.fromkeys(takers, context), **values}
        made = await fn(**passed) if is_async else await run_sync(fn, **passed)
        if is_named(made, "InputRequiredResult"):
            raise RuntimeError("the tool asks by its result, and its parameters by Resolve(...); a call has one way")
        return made

    kept = {name: hint for name, hint in hints.items() if name in own and name not in takers}
    parameters = [each.replace(kind=each.KEYWORD_ONLY) for name, each in own.items() if name not in takers]
    parameters.append(inspect.Parameter(CONTEXT, inspect.Parameter.KEYWORD_ONLY))
    call.__annotations__ = {**kept, CONTEXT: kernel.context_class}
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__name__ = getattr(fn, "__name__", "call")
    return call


async def run_in_thread(fn: Callable[..., Any], /, **given: Any) -> Any:
    """Where the server does not run: a thread of asyncio's."""
    return await asyncio.to_thread(functools.partial(fn, **given))


# -- resources ---------------------------------------------------------------------------------------------------------


def compile_sdk_resource(
    kernel: Kernel, fn: Callable[..., Any], uri: str, *, name: str | None, mime_type: str | None, **options: Any
) -> ResourcePlan:
    """Plan a resource or a template. Raises ValueError where its variables and its function's parameters differ."""
    own_name = name_of(fn, name)
    hints_for(fn, f"resource {uri!r}")
    options["description"] = options.get("description") or doc_of(fn)
    kind = mime_type or "text/plain"
    plan = compile_resource(
        _reading(fn, kind, options.get("meta")),
        uri,
        name=own_name,
        mime_type=kind,
        safe=False,
        run_in_thread=kernel.runs_in_thread,
        is_context=is_context,
        run_sync=kernel.in_thread,
        **options,
    )
    plan.invoke = _lenient_invoke(kernel, plan.binding)
    if plan.needs_context:
        plan.invoke = with_face(kernel, plan.invoke)
    given = {"name": name, "mime_type": mime_type, **options}
    plan._recompile = lambda overrides: compile_sdk_resource(kernel, fn, uri, **{**given, "overrides": overrides})
    return plan


def _reading(fn: Callable[..., Any], mime_type: str, meta: Any) -> Callable[..., Any]:
    """A function whose value is text, bytes, or a question."""
    if is_async_call(fn):

        @functools.wraps(fn)
        async def read(*args: Any, **given: Any) -> Any:
            return entry_of(await fn(*args, **given), mime_type, meta)

        return read

    @functools.wraps(fn)
    def read_here(*args: Any, **given: Any) -> Any:
        return entry_of(fn(*args, **given), mime_type, meta)

    return read_here


def is_resource(value: Any) -> bool:
    """Is it a resource object, which is still to be read?"""
    return hasattr(value, "read") and hasattr(value, "mime_type")


def entry_of(value: Any, mime_type: str, meta: Any) -> Any:
    """A returned value as the one entry of the contents; a question and a resource object as they are."""
    if is_named(value, "InputRequiredResult") or is_resource(value):
        return value
    plain = value if isinstance(value, str | bytes) else indented(value)
    return ResourceContents(plain, mime_type, meta=meta)


# -- prompts -----------------------------------------------------------------------------------------------------------


def compile_sdk_prompt(
    kernel: Kernel, fn: Callable[..., Any], *, name: str | None, description: str | None, **options: Any
) -> PromptPlan:
    """Plan a prompt."""
    own_name = name_of(fn, name)
    label = f"prompt {own_name!r}"
    hints = hints_for(fn, label)
    plan = compile_prompt(
        fn,
        name=own_name,
        description=description or doc_of(fn),
        run_in_thread=kernel.runs_in_thread,
        is_context=is_context,
        run_sync=kernel.in_thread,
        **options,
    )
    arguments = []
    for each in plan.binding.arguments:
        schema = argument_schema(TitledBuilder(), each, hints)
        entry = {"name": each.key, "description": schema.get("description"), "required": each.required}
        arguments.append({key: value for key, value in entry.items() if value is not None})
    plan.descriptor = {**plan.descriptor, "arguments": arguments}
    plan.invoke = _lenient_invoke(kernel, plan.binding)
    if plan.needs_context:
        plan.invoke = with_face(kernel, plan.invoke)
    given = {"name": name, "description": description, **options}
    plan._recompile = lambda overrides: compile_sdk_prompt(kernel, fn, **{**given, "overrides": overrides})
    return plan


def message_of(value: Any) -> dict[str, Any]:
    """One message of a prompt from whatever a prompt function returns."""
    if hasattr(value, "role") and hasattr(value, "content"):
        value = {"role": value.role, "content": value.content}
    if isinstance(value, Mapping) and "role" in value:
        if value["role"] not in ("user", "assistant"):
            raise ValueError(f"role {value['role']!r}; expected 'user' or 'assistant'")
        content = value["content"]
        is_block = isinstance(content, Mapping) and "type" in content
        return {"role": value["role"], "content": dump_model(content) if is_block else content_of(content)[0]}
    return {"role": "user", "content": content_of(value)[0]}


def messages_of(value: Any) -> list[dict[str, Any]]:
    return [message_of(each) for each in (value if isinstance(value, list | tuple) else [value])]
