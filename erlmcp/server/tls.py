"""TLS of a server: what it shows, and whom it lets in."""

from __future__ import annotations

import ssl

from erlmcp.errors import ConfigurationError


def make_server_context(
    cert_file: str, key_file: str | None = None, client_ca_file: str | None = None
) -> ssl.SSLContext:
    """TLS 1.2 and later with this certificate (PEM, its chain behind it; the key may stand in the same file).

    With ``client_ca_file`` a client needs a certificate of one of these authorities. ConfigurationError where a file
    cannot be read or does not fit.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    name = cert_file
    try:
        context.load_cert_chain(cert_file, key_file, _no_password)
        if client_ca_file is not None:
            name = client_ca_file
            context.load_verify_locations(client_ca_file)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError, ValueError) as error:
        files = name if name == client_ca_file else " and ".join(filter(None, (cert_file, key_file)))
        raise ConfigurationError(f"cannot use {files} for TLS: {error}") from error
    context.set_alpn_protocols(["http/1.1"])  # a listener that speaks HTTP/2 says so, too
    return context


def _no_password() -> str:
    """Called for a key that is encrypted: without it, OpenSSL asks the terminal."""
    raise ValueError("the key is encrypted; give one without a password")
