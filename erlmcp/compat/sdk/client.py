"""``Client``: the shape of ``mcp.Client`` over our client. Its answers are the protocol's objects."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from types import TracebackType
from typing import Any

from erlmcp.client.bound import ClientLimits
from erlmcp.client.client import Client as OwnClient
from erlmcp.compat.sdk import types
from erlmcp.compat.sdk.base import BaseServer
from erlmcp.compat.sdk.exceptions import MCPError
from erlmcp.compat.sdk.record import give
from erlmcp.compat.sdk.subscriptions import PromptsListChanged, ResourcesListChanged, ResourceUpdated, ToolsListChanged
from erlmcp.errors import ConfigurationError, McpError
from erlmcp.server.content import dump_model
from erlmcp.spec import method as m

KEEPS_BY_DEFAULT = object()
_EVENTS = {
    m.TOOLS_CHANGED: ToolsListChanged,
    m.PROMPTS_CHANGED: PromptsListChanged,
    m.RESOURCES_CHANGED: ResourcesListChanged,
}
_NOT_SERVED = {
    "prior_discover": "our client finds out by itself what a server speaks; give it mode=",
    "extensions": "our client has no extensions; send what they add as meta=",
    "sampling_capabilities": "our client declares sampling where there is a sampling_callback",
}


class Client:
    """``async with Client(server) as client``: ``server`` is one of this process, a URL, or what ``erlmcp.Client``
    takes besides. Raises ConfigurationError for arguments that are not served."""

    def __init__(
        self,
        server: Any,
        *,
        raise_exceptions: bool = False,
        read_timeout_seconds: float | None = None,
        sampling_callback: Callable[..., Any] | None = None,
        list_roots_callback: Callable[..., Any] | None = None,
        elicitation_callback: Callable[..., Any] | None = None,
        logging_callback: Callable[..., Any] | None = None,
        log_level: str | None = None,
        message_handler: Callable[..., Any] | None = None,
        client_info: Any = None,
        mode: str = "auto",
        input_required_max_rounds: int = 10,
        cache: Any = KEEPS_BY_DEFAULT,
        **other: Any,
    ) -> None:
        for name, value in other.items():
            if name not in _NOT_SERVED:
                raise TypeError(f"Client() got an unexpected argument {name!r}")
            if value is not None:
                raise ConfigurationError(f"{name}: {_NOT_SERVED[name]}")
        options: dict[str, Any] = {}
        if hasattr(server, "command") and hasattr(server, "args"):  # StdioServerParameters
            server = {"command": server.command, "args": list(server.args), "env": getattr(server, "env", None) or {}}
        self._handler = message_handler
        if message_handler is not None:
            options["on_notification"] = self._heard
        self._own = OwnClient(
            server.kernel if isinstance(server, BaseServer) else server,
            mode=mode,
            limits=replace(ClientLimits(), input_round_max=input_required_max_rounds),
            timeout_s=read_timeout_seconds,
            client_info=None if client_info is None else dump_model(client_info),
            elicitation=_asked(elicitation_callback, _question),
            sampling=_asked(sampling_callback, lambda params: give(types.CreateMessageRequestParams, params)),
            roots=None if list_roots_callback is None else _roots(list_roots_callback),
            on_log=None if logging_callback is None else _logged(logging_callback),
            log_level=log_level,
            cache=cache is not None and cache is not False,
            **options,
        )
        self.raise_exceptions = raise_exceptions

    async def _heard(self, method: str, params: dict[str, Any]) -> None:
        assert self._handler is not None
        await self._handler(types.Request(method=method, params=params))

    async def __aenter__(self) -> Client:
        await self._own.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._own.aclose()

    # -- who is there --------------------------------------------------------------------------------------------------

    @property
    def session(self) -> OwnClient:
        """Our own client beneath."""
        return self._own

    @property
    def protocol_version(self) -> str:
        return self._own.protocol_version

    @property
    def server_info(self) -> Any:
        return give(types.Implementation, self._own.server_info)

    @property
    def server_capabilities(self) -> Any:
        return give(types.ServerCapabilities, self._own.server_capabilities)

    @property
    def instructions(self) -> str | None:
        return self._own.instructions

    # -- requests ------------------------------------------------------------------------------------------------------

    async def _ask(self, kind: Any, method: str, params: dict[str, Any] | None, name: str | None = None) -> Any:
        try:
            return give(kind, await self._own._ask(method, params, name, again=True))
        except McpError as error:
            raise MCPError(error.code, error.message, error.data) from error

    async def call_tool(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        read_timeout_seconds: float | None = None,
        progress_callback: Callable[..., Any] | None = None,
        *,
        input_responses: Any = None,
        request_state: str | None = None,
        meta: Any = None,
    ) -> Any:
        """The CallToolResult, whether the tool failed or not. Raises MCPError."""
        _refuse_rounds(input_responses, request_state)
        try:
            found = await self._own.call_tool(
                name,
                arguments,
                timeout_s=read_timeout_seconds,
                on_progress=progress_callback,
                meta=None if meta is None else dump_model(meta),
                raise_on_error=False,
            )
        except McpError as error:
            raise MCPError(error.code, error.message, error.data) from error
        return give(types.CallToolResult, found.raw)

    async def list_tools(self, *, cursor: str | None = None, **_options: Any) -> Any:
        return await self._ask(types.ListToolsResult, m.TOOLS_LIST, _cursor(cursor))

    async def list_resources(self, *, cursor: str | None = None, **_options: Any) -> Any:
        return await self._ask(types.ListResourcesResult, m.RESOURCES_LIST, _cursor(cursor))

    async def list_resource_templates(self, *, cursor: str | None = None, **_options: Any) -> Any:
        return await self._ask(types.ListResourceTemplatesResult, m.TEMPLATES_LIST, _cursor(cursor))

    async def list_prompts(self, *, cursor: str | None = None, **_options: Any) -> Any:
        return await self._ask(types.ListPromptsResult, m.PROMPTS_LIST, _cursor(cursor))

    async def read_resource(
        self, uri: Any, *, input_responses: Any = None, request_state: str | None = None, **_options: Any
    ) -> Any:
        _refuse_rounds(input_responses, request_state)
        return await self._ask(types.ReadResourceResult, m.RESOURCES_READ, {"uri": str(uri)}, str(uri))

    async def get_prompt(
        self,
        name: str,
        arguments: Mapping[str, str] | None = None,
        *,
        input_responses: Any = None,
        request_state: str | None = None,
        **_options: Any,
    ) -> Any:
        _refuse_rounds(input_responses, request_state)
        params = {"name": name, "arguments": dict(arguments or {})}
        return await self._ask(types.GetPromptResult, m.PROMPTS_GET, params, name)

    async def complete(
        self, ref: Any, argument: Mapping[str, str], context_arguments: Mapping[str, str] | None = None
    ) -> Any:
        params: dict[str, Any] = {"ref": dump_model(ref), "argument": dict(argument)}
        if context_arguments is not None:
            params["context"] = {"arguments": dict(context_arguments)}
        return await self._ask(types.CompleteResult, m.COMPLETE, params)

    async def send_ping(self, **_options: Any) -> Any:
        await self._own.ping()
        return give(types.EmptyResult, {})

    async def set_logging_level(self, level: str, **_options: Any) -> Any:
        await self._own.set_log_level(level)
        return give(types.EmptyResult, {})

    async def subscribe_resource(self, uri: Any, **_options: Any) -> Any:
        await self._own.subscribe(str(uri))
        return give(types.EmptyResult, {})

    async def unsubscribe_resource(self, uri: Any, **_options: Any) -> Any:
        await self._own.unsubscribe(str(uri))
        return give(types.EmptyResult, {})

    async def send_roots_list_changed(self) -> None:
        await self._own.roots_changed()

    async def send_progress_notification(
        self, progress_token: Any, progress: float, total: float | None = None, message: str | None = None
    ) -> None:
        """Raises ConfigurationError: nothing of a server asks a client for progress."""
        raise ConfigurationError("send_progress_notification: our client reports no progress of its own")

    @asynccontextmanager
    async def listen(
        self,
        *,
        tools_list_changed: bool = False,
        prompts_list_changed: bool = False,
        resources_list_changed: bool = False,
        resource_subscriptions: Sequence[str] = (),
    ) -> AsyncIterator[AsyncIterator[Any]]:
        """A stream of changes: ``async with client.listen(...) as events: async for event in events``."""
        listening = self._own.listen(
            tools=tools_list_changed,
            prompts=prompts_list_changed,
            resources=resources_list_changed,
            uris=list(resource_subscriptions),
        )
        async with listening as events:
            yield _events(events)


async def _events(events: Any) -> AsyncIterator[Any]:
    async for event in events:
        yield ResourceUpdated(event.uri) if event.method == m.RESOURCE_UPDATED else _EVENTS[event.method]()


def _cursor(cursor: str | None) -> dict[str, Any] | None:
    return None if cursor is None else {"cursor": cursor}


def _refuse_rounds(responses: Any, state: str | None) -> None:
    if responses is not None or state is not None:
        raise ConfigurationError("input_responses: our client answers a server's questions by its callbacks")


def _question(params: dict[str, Any]) -> Any:
    is_url = params.get("mode") == "url"
    return give(types.ElicitRequestURLParams if is_url else types.ElicitRequestFormParams, params)


def _asked(callback: Callable[..., Any] | None, read: Callable[[dict[str, Any]], Any]) -> Callable[..., Any] | None:
    """A callback of the SDK's, ``(context, params)``, as one of ours. What it gives as an error is raised."""
    if callback is None:
        return None

    async def answer(params: dict[str, Any]) -> Any:
        found = await callback(None, read(params))
        if isinstance(found, types.ErrorData):
            raise MCPError(found.code, found.message, found.data)
        return dump_model(found)

    return answer


def _roots(callback: Callable[..., Any]) -> Callable[..., Any]:
    async def answer(_params: dict[str, Any]) -> Any:
        return dump_model(await callback(None))["roots"]

    return answer


def _logged(callback: Callable[..., Any]) -> Callable[..., Any]:
    async def heard(params: dict[str, Any]) -> None:
        await callback(give(types.LoggingMessageNotificationParams, params))

    return heard
