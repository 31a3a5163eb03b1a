"""A gateway over HTTP: whose keys are no good is told so before anything else is read."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from erlmcp.gateway.access import REFUSAL
from erlmcp.runtime.endpoint import Endpoint
from erlmcp.server import serve

if TYPE_CHECKING:
    import ssl

    from erlmcp.core import Head
    from erlmcp.gateway.app import Gateway
    from erlmcp.runtime.session import Host
    from erlmcp.transports.listener import HttpListener
    from erlmcp.wire.header import Gate, Verdict

CHALLENGE = b'WWW-Authenticate: Bearer realm="erlmcp", error="invalid_token"\r\n'


class Door(Endpoint):
    """The endpoint of a gateway. A verdict on a head holds until the keys are others (``renew``)."""

    def __init__(self, host: Host, gate: Gate, **options: Any) -> None:
        super().__init__(host, gate, **options)
        self._gateway: Gateway = host  # type: ignore[assignment]  # it is made by one alone
        self._gateway.doors.add(self)

    def judge(self, head: Head) -> Verdict:
        verdict = super().judge(head)
        if not verdict.status and self._gateway.access.caller(verdict.headers) is None:
            verdict.status, verdict.reason, verdict.quick = 401, REFUSAL, False
            verdict.extra = CHALLENGE + verdict.extra
        return verdict

    def renew(self) -> None:
        """Judge every head anew: a gate of another identity is another gate."""
        self.gate = replace(self.gate)

    def close(self) -> None:
        self._gateway.doors.discard(self)
        super().close()


def http(
    gateway: Gateway, host: str | None = None, port: int | None = None, path: str | None = None, **options: Any
) -> AbstractAsyncContextManager[HttpListener]:
    """Serve within this context (``erlmcp.server.serve.http``), where the configuration says unless it is said here."""
    config = gateway.config
    where = host or config.host, config.port if port is None else port, path or config.path
    return serve.http(gateway, *where, make_endpoint=Door, **options)


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
