"""The server behind a façade: ``Server`` with the SDK's answers where they differ from ours."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from erlmcp.compat.sdk.auth import within_token
from erlmcp.compat.sdk.convert import Asked
from erlmcp.compat.sdk.exceptions import (
    MCPError,
    PromptError,
    ResourceError,
    ToolError,
    UnexpectedResourceError,
    UnexpectedToolError,
    as_protocol_error,
    kind_of,
)
from erlmcp.compat.sdk.plan import messages_of, run_in_thread
from erlmcp.compat.sdk.request_state import GivenRound, RequestStateSecurity
from erlmcp.errors import (
    INTERNAL_ERROR,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    ArgumentError,
    ConfigurationError,
    InvalidParamsError,
    McpError,
)
from erlmcp.runtime.exchange import text_of
from erlmcp.server.app import Server
from erlmcp.server.content import dump_model
from erlmcp.server.context import Context as Inner
from erlmcp.server.input import InputRequired
from erlmcp.server.service import Service
from erlmcp.server.tool import Tool
from erlmcp.spec import method as m
from erlmcp.spec.version import MODERN_VERSIONS

if TYPE_CHECKING:
    from erlmcp.compat.sdk.base import BaseServer
    from erlmcp.runtime.endpoint import Endpoint
    from erlmcp.runtime.exchange import Exchange
    from erlmcp.server.plan import ToolPlan
    from erlmcp.server.prompt import PromptPlan
    from erlmcp.server.resource import ResourcePlan
    from erlmcp.server.side import Side
    from erlmcp.wire.header import Gate
    from erlmcp.wire.peer import Peer

log = logging.getLogger("erlmcp.compat")


# What only the result of this method has.
_METHOD_OF = {
    "supportedVersions": m.DISCOVER,
    "tools": m.TOOLS_LIST,
    "resources": m.RESOURCES_LIST,
    "resourceTemplates": m.TEMPLATES_LIST,
    "prompts": m.PROMPTS_LIST,
    "contents": m.RESOURCES_READ,
}


class Kernel(Server):
    """What serves a façade (``face``). ``security`` keeps the state of calls in several rounds."""

    def __init__(self, face: BaseServer[Any], name: str, security: RequestStateSecurity, **options: Any) -> None:
        self.face = face
        self.security = security
        self.context_class = face.context_class
        self.runs_in_thread = face.runs_in_thread
        self.cache_hints: dict[str, Any] = {}
        super().__init__(name, **options)
        self.service = SdkService(self)
        self.install()

    def make_endpoint(self, gate: Gate) -> Endpoint:
        """The façade's endpoint, whoever serves it: with its routes and the tokens that it asks for."""
        from erlmcp.compat.sdk.front import SdkEndpoint, Setting

        return SdkEndpoint(
            self,
            Setting(gate.path, hosts=gate.hosts, origins=gate.origins, is_local=gate.local),
            event_store=self.event_store,
        )

    def side(self, **_options: Any) -> Side:
        """Raises ConfigurationError: the answers of a façade are made by a service of its own."""
        raise ConfigurationError(
            "a façade has one side: try flags and stacks on an erlmcp.Server, or by the environment"
        )

    def face_context(self, inner: Inner | None) -> Any:
        """The context that the author sees."""
        return self.context_class(mcp_server=self.face, inner=inner)

    async def run_sync(self, fn: Callable[..., Any], /, **given: Any) -> Any:
        """Run an ordinary function where it does not hold up the loop."""
        if not self.runs_in_thread:
            return fn(**given)
        return await (self.in_thread(fn, **given) if self._loop is not None else run_in_thread(fn, **given))

    def bind_method(self, binding: Any) -> None:
        """Serve a method of an extension's own."""
        known = self.client_requests
        self.client_requests = {version: methods | {binding.method} for version, methods in known.items()}
        self.service._handlers[binding.method] = partial(run_method, self.face, binding)
        self.install()

    def place_tool(self, plan: ToolPlan) -> None:
        self._place_tool(plan.name, Tool(self, plan))
        self.tool_list.put(plan.name, plan.descriptor)
        self._changed(m.TOOLS_CHANGED)

    def place_prompt(self, plan: PromptPlan) -> None:
        self._place_prompt(plan.name, plan)
        self.prompt_list.put(plan.name, plan.descriptor)
        self._changed(m.PROMPTS_CHANGED)

    def place_resource(self, plan: ResourcePlan) -> None:
        known, listing = (
            (self.templates, self.template_list) if plan.is_template else (self.resources, self.resource_list)
        )
        known[plan.uri] = plan
        listing.put(plan.uri, plan.descriptor)
        self._changed(m.RESOURCES_CHANGED)

    def capabilities(self, version: str) -> dict[str, Any]:
        """What the SDK declares: each kind, whether something of it is registered or not; and what we serve besides."""
        found = super().capabilities(version)
        found["prompts"] = {"listChanged": True}
        found["resources"] = {"listChanged": True, "subscribe": True}
        found.pop("completions", None)
        if self.face.completer is not None and version >= "2025-03-26":
            found["completions"] = {}
        if version in MODERN_VERSIONS:
            del found["logging"]  # Who wants log messages says so in his request.
            extensions = self.face.extension_settings()
            if extensions:
                found["extensions"] = extensions
        return found

    @property
    def has_resources(self) -> bool:
        return True

    @property
    def has_prompts(self) -> bool:
        return True


