"""``Context``: the request at hand, in the SDK's words."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from erlmcp.compat.sdk import types
from erlmcp.compat.sdk.ask import ask_one, form_params, security_of
from erlmcp.compat.sdk.elicitation import outcome, rendered, url_outcome
from erlmcp.compat.sdk.record import give
from erlmcp.compat.sdk.request_state import given_state
from erlmcp.compat.sdk.session import ServerSession
from erlmcp.compat.sdk.subscriptions import PromptsListChanged, ResourcesListChanged, ResourceUpdated, ToolsListChanged
from erlmcp.errors import InvalidParamsError
from erlmcp.server.context import Context as Inner
from erlmcp.server.input import is_answer
from erlmcp.spec import method as m

if TYPE_CHECKING:
    from erlmcp.compat.sdk.base import BaseServer

# The kinds of answers, and the field that only one of them has.
_ANSWERS = (
    (types.ElicitResult, m.ELICIT, "action"),
    (types.ListRootsResult, m.ROOTS_LIST, "roots"),
    (types.CreateMessageResult, m.SAMPLE, "role"),
)
OUTSIDE = "Context is not available outside of a request"


class HttpRequest:
    """What a handler may know of the HTTP request: its headers."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self.headers = headers

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise AttributeError(f"request.{name} is not kept: a handler sees the headers; use a custom_route for the rest")


@dataclass(kw_only=True)
class RequestContext:
    """What the low-level handlers and the middleware of the SDK see of a request."""

    session: Any
    lifespan_context: Any
    protocol_version: str
    method: str
    params: Any = None
    request_id: Any = None
    meta: Any = None
    request: Any = None
    close_sse_stream: Any = None
    close_standalone_sse_stream: Any = None
    inner: Inner | None = None


class ContextMark:
    """What every façade's context descends from; parameters of such a type take it."""

    def __class_getitem__(cls, _parameters: Any) -> Any:
        return cls  # What a lifespan yields, and the class of a request, are not looked at here.


def is_context(hint: Any) -> bool:
    """Whether a parameter with this hint takes the context."""
    return isinstance(hint, type) and issubclass(hint, ContextMark)


def is_foreign_context(hint: Any) -> bool:
    """The context of another SDK: an import that was left as it was."""
    found = typing.get_origin(hint) or hint
    names = [f"{base.__module__}.{base.__qualname__}" for base in getattr(found, "__mro__", ())]
    return any(name.startswith(("mcp.server.", "erlmcp.server.")) and name.endswith(".Context") for name in names)


class BaseContext(ContextMark):
    """What both lines of the SDK have. Made by the server for each request; without one it knows its server only."""

    camel = False
    is_nested = False  # of what is read within a request, which has no rounds of its own

    def __init__(self, *, mcp_server: BaseServer[Any] | None = None, inner: Inner | None = None) -> None:
        self._face = mcp_server
        self._inner = inner

    @property
    def inner(self) -> Inner:
        """Our own context. Raises ValueError outside of a request."""
        if self._inner is None:
            raise ValueError(OUTSIDE)
        return self._inner

    @property
    def request_context(self) -> RequestContext:
        inner = self.inner
        headers = inner._exchange.headers
        return RequestContext(
            session=self.session,
            lifespan_context=inner.lifespan if self._face is None or self._face.settings.lifespan else {},
            protocol_version=inner.protocol_version,
            method=inner.method,
            params=inner.params,
            request_id=inner.request_id,
            meta=self._meta(),
            request=None if headers is None else HttpRequest(headers),
            close_sse_stream=inner.close_stream,
            inner=inner,
        )

    def _meta(self) -> Any:
        meta = self.inner.meta
        token = meta.get("progressToken")
        if self.camel:
            return types.RequestParamsMeta.model_validate(meta) if meta else None
        return {**meta, "progress_token": token} if token is not None else dict(meta) or None

    @property
    def session(self) -> ServerSession:
        return ServerSession(self.inner, camel=self.camel)

    @property
    def request_id(self) -> str:
        return str(self.inner.request_id)

    @property
    def headers(self) -> Mapping[str, str] | None:
        """Those of the HTTP request; None on other transports."""
        return self.inner._exchange.headers

    async def report_progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        await self.inner.progress(progress, total, message)

    async def read_resource(self, uri: Any) -> Any:
        """The contents of a resource of this server."""
        if self._face is None:
            raise ValueError(OUTSIDE)
        nested = type(self)(mcp_server=self._face, inner=self._inner)
        nested.is_nested = True
        found = await self._face._read_here(str(uri), nested)
        if isinstance(found, types.InputRequiredResult):
            raise RuntimeError("the resource asks the client first; only MCPServer.read_resource can hand that on")
        return found

    async def elicit(self, message: str, schema: Any) -> Any:
        """Ask the user to fill a form; an AcceptedElicitation, a DeclinedElicitation or a CancelledElicitation.

        In 2026-07-28 the handler runs anew from its start once the answer is there.
        """
        params = form_params(self.inner, message, rendered(schema))
        return outcome(schema, await ask_one(self.inner, "elicit", m.ELICIT, params))

    async def elicit_url(self, message: str, url: str, elicitation_id: str) -> Any:
        """Ask the user to visit a URL."""
        params = {"mode": "url", "message": message, "url": url, "elicitationId": elicitation_id}
        return url_outcome(await ask_one(self.inner, "elicit", m.ELICIT, params))

    async def close_sse_stream(self) -> None:
        """End the response stream before the answer: the client comes back for the rest."""
        await self.inner.close_stream()

    async def close_standalone_sse_stream(self) -> None:
        """End the client's GET stream: it may open another one."""
        streams = getattr(self.inner._exchange.session, "streams", None)
        if streams is not None and streams.standalone is not None:
            streams.standalone.stream.release()


