"""What a handler knows of the request it serves, and what it may do meanwhile."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from erlmcp.errors import ConfigurationError, ConnectionClosedError, NoBackChannelError
from erlmcp.server.input import (
    Elicit,
    ElicitResult,
    InputRequired,
    ListRoots,
    Round,
    Sample,
    SampleResult,
    check_capability,
    sampling_messages,
)
from erlmcp.spec import key as k
from erlmcp.spec import method as m
from erlmcp.wire.header import credential_of

if TYPE_CHECKING:
    from erlmcp.auth.rule import Principal
    from erlmcp.runtime.exchange import Exchange
    from erlmcp.runtime.scheduler import Job
    from erlmcp.server.app import Server


def is_context(hint: Any) -> bool:
    """Whether a parameter with this hint takes the context."""
    return isinstance(hint, type) and issubclass(hint, Context)


_NO_HEADERS: Mapping[str, str] = {}


class Context:
    """The request at hand. A handler asks for it by annotating a parameter with ``Context``; it is valid until the
    handler returns."""

    __slots__ = ("_exchange", "_own", "_server")

    def __init__(self, exchange: Exchange, server: Server) -> None:
        self._exchange = exchange
        self._server = server
        self._own: dict[str, Any] | None = None

    # -- who asks, and what --------------------------------------------------------------------------------------------

    @property
    def server(self) -> Server:
        found: Server = self._server.whole
        return found

    @property
    def request_id(self) -> str | int | None:
        """The JSON-RPC id, with its type kept."""
        return self._exchange.call.id

    @property
    def method(self) -> str:
        return self._exchange.call.method or ""

    @property
    def params(self) -> dict[str, Any]:
        """The request's params, decoded; not to be changed."""
        params = self._exchange.params
        return params if isinstance(params, dict) else {}

    @property
    def name(self) -> str | None:
        """The tool's or prompt's name, or the resource's URI, that the request is about."""
        return self._exchange.call.name

    @property
    def meta(self) -> dict[str, Any]:
        """The request's ``_meta``."""
        meta = self._exchange.call.meta
        return meta.values if meta is not None else {}

    @property
    def protocol_version(self) -> str:
        return self._exchange.peer.version

    @property
    def era(self) -> str:
        """ "modern" (2026-07-28) or "legacy" (the handshake revisions)."""
        return "modern" if self._exchange.peer.modern else "legacy"

    @property
    def client_info(self) -> dict[str, Any] | None:
        """The client's Implementation (name, version, ...), where it told."""
        return self._exchange.peer.info

    @property
    def client_capabilities(self) -> dict[str, Any]:
        return self._exchange.peer.capabilities

    @property
    def headers(self) -> Mapping[str, str]:
        """The HTTP request's headers, names in lower case; empty on other transports."""
        return self._exchange.headers or _NO_HEADERS

    @property
    def principal(self) -> Principal | None:
        """Who calls, where ``Server(auth=...)`` asked for an access token; None on transports without one."""
        return getattr(self._exchange.headers, "principal", None)

    @property
    def session_id(self) -> str | None:
        """The legacy HTTP session's id. Treat it as a secret: never log it in full."""
        return self._exchange.session.id

    @property
    def session(self) -> dict[str, Any]:
        """Values kept for as long as the conversation lasts. In 2026-07-28 over HTTP there is none: it lives as long
        as the request; mint explicit handles for state that must last."""
        kept = self._exchange.session.state
        if kept is None:
            if self._own is None:
                self._own = {}
            return self._own
        return kept

    def schedule(self, fn: Callable[..., Any], /, *args: Any, **options: Any) -> Job:
        """As ``server.schedule``, for this conversation: the job ends with it, and its runs are taken from its share.

        Raises ConfigurationError in 2026-07-28 over HTTP, where a request belongs to no conversation: give
        ``server.schedule`` an ``owner`` there.
        """
        session = self._exchange.session
        if session.state is None:
            raise ConfigurationError("this request belongs to no session; use server.schedule(fn, owner=...)")
        return self._server.schedule(fn, *args, owner=session, **options)

    @property
    def lifespan(self) -> Any:
        """What the server's lifespan yielded."""
        return self._server.lifespan_value

    @property
    def state(self) -> dict[str, Any]:
        """Values (JSON only) carried through the rounds of this request. In the legacy eras there is one round."""
        if not self._exchange.peer.modern:
            if self._exchange.round is None:
                self._exchange.round = {}
            return self._exchange.round  # type: ignore[no-any-return]
        return self._round().state

    @property
    def overload(self) -> int:
        """How far the server is from keeping up: 0 (it keeps up), 1 (busy: do less where you can), 2 and 3 (it refuses
        calls)."""
        return self._server.overload

    @property
    def cancelled(self) -> bool:
        """Whether the client gave the request up, or it was answered."""
        return self._exchange.done

    # -- telling -------------------------------------------------------------------------------------------------------

    async def progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        """Report progress, where the client asked for it (spec: basic/utilities/progress). It must increase with each
        call."""
        token = self._exchange.progress_token
        if token is None:
            return
        params: dict[str, Any] = {"progressToken": token, "progress": progress}
        if total is not None:
            params["total"] = total
        if message is not None and self.protocol_version >= "2025-03-26":
            params["message"] = message
        self._exchange.notify(m.PROGRESS, params)

    async def log(self, level: str, data: Any, logger: str | None = None) -> None:
        """Send a log message (spec: server/utilities/logging).

        In 2026-07-28 only where the request carries a log level, and from that level on; before that from the level
        that ``logging/setLevel`` set, or all. Raises ValueError for an unknown level.
        """
        rank = k.LOG_RANK.get(level)
        if rank is None:
            raise ValueError(f"unknown log level {level!r}, expected one of {', '.join(k.LOG_LEVELS)}")
        peer = self._exchange.peer
        least = peer.log_level if peer.modern else self._exchange.session.log_level or "debug"
        if least is None or rank < k.LOG_RANK[least]:
            return
        params: dict[str, Any] = {"level": level, "data": data}
        if logger is not None:
            params["logger"] = logger
        self._exchange.notify(m.MESSAGE, params)

    async def debug(self, data: Any, logger: str | None = None) -> None:
        await self.log("debug", data, logger)

    async def info(self, data: Any, logger: str | None = None) -> None:
        await self.log("info", data, logger)

    async def warning(self, data: Any, logger: str | None = None) -> None:
        await self.log("warning", data, logger)

    async def error(self, data: Any, logger: str | None = None) -> None:
        await self.log("error", data, logger)

    async def tools_changed(self) -> None:
        """Tell those who asked that the list of tools changed. ``add_tool`` and ``remove_tool`` do so by themselves."""
        self._server.hub.publish(m.TOOLS_CHANGED)

    async def prompts_changed(self) -> None:
        self._server.hub.publish(m.PROMPTS_CHANGED)

    async def resources_changed(self) -> None:
        self._server.hub.publish(m.RESOURCES_CHANGED)

    async def resource_updated(self, uri: str) -> None:
        """Tell those who subscribed to this URI that its contents changed; what is static is read anew."""
        self._server.resource_updated(uri)

    async def close_stream(self) -> None:
        """End the response stream of a 2025-11-25 HTTP request before its answer: the client comes back for the rest
        with Last-Event-ID (SEP-1699). Does nothing elsewhere."""
        self._exchange.channel.detach()

    async def read_resource(self, uri: str) -> list[dict[str, Any]]:
        """The contents of one of this server's own resources; raises ResourceNotFoundError."""
        return await self._server.service.read(uri, self)

    # -- asking --------------------------------------------------------------------------------------------------------

    async def elicit(self, message: str, schema: Any = None, *, key: str | None = None) -> ElicitResult:
        """Ask the user to fill a form (spec: client/elicitation).

        ``schema``: a dataclass, TypedDict or pydantic model of flat primitive fields, or a JSON Schema object; a single
        primitive type is wrapped. Raises McpError where the client cannot be asked.
        """
        found = await self.ask({self._key("elicit", key): Elicit(message, schema)})
        return next(iter(found.values()))  # type: ignore[no-any-return]

    async def elicit_url(self, message: str, url: str, *, key: str | None = None) -> ElicitResult:
        """Ask the user to visit a URL (secrets, payment, sign-in: nothing of it passes through the client)."""
        found = await self.ask({self._key("elicit", key): Elicit(message, url=url)})
        return next(iter(found.values()))  # type: ignore[no-any-return]

    async def sample(
        self,
        messages: Any,
        *,
        max_tokens: int = 1024,
        system_prompt: str | None = None,
        key: str | None = None,
        **options: Any,
    ) -> SampleResult:
        """Let the client's model answer (spec: client/sampling).

        ``messages``: a string, a message, or a list of them; ``options``: further fields of sampling/createMessage by
        their wire names (``temperature``, ``modelPreferences``, ``tools``, ...).
        """
        found = await self.ask({self._key("sample", key): Sample(messages, max_tokens, system_prompt, options)})
        return next(iter(found.values()))  # type: ignore[no-any-return]

    async def list_roots(self, *, key: str | None = None) -> list[dict[str, Any]]:
        """The client's roots (spec: client/roots): dicts with ``uri`` and perhaps ``name``."""
        found = await self.ask({self._key("roots", key): ListRoots()})
        return next(iter(found.values()))

    async def ask(self, questions: Mapping[str, Elicit | Sample | ListRoots]) -> dict[str, Any]:
        """Ask several things in one round: key -> question in, key -> answer out."""
        modern = self._exchange.peer.modern
        requests = {name: _request(question, modern=modern) for name, question in questions.items()}
        for method, params in requests.values():
            check_capability(self._exchange, method, params)
        if modern:
            answers = await self._ask_by_rounds(requests)
        else:
            answers = await self._ask_directly(requests)
        return {name: _answer(question, answers[name]) for name, question in questions.items()}

    def _key(self, kind: str, key: str | None) -> str:
        if not self._exchange.peer.modern:
            return key or kind
        return self._round().key(kind, key)

    def _round(self) -> Round:
        if self._exchange.round is None:
            if self.method not in m.MULTI_ROUND:
                raise NoBackChannelError(f"{self.method} cannot ask the client anything (2026-07-28, mrtr)")
            server = self._server
            self._exchange.round = Round(
                self._exchange, server.state_secret, owner_of(self), server.limits.input_round_max
            )
        return self._exchange.round  # type: ignore[no-any-return]

    async def _ask_by_rounds(self, requests: dict[str, tuple[str, dict[str, Any] | None]]) -> dict[str, Any]:
        found = self._round()
        answers: dict[str, Any] = {}
        for name, (method, params) in requests.items():
            answer = found.answer(name, method)
            if answer is None:
                found.asked[name] = {"method": method} if params is None else {"method": method, "params": params}
            else:
                answers[name] = answer
        if len(answers) < len(requests):
            await asyncio.sleep(0)  # Questions asked side by side (gather) all get into this round.
            raise InputRequired
        return answers

    async def _ask_directly(self, requests: dict[str, tuple[str, dict[str, Any] | None]]) -> dict[str, Any]:
        exchange = self._exchange
        if exchange.done:
            raise ConnectionClosedError("the request was answered or cancelled; nobody is left to ask")
        timeout_s = self._server.limits.request_timeout_s
        asked = [
            asyncio.ensure_future(exchange.session.ask(exchange.channel, method, params, timeout_s))
            for method, params in requests.values()
        ]
        try:
            return dict(zip(requests, await asyncio.gather(*asked), strict=True))
        finally:
            waiting = [each for each in asked if each.cancel()]  # Those beside one that failed.
            if waiting:
                await asyncio.wait(waiting)


