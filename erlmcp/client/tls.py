"""TLS towards a server: who is trusted, and who we are."""

from __future__ import annotations

import functools
import ssl
from dataclasses import dataclass

from erlmcp.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """What a client trusts and shows. The defaults trust the system's authorities and check the server's name.

    ``ca_file`` (PEM) stands in place of the system's authorities. ``cert_file`` and ``key_file`` (PEM; the key may
    stand in the first) are the client's own certificate. ``server_name`` is what the certificate must be for, where
    that is not the URL's host. Without ``is_verified`` nothing is checked: for tests alone.
    """

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    key_password: str | None = None
    server_name: str | None = None
    is_verified: bool = True

    def __repr__(self) -> str:
        """Without the password."""
        return f"Tls(ca_file={self.ca_file!r}, cert_file={self.cert_file!r}, server_name={self.server_name!r})"


@functools.lru_cache(maxsize=64)
def make_context(tls: Tls, *, offers_http2: bool = False) -> ssl.SSLContext:
    """TLS 1.2 and later, certificate and name checked, ALPN for the protocols that are spoken.

    ConfigurationError where a file cannot be read. Contexts are kept: making one reads all authorities.
    """
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
        if tls.cert_file is not None:
            context.load_cert_chain(tls.cert_file, tls.key_file, tls.key_password)
    except (OSError, ssl.SSLError) as error:
        names = ", ".join(name for name in (tls.ca_file, tls.cert_file, tls.key_file) if name)
        raise ConfigurationError(f"cannot use {names} for TLS: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not tls.is_verified:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"] if offers_http2 else ["http/1.1"])
    return context
