"""The methods of MCP, answered from what a server has registered."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Set
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from erlmcp import core
from erlmcp.errors import (
    INVALID_REQUEST,
    ConfigurationError,
    InvalidParamsError,
    McpError,
    ResourceNotFoundError,
    ToolError,
)
from erlmcp.runtime.exchange import Exchange, text_of
from erlmcp.runtime.quick import Ready
from erlmcp.runtime.session import cancelled_id
from erlmcp.server.context import Context
from erlmcp.server.input import InputRequired
from erlmcp.spec import key
from erlmcp.spec import method as m
from erlmcp.spec.descriptor import fit_implementation
from erlmcp.spec.version import MODERN_VERSIONS, negotiate
from erlmcp.wire.peer import Peer, judge_initialize

if TYPE_CHECKING:
    from erlmcp.core import Call
    from erlmcp.metrics.recorder import Observer
    from erlmcp.runtime.session import Session
    from erlmcp.server.app import Server
    from erlmcp.server.listing import Listing

log = logging.getLogger("erlmcp.server")
PEER_COUNT_MAX = 256
PEER_BYTES_MAX = 4096
URI_CHARS_MAX = 8192  # of a subscription, which is kept for as long as its conversation
CRITICAL: Final = frozenset({m.PING, m.DISCOVER, m.INITIALIZE, m.CANCELLED})
Handle = Callable[[Context], Coroutine[Any, Any, Any]]


class Service:
    """Routes for every method. Without middleware, tools/call and the lists are answered by shorter ways."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._peers: dict[bytes, Peer] = {}
        self._discovered: dict[tuple[Any, ...], core.Template] = {}
        self._read_generally = self._route(self._read)
        self._handlers: dict[str, Handle] = {
            m.DISCOVER: self._discover,
            m.TOOLS_LIST: partial(self._list, server.tool_list),
            m.TOOLS_CALL: self._call_tool,
            m.RESOURCES_LIST: partial(self._list, server.resource_list),
            m.TEMPLATES_LIST: partial(self._list, server.template_list),
            m.RESOURCES_READ: self._read,
            m.PROMPTS_LIST: partial(self._list, server.prompt_list),
            m.PROMPTS_GET: self._get_prompt,
            m.COMPLETE: self._complete,
            m.SET_LEVEL: self._set_level,
            m.SUBSCRIBE: partial(self._subscribe, True),
            m.UNSUBSCRIBE: partial(self._subscribe, False),
        }

    @property
    def methods(self) -> tuple[str, ...]:
        """Those that are answered call by call, whatever the conversation."""
        return tuple(self._handlers)

    def install(self) -> None:
        """Put a route for every method into the server's table."""
        routes = self.server.routes
        for method, handle in self._handlers.items():
            critical = method in CRITICAL
            routes.set_method(method, self._route(handle), m.NAME_KEYS.get(method), is_critical=critical)
        routes.set_method(m.INITIALIZE, self._initialize, is_critical=True)
        answer = self.server.stack.Template([b"{}"])
        pong = Ready(lambda exchange: exchange.result({}), lambda peer: answer, is_modern=False)
        routes.set_method(m.PING, pong, is_critical=True)
        routes.set_method(m.LISTEN, self._listen)
        flags = self.server.flags
        self.server.quick_route = None
        if not self.server.middleware:
            start = self._start_tool
            routes.set_method(m.TOOLS_CALL, start, "name")
            if flags.async_execution and flags.native_json:
                self.server.quick_route = start
        self._discovered.clear()
        if not self.server.middleware:
            routes.set_method(m.RESOURCES_READ, self._start_read, m.NAME_KEYS.get(m.RESOURCES_READ))
        if not self.server.middleware and flags.zero_copy:
            general = self._route(self._discover)
            routes.set_method(m.DISCOVER, Ready(general, self._ready_discover, is_legacy=False), is_critical=True)
            for method, listing in (
                (m.TOOLS_LIST, self.server.tool_list),
                (m.RESOURCES_LIST, self.server.resource_list),
                (m.TEMPLATES_LIST, self.server.template_list),
                (m.PROMPTS_LIST, self.server.prompt_list),
            ):
                general, find = partial(self._list_ready, listing), partial(self._ready_page, listing, None)
                routes.set_method(method, Ready(general, find))
        routes.set_method(m.INITIALIZED, lambda session, call: None)
        routes.set_method(m.CANCELLED, self._cancelled, is_critical=True)
        routes.set_method(m.PROGRESS, lambda session, call: None)
        routes.set_method(m.ROOTS_CHANGED, lambda session, call: None)
        if self.server.metrics.observers:
            self._observe()

    def _observe(self) -> None:
        """Have the observers see each request and notification before its route does."""
        routes, observers = self.server.routes, self.server.metrics.observers
        for method in {*self._handlers, m.INITIALIZE, m.PING, m.LISTEN}:
            routes.set_method(method, partial(_begun, observers, routes.method(method)), m.NAME_KEYS.get(method))
        for method in (m.INITIALIZED, m.CANCELLED, m.PROGRESS, m.ROOTS_CHANGED):
            route: Any = routes.method(method)
            for observer in observers:
                route = partial(observer.notified, route)
            routes.set_method(method, route)

    # -- how a handler runs --------------------------------------------------------------------------------------------

    def _route(self, handle: Handle) -> Callable[[Exchange], None]:
        chained = handle
        for middleware in reversed(self.server.middleware):
            chained = partial(_through, middleware, chained)

        def route(exchange: Exchange) -> None:
            context = Context(exchange, self.server)
            task = self.server.drive(chained(context), partial(self._answer, exchange))
            if task is not None and not exchange.done:
                tool: Any = exchange.call.entry if exchange.call.method == m.TOOLS_CALL else None
                exchange.waits(task, self.server.limits.request_timeout_s if tool is None else tool.timeout_s)

        return route

    def _answer(self, exchange: Exchange, value: Any, error: BaseException | None) -> None:
        if error is None:
            exchange.result(value)
        elif not (exchange.done and isinstance(error, asyncio.CancelledError)):
            try:
                exchange.result_or_error(self.input_required(exchange, error) or error)
            except ConfigurationError as fault:
                exchange.fail(fault)

    def input_required(self, exchange: Exchange, error: BaseException) -> dict[str, Any] | None:
        """The ``input_required`` result, where ``error`` says that a question has no answer yet.

        Raises ConfigurationError where the state cannot travel.
        """
        if isinstance(error, BaseExceptionGroup):
            matching = error.subgroup(InputRequired)
            if matching is None:
                return None
        elif not isinstance(error, InputRequired):
            return None
        try:
            return self.stamp(exchange.round.result(), exchange.peer)
        except (TypeError, ValueError, RecursionError) as fault:
            raise ConfigurationError(f"ctx.state holds what has no JSON form: {fault}") from fault

    def failure(self, exchange: Exchange, name: str, error: BaseException) -> Any:
        """What a tool's exception is answered with: a result, or the McpError itself."""
        try:
            rounds = self.input_required(exchange, error)
        except ConfigurationError as fault:
            rounds, error = None, fault
        if rounds is not None:
            return rounds
        if isinstance(error, McpError):
            return error
        if isinstance(error, ToolError):
            return self.error_result(exchange.peer, text_of(error))
        log.error("tool %s failed", name, exc_info=error, extra={"exchange": exchange})
        detail = "" if self.server.mask_errors else f": {type(error).__name__}: {text_of(error)}"
        return self.error_result(exchange.peer, f"Error executing tool {name}{detail}")

    def error_result(self, peer: Peer, text: str) -> dict[str, Any]:
        """A CallToolResult with ``isError`` true."""
        return self.stamp({"content": [{"type": "text", "text": text}], "isError": True}, peer)

    def stamp(self, result: dict[str, Any], peer: Peer, *, cacheable: bool = False) -> dict[str, Any]:
        """What every result of 2026-07-28 carries (resultType, serverInfo, caching hints); nothing before that."""
        if not peer.modern:
            return result
        result.setdefault("resultType", "complete")
        if cacheable:
            result["ttlMs"] = self.server.cache_ttl_ms
            result["cacheScope"] = self.server.cache_scope
        result["_meta"] = {**result.get("_meta", {}), key.SERVER_INFO: self.server.info}
        return result

    # -- the handshake, and its successor ------------------------------------------------------------------------------

    def _initialize(self, exchange: Exchange) -> None:
        requested, peer = judge_initialize(exchange.params, len(exchange.call.raw))
        version = negotiate(requested)
        session = exchange.session
        session.connection.initialized(version, self._peer(version, peer))
        self.server.hub.join(session)
        found: dict[str, Any] = {
            "protocolVersion": version,
            "capabilities": self.server.capabilities(version),
            "serverInfo": fit_implementation(self.server.info, version),
        }
        if self.server.instructions is not None:
            found["instructions"] = self.server.instructions
        exchange.result(found)

    def _peer(self, version: str, said: Peer) -> Peer:
        """The peer of a session; clients of one kind share one object."""
        found = Peer(version, said.capabilities, said.info)
        known = core.encode([version, said.capabilities, said.info])
        if len(known) > PEER_BYTES_MAX:
            return found
        if len(self._peers) >= PEER_COUNT_MAX:
            self._peers.clear()
        return self._peers.setdefault(known, found)

    async def _discover(self, context: Context) -> dict[str, Any]:
        return self._discovery(context._exchange.peer)

    def _discovery(self, peer: Peer) -> dict[str, Any]:
        found: dict[str, Any] = {
            "supportedVersions": list(MODERN_VERSIONS),
            "capabilities": self.server.capabilities(peer.version),
        }
        if self.server.instructions is not None:
            found["instructions"] = self.server.instructions
        return self.stamp(found, peer, cacheable=True)

    def _ready_discover(self, peer: Peer) -> core.Template:
        """The answer as ready bytes: one for each revision, and for what decides on the capabilities."""
        server = self.server
        key = peer.version, server.has_prompts, server.has_resources, bool(server.completions), server.instructions
        found = self._discovered.get(key)
        if found is None:
            found = self._discovered[key] = core.Template([core.encode(self._discovery(peer))])
        return found

    # -- lists ---------------------------------------------------------------------------------------------------------

    async def _list(self, listing: Listing, context: Context) -> dict[str, Any]:
        peer = context._exchange.peer
        page = listing.page(peer.version, context.params.get("cursor"))
        return self.stamp(page, peer, cacheable=True)

    def _ready_page(self, listing: Listing, cursor: str | None, peer: Peer) -> core.Template:
        finish = partial(self.stamp, peer=peer, cacheable=True)
        return listing.template(peer.version, cursor, finish, self.server.stack)

    def _list_ready(self, listing: Listing, exchange: Exchange) -> None:
        params = exchange.params
        cursor = params.get("cursor") if isinstance(params, dict) else None
        if cursor is not None and not isinstance(cursor, str):
            raise InvalidParamsError("Invalid params: cursor must be a string")
        exchange.fill_or_raise(self._ready_page(listing, cursor, exchange.peer), ())

    # -- tools ---------------------------------------------------------------------------------------------------------

    def _start_tool(self, exchange: Exchange) -> None:
        tool: Any = exchange.call.entry
        if tool is None:
            exchange.fail(self._unknown("tool", exchange))
        else:
            tool.begin(exchange)

    async def _call_tool(self, context: Context) -> dict[str, Any]:
        tool: Any = context._exchange.call.entry
        if tool is None:
            raise self._unknown("tool", context._exchange)
        return await tool.call(context, context._exchange.arguments)  # type: ignore[no-any-return]

    @staticmethod
    def _unknown(kind: str, exchange: Exchange) -> McpError:
        name = exchange.call.name
        if name is None:
            return InvalidParamsError("Invalid params: name must be a string")
        return InvalidParamsError(f"Unknown {kind}: {name}")

    # -- resources -----------------------------------------------------------------------------------------------------

    async def _read(self, context: Context) -> dict[str, Any]:
        uri = context._exchange.call.name
        if uri is None:
            raise InvalidParamsError("Invalid params: uri must be a string")
        server, plan = self.server, self.server.resources.get(uri)
        keeps = plan is not None and plan.is_static and server.flags.zero_copy and not server.middleware
        kept = plan.kept if plan is not None and keeps else None
        contents = await self.read(uri, context)
        peer = context._exchange.peer
        found = self.stamp({"contents": contents}, peer, cacheable=True)
        if kept is not None:  # Where it was said to have changed meanwhile, nobody looks there any more.
            kept[peer.modern] = core.Template([core.encode(found)])
        return found

    def _start_read(self, exchange: Exchange) -> None:
        """A static resource is answered from the bytes that were made when it was first read."""
        plan = self.server.resources.get(exchange.call.name or "")
        ready = plan.kept.get(exchange.peer.modern) if plan is not None and self.server.flags.zero_copy else None
        if ready is None:
            self._read_generally(exchange)
        else:
            exchange.fill_or_raise(ready, ())

    async def read(self, uri: str, context: Context) -> list[dict[str, Any]]:
        """The contents of a resource; raises ResourceNotFoundError."""
        plan = self.server.resources.get(uri)
        variables: dict[str, Any] = {}
        if plan is None:
            for template in self.server.templates.values():
                found = template.match(uri)
                if found is not None:
                    plan, variables = template, found
                    break
        if plan is None:
            raise ResourceNotFoundError(uri)
        value = await self._invoke(plan, variables, context)
        return plan.convert(value, uri)

    async def _invoke(self, plan: Any, arguments: Mapping[str, Any], context: Context) -> Any:
        """Run a prompt's or resource's function, in a thread where it is synchronous."""
        if plan.in_thread:
            return await self.server.lanes.call(plan.invoke, (arguments, context), owner=context._exchange.owner)
        value = plan.invoke(arguments, context)
        return await value if asyncio.iscoroutine(value) else value

    async def _subscribe(self, on: bool, context: Context) -> dict[str, Any]:
        uri = context.params.get("uri")
        if not isinstance(uri, str):
            raise InvalidParamsError("Invalid params: uri must be a string")
        if len(uri) > URI_CHARS_MAX:
            raise InvalidParamsError(f"Invalid params: uri is longer than {URI_CHARS_MAX} characters")
        session = context._exchange.session
        uris = session.resources = session.resources or set()
        if not on:
            uris.discard(uri)
        elif len(uris) >= self.server.limits.subscription_count_max:
            raise InvalidParamsError(
                f"subscription_count_max={self.server.limits.subscription_count_max} resources are subscribed to"
            )
        else:
            uris.add(uri)
        return {}

    # -- prompts and completion ----------------------------------------------------------------------------------------

    async def _get_prompt(self, context: Context) -> dict[str, Any]:
        exchange = context._exchange
        plan: Any = exchange.call.entry
        if plan is None:
            raise self._unknown("prompt", exchange)
        arguments = exchange.arguments
        if arguments is not None and not isinstance(arguments, dict):
            raise InvalidParamsError("Invalid params: arguments must be an object")
        try:
            value = await self._invoke(plan, arguments or {}, context)
        except ToolError as error:
            raise InvalidParamsError(f"Invalid params: {error}") from error
        found: dict[str, Any] = {"messages": plan.convert(value)}
        if plan.descriptor.get("description"):
            found = {"description": plan.descriptor["description"], **found}
        return self.stamp(found, exchange.peer)

    async def _complete(self, context: Context) -> dict[str, Any]:
        from erlmcp.server.completion import complete

        return self.stamp(await complete(self.server, context), context._exchange.peer)

    # -- logging, subscriptions, cancellation --------------------------------------------------------------------------

    async def _set_level(self, context: Context) -> dict[str, Any]:
        level = context.params.get("level")
        if not isinstance(level, str) or level not in key.LOG_RANK:
            raise InvalidParamsError(
                f"Invalid params: unknown log level {level!r}, expected one of {', '.join(key.LOG_LEVELS)}"
            )
        context._exchange.session.log_level = level
        return {}

    def _listen(self, exchange: Exchange) -> None:
        self.listen(exchange, frozenset())

    def listen(self, exchange: Exchange, missing: Set[str]) -> None:
        """Keep a listen stream open. ``missing`` are resources that are not there for who asks."""
        if not getattr(exchange.channel, "accepts_stream", True):
            raise McpError(INVALID_REQUEST, "subscriptions/listen needs Accept: text/event-stream")
        params = exchange.params
        wanted = params.get("notifications") if isinstance(params, dict) else None
        if not isinstance(wanted, dict):
            raise InvalidParamsError("Invalid params: notifications must be an object")
        methods = set()
        if wanted.get("toolsListChanged") is True:
            methods.add(m.TOOLS_CHANGED)
        if wanted.get("promptsListChanged") is True and self.server.has_prompts:
            methods.add(m.PROMPTS_CHANGED)
        if wanted.get("resourcesListChanged") is True and self.server.has_resources:
            methods.add(m.RESOURCES_CHANGED)
        uris = wanted.get("resourceSubscriptions", [])
        if not isinstance(uris, list) or not all(isinstance(uri, str) and len(uri) <= URI_CHARS_MAX for uri in uris):
            raise InvalidParamsError(
                f"Invalid params: resourceSubscriptions must be an array of URIs of up to {URI_CHARS_MAX} characters"
            )
        if len(uris) > self.server.limits.subscription_count_max:
            raise InvalidParamsError(
                f"more resourceSubscriptions than subscription_count_max={self.server.limits.subscription_count_max}"
            )
        granted = frozenset(uris) - missing if self.server.has_resources else frozenset()
        self.server.hub.listen(exchange, frozenset(methods), granted)
        exchange.stays(self.server.hub.stop)

    @staticmethod
    def _cancelled(session: Session, call: Call) -> None:
        id = cancelled_id(call)
        exchange = None if id is None else session.inflight.get(id)
        if exchange is not None:
            exchange.cancel()


def _begun(observers: list[Observer], route: Any, exchange: Exchange) -> None:
    for observer in observers:
        observer.begin(exchange)
    route(exchange)


async def _through(middleware: Any, handle: Handle, context: Context) -> Any:
    return await middleware(context, handle)
