"""The official SDK's ``MCPServer`` (mcp 2.3.0): which of its tools are plain, and their plans."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from copy import copy
from functools import partial
from typing import Any

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ResourceError, ToolError, UnexpectedResourceError, UnexpectedToolError
from mcp.server.mcpserver.resolve import returns_input_required
from mcp.server.mcpserver.tools import Tool, ToolManager
from mcp.server.mcpserver.utilities.func_metadata import FuncMetadata
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult, TextContent
from pydantic import ValidationError
from pydantic_core import PydanticUndefined

from erlmcp.compat.accel.adapter import Adapter, ambient_name, is_cancelled, mirrors_headers
from erlmcp.compat.accel.context import taker
from erlmcp.compat.accel.level import L1, Verdict
from erlmcp.compat.accel.straight import CONVERT, TEXT, TEXT_ONLY, VALUE, Direct, StraightPlan, takes_by_position
from erlmcp.compat.accel.watch import watch
from erlmcp.server.param import MISSING

log = logging.getLogger("mcp.server.mcpserver.server")  # where the SDK says the same

OVERRIDABLE = ("call_tool", "_handle_call_tool")
# A value of exactly one of these classes is what pydantic makes of it; and a default that is not copied.
PLAIN = (str, int, float, bool, dict, list)
CONSTANT = (str, int, float, bool, type(None))


class RefusedError(Exception):
    """The arguments did not get through the tool's validator; the text is whole."""


class SdkAdapter(Adapter):
    """An ``MCPServer``."""

    kind = "MCPServer"
    sdk_class = MCPServer
    app: MCPServer[Any]

    def _low_level(self) -> Any:
        return self.app._lowlevel_server

    def watch(self, changed: Callable[[], None]) -> None:
        super().watch(changed)
        watch(self.app._tool_manager, "_tools", changed)

    def why_none(self) -> str:
        reason = self.in_the_way()
        if reason:
            return reason
        cls = type(self.app)
        for name in OVERRIDABLE:
            if getattr(cls, name) is not getattr(MCPServer, name) or name in vars(self.app):
                return f"{cls.__name__}.{name} is overridden"
        manager = self.app._tool_manager
        if type(manager) is not ToolManager or {"call_tool", "get_tool"} & vars(manager).keys():
            return "the tool manager is not the SDK's own"
        entry = self.server.get_request_handler("tools/call")
        if entry is None or entry.handler != self.app._handle_call_tool:
            return "an extension or a handler of its own stands before tools/call"
        return ""

    def has_auth(self) -> bool:
        return self.app.settings.auth is not None

    def routes(self) -> list[Any]:
        return list(self.app._custom_starlette_routes)

    async def run_stdio(self) -> None:
        await self.app.run_stdio_async()

    def http_app(self, host: str, path: str) -> Any:
        return self.app.streamable_http_app(streamable_http_path=path, host=host)

    def plans(self) -> Iterable[StraightPlan | Verdict]:
        tools = dict(self.app._tool_manager._tools)
        self.forget(tools.values())
        for name, tool in tools.items():
            yield self.judged(tool, partial(_judge, self.app, name, tool))


def _judge(app: MCPServer[Any], name: str, tool: Tool) -> StraightPlan | Verdict:
    why = why_not(tool)
    return Verdict(name, L1, why) if why else plan_of(app, name, tool)


def why_not(tool: Tool) -> str:
    """Why a tool needs the kernel; "" where it is plain."""
    if type(tool) is not Tool:
        return f"a {type(tool).__name__}, not the SDK's own Tool"
    if type(tool.fn_metadata) is not FuncMetadata:
        return "its metadata is not the SDK's own"
    if tool.resolved_params:
        return "it has Resolve parameters"
    if returns_input_required(tool.fn):
        return "it may ask the client (InputRequiredResult)"
    if mirrors_headers(tool.parameters):
        return "an argument is mirrored in a header"
    found = ambient_name(tool.fn)
    return f"it calls {found}()" if found else ""


