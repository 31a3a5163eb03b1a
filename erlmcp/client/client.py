"""The client: tools, resources and prompts of one server, over whatever leads there.

Who owns what: a *conversation* (``erlmcp.client.conversation``) lives from a handshake to the loss of its channel; the
client makes one when it is connected, and another with the next call after a loss. Opening and closing run in tasks of
their own: a caller only waits for them, so that ``connect`` and ``aclose`` may be called by any task, cancelled by any
scope, and no scope of ours ever stands open in a frame of the program's.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from erlmcp import core
from erlmcp.client import annotation
from erlmcp.client.bound import ClientLimits
from erlmcp.client.conversation import COMPLETE, Conversation, Progress
from erlmcp.client.direct import DirectResult, HandshakeResult, Waiting
from erlmcp.client.flow import Request
from erlmcp.client.guarding import Guarded
from erlmcp.client.kept import RESOURCES, TOOLS
from erlmcp.client.question import Handler, Questions
from erlmcp.client.result import AnswerResult, CallResult, resource_error, result_of, tool_error, typed
from erlmcp.client.subscription import Subscription
from erlmcp.client.switch import Switched
from erlmcp.client.target import HttpOptions
from erlmcp.errors import HEADER_MISMATCH, ConfigurationError, ErlmcpError, McpError
from erlmcp.flags import Flags, given_as
from erlmcp.policy.breaker import BreakerEvent
from erlmcp.policy.protection import Guards
from erlmcp.runtime.within import DEADLINE, shortened_s
from erlmcp.spec import key
from erlmcp.spec import method as m
from erlmcp.spec.version import KNOWN_VERSIONS, LEGACY, MODERN

if TYPE_CHECKING:
    import ssl

    import mcp_types as types

    from erlmcp.client.tls import Tls
    from erlmcp.metrics.recorder import Recorder

log = logging.getLogger("erlmcp.client")

CLIENT_INFO: Final = {"name": "erlmcp", "version": "0.1.0"}
KEY_CHARS_MAX: Final = 4096  # of a call whose answer is kept; longer ones are made each time
# What a list is asked for by, and what a server says where it changed.
LISTS: Final = {
    m.TOOLS_LIST: ("list_tools", m.TOOLS_CHANGED),
    m.PROMPTS_LIST: ("list_prompts", m.PROMPTS_CHANGED),
    m.RESOURCES_LIST: ("list_resources", m.RESOURCES_CHANGED),
    m.TEMPLATES_LIST: ("list_resource_templates", m.RESOURCES_CHANGED),
}
MODES: Final = ("auto", LEGACY, *KNOWN_VERSIONS)
Call = tuple[str, Mapping[str, Any] | None]


class Client(Switched):
    """A client of one server, of both eras.

    ``target``: a URL, ``unix:/path``, ``tcp://host:port``, a command line (a string with blanks, or a list of words),
    an ``mcpServers`` entry, a ``Server`` of this process, or a channel. ``mode``: "auto" finds out what the server
    speaks, "legacy" is the newest handshake revision, a revision is that one and no other.

    ``headers``, ``tls``, ``http2``, ``trust_env`` and ``auth`` (a token, a function that gives one, ``OAuth(...)``) are
    for a URL, and mean what ``HttpChannel`` says of them.

    ``timeout_s`` bounds each wait for an answer, where a call does not say otherwise; ``limits`` the rest. ``on_log``
    gets the params of each log message (from ``log_level`` on), ``on_progress`` (progress, total, message) of each
    call that has no callback of its own, ``on_notification`` (method, params) of each other notification, ``on_noise``
    what the server wrote that is no message. ``elicitation``, ``sampling`` and ``roots`` answer the server's questions
    (``erlmcp.client.question``). ``cache``: whether answers are kept for as long as the server says they may be.
    ``reconnect``: whether the first call after a loss connects anew. ``json_rpc_batch``: where 2025-03-26 is
    spoken, the requests of a turn of the loop leave as one JSON-RPC array. ``flags``: what is switched on;
    without them, what the environment says. A channel that is given ready-made has its own. ``guards``: the breaker,
    rate, bulkhead, adaptive timeout and retries of all requests (docs/protection.md); ``on_breaker(event)`` is told of
    the breaker's states. ``metrics``: where durations are recorded, none unless told (docs/metrics.md).

    Raises ConfigurationError for a target or mode that cannot be.
    """

    def __init__(
        self,
        target: Any,
        *,
        mode: str = "auto",
        timeout_s: float | None = None,
        limits: ClientLimits | None = None,
        client_info: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        tls: Tls | ssl.SSLContext | None = None,
        http2: bool | None = None,
        trust_env: bool = True,
        auth: Any = None,
        on_log: Callable[[dict[str, Any]], Any] | None = None,
        log_level: str | None = None,
        on_progress: Progress | None = None,
        on_notification: Callable[[str, dict[str, Any]], Any] | None = None,
        on_noise: Callable[[str], Any] | None = None,
        elicitation: Handler | None = None,
        sampling: Handler | None = None,
        roots: Any = None,
        cache: bool = True,
        reconnect: bool = True,
        json_rpc_batch: bool = False,
        flags: Flags | None = None,
        guards: Guards | None = None,
        on_breaker: Callable[[BreakerEvent], object] | None = None,
        metrics: Recorder | None = None,
    ) -> None:
        if mode not in MODES:
            raise ConfigurationError(f"mode {mode!r} is unknown; expected one of {', '.join(MODES)}")
        level = log_level if log_level is not None or on_log is None else "info"
        if level is not None and level not in key.LOG_RANK:
            raise ConfigurationError(f"log_level {level!r} is unknown; expected one of {', '.join(key.LOG_LEVELS)}")
        limits = limits or ClientLimits()
        super().__init__(target, limits if timeout_s is None else replace(limits, timeout_s=timeout_s), metrics)
        self.mode = mode
        self.client_info = dict(client_info or CLIENT_INFO)
        self.log_level = level
        self.questions = Questions(elicitation, sampling, roots)
        self._traced = given_as(flags)
        self._target_options = HttpOptions(dict(headers or {}), tls, http2, trust_env, auth), json_rpc_batch
        self._make_target(self.flags, *self._target_options)
        self._guarded = Guarded(self.name, guards, self.flags, on_breaker) if guards else None
        self._on_log = on_log
        self._on_progress = on_progress
        self._on_notification = on_notification
        self._on_noise = on_noise
        self._reconnect = reconnect
        self._is_caching = cache
        self._kept = self._make_kept()
        self._mirrored: dict[str, annotation.Paths] = {}  # over HTTP: by tool
        self._idempotent: set[str] = set()  # tools that may be called again
        self._lasting: set[str] = set()  # tools that gave an answer that may be kept
        self._listed: dict[str, int] = {}  # what was listed since the client was opened: hashes, by method
        self._by_uri: dict[str, Subscription] = {}
        self._noise_count = 0

    # -- tools ---------------------------------------------------------------------------------------------------------

    async def call_tool(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        timeout_s: float | None = None,
        on_progress: Progress | None = None,
        meta: dict[str, Any] | None = None,
        raise_on_error: bool = True,
    ) -> CallResult:
        """Call a tool. Raises ToolError, with the result in ``error.result``, where the tool failed (the result itself
        is given instead with ``raise_on_error=False``); McpError where the server refused; CallTimeoutError;
        ConnectionClosedError.

        Cancelled, it tells the server that nobody wants the answer. ``on_progress(progress, total, message)``.
        """
        raw: dict[str, Any] | None = None
        if on_progress is None and meta is None:
            direct, short = self._direct, self._short
            if direct is not None and (found := direct(name, arguments)) is not None:
                kind = found.__class__
                if kind is DirectResult or kind is HandshakeResult:
                    return found  # type: ignore[no-any-return]
                result = found if isinstance(found, CallResult) else await self._settle(found, timeout_s)
                if raise_on_error and result.is_error:
                    raise tool_error(result)
                return result
            if short is not None and name not in self._idempotent:
                sent = short.call(name, arguments, timeout_s if DEADLINE.get() is None else self._left(timeout_s))
                if sent.__class__ is AnswerResult:
                    return sent
                if isinstance(sent, Request):
                    call = sent.call or await self._answer(sent)
                    if (plain := short.result(call)) is not None:
                        return plain
                    raw = result_of(call, m.TOOLS_CALL)
        again = name in self._idempotent
        params: dict[str, Any] = {"name": name, "arguments": {} if arguments is None else dict(arguments)}
        if again and name in self._lasting and on_progress is None and meta is None:
            result = await self._call_kept(name, params["arguments"], timeout_s)
            if raise_on_error and result.is_error:
                raise tool_error(result)
            return result
        headers: dict[str, str] | None = None
        if raw is None:
            raw, headers = await self._call(name, params, timeout_s, on_progress, meta, again)
        if raw.get("resultType", COMPLETE) != COMPLETE:
            raw = await self._finish(raw, m.TOOLS_CALL, params, name, timeout_s, on_progress, meta, again, headers)
        if again and "ttlMs" in raw and self._kept is not None and self.era == MODERN:
            self._lasting.add(name)
        result = CallResult(raw)
        if raise_on_error and raw.get("isError") is True:
            raise tool_error(result)
        return result

    async def _call(
        self,
        name: str,
        params: dict[str, Any],
        timeout_s: float | None,
        on_progress: Progress | None,
        meta: dict[str, Any] | None,
        again: bool,
    ) -> tuple[dict[str, Any], dict[str, str] | None]:
        """(the result of one request, the headers that it was sent with)."""
        headers = self._headers(name, params["arguments"]) if self._mirrored else None
        options = (m.TOOLS_CALL, params, name, timeout_s, on_progress, meta, again)
        try:
            return await self._once(*options, headers), headers
        except McpError as error:
            if error.code != HEADER_MISMATCH or not self._is_http:
                raise
            # The tool's schema was not known here, or is another one by now (2026-07-28, Streamable HTTP).
            self.changed(m.TOOLS_CHANGED, {})
            await self.list_tools()
            headers = self._headers(name, params["arguments"])
            return await self._once(*options, headers), headers

    async def _call_kept(self, name: str, arguments: dict[str, Any], timeout_s: float | None) -> CallResult:
        """A call of a tool that may be called again, and whose answers are known to last: once for all who ask at the
        same time, and not at all while its answer may be kept. Everybody gets objects of their own."""

        async def load() -> tuple[Any, Any]:
            # Any meta leads past here.
            found = await self.call_tool(name, arguments, timeout_s=timeout_s, meta={}, raise_on_error=False)
            return core.encode(found.raw), None if found.is_error else found.raw.get("ttlMs")

        try:
            text = json.dumps([name, arguments], sort_keys=True, ensure_ascii=False)
        except (TypeError, ValueError):
            text = ""  # Not JSON: the call will say so.
        if not 0 < len(text) <= KEY_CHARS_MAX:
            return await self.call_tool(name, arguments, timeout_s=timeout_s, meta={}, raise_on_error=False)
        encoded = await self._keep(f"{m.TOOLS_CALL} {text}", load, TOOLS)
        bytes_max = self.limits.message_bytes_max
        return CallResult(core.decode(encoded, depth_max=self.limits.depth_max, string_bytes_max=bytes_max))

    async def _settle(self, waiting: Waiting, timeout_s: float | None) -> CallResult:
        return await waiting.settle(self._left(timeout_s))

    def _left(self, timeout_s: float | None) -> float:
        """How long to wait for an answer: within what is left where this is called."""
        return shortened_s(self.limits.timeout_s if timeout_s is None else timeout_s, m.TOOLS_CALL)

    def _headers(self, name: str, arguments: Mapping[str, Any] | None) -> dict[str, str] | None:
        paths = self._mirrored.get(name)
        return None if paths is None else annotation.headers_of(paths, arguments or {})

    async def call_many(
        self, calls: Iterable[Call], *, timeout_s: float | None = None, raise_on_error: bool = True
    ) -> list[CallResult]:
        """Many calls at once, each a (name, arguments): they leave in as few writes as the connection allows, and
        their results come in the order of the calls.

        The first exception is raised, and the other calls are cancelled; with ``raise_on_error=False`` exceptions of
        ``erlmcp`` stand in the list in their places.
        """
        one = self.call_tool
        tasks = [
            asyncio.ensure_future(one(name, given, timeout_s=timeout_s, raise_on_error=raise_on_error))
            for name, given in calls
        ]
        try:
            if raise_on_error:
                return list(await asyncio.gather(*tasks))
            found: list[Any] = await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            waiting = [task for task in tasks if not task.done()]
            for task in waiting:
                task.cancel()
            if waiting:
                await asyncio.wait(waiting)
        for each in found:
            if isinstance(each, BaseException) and not isinstance(each, ErlmcpError):
                raise each
        return found

    async def list_tools(self) -> list[types.Tool]:
        """All tools, every page. Over HTTP without those whose header annotations break the rules."""
        return await self._list(m.TOOLS_LIST, "tools", "list[Tool]", self._sift)  # type: ignore[no-any-return]

    def _sift(self, tools: list[Any]) -> list[Any]:
        """Learn what calls need to know of the tools, and leave out those that must not be called."""
        self._mirrored.clear()
        self._idempotent.clear()
        self._lasting.clear()
        fit = []
        for tool in tools:
            if not isinstance(tool, dict) or not isinstance(tool.get("name"), str):
                continue
            hints = tool.get("annotations")
            if isinstance(hints, dict) and (hints.get("readOnlyHint") is True or hints.get("idempotentHint") is True):
                self._idempotent.add(tool["name"])
            if self._is_http and self.era == MODERN:
                try:
                    paths = annotation.mirrored(tool.get("inputSchema"))
                except ValueError as error:
                    log.warning("tool %s is left out: %s", tool["name"], error)
                    continue
                if paths:
                    self._mirrored[tool["name"]] = paths
            fit.append(tool)
        return fit

    # -- resources, prompts, completion --------------------------------------------------------------------------------

    async def list_resources(self) -> list[types.Resource]:
        return await self._list(m.RESOURCES_LIST, "resources", "list[Resource]")  # type: ignore[no-any-return]

    async def list_resource_templates(self) -> list[types.ResourceTemplate]:
        found: list[types.ResourceTemplate]
        found = await self._list(m.TEMPLATES_LIST, "resourceTemplates", "list[ResourceTemplate]")
        return found

    async def list_prompts(self) -> list[types.Prompt]:
        return await self._list(m.PROMPTS_LIST, "prompts", "list[Prompt]")  # type: ignore[no-any-return]

    async def read_resource(self, uri: str, *, timeout_s: float | None = None) -> types.ReadResourceResult:
        """The contents of a resource (``.contents``); ResourceNotFoundError where there is none."""

        async def load() -> tuple[Any, Any]:
            try:
                raw = await self._ask(m.RESOURCES_READ, {"uri": uri}, uri, timeout_s, again=True)
            except McpError as error:
                raise resource_error(error, uri) from error
            return typed("ReadResourceResult", raw), raw.get("ttlMs")

        return await self._keep(f"{m.RESOURCES_READ} {uri}", load, RESOURCES)  # type: ignore[no-any-return]

    async def get_prompt(
        self, name: str, arguments: Mapping[str, str] | None = None, *, timeout_s: float | None = None
    ) -> types.GetPromptResult:
        params = {"name": name, "arguments": {} if arguments is None else dict(arguments)}
        raw = await self._ask(m.PROMPTS_GET, params, name, timeout_s, again=True)
        return typed("GetPromptResult", raw)  # type: ignore[no-any-return]

    async def complete(
        self,
        argument: str,
        value: str,
        *,
        prompt: str | None = None,
        resource: str | None = None,
        context: Mapping[str, str] | None = None,
    ) -> types.Completion:
        """Completions for an argument of a prompt (by name), or a variable of a resource template (by its URI).
        ``context`` are arguments that were chosen already."""
        if (prompt is None) == (resource is None):
            raise ConfigurationError("complete needs either prompt= (a name) or resource= (a URI template)")
        ref = {"type": "ref/prompt", "name": prompt} if resource is None else {"type": "ref/resource", "uri": resource}
        params: dict[str, Any] = {"ref": ref, "argument": {"name": argument, "value": value}}
        if context is not None:
            params["context"] = {"arguments": dict(context)}
        raw = await self._ask(m.COMPLETE, params, again=True)
        return typed("Completion", raw.get("completion"))  # type: ignore[no-any-return]

    # -- changes -------------------------------------------------------------------------------------------------------

    def listen(
        self, *, tools: bool = False, prompts: bool = False, resources: bool = False, uris: Sequence[str] = ()
    ) -> Subscription:
        """Hear of changes of the lists, and of single resources: ``async with client.listen(tools=True) as events:
        async for event in events``. A stream of its own in 2026-07-28; in the handshake eras what the server tells
        everybody, and a subscription for each of ``uris``."""
        wanted = ((m.TOOLS_CHANGED, tools), (m.PROMPTS_CHANGED, prompts), (m.RESOURCES_CHANGED, resources))
        methods = frozenset(method for method, is_wanted in wanted if is_wanted)
        return Subscription(self._conversing, methods, frozenset(uris), _place())

    async def subscribe(self, uri: str) -> None:
        """Let ``on_notification`` hear of changes of a resource, until ``unsubscribe`` or a loss of the connection."""
        known = self._by_uri.get(uri)
        if known is None or known.is_over:
            self._by_uri[uri] = await self.listen(uris=[uri]).open()

    async def unsubscribe(self, uri: str) -> None:
        known = self._by_uri.pop(uri, None)
        if known is not None:
            await known.aclose()

    async def set_log_level(self, level: str) -> None:
        """From which level on the server sends log messages: by a request in the handshake eras, with each request in
        2026-07-28."""
        if level not in key.LOG_RANK:
            raise ConfigurationError(f"log level {level!r} is unknown; expected one of {', '.join(key.LOG_LEVELS)}")
        self.log_level = level
        conversation = await self._conversing()
        if conversation.era == MODERN:
            conversation.claim_modern()
            self._use(conversation)
        else:
            await self._ask(m.SET_LEVEL, {"level": level})

    async def roots_changed(self) -> None:
        """Tell a server of a handshake era that the roots are others now; 2026-07-28 asks each time."""
        conversation = await self._conversing()
        if conversation.era == LEGACY:
            conversation.channel.notify(m.ROOTS_CHANGED, None)

    async def ping(self, *, timeout_s: float | None = None) -> None:
        """Whether the server answers: ``ping``, or ``server/discover`` in 2026-07-28, which has no ping."""
        conversation = await self._conversing()
        await self._ask(m.DISCOVER if conversation.era == MODERN else m.PING, None, None, timeout_s, again=True)

    # -- what the conversation tells -----------------------------------------------------------------------------------

    def heard(self, conversation: Conversation, method: str, params: dict[str, Any]) -> None:
        if method == m.MESSAGE:
            if self._on_log is not None:
                conversation.run(self._on_log, params)
        elif self._on_notification is not None:
            conversation.run(self._on_notification, method, params)

    def noise(self, text: str) -> None:
        self._noise_count += 1
        level = logging.WARNING if self._noise_count == 1 else logging.DEBUG
        log.log(level, "%s wrote what is no message: %s", self.name, text)
        if self._on_noise is not None:
            self._on_noise(text)

    def changed(self, method: str, params: dict[str, Any]) -> None:
        if self._kept is None:
            return
        if method == m.RESOURCE_UPDATED:
            self._kept.drop(f"{m.RESOURCES_READ} {params.get('uri')}")
        elif method == m.RESOURCES_CHANGED:
            self._kept.drop(m.RESOURCES_LIST)
            self._kept.drop(m.TEMPLATES_LIST)
            self._kept.drop_tag(RESOURCES)
        elif method == m.TOOLS_CHANGED:
            self._kept.drop(m.TOOLS_LIST)
            self._kept.drop_tag(TOOLS)
            self._lasting.clear()
        else:
            self._kept.drop(m.PROMPTS_LIST)

    # -- lists and what is kept ----------------------------------------------------------------------------------------

    async def _keep(
        self, name: str, load: Callable[[], Coroutine[Any, Any, tuple[Any, Any]]], tag: str | None = None
    ) -> Any:
        if self._kept is None:
            return (await load())[0]
        return await self._kept.get(name, load, () if tag is None else (tag,))

    async def _list(
        self, method: str, field: str, kind: str, sift: Callable[[list[Any]], list[Any]] | None = None
    ) -> Any:
        async def load() -> tuple[Any, Any]:
            items, ttl_ms = await self._pages(method, field)
            self._listed[method] = hash(core.encode(items))
            return typed(kind, items if sift is None else sift(items)), ttl_ms

        return list(await self._keep(method, load))

    def _begun(self, conversation: Conversation) -> None:
        if self._listed:
            conversation.spawn(self._list_again(conversation))

    async def _list_again(self, conversation: Conversation) -> None:
        """After a loss: list what was listed before, as nobody told of changes meanwhile, and tell of those."""
        for method, before in list(self._listed.items()):
            try:
                await getattr(self, LISTS[method][0])()
            except ErlmcpError as error:
                log.warning("%s: %s after the connection was lost: %s", self.name, method, error)
            else:
                if self._listed[method] != before:
                    self.heard(conversation, LISTS[method][1], {})

    async def aclose(self) -> None:
        self._listed.clear()
        await super().aclose()

    def _forget(self) -> None:
        """Another conversation: what was known of the server may not be true any more."""
        if self._kept is not None:
            self._kept.clear()
        self._by_uri.clear()
        self._mirrored.clear()
        self._idempotent.clear()
        self._lasting.clear()


def _place() -> str:
    """The line of the program that led here: the first that is none of ours."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "erlmcp":
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
