"""Proxies that the environment names: which one, and the way through it.

``http_proxy``, ``https_proxy``, ``all_proxy`` and ``no_proxy`` are read as the standard library reads them (in small
letters before large ones; ``HTTP_PROXY`` not where a CGI program would have it from a request). A plain request goes to
the proxy with its whole URL; TLS, and HTTP/2 without it, go through a tunnel (CONNECT), so that the proxy sees the
server's name and no more.
"""

from __future__ import annotations

import asyncio
import base64
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import unquote, urlsplit

from erlmcp.errors import ConfigurationError

if TYPE_CHECKING:
    from erlmcp.client.http_endpoint import Endpoint

HEAD_END: Final = b"\r\n\r\n"


@dataclass(frozen=True)
class Proxy:
    """One that speaks HTTP/1.1 without TLS. ``authorization`` is what it is shown, where its URL has credentials."""

    host: str
    port: int
    authorization: str = field(default="", repr=False)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def proxy_of(scheme: str, host: str, port: int) -> Proxy | None:
    """The proxy that the environment names for this server. ConfigurationError for one that cannot be used."""
    if not any(name.lower().endswith("_proxy") and value for name, value in os.environ.items()):
        return None
    from urllib import request

    found = request.getproxies_environment()
    named = found.get(scheme) or found.get("all")
    if not named or request.proxy_bypass_environment(f"{host}:{port}", found):  # type: ignore[attr-defined]
        return None
    return read_proxy(named)


def read_proxy(text: str) -> Proxy:
    """``[http://][user:password@]host[:port]``."""
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        port = parts.port or 80
    except ValueError as error:
        raise ConfigurationError(f"the environment names a proxy that is no URL: {error}") from error
    if parts.scheme != "http" or not parts.hostname:
        what = f"{parts.scheme}://{parts.hostname or ''}"
        raise ConfigurationError(
            f"the environment names the proxy {what}; only http:// ones are spoken to: trust_env=False goes past it"
        )
    if parts.username is None:
        return Proxy(parts.hostname, port)
    both = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return Proxy(parts.hostname, port, "Basic " + base64.b64encode(both.encode()).decode())


class Tunnel(asyncio.Protocol):
    """A connection to a proxy, until that has opened the way to the server or refused to."""

    def __init__(self, proxy: Proxy, head_bytes_max: int) -> None:
        self.opened: asyncio.Future[asyncio.Transport] = asyncio.get_running_loop().create_future()
        self._proxy = proxy
        self._head_bytes_max = head_bytes_max
        self._data = b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def ask(self, authority: str) -> None:
        shown = f"Proxy-Authorization: {self._proxy.authorization}\r\n" if self._proxy.authorization else ""
        assert self.transport is not None
        self.transport.write(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{shown}\r\n".encode("latin-1"))

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, end, rest = self._data.partition(HEAD_END)
        if not end:
            if len(self._data) > self._head_bytes_max:
                self._end(f"sent a head of more than head_bytes_max={self._head_bytes_max}")
            return
        version, _, status = head.partition(b"\r\n")[0].decode("latin-1").partition(" ")
        if not version.startswith("HTTP/1.") or not status[:3].isdigit():
            self._end("answered what is not HTTP")
        elif not status.startswith("2"):
            self._end(f"answered {status[:80]}")
        elif rest:
            self._end("sent more than the head of its answer")
        elif not self.opened.done():
            assert self.transport is not None
            self.opened.set_result(self.transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end("closed the connection")

    def _end(self, what: str) -> None:
        if not self.opened.done():
            self.opened.set_exception(OSError(f"the proxy {self._proxy} {what}"))


async def open_tunnel(proxy: Proxy, endpoint: Endpoint, head_bytes_max: int) -> asyncio.Transport:
    """A connection that leads to the server. Raises OSError; nothing is left open then."""
    loop = asyncio.get_running_loop()
    _, tunnel = await loop.create_connection(lambda: Tunnel(proxy, head_bytes_max), proxy.host, proxy.port)
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    try:
        tunnel.ask(f"{host}:{endpoint.port}")
        return await tunnel.opened
    except BaseException:
        if tunnel.transport is not None:
            tunnel.transport.abort()
        raise
