"""The ASGI application that the SDK makes of an app, and what of it our endpoint goes by: its routes, and its auth.

The application itself answers what is asked beside the endpoint: its router and its middleware are the SDK's. What
stands before the endpoint there is taken out of it and asked for each request by our own (``front``): the backend that
knows the bearer of a token, and the middleware that requires one. Where anything else stands there, nobody but the
application can say what it does: the app is left to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from mcp.server.auth.middleware.auth_context import AuthContextMiddleware
from mcp.server.auth.middleware.bearer_auth import BearerAuthBackend
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.routing import Match, WebSocketRoute

from erlmcp.compat.accel.level import name_of
from erlmcp.compat.accel.tested import untested
from erlmcp.errors import ConfigurationError

if TYPE_CHECKING:
    from erlmcp.compat.accel.adapter import Adapter

LET_IN: Final = "erlmcp.let_in"  # in the scope of a request that nothing stands in the way of


class StockApp:
    """Such an application. ``backend`` and ``require`` are None where clients need not say who they are.

    Raises ConfigurationError for an app that has to be left to its own server.
    """

    def __init__(self, adapter: Adapter, path: str) -> None:
        self.asgi = adapter.front_app(path)
        self._own = {id(route) for route in adapter.routes()}
        self.backend: Any = None
        self.require: Any = None
        for route in _all(self.routes):
            if isinstance(route, WebSocketRoute):
                raise ConfigurationError(f"its route {route.path} is a WebSocket, which its own HTTP server serves")
        if adapter.has_auth():
            if reason := untested(*adapter.packages):
                raise ConfigurationError(f"its auth is checked by its own HTTP server, as {reason}")
            self._take_auth(adapter, path)

    @property
    def routes(self) -> list[Any]:
        return list(self.asgi.router.routes)

    def _take_auth(self, adapter: Adapter, path: str) -> None:
        found = [getattr(route, "endpoint", None) for route in self.routes if getattr(route, "path", None) == path]
        self.require = next((each for each in found if type(each) in adapter.guards), None)
        if self.require is None:
            raise ConfigurationError(f"its auth is checked by its own HTTP server: nothing known guards {path} there")
        for each in self.asgi.user_middleware:
            if each.cls is AuthenticationMiddleware and set(each.kwargs) == {"backend"} and not each.args:
                self.backend = each.kwargs["backend"]
            elif each.cls is not AuthContextMiddleware and each.cls not in adapter.http_middleware:
                raise ConfigurationError(f"its HTTP middleware {name_of(each.cls)} is run by its own HTTP server")
        if type(self.backend) is not BearerAuthBackend:
            raise ConfigurationError(f"its auth is checked by its own HTTP server: {name_of(self.backend)}")
        self.require.app = _let_in

    def route_of(self, scope: dict[str, Any]) -> Any:
        """The route that answers a request, as the router finds it; None where there is none."""
        partial: Any = None
        for route in self.asgi.router.routes:
            match, _ = route.matches(scope)
            if match is Match.FULL:
                return route
            if match is Match.PARTIAL and partial is None:
                partial = route
        return partial

    def is_authors(self, route: Any) -> bool:
        """Whether a route is the author's own, not one that the auth provider brought along."""
        return id(route) in self._own


async def _let_in(scope: Any, _receive: Any, _send: Any) -> None:
    scope[LET_IN] = True


def _all(routes: Any) -> Iterator[Any]:
    for route in routes:
        yield route
        yield from _all(getattr(route, "routes", None) or ())
