"""FastMCP's ``Client``, over erlmcp's."""

from __future__ import annotations

import datetime as dt
import inspect
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from erlmcp.client.client import Client as Inner
from erlmcp.client.result import typed
from erlmcp.compat.fastmcp.client.target import bearer, target_of
from erlmcp.compat.fastmcp.client.typed import typed_value
from erlmcp.compat.fastmcp.exceptions import ToolError, unsupported
from erlmcp.compat.fastmcp.schema import WRAPS
from erlmcp.compat.fastmcp.server.middleware.middleware import Params
from erlmcp.server.content import dump_model
from erlmcp.server.jsonable import to_jsonable

log = logging.getLogger("erlmcp.compat.fastmcp")
_ABSENT = {
    "sampling_capabilities": "the capability follows from sampling_handler",
    "verify": "tls= of erlmcp.Client",
    "generate_name": "name=",
}


@dataclass
class CallToolResult:
    """What a tool gave. ``data`` is its value: unwrapped, and typed by the output schema where there is one."""

    content: list[Any]
    structured_content: dict[str, Any] | None
    meta: dict[str, Any] | None
    data: Any = None
    is_error: bool = False


@dataclass
class ElicitResult:
    """What an elicitation handler may give: ``action`` is accept, decline or cancel."""

    action: str = "accept"
    content: Any = None


def seconds(value: dt.timedelta | float | None) -> float | None:
    """A timeout as a number."""
    return value.total_seconds() if isinstance(value, dt.timedelta) else value