class SdkService(Service):
    """The methods as the SDK answers them."""

    server: Kernel

    def install(self) -> None:
        super().install()
        face = self.server.face
        if face.bearer is not None:
            self.server.quick_route = None  # Every request is looked at by the endpoint, which knows the token.
        if not face.listens:
            self.server.routes.drop_method(m.LISTEN)

    def _answer(self, exchange: Exchange, value: Any, error: BaseException | None) -> None:
        super()._answer(exchange, value, error if error is None else as_protocol_error(error) or error)

    @staticmethod
    def asked(context: Inner, value: Any) -> BaseException:
        """What leaves a handler whose author asks by his result."""
        if context.era == "legacy":
            return MCPError(INTERNAL_ERROR, "an InputRequiredResult needs a client of 2026-07-28")
        server: Any = context.server
        context._exchange.round = GivenRound(context, server.security, dump_model(value))
        return InputRequired()

    def stamp(self, result: dict[str, Any], peer: Peer, *, cacheable: bool = False) -> dict[str, Any]:
        """With the caching hints of the method that has such a result."""
        if not peer.modern:
            result.pop("resultType", None)  # of an author's own result object
        found = super().stamp(result, peer, cacheable=cacheable)
        if cacheable and peer.modern and self.server.cache_hints:
            method = next((method for key, method in _METHOD_OF.items() if key in found), "")
            hint = self.server.cache_hints.get(method)
            if hint is not None:
                found["ttlMs"], found["cacheScope"] = hint.ttl_ms, hint.scope
        return found

    # -- tools ---------------------------------------------------------------------------------------------------------

    def _start_tool(self, exchange: Exchange) -> None:
        tool: Any = exchange.call.entry
        if tool is not None:
            tool.begin(exchange)
        elif exchange.call.name is None:
            exchange.fail(InvalidParamsError("Invalid params: name must be a string"))
        else:
            exchange.result(self.unknown_tool(exchange.peer, exchange.call.name))

    async def _call_tool(self, context: Inner) -> dict[str, Any]:
        name = context.params.get("name")
        if not isinstance(name, str):
            raise InvalidParamsError("Invalid params: name must be a string")
        tool = self.server.tools.get(name)
        if tool is None:
            return self.unknown_tool(context._exchange.peer, name)
        return await tool.call(context, context.params.get("arguments"))

    def unknown_tool(self, peer: Peer, name: str) -> dict[str, Any]:
        return self.error_result(peer, f"Unknown tool: {name}")

    def failure(self, exchange: Exchange, name: str, error: BaseException) -> Any:
        """What a tool's exception is answered with."""
        if isinstance(error, Asked):
            error = self.asked(Inner(exchange, self.server), error.value)
        rounds = self.input_required(exchange, error)
        if rounds is not None:
            return rounds
        found, text = self.server.face.judge_failure(name, error)
        if found is not None:
            return found
        if text is None:
            log.error("tool %s raised an unexpected exception", name, exc_info=error, extra={"exchange": exchange})
        return self.error_result(exchange.peer, text or f"Error executing tool {name}")

    # -- resources -----------------------------------------------------------------------------------------------------

    async def _read(self, context: Inner) -> dict[str, Any]:
        uri = context.params.get("uri")
        if not isinstance(uri, str):
            raise InvalidParamsError("Invalid params: uri must be a string")
        contents = await self.read(uri, context)
        return self.stamp({"contents": contents}, context._exchange.peer, cacheable=True)

    async def read(self, uri: str, context: Inner) -> list[dict[str, Any]]:
        """Raises McpError: -32602 for what is unknown, -32603 for what failed."""
        try:
            plan, value = await self.server.face.find_and_read(uri, context)
        except McpError:
            raise
        except ResourceError as error:
            if isinstance(error, UnexpectedResourceError):
                log.error("resource %r raised an unexpected exception", uri, exc_info=error)
            code = self.server.face.resource_code(error)
            raise MCPError(code, str(error), {"uri": uri} if code else None) from error
        return plan.convert(value, uri)  # type: ignore[no-any-return]

    def _start_read(self, exchange: Exchange) -> None:
        self._read_generally(exchange)

    # -- prompts, completion -------------------------------------------------------------------------------------------

    async def _get_prompt(self, context: Inner) -> dict[str, Any]:
        name, arguments = context.params.get("name"), context.params.get("arguments")
        if not isinstance(name, str):
            raise InvalidParamsError("Invalid params: name must be a string")
        if arguments is not None and not isinstance(arguments, dict):
            raise InvalidParamsError("Invalid params: arguments must be an object")
        peer = context._exchange.peer
        try:
            found = await self.server.face.render_prompt(name, arguments or {}, context)
        except PromptError as error:  # which the SDK tells by these codes, and with its text in the older era
            if error.__cause__ is not None:
                log.error("prompt %r raised an unexpected exception", name, exc_info=error.__cause__)
            raise (
                MCPError(INTERNAL_ERROR, "Internal server error") if peer.modern else MCPError(0, str(error))
            ) from error
        return self.stamp(found, peer)

    async def _complete(self, context: Inner) -> dict[str, Any]:
        if self.server.face.completer is None:
            raise MCPError(METHOD_NOT_FOUND, "Method not found", m.COMPLETE)
        return self.stamp(await self.server.face.complete(context.params), context._exchange.peer)


