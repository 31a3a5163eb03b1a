"""What FastMCP (4.1.2) puts around the body of a tool, for tools that see it: those that take the ``Context``, and
those that look for the request at hand (``get_context()``, ``get_http_headers()`` ...). Level 3, see
``context.WithContext``.

FastMCP enters two of its Contexts, one within the other, for a call that a client made; they share what they hold, so
that one is enough. The variables that only its extensions and its tasks look at are not set: an app that has those has
no such plans.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from fastmcp import FastMCP
from fastmcp.server.context import Context
from fastmcp.server.dependencies import (
    _CurrentContext,
    _OptionalCurrentContext,
    bind_request_context,
    get_dependency_parameters,
)
from fastmcp.utilities.async_utils import call_sync_fn_in_threadpool

if TYPE_CHECKING:
    from contextvars import ContextVar, Token

CONTEXTS: Final = (_CurrentContext, _OptionalCurrentContext)


def context_names(function: Any) -> tuple[str, ...]:
    """The parameters that are given the Context."""
    return tuple(name for name, wanted in get_dependency_parameters(function).items() if type(wanted) in CONTEXTS)


@dataclass(slots=True, frozen=True)
class Body:
    """How the function of a tool is called within the Context.

    ``take`` gives arguments that need no validator (None: they all do) to ``call``, and with them the Context by each
    of ``names``; ``validate`` validates the others, and calls.
    """

    take: Callable[[dict[str, Any]], dict[str, Any] | None] | None
    call: Callable[..., Any]
    names: tuple[str, ...]
    validate: Callable[[dict[str, Any]], Any]

    async def run(self, context: Context, arguments: dict[str, Any]) -> Any:
        given = None if self.take is None else self.take(arguments)
        if given is None:
            value = self.validate(arguments)
        else:
            for name in self.names:
                given[name] = context
            value = self.call(**given)
        while inspect.isawaitable(value):  # An ordinary function may give what is to be awaited, from its thread too.
            value = await value
        if inspect.isasyncgen(value):
            return [item async for item in value]
        return list(value) if inspect.isgenerator(value) else value


def caller_of(function: Any, *, in_thread: bool) -> Callable[..., Any]:
    """What calls the function, in the thread that FastMCP would have taken."""
    return partial(call_sync_fn_in_threadpool, function) if in_thread else function


async def within(app: FastMCP[Any], body: Body, arguments: dict[str, Any], request: Any) -> Any:
    """Run the body where it finds its request, its Context, its server, and what the app's lifespan shares."""
    shared: dict[ContextVar[Any], Any] = getattr(app, "_shared_context_snapshot", None) or {}
    tokens: list[tuple[ContextVar[Any], Token[Any]]] = [(name, name.set(value)) for name, value in shared.items()]
    try:
        with bind_request_context(request):
            async with Context(fastmcp=app) as context:
                return await body.run(context, arguments)
    finally:
        for name, token in reversed(tokens):
            name.reset(token)
