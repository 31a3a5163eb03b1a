"""What a handler may ask for without a parameter of its own, and what stands as a parameter's default for it.

Importing one of the functions that look for the request where they are called has its price: from then on every tool
of the process runs with its context noted, and not by the shortest way (``current.want_ambient``). ``Depends`` and the
defaults have none.
"""

from __future__ import annotations

import inspect
from typing import Any

from erlmcp.compat.fastmcp import current
from erlmcp.compat.fastmcp.exceptions import unsupported
from erlmcp.compat.fastmcp.server.context import Context
from erlmcp.compat.fastmcp.server.request import HttpRequest
from erlmcp.server.depend import Depends as _Depends

# Those that belong to the hop between a client and this server, or are secrets: not to be handed on.
WITHHELD = frozenset(
    {
        "host",
        "content-length",
        "content-type",
        "connection",
        "transfer-encoding",
        "upgrade",
        "te",
        "keep-alive",
        "expect",
        "accept",
        "authorization",
        "cookie",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "mcp-session-id",
    }
)


def Depends(factory: Any, *, use_cache: bool = True) -> Any:
    """Ask for what a function gives: it may return, be async, yield, or give a context manager."""
    inner = inspect.unwrap(factory)
    if inner is not factory and (inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner)):
        return _Depends(inner, use_cache=use_cache)  # of @contextmanager and @asynccontextmanager
    return _Depends(factory, use_cache=use_cache)


def _context(context: Context) -> Context:
    return context


def _server(context: Context) -> Any:
    return context.fastmcp


def _request(context: Context) -> HttpRequest:
    return _needed(context.http_request)


def _headers(context: Context) -> dict[str, str]:
    return _shown(context.http_request, False, None)


def CurrentContext() -> Any:
    """``ctx: Context = CurrentContext()``"""
    return _Depends(_context)


def CurrentFastMCP() -> Any:
    """``server: FastMCP = CurrentFastMCP()``"""
    return _Depends(_server)


def CurrentRequest() -> Any:
    """``request = CurrentRequest()``: the HTTP request; the call fails on another transport."""
    return _Depends(_request)


def CurrentHeaders() -> Any:
    """``headers: dict[str, str] = CurrentHeaders()``: empty on another transport."""
    return _Depends(_headers)


def CurrentAccessToken() -> Any:
    """Not in this façade."""
    unsupported("CurrentAccessToken()", "tokens are checked before the server", "CurrentHeaders(), behind the gateway")


def TokenClaim(name: str) -> Any:
    """Not in this façade."""
    unsupported(f"TokenClaim({name!r})", "tokens are checked before the server", "CurrentHeaders(), behind the gateway")


class Progress:
    """A count for background tasks, of which there are none here: it counts, and tells nobody, as FastMCP's does in a
    call. ``ctx.report_progress`` tells the client."""

    current: int | None
    total: int
    message: str | None

    def __new__(cls) -> Any:
        return _Depends(_progress)

    async def set_total(self, total: int) -> None:
        if total < 1:
            raise ValueError("Total must be at least 1")
        self.total = total

    async def increment(self, amount: int = 1) -> None:
        if amount < 1:
            raise ValueError("Amount must be at least 1")
        self.current = (self.current or 0) + amount

    async def set_message(self, message: str | None) -> None:
        self.message = message


def _progress() -> Progress:
    made: Progress = object.__new__(Progress)
    made.current, made.total, made.message = None, 1, None
    return made


def is_docket_available() -> bool:
    """Whether background tasks can be had here: never."""
    return False


def get_access_token() -> None:
    """None: tokens are checked before the server."""
    return None


# -- what looks for the request where it is called ---------------------------------------------------------------------


def _here() -> Context:
    found = current.current_context()
    if found is None:
        raise RuntimeError("No active context found: call this while a request is handled")
    return found  # type: ignore[no-any-return]


def _get_context() -> Context:
    """The context of the request that is handled here. RuntimeError outside of one."""
    return _here()


def _get_server() -> Any:
    """The server of the request that is handled here."""
    return _here().fastmcp


def _get_http_request() -> HttpRequest:
    """The HTTP request behind it. RuntimeError where there is none."""
    found = current.current_context()
    return _needed(None if found is None else found.http_request)


def _get_http_headers(include_all: bool = False, include: set[str] | None = None) -> dict[str, str]:
    """Its headers by lower-case name, without those that are not to be handed on; {} where there is none."""
    found = current.current_context()
    return _shown(None if found is None else found.http_request, include_all, include)


def _needed(request: HttpRequest | None) -> HttpRequest:
    if request is None:
        raise RuntimeError("No active HTTP request found.")
    return request


def _shown(request: HttpRequest | None, include_all: bool, include: set[str] | None) -> dict[str, str]:
    if request is None:
        return {}
    withheld = frozenset() if include_all else WITHHELD - {name.lower() for name in include or ()}
    return {name: value for name, value in request.headers.items() if name not in withheld}


_AMBIENT = {
    "get_context": _get_context,
    "get_server": _get_server,
    "get_http_request": _get_http_request,
    "get_http_headers": _get_http_headers,
}
for _name, _function in _AMBIENT.items():
    _function.__name__ = _function.__qualname__ = _name


def __getattr__(name: str) -> Any:
    found = _AMBIENT.get(name)
    if found is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    current.want_ambient()
    return found
