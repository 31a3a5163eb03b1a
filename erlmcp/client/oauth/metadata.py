"""The documents that say where tokens are made, as far as they are needed, and refused where they are hostile: RFC 9728
for the server, RFC 8414 (or OpenID Connect Discovery) for the authorization server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from erlmcp.client.oauth.rule import check_url, covers, origin_of, shown
from erlmcp.errors import AuthorizationError

WORD_COUNT_MAX = 256  # of a list in a document


@dataclass(frozen=True, slots=True)
class Resource:
    """Of the MCP server. ``name`` is "" where it has no document."""

    name: str
    issuers: tuple[str, ...]
    scopes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Issuer:
    """Of the authorization server. ``is_guessed``: it has no document, and what is here is what 2025-03-26 assumes."""

    issuer: str
    authorization_url: str
    token_url: str
    registration_url: str = ""
    scopes: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()  # of the token endpoint
    pkce: tuple[str, ...] = ()
    takes_metadata_url: bool = False
    tells_issuer: bool = False
    is_guessed: bool = False

    def check_pkce(self) -> None:
        """MCP: a server that does not say that it knows PKCE is not used."""
        if "S256" not in self.pkce and not self.is_guessed:
            known = ", ".join(self.pkce)[:80] or "none"
            raise AuthorizationError(f"{self.issuer} does not say that it knows PKCE with S256 (it names {known})")


def read_resource(found: Any, url: str, where: str) -> Resource:
    """AuthorizationError for a document that is not that of the server at ``url``."""
    if not isinstance(found, dict):
        raise AuthorizationError(f"{where} is no JSON object")
    name = found.get("resource")
    if not isinstance(name, str) or not covers(name, url):
        raise AuthorizationError(f"{where} is the metadata of {shown(name)!r}, and not of {url}")
    issuers = _words(found, "authorization_servers")
    if not issuers:
        raise AuthorizationError(f"{where} names no authorization server")
    for issuer in issuers:
        check_url(issuer, "authorization server", beside=url)
    return Resource(name, issuers, _words(found, "scopes_supported"))


def read_issuer(found: Any, issuer: str, url: str, where: str) -> Issuer:
    """AuthorizationError for a document of another issuer (RFC 8414, section 3.3), and for endpoints that are not fit
    for secrets. A slash that stands for an empty path makes no other issuer."""
    if not isinstance(found, dict):
        raise AuthorizationError(f"{where} is no JSON object")
    named = found.get("issuer")
    bare = origin_of(issuer)
    if not isinstance(named, str) or (named != issuer and {named, issuer} != {bare, bare + "/"}):
        raise AuthorizationError(f"{where} is the metadata of {shown(named)!r}, and not of {issuer}")
    return Issuer(
        named,
        _endpoint(found, "authorization_endpoint", url),
        _endpoint(found, "token_endpoint", url),
        _endpoint(found, "registration_endpoint", url),
        _words(found, "scopes_supported"),
        _words(found, "token_endpoint_auth_methods_supported"),
        _words(found, "code_challenge_methods_supported"),
        found.get("client_id_metadata_document_supported") is True,
        found.get("authorization_response_iss_parameter_supported") is True,
    )


def guessed_issuer(url: str) -> Issuer:
    """2025-03-26: the server's origin, with the endpoints that it has where it says nothing."""
    origin = origin_of(check_url(url, "server", beside=url))
    return Issuer(origin, origin + "/authorize", origin + "/token", origin + "/register", is_guessed=True)


def _endpoint(found: dict[str, Any], name: str, url: str) -> str:
    value = found.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise AuthorizationError(f"{name} is no URL: {shown(value)!r}")
    return check_url(value, name, beside=url)


def _words(found: dict[str, Any], name: str) -> tuple[str, ...]:
    """A list of words; what is none is taken for not being there."""
    value = found.get(name)
    words = [each for each in value if isinstance(each, str)] if isinstance(value, list) else []
    return tuple(word for word in words[:WORD_COUNT_MAX] if word.isascii() and word.isprintable() and " " not in word)
