"""Who sent a request, as the SDK knows it, and what its handlers find of that."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
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


class within:
    """What runs within finds who asks where the SDK puts it (``get_access_token``)."""

    __slots__ = ("_token", "_visit")

    def __init__(self, visit: Visit | None) -> None:
        self._visit = visit

    def __enter__(self) -> None:
        self._token = None if self._visit is None else auth_context_var.set(self._visit.user)

    def __exit__(self, *_error: object) -> None:
        if self._token is not None:
            auth_context_var.reset(self._token)


async def run_within(visit: Visit, coro: Coroutine[Any, Any, None]) -> None:
    with within(visit):
        await coro
