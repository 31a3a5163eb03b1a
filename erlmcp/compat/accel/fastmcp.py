"""FastMCP (4.1.2): which of its tools are plain, and their plans."""

from __future__ import annotations

import inspect
import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final, get_type_hints

from fastmcp import FastMCP
from fastmcp.exceptions import FastMCPError, ValidationError
from fastmcp.server.auth.middleware import RequireAuthMiddleware
from fastmcp.server.context import Context, reset_transport, set_transport
from fastmcp.server.dependencies import get_dependency_parameters, without_injected_parameters
from fastmcp.server.http import RequestContextMiddleware
from fastmcp.server.low_level import FastMCPServerMiddleware
from fastmcp.server.middleware import Middleware
from fastmcp.server.middleware.tool_injection import ToolInjectionMiddleware
from fastmcp.server.mixins.mcp_operations import _normalize_call_tool_result
from fastmcp.server.providers.local_provider import LocalProvider
from fastmcp.server.server import _validation_error_summary
from fastmcp.server.transforms.visibility import Visibility
from fastmcp.tools.base import Tool
from fastmcp.tools.function_tool import FunctionTool, _ToolBodyError, _validate_input, _wrap_body_errors
from fastmcp.utilities.async_utils import is_coroutine_function
from fastmcp.utilities.exceptions import get_http_status_code, is_timeout_error
from fastmcp.utilities.types import find_kwarg_by_type, get_cached_typeadapter
from mcp.server.request_state import RequestStateBoundary
from mcp.shared.exceptions import MCPError
from mcp_types import MISSING_REQUIRED_CLIENT_CAPABILITY, CallToolResult, InputRequiredResult, TextContent
from pydantic import ValidationError as PydanticValidationError

from erlmcp.compat.accel.adapter import ASK, Adapter, ambient_name, is_cancelled, mirrors_headers, names_reached
from erlmcp.compat.accel.around import Body, caller_of, context_names, within
from erlmcp.compat.accel.context import taker
from erlmcp.compat.accel.level import L1, Verdict, name_of
from erlmcp.compat.accel.sdk import CONSTANT, PLAIN
from erlmcp.compat.accel.straight import CONVERT, TEXT, TEXT_ONLY, VALUE, Direct, StraightPlan, takes_by_position
from erlmcp.compat.accel.voice import HTTP_KINDS
from erlmcp.compat.accel.watch import watch
from erlmcp.server.param import MISSING

log = logging.getLogger("fastmcp.server.server")  # where FastMCP says the same

OVERRIDABLE: Final = ("call_tool", "_on_call_tool", "get_tool", "_get_tool", "_run_middleware")
HOOKS: Final = ("__call__", "on_message", "on_request", "on_call_tool", "_dispatch_handler")  # those that see a call
BY_SESSION: Final = frozenset({"enable_components", "disable_components", "reset_visibility"})
# Of the names by which a function looks for the request at hand, those that a Context alone does not answer.
ELSEWHERE: Final = frozenset({"get_access_token", "get_task_context"})
WRAPPED: Final = {"fastmcp": {"wrap_result": True}}  # what FastMCP says of a result that it wrapped


