"""A gateway over HTTP: who shows no good credential is told so before anything else is done."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from erlmcp.auth.challenge import INSUFFICIENT_SCOPE, Refusal
from erlmcp.auth.porter import Porter
from erlmcp.server import serve
from erlmcp.spec import method as m
from erlmcp.wire.header import Admitted

if TYPE_CHECKING:
    import ssl

    from erlmcp.auth.keeper import Keeper
    from erlmcp.core import HttpRequest
    from erlmcp.gateway.app import Gateway
    from erlmcp.runtime.reply import Reply
    from erlmcp.transports.listener import HttpListener
    from erlmcp.wire.header import Gate, Verdict

_NAMED = frozenset(m.NAME_KEYS)


class Door(Porter):
    """The endpoint of a gateway. A verdict on a head holds until the keys are others (``renew``)."""

    def __init__(self, gateway: Gateway, gate: Gate, **options: Any) -> None:
        self._gateway = gateway
        super().__init__(gateway, gate, gateway.access, **options)
        gateway.doors.add(self)

    def pass_on(self, request: HttpRequest, verdict: Verdict, reply: Reply) -> None:
        """Who needs another scope for what it names is told which, so that it can ask for it."""
        if self._has_grants and verdict.headers.__class__ is Admitted:
            caller, call = verdict.headers.principal, request.call
            if caller.is_limited and call is not None and call.name is not None and call.method in _NAMED:
                missing = self._gateway.access.missing_of(caller, call.name)
                if missing:
                    refusal = Refusal(403, INSUFFICIENT_SCOPE, f"this needs the scope {' '.join(missing)}", missing)
                    self.refuse(refusal, verdict, reply)
                    return
        super().pass_on(request, verdict, reply)

    def use(self, keeper: Keeper) -> None:
        super().use(keeper)
        oauth = self._gateway.config.oauth
        self._has_grants = oauth is not None and bool(oauth.grants)

    def renew(self) -> None:
        """Judge every head anew: a gate of another identity is another gate."""
        self.gate = replace(self.gate)
        self.use(self._gateway.access)

    def close(self) -> None:
        self._gateway.doors.discard(self)
        super().close()


def http(
    gateway: Gateway, host: str | None = None, port: int | None = None, path: str | None = None, **options: Any
) -> AbstractAsyncContextManager[HttpListener]:
    """Serve within this context (``erlmcp.server.serve.http``), where the configuration says unless it is said here."""
    config = gateway.config
    where = host or config.host, config.port if port is None else port, path or config.path
    return serve.http(gateway, *where, **options)


def run_http(
    gateway: Gateway,
    host: str | None = None,
    port: int | None = None,
    path: str | None = None,
    *,
    tls: ssl.SSLContext | None = None,
    http2: bool | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM; ``http2`` None: with TLS, where the library is installed. Raises OSError where the
    address cannot be had."""
    speaks = gateway.flags.http2 and (tls is not None and find_spec("h2") is not None if http2 is None else http2)
    opening = http(gateway, host, port, path, tls=tls, http2=speaks)
    scheme = "http" if tls is None else "https"
    serve.run(serve.until_stopped(gateway, opening, partial(_announce, gateway, scheme, host, path)))


def _announce(gateway: Gateway, scheme: str, host: str | None, path: str | None, listener: HttpListener) -> str:
    config = gateway.config
    named = host or config.host
    shown = f"[{named}]" if ":" in named else named
    up = sum(each.state == "up" for each in gateway.upstreams.values())
    where = f"{scheme}://{shown}:{listener.port}/{(path or config.path).strip('/')}"
    return f"{gateway.name}: serving {where}, {up} of {len(gateway.upstreams)} upstreams are up"
