"""Middleware: what stands around the requests of a server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, Generic, Literal, TypeVar

from erlmcp.spec import method as m

T = TypeVar("T")
CallNext = Callable[["MiddlewareContext[Any]"], Awaitable[Any]]

# What is typed has a hook of its own; all else only those of messages, requests and notifications.
HOOKS: Final = {
    m.INITIALIZE: "on_initialize",
    m.DISCOVER: "on_discover",
    m.TOOLS_CALL: "on_call_tool",
    m.RESOURCES_READ: "on_read_resource",
    m.PROMPTS_GET: "on_get_prompt",
    m.TOOLS_LIST: "on_list_tools",
    m.RESOURCES_LIST: "on_list_resources",
    m.TEMPLATES_LIST: "on_list_resource_templates",
    m.PROMPTS_LIST: "on_list_prompts",
}


class Params:
    """The params of a request, by their Python names: ``message.name``, ``message.arguments``, ``message.uri``."""

    def __init__(self, **given: Any) -> None:
        self.__dict__.update(given)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Params:
        """The same with some of them replaced."""
        return type(self)(**{**self.__dict__, **(update or {})})

    def model_dump(self, **_: Any) -> dict[str, Any]:
        return dict(self.__dict__)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={each!r}' for name, each in self.__dict__.items())})"


class CallToolRequestParams(Params):
    """``name`` and ``arguments``."""


class ReadResourceRequestParams(Params):
    """``uri``."""


class GetPromptRequestParams(Params):
    """``name`` and ``arguments``."""


class ListRequest(Params):
    """``cursor``."""


class Request(Params):
    """``method`` and ``params`` of any other request."""


class Notification(Params):
    """``method`` and ``params`` of a notification."""


@dataclass(kw_only=True, frozen=True)
class MiddlewareContext(Generic[T]):
    """A message on its way in."""

    message: T
    fastmcp_context: Any = None
    source: Literal["client", "server"] = "client"
    type: Literal["request", "notification"] = "request"
    method: str | None = None
    timestamp: datetime = field(default_factory=lambda: datetime.now(UTC))

    def copy(self, **changed: Any) -> MiddlewareContext[T]:
        """The same with some of it replaced."""
        return replace(self, **changed)


class Middleware:
    """Override the hooks of what you want to stand around, each ``async (self, context, call_next)``: the message's,
    then the request's or the notification's, then the method's own. A server with a middleware answers every request
    by the general way."""

    async def __call__(self, context: MiddlewareContext[Any], call_next: CallNext) -> Any:
        """The hooks of this middleware around ``call_next``; override it to stand around every message at once."""
        chained = call_next
        typed = HOOKS.get(context.method or "") if context.type == "request" else None
        if typed is not None:
            chained = partial(_hooked, getattr(self, typed), chained)
        chained = partial(_hooked, self.on_request if context.type == "request" else self.on_notification, chained)
        return await self.on_message(context, chained)

    async def on_message(self, context: MiddlewareContext[Any], call_next: CallNext) -> Any:
        return await call_next(context)

    async def on_request(self, context: MiddlewareContext[Any], call_next: CallNext) -> Any:
        return await call_next(context)

    async def on_notification(self, context: MiddlewareContext[Any], call_next: CallNext) -> Any:
        return await call_next(context)

    async def on_initialize(self, context: MiddlewareContext[Any], call_next: CallNext) -> Any:
        return await call_next(context)

    async def on_discover(self, context: MiddlewareContext[Any], call_next: CallNext) -> Any:
        return await call_next(context)

    async def on_call_tool(self, context: MiddlewareContext[Any], call_next: CallNext) -> Any:
        return await call_next(context)

    async def check_resource_access(self, context: MiddlewareContext[Any]) -> None:
        """Raise AuthorizationError where the resource may not be read."""

    async def on_read_resource(self, context: MiddlewareContext[Any], call_next: CallNext) -> Any:
        await self.check_resource_access(context)
        return await call_next(context)

    async def on_get_prompt(self, context: MiddlewareContext[Any], call_next: CallNext) -> Any:
        return await call_next(context)

    async def on_list_tools(self, context: MiddlewareContext[Any], call_next: CallNext) -> Any:
        return await call_next(context)

    async def on_list_resources(self, context: MiddlewareContext[Any], call_next: CallNext) -> Any:
        return await call_next(context)

    async def on_list_resource_templates(self, context: MiddlewareContext[Any], call_next: CallNext) -> Any:
        return await call_next(context)

    async def on_list_prompts(self, context: MiddlewareContext[Any], call_next: CallNext) -> Any:
        return await call_next(context)


async def _hooked(hook: Any, call_next: CallNext, context: MiddlewareContext[Any]) -> Any:
    return await hook(context, call_next=call_next)


def chain(middleware: list[Any], innermost: CallNext) -> CallNext:
    """``innermost`` with the middleware around it, the first one outermost."""
    chained = innermost
    for each in reversed(middleware):
        chained = partial(_stand, each, chained)
    return chained


async def _stand(middleware: Any, call_next: CallNext, context: MiddlewareContext[Any]) -> Any:
    return await middleware(context, call_next)