class FastAdapter(Adapter):
    """A ``FastMCP``."""

    packages = ("fastmcp", "mcp")
    kind = "FastMCP"
    sdk_class = FastMCP
    makers = ("http_app",)
    guards = (RequireAuthMiddleware,)
    http_middleware = (RequestContextMiddleware,)
    app: FastMCP[Any]

    def _low_level(self) -> Any:
        return self.app._mcp_server

    def watch(self, changed: Callable[[], None]) -> None:
        super().watch(changed)
        for owner, attribute in (
            (self.app, "middleware"),
            (self.app, "providers"),
            (self.app, "_transforms"),
            (self.app, "_extensions"),
            (self.app._local_provider, "_components"),
            (self.app._local_provider, "_transforms"),
        ):
            watch(owner, attribute, changed)

    def own_middleware(self) -> tuple[type, ...]:
        return (FastMCPServerMiddleware, RequestStateBoundary)

    def why_none(self) -> str:
        app = self.app
        reason = self.in_the_way()
        if reason:
            return reason
        cls: Any = type(app)
        for name in OVERRIDABLE:
            if getattr(cls, name) is not getattr(FastMCP, name) or name in vars(app):
                return f"{cls.__name__}.{name} is overridden"
        entry = self.server.get_request_handler("tools/call")
        if entry is None or entry.handler != app._on_call_tool:
            return "a handler of its own stands before tools/call"
        for each in app.middleware:
            if isinstance(each, ToolInjectionMiddleware) or any(_overrides(each, name) for name in HOOKS):
                return f"middleware {name_of(each)}"
        for extension in app._extensions.values():
            return f"extension {name_of(extension)}"
        if type(app._local_provider) is not LocalProvider or list(app.providers) != [app._local_provider]:
            return "a mounted server or another provider may have tools of these names"
        for transform in (*app._transforms, *app._local_provider._transforms):
            if type(transform) is not Visibility:
                return f"transform {name_of(transform)}"
        return self._why_by_session()

    def _why_by_session(self) -> str:
        for component in self.app._local_provider._components.values():
            found = names_reached(getattr(component, "fn", None), BY_SESSION)
            if found:
                return f"{component.name} calls {found}(), which is for one session"
        return "Prefab apps are in use" if "prefab_ui" in sys.modules else ""

    def has_auth(self) -> bool:
        return self.app.auth is not None

    def routes(self) -> list[Any]:
        return list(self.app._get_additional_http_routes())

    async def run_stdio(self) -> None:
        await self.app.run_stdio_async(show_banner=False)

    def http_app(self, host: str, path: str) -> Any:
        return self.app.http_app(path=path)

    def front_app(self, path: str) -> Any:
        return self.app.http_app(path=path, host_origin_protection=False)

    def schema_of(self, name: str) -> Any:
        app = self.app
        if len(app.providers) > 1 or app._transforms or app._local_provider._transforms:
            return ASK
        found = app._local_provider._components.get(f"tool:{name}@")
        return found.parameters if isinstance(found, FunctionTool) else ASK

    def enter(self, exchange: Any) -> Callable[[], None] | None:
        token = set_transport("streamable-http" if exchange.channel.kind in HTTP_KINDS else "stdio")
        return partial(reset_transport, token)

    def plans(self) -> Iterable[StraightPlan | Verdict]:
        tools = [each for each in self.app._local_provider._components.values() if isinstance(each, Tool)]
        self.forget(tools)
        counts = Counter(tool.name for tool in tools)
        for tool in tools:
            if counts[tool.name] > 1:
                yield Verdict(tool.name, L1, "it has several versions")
            elif not self._is_shown(tool):
                yield Verdict(tool.name, L1, "it is disabled")
            else:
                yield self.judged(tool, partial(_judge, self.app, tool))

    def _is_shown(self, tool: Any) -> bool:
        is_shown = True
        transforms: list[Any] = [*self.app._local_provider._transforms, *self.app._transforms]
        for transform in transforms:
            if transform._matches(tool):
                is_shown = transform._enabled
        return is_shown


def _judge(app: FastMCP[Any], tool: Any) -> StraightPlan | Verdict:
    why = why_not(tool)
    return Verdict(tool.name, L1, why) if why else plan_of(app, tool)


def _overrides(middleware: Any, name: str) -> bool:
    return getattr(type(middleware), name, None) is not getattr(Middleware, name) or name in vars(middleware)


def why_not(tool: Any) -> str:
    """Why a tool needs the kernel; "" where it is plain."""
    if type(tool) is not FunctionTool:
        return f"a {type(tool).__name__}, not made of a function alone"
    if tool.auth is not None:
        return "it has auth of its own"
    if tool.timeout is not None:
        return "it has a timeout"
    if tool.task_config.supports_tasks():
        return "it may run as a task"
    if tool.version is not None:
        return "it has a version"
    if (tool.meta or {}).keys() & {"ui", "fastmcp"}:
        return "it belongs to an app (meta)"
    if mirrors_headers(tool.parameters):
        return "an argument is mirrored in a header"
    return _why_not_function(tool.fn)


def _why_not_function(fn: Any) -> str:
    if not (inspect.isfunction(fn) or inspect.ismethod(fn)):
        return "it is no plain function"
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        return "it is a generator"
    names = context_names(fn)
    if len(names) != len(get_dependency_parameters(fn)):
        return "it has dependencies"
    if find_kwarg_by_type(fn, Context) not in (None, *names):
        return "it takes the Context in a way of its own"
    found = names_reached(fn, ELSEWHERE)
    if found:
        return f"it calls {found}()"
    hint = fn.__annotations__.get("return")
    return "it may ask the client (InputRequiredResult)" if "InputRequired" in str(hint) else ""