def plan_of(app: MCPServer[Any], name: str, tool: Tool) -> StraightPlan:
    """The plan of a plain tool."""
    kind, cls = result_of(tool.fn_metadata)
    fields = fields_of(tool.fn_metadata.arg_model)
    with_context = tool.context_kwarg is not None
    if with_context:
        empty = Context(mcp_server=app, subscriptions=app._subscriptions)  # which those of calls are copies of
        invoke: Any = partial(_invoke_with, empty, tool, None if fields is None else taker(fields, is_strict=False))
    else:
        invoke = partial(_invoke, tool)
        fields = fields if fields is not None and takes_by_position(tool.fn, fields[0]) else None
    return StraightPlan(
        name=name,
        source=tool,
        function=tool.fn,
        invoke=invoke,
        convert=tool.fn_metadata.convert_result,
        refuse=partial(_refuse, name, tool),
        is_async=tool.is_async,
        in_thread=not tool.is_async,
        direct=fields,
        result_kind=kind,
        result_class=cls,
        wraps_result=True,
        needs_context=with_context,
    )


def _invoke(tool: Tool, arguments: Any, _context: object) -> Any:
    return tool.fn(**_validated(tool, arguments or {}))


async def _invoke_with(
    empty: Context[Any, Any],
    tool: Tool,
    take: Callable[[dict[str, Any]], dict[str, Any] | None] | None,
    arguments: dict[str, Any],
    request: Any,
) -> Any:
    """As ``_handle_call_tool`` and ``Tool.run`` do; an ordinary function has the thread that it would have had, from
    which ``anyio.from_thread`` reaches the Context."""
    given = None if take is None else take(arguments)
    if given is None:
        given = _validated(tool, arguments)
    context = copy(empty)
    context._request_context = request
    return await tool.fn_metadata.call_fn(tool.fn, tool.is_async, given, {tool.context_kwarg or "": context})


def _validated(tool: Tool, arguments: dict[str, Any]) -> dict[str, Any]:
    try:
        return tool.fn_metadata.validate_arguments(arguments)
    except ValidationError as error:
        fields = sorted({".".join(str(part) for part in each["loc"]) for each in error.errors()})
        log.info("Tool %r rejected arguments: %r", tool.name, fields)
        raise RefusedError(f"Error executing tool {tool.name}: {error}") from error
    except MCPError:
        raise
    except Exception as error:
        log.exception("Tool %r raised an unexpected exception", tool.name)
        raise RefusedError(f"Error executing tool {tool.name}") from error


def _refuse(name: str, tool: Tool, error: BaseException) -> Any:
    """What ``Tool.run`` and the handler above it make of an exception."""
    if isinstance(error, MCPError) or is_cancelled(error):
        raise error
    if isinstance(error, RefusedError):
        text = str(error)
    elif isinstance(error, ToolError | ResourceError):
        text = f"Error executing tool {tool.name}: {error}"
        if isinstance(error, UnexpectedToolError | UnexpectedResourceError):
            log.error("Tool %r raised an unexpected exception", name, exc_info=error)
        else:
            log.info("Tool %r failed: %r", name, text)
    else:
        text = f"Error executing tool {tool.name}"
        log.error("Tool %r raised an unexpected exception", name, exc_info=error)
    return CallToolResult(content=[TextContent(type="text", text=text)], is_error=True)


def fields_of(model: Any) -> Direct | None:
    """Keys, exact classes and defaults of arguments that need no validator; None where one does."""
    keys: list[str] = []
    classes: list[type | None] = []
    defaults: list[object] = []
    if model.__pydantic_decorators__.validators or model.__pydantic_decorators__.field_validators:
        return None
    for name, field in model.model_fields.items():
        if field.alias is not None or field.annotation not in PLAIN or field.metadata:
            return None
        if field.default_factory is not None or field.validate_default:
            return None
        default = MISSING if field.default is PydanticUndefined else field.default
        if default is not MISSING and type(default) not in CONSTANT:
            return None
        keys.append(name)
        classes.append(field.annotation)
        defaults.append(default)
    return tuple(keys), tuple(classes), tuple(defaults)


def result_of(metadata: FuncMetadata) -> tuple[str, type | None]:
    """The kind of answer, and the exact class of values that it may be written for without the tool's conversion."""
    if metadata.output_schema is None or metadata.output_model is None:
        return TEXT_ONLY, str
    fields = getattr(metadata.output_model, "model_fields", {})
    if not metadata.wrap_output or set(fields) != {"result"} or fields["result"].metadata:
        return CONVERT, None
    cls = fields["result"].annotation
    if cls is str:
        return TEXT, str
    # A float is left to the conversion: pydantic writes 1e-7 where JSON of Python says 1e-07, and the text has it.
    return (VALUE, cls) if cls in (int, bool) else (CONVERT, None)
