"""Who sent a request, as the SDK knows it, and what its handlers find of that."""

from __future__ import annotations

from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mcp.server.auth.middleware.auth_context import auth_context_var
from mcp.server.auth.provider import principal_components

from erlmcp.wire.header import Admitted


class Visit:
    """A request whose token was looked at: ``user`` and ``auth`` stand in its ASGI scope, ``headers`` are those of its
    head, which other requests share."""

    __slots__ = ("app", "auth", "headers", "user")

    def __init__(self, app: Any, headers: Mapping[str, str], auth: Any, user: Any) -> None:
        self.app = app
        self.headers = headers
        self.auth = auth
        self.user = user

    def admitted(self) -> Admitted:
        """The headers of the request, and whose they are: sessions belong to what the SDK takes for one principal."""
        return Admitted(self.headers, repr(principal_components(self.user.access_token)), self)


def visit_of(headers: Any) -> Visit | None:
    """That of a request, by what it carries as its headers."""
    return headers.principal if headers.__class__ is Admitted else None


@contextmanager
def within(visit: Visit | None) -> Iterator[None]:
    """What runs within finds who asks where the SDK puts it (``get_access_token``)."""
    if visit is None:
        yield
        return
    token = auth_context_var.set(visit.user)
    try:
        yield
    finally:
        auth_context_var.reset(token)


async def run_within(visit: Visit, coro: Coroutine[Any, Any, None]) -> None:
    with within(visit):
        await coro