def judge_tool_error(name: str, error: BaseException) -> tuple[McpError | None, str | None]:
    """(the protocol error, None) or (None, the text of the result), which is None for a crash."""
    protocol = as_protocol_error(error)
    if protocol is not None:
        return protocol, None
    kind = kind_of(error)
    if issubclass(kind, UnexpectedToolError | UnexpectedResourceError | ToolError | ResourceError | ArgumentError):
        return None, f"Error executing tool {name}: {text_of(error)}"
    return None, None


async def run_method(face: BaseServer[Any], binding: Any, context: Inner) -> dict[str, Any]:
    """Answer a request of an extension's own method."""
    try:
        params = binding.params_type.model_validate(context.params)
    except ValueError as error:
        raise InvalidParamsError("Invalid request parameters", "") from error
    if binding.protocol_versions is not None and context.protocol_version not in binding.protocol_versions:
        raise MCPError(METHOD_NOT_FOUND, "Method not found", binding.method)
    found = await binding.handler(face.context_class(mcp_server=face, inner=context).request_context, params)
    server: Any = context.server
    result: dict[str, Any] = server.service.stamp(dump_model(found) or {}, context._exchange.peer)
    return result


async def authorized(context: Inner, call_next: Callable[[Inner], Any]) -> Any:
    """A middleware: handlers know the access token of their request."""
    server: Any = context.server
    token = server.face.bearer.known.get(context.headers.get("authorization"))
    if token is None and context._exchange.headers is not None:
        raise MCPError(INVALID_REQUEST, "Authentication required")
    with within_token(token):
        return await call_next(context)


def rendered_messages(plan: PromptPlan, value: Any) -> dict[str, Any]:
    """The result of a prompt."""
    return {"description": plan.descriptor.get("description", ""), "messages": messages_of(value)}
