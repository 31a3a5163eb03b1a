"""Where an HTTP channel goes, and as whom."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Final
from urllib.parse import urlsplit

from erlmcp.client.http_proxy import Proxy, proxy_of
from erlmcp.client.tls import Tls
from erlmcp.errors import ConfigurationError
from erlmcp.spec import key

# What the channel says itself: not to be set by its user.
OWN_HEADERS: Final = frozenset(
    {
        "host", "content-length", "content-type", "transfer-encoding", "connection", "accept", "expect", "upgrade",
        "te", "proxy-authorization", key.HEADER_SESSION, key.HEADER_VERSION, key.HEADER_METHOD, key.HEADER_NAME,
        key.HEADER_LAST_EVENT,
    }
)  # fmt: skip


@dataclass(frozen=True)
class Endpoint:
    """Where to, and as whom: connections are shared within one endpoint and never between two."""

    scheme: str
    host: str
    port: int
    unix: str | None = None
    tls: Tls | ssl.SSLContext | None = None
    http2: bool = False  # offered by ALPN with https, known beforehand with http
    credentials: frozenset[tuple[str, str]] = frozenset()
    proxy: Proxy | None = None

    @property
    def is_tunnelled(self) -> bool:
        """Whether the proxy carries bytes, and not requests that it reads."""
        return self.proxy is not None and (self.scheme == "https" or self.http2)

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.scheme == "https" else 80) else f"{host}:{self.port}"


def make_endpoint(
    url: str,
    *,
    headers: dict[str, str] | None = None,
    tls: Tls | ssl.SSLContext | None = None,
    http2: bool | None = None,
    unix: str | None = None,
    trust_env: bool = False,
) -> Endpoint:
    """What makes two channels the same to a pool. ConfigurationError for a URL or a header that cannot be used, and
    with ``trust_env`` for a proxy of the environment's that cannot."""
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        raise ConfigurationError(f"{url} is no URL: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError(f"{url} is not an http:// or https:// URL")
    if parts.username is not None:
        raise ConfigurationError("credentials within a URL are not sent; give headers={'Authorization': ...}")
    if own := sorted(name for name in headers or {} if name.lower() in OWN_HEADERS):
        raise ConfigurationError(f"{', '.join(own)} cannot be set: the channel sends it itself")
    if parts.scheme == "http" and tls is not None:
        raise ConfigurationError(f"{url} has no TLS; use https://")
    credentials = frozenset((name.lower(), value) for name, value in (headers or {}).items())
    offers = _has_http2() if http2 is None and parts.scheme == "https" else bool(http2)
    if http2 and not _has_http2():
        raise ConfigurationError("HTTP/2 needs the package h2: pip install 'erlmcp[http2]'")
    proxy = proxy_of(parts.scheme, parts.hostname, port) if trust_env and unix is None else None
    return Endpoint(parts.scheme, parts.hostname, port, unix, tls, offers, credentials, proxy)


def _has_http2() -> bool:
    return find_spec("h2") is not None