class Client:
    """A client of one server: ``async with Client(mcp) as client``. It may be entered several times; the connection is
    closed when the last one leaves."""

    def __init__(
        self,
        transport: Any,
        name: str | None = None,
        roots: Any = None,
        sampling_handler: Callable[..., Any] | None = None,
        elicitation_handler: Callable[..., Any] | None = None,
        log_handler: Callable[..., Any] | None = None,
        message_handler: Any = None,
        progress_handler: Callable[..., Any] | None = None,
        timeout: dt.timedelta | float | None = None,
        auto_initialize: bool = True,
        init_timeout: dt.timedelta | float | None = None,
        client_info: Any = None,
        auth: Any = None,
        mode: str | None = None,
        **absent: Any,
    ) -> None:
        for what, given in absent.items():
            if given is not None:
                unsupported(
                    f"Client({what}=)", "erlmcp's client has no such setting", _ABSENT.get(what, "erlmcp.Client")
                )
        self.name = name or "Client"
        target, headers = target_of(transport)
        self.erlmcp_target = target, {**headers, **bearer(auth)}
        self._handlers = {
            "elicitation": elicitation_handler,
            "sampling": sampling_handler,
            "log": log_handler,
            "message": message_handler,
            "progress": progress_handler,
        }
        self._options: dict[str, Any] = {
            "mode": mode or "auto",
            "timeout_s": seconds(timeout),
            "client_info": dump_model(client_info),
            "roots": roots,
        }
        self._entered = 0
        self._schemas: dict[str, Any] = {}
        self._inner = self._make()

    def _make(self) -> Inner:
        target, headers = self.erlmcp_target
        handlers = self._handlers
        return Inner(
            target,
            **{name: each for name, each in self._options.items() if each is not None},
            headers=headers or None,
            elicitation=self._elicit if handlers["elicitation"] is not None else None,
            sampling=self._sample if handlers["sampling"] is not None else None,
            on_log=self._heard if handlers["log"] is not None else None,
            on_progress=handlers["progress"],
            on_notification=self._noticed if handlers["message"] is not None else None,
            log_level="debug" if handlers["log"] is not None else None,
        )

    def new(self) -> Client:
        """Another client of the same server, with a connection of its own."""
        made: Client = type(self).__new__(type(self))
        made.__dict__.update(self.__dict__)
        made._entered, made._schemas = 0, {}
        made._inner = made._make()
        return made

    # -- the connection ------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._entered == 0:
            await self._inner.connect()
        self._entered += 1
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entered -= 1
        if self._entered == 0:
            await self._inner.aclose()

    async def close(self) -> None:
        """Close it, whoever still uses it."""
        self._entered = 0
        await self._inner.aclose()

    def is_connected(self) -> bool:
        return self._entered > 0

    @property
    def inner(self) -> Inner:
        """erlmcp's own client. RuntimeError where it is not connected."""
        if not self._entered:
            raise RuntimeError("Client is not connected. Use the 'async with client:' context manager first.")
        return self._inner

    @property
    def protocol_version(self) -> str | None:
        return self.inner.protocol_version

    @property
    def server_info(self) -> Any:
        return typed("Implementation", self.inner.server_info or {"name": "", "version": ""})

    @property
    def server_capabilities(self) -> Any:
        return typed("ServerCapabilities", self.inner.server_capabilities)

    @property
    def instructions(self) -> str | None:
        return self.inner.instructions

    async def ping(self) -> bool:
        await self.inner.ping()
        return True

    async def set_logging_level(self, level: str) -> None:
        await self.inner.set_log_level(level)

    async def send_roots_list_changed(self) -> None:
        await self.inner.roots_changed()

    # -- tools ---------------------------------------------------------------------------------------------------------

    async def list_tools(self, max_pages: int = 250) -> list[Any]:
        found = await self.inner.list_tools()
        self._schemas = {each.name: each.output_schema for each in found}
        return found

    async def call_tool(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        version: str | None = None,
        timeout: dt.timedelta | float | None = None,
        progress_handler: Callable[..., Any] | None = None,
        raise_on_error: bool = True,
        meta: Mapping[str, Any] | None = None,
    ) -> CallToolResult:
        """Call a tool. Raises ToolError where it failed, unless ``raise_on_error`` says not to."""
        found = await self.inner.call_tool(
            name,
            to_jsonable(dict(arguments or {})),
            timeout_s=seconds(timeout),
            on_progress=progress_handler,
            meta=_meta(meta, version),
            raise_on_error=False,
        )
        if found.is_error and raise_on_error:
            raise ToolError(found.text or f"Tool '{name}' returned an error")
        own = found.meta.get("fastmcp")
        wraps = isinstance(own, dict) and own.get("wrap_result") is True
        data = None if found.is_error else await self._data(name, found.structured_content, wraps)
        return CallToolResult(found.content, found.structured_content, found.meta or None, data, found.is_error)

    async def _data(self, name: str, structured: Any, wraps: bool) -> Any:
        if structured is None:
            return None
        if name not in self._schemas:
            await self.list_tools()
        schema = self._schemas.get(name)
        if wraps or (schema or {}).get(WRAPS):
            value = structured.get("result")
            part = (schema or {}).get("properties", {}).get("result")
            return value if part is None else typed_value(part, value, schema)
        return structured if schema is None else typed_value(schema, structured)

    async def call_tool_mcp(
        self,
        name: str,
        arguments: Mapping[str, Any],
        progress_handler: Callable[..., Any] | None = None,
        timeout: dt.timedelta | float | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> Any:
        """The CallToolResult of ``mcp_types``, whether it is an error or not."""
        found = await self.inner.call_tool(
            name,
            to_jsonable(dict(arguments)),
            timeout_s=seconds(timeout),
            on_progress=progress_handler,
            meta=_meta(meta, None),
            raise_on_error=False,
        )
        return typed("CallToolResult", {key: each for key, each in found.raw.items() if key != "resultType"})

    # -- resources and prompts -----------------------------------------------------------------------------------------

    async def list_resources(self, max_pages: int = 250) -> list[Any]:
        return await self.inner.list_resources()

    async def list_resource_templates(self, max_pages: int = 250) -> list[Any]:
        return await self.inner.list_resource_templates()

    async def list_prompts(self, max_pages: int = 250) -> list[Any]:
        return await self.inner.list_prompts()

    async def read_resource(
        self, uri: Any, *, version: str | None = None, meta: Mapping[str, Any] | None = None
    ) -> list[Any]:
        """The contents, as TextResourceContents and BlobResourceContents."""
        return list((await self.read_resource_mcp(uri)).contents)

    async def read_resource_mcp(self, uri: Any, meta: Mapping[str, Any] | None = None) -> Any:
        return await self.inner.read_resource(str(uri))

    async def get_prompt(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        version: str | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> Any:
        """The GetPromptResult; arguments that are no strings are sent as JSON."""
        from erlmcp.compat.fastmcp.values import json_text

        given = {key: each if isinstance(each, str) else json_text(each) for key, each in (arguments or {}).items()}
        return await self.inner.get_prompt(name, given)

    async def complete(
        self, ref: Any, argument: Mapping[str, str], context_arguments: Mapping[str, Any] | None = None
    ) -> Any:
        """The Completion for an argument (``name``, ``value``) of a prompt or a template."""
        found = dump_model(ref)
        kind = "prompt" if found.get("type") == "ref/prompt" else "resource"
        named = {kind: found.get("name") or found.get("uri")}
        context = dict(context_arguments or {}) or None
        return await self.inner.complete(argument["name"], argument["value"], **named, context=context)

    # -- what the server asks and tells --------------------------------------------------------------------------------

    async def _elicit(self, params: dict[str, Any]) -> Any:
        schema = params.get("requestedSchema") or {}
        given = Params(message=params.get("message"), requested_schema=schema, **_rest(params))
        wanted = _form_type(schema)
        found = await _called(self._handlers["elicitation"], params.get("message"), wanted, given, None)
        action, content = "accept", found
        if hasattr(found, "action"):
            action, content = found.action, found.content
        if action != "accept":
            return {"action": action}
        content = to_jsonable(content)
        if content is not None and not isinstance(content, dict) and set(schema.get("properties", ())) == {"value"}:
            content = {"value": content}
        return {"action": "accept", "content": content or {}}

    async def _sample(self, params: dict[str, Any]) -> Any:
        messages = [typed("SamplingMessage", each) for each in params.get("messages", ())]
        return await _called(self._handlers["sampling"], messages, typed("CreateMessageRequestParams", params), None)

    async def _heard(self, params: dict[str, Any]) -> None:
        said = Params(level=params.get("level"), data=params.get("data"), logger=params.get("logger"))
        await _called(self._handlers["log"], said)

    async def _noticed(self, method: str, params: dict[str, Any]) -> None:
        await _called(self._handlers["message"], Params(method=method, params=params))


def _rest(params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: each for name, each in params.items() if name not in ("message", "requestedSchema")}


def _form_type(schema: Mapping[str, Any]) -> Any:
    """A class that a handler may make its answer with: the fields of the form are its parameters."""
    properties = schema.get("properties")
    if not properties:
        return None
    sample = {"type": "object", "title": schema.get("title") or "Answer", "properties": properties}
    return type(typed_value(sample, {}))


async def _called(handler: Any, *given: Any) -> Any:
    found = handler(*given)
    return await found if inspect.isawaitable(found) else found


def _meta(meta: Mapping[str, Any] | None, version: str | None) -> dict[str, Any] | None:
    if meta is None and version is None:
        return None
    found = dict(meta or {})
    if version is not None:
        found["fastmcp"] = {**found.get("fastmcp", {}), "version": version}
    return found