class Context(BaseContext):
    """The context of ``MCPServer``: a parameter annotated with it, or with ``Context[Lifespan]``, takes it."""

    @property
    def mcp_server(self) -> BaseServer[Any]:
        if self._face is None:
            raise ValueError(OUTSIDE)
        return self._face

    @property
    def protocol_version(self) -> str | None:
        return None if self._inner is None else self._inner.protocol_version

    @property
    def client_id(self) -> str | None:
        """What the client calls itself in the request's ``_meta``."""
        found: str | None = self.inner.meta.get("client_id")
        return found

    @property
    def client_capabilities(self) -> Any:
        return self.session.client_capabilities

    @property
    def input_responses(self) -> dict[str, Any] | None:
        """The answers to the questions of an ``InputRequiredResult``; None in the first round."""
        found = None if self._inner is None or self.is_nested else self._inner.params.get("inputResponses")
        return {key: _response(value) for key, value in found.items()} if isinstance(found, dict) else None

    @property
    def request_state(self) -> str | None:
        """The ``request_state`` that was given with them. Raises MCPError (-32602) for one that is not this call's."""
        if self._inner is None or self.is_nested:
            return None
        return given_state(self._inner, security_of(self._inner))

    async def notify_tools_changed(self) -> None:
        await self.mcp_server.bus.publish(ToolsListChanged())

    async def notify_prompts_changed(self) -> None:
        await self.mcp_server.bus.publish(PromptsListChanged())

    async def notify_resources_changed(self) -> None:
        await self.mcp_server.bus.publish(ResourcesListChanged())

    async def notify_resource_updated(self, uri: Any) -> None:
        await self.mcp_server.bus.publish(ResourceUpdated(str(uri)))

    async def log(self, level: str, data: Any, *, logger_name: str | None = None) -> None:
        await self.inner.log(level, data, logger_name)

    async def debug(self, data: Any, *, logger_name: str | None = None) -> None:
        await self.log("debug", data, logger_name=logger_name)

    async def info(self, data: Any, *, logger_name: str | None = None) -> None:
        await self.log("info", data, logger_name=logger_name)

    async def warning(self, data: Any, *, logger_name: str | None = None) -> None:
        await self.log("warning", data, logger_name=logger_name)

    async def error(self, data: Any, *, logger_name: str | None = None) -> None:
        await self.log("error", data, logger_name=logger_name)


def _response(value: Any) -> Any:
    """An answer as the kind of result that it is. Raises InvalidParamsError where it is none."""
    for kind, method, key in _ANSWERS:
        if isinstance(value, dict) and key in value and is_answer(method, value):
            return give(kind, value)
    raise InvalidParamsError("Invalid params: an input response is no answer to a question")