def plan_of(app: FastMCP[Any], tool: Any) -> StraightPlan:
    """The plan of a plain tool."""
    names = context_names(tool.fn)
    body = _wrap_body_errors(tool.fn, materialize_generators=True)
    wrapper = without_injected_parameters(body, run_in_thread=tool.run_in_thread)
    adapter = get_cached_typeadapter(_wrap_body_errors(wrapper))
    is_async = is_coroutine_function(tool.fn)
    in_thread = not is_async and tool.run_in_thread
    kind, cls = result_of(tool)
    fields = fields_of(tool.fn, names)
    invoke: Any = partial(_invoke, app, tool.name, adapter)
    with_context = bool(names) or bool(ambient_name(tool.fn))
    if with_context:
        validate = partial(invoke, _context=None)
        invoke = partial(
            within,
            app,
            Body(
                take=None if fields is None else taker(fields, is_strict=True),
                call=caller_of(tool.fn, in_thread=in_thread),
                names=names,
                validate=caller_of(validate, in_thread=in_thread and not is_coroutine_function(wrapper)),
            ),
        )
    elif fields is not None and not takes_by_position(tool.fn, fields[0]):
        fields = None
    return StraightPlan(
        name=tool.name,
        source=tool,
        function=tool.fn,
        invoke=invoke,
        convert=partial(_convert, tool),
        refuse=partial(_refuse, app, tool.name),
        is_async=is_async,
        in_thread=in_thread,
        direct=fields,
        result_kind=kind,
        result_class=cls,
        wraps_result=True,
        strict=True,
        meta=WRAPPED if kind in (TEXT, VALUE) else None,
        needs_context=with_context,
    )


def _invoke(app: FastMCP[Any], name: str, adapter: Any, arguments: Any, _context: object) -> Any:
    try:
        return _validate_input(adapter, arguments or {}, strict=True if app.strict_input_validation else None)
    except PydanticValidationError as error:
        log.warning("Invalid arguments for tool %r: %s", name, _validation_error_summary(error))
        raise _RefusedError(str(error)) from error


class _RefusedError(Exception):
    """The arguments did not get through the tool's validator."""


def _convert(tool: FunctionTool, value: Any) -> Any:
    if isinstance(value, InputRequiredResult):
        return value
    return _normalize_call_tool_result(tool.convert_result(value).to_mcp_result())


def _refuse(app: FastMCP[Any], name: str, error: BaseException) -> Any:
    """What ``FastMCP.call_tool`` and the handler above it make of an exception."""
    if is_cancelled(error):
        raise error
    if isinstance(error, PydanticValidationError):  # The body's: those of the arguments are a _RefusedError.
        error = _ToolBodyError(str(error))
    if isinstance(error, _RefusedError):
        text = str(error)
    elif isinstance(error, ValidationError):
        log.warning("Invalid arguments for tool %r", name)
        text = str(error)
    elif isinstance(error, FastMCPError):
        log.log(error.log_level, "Error calling tool %r", name)
        text = str(error)
    elif isinstance(error, MCPError) and error.error.code == MISSING_REQUIRED_CLIENT_CAPABILITY:
        raise error
    else:
        status = get_http_status_code(error)
        log.error("Error calling tool %r", name, exc_info=error if status is None else None)
        text = f"Error calling tool {name!r}" if app._mask_error_details else f"Error calling tool {name!r}: {error}"
        if status == 429:
            text = "Rate limited by upstream API, please retry later"
        elif is_timeout_error(error):
            text = "Upstream request timed out, please retry"
    return CallToolResult(content=[TextContent(type="text", text=text)], is_error=True)


def fields_of(function: Any, injected: tuple[str, ...] = ()) -> Direct | None:
    """Keys, exact classes and defaults of arguments that need no validator; None where one does."""
    try:
        hints = get_type_hints(function, include_extras=True)
    except Exception:  # a hint of a name that is not there: pydantic knows more of those
        return None
    keys: list[str] = []
    classes: list[type | None] = []
    defaults: list[object] = []
    for name, parameter in inspect.signature(function).parameters.items():
        if name in injected:
            continue
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            return None
        hint, default = hints.get(name), parameter.default
        if hint not in PLAIN:
            return None
        if default is inspect.Parameter.empty:
            default = MISSING
        elif type(default) not in CONSTANT:
            return None
        keys.append(name)
        classes.append(hint)
        defaults.append(default)
    return tuple(keys), tuple(classes), tuple(defaults)


def result_of(tool: FunctionTool) -> tuple[str, type | None]:
    """The kind of answer, and the exact class of values that it may be written for without the tool's conversion."""
    if type(tool).convert_result is not Tool.convert_result:
        return CONVERT, None
    if tool.output_schema is None:
        return TEXT_ONLY, str
    if not tool.output_schema.get("x-fastmcp-wrap-result"):
        return CONVERT, None
    if tool.return_type is str:
        return TEXT, str
    # A float is left to the conversion, as it is for the official SDK's tools.
    return (VALUE, tool.return_type) if tool.return_type in (int, bool) else (CONVERT, None)