def _request(question: Elicit | Sample | ListRoots, *, modern: bool) -> tuple[str, dict[str, Any] | None]:
    """(method, params) of a question."""
    if isinstance(question, Elicit):
        if question.url is not None:
            url: dict[str, Any] = {"mode": "url", "message": question.message, "url": question.url}
            return m.ELICIT, url if modern else {**url, "elicitationId": f"e{time.time_ns():x}"}
        from erlmcp.server.form import form_schema

        return m.ELICIT, {"message": question.message, "requestedSchema": form_schema(question.schema)}
    if isinstance(question, Sample):
        params: dict[str, Any] = {"messages": sampling_messages(question.messages), "maxTokens": question.max_tokens}
        if question.system_prompt is not None:
            params["systemPrompt"] = question.system_prompt
        return m.SAMPLE, {**params, **question.options}
    return m.ROOTS_LIST, None


def _answer(question: Elicit | Sample | ListRoots, answer: dict[str, Any]) -> Any:
    """A client's answer as the handler gets it."""
    if isinstance(question, Elicit):
        content = answer.get("content")
        data = content
        if question.url is None and answer.get("action") == "accept":
            from erlmcp.server.form import form_data

            data = form_data(question.schema, content or {})
        return ElicitResult(str(answer.get("action")), content, data)
    if isinstance(question, Sample):
        return SampleResult(
            str(answer.get("role")), answer.get("content"), str(answer.get("model", "")), answer.get("stopReason")
        )
    return answer.get("roots", [])


def owner_of(context: Context) -> str:
    """Whom a requestState is bound to: a digest of the request's credential."""
    credential = credential_of(context.headers)
    return hashlib.sha256(credential.encode()).hexdigest()[:16] if credential else ""
