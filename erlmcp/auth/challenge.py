"""What a client is told that may not come in: a refusal, its WWW-Authenticate (RFC 6750, section 3; RFC 9728, section
5.1), and the document that says who makes tokens for this endpoint (RFC 9728, section 2)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit, urlunsplit

if TYPE_CHECKING:
    from erlmcp.auth.rule import Auth

WELL_KNOWN: Final = "/.well-known/oauth-protected-resource"
INVALID_REQUEST: Final = "invalid_request"
INVALID_TOKEN: Final = "invalid_token"
INSUFFICIENT_SCOPE: Final = "insufficient_scope"
REALM: Final = "erlmcp"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not let in. ``error`` is "" where it showed no credential at all, ``scopes`` are what its token
    needs, ``is_guess`` says that it may be one of many tries, ``retry_s`` when it may be made again."""

    status: int
    error: str
    reason: str
    scopes: tuple[str, ...] = ()
    is_guess: bool = False
    retry_s: float = 0.0


def invalid(reason: str, *, is_guess: bool = True) -> Refusal:
    """Of a token, or a key."""
    return Refusal(401, INVALID_TOKEN, reason, is_guess=is_guess)


def lines_of(refusal: Refusal, metadata_url: str = "", scopes: Iterable[str] = ()) -> bytes:
    """The header lines of a refusal. ``scopes`` are those that every token needs."""
    lines = b"Cache-Control: no-store\r\n"
    if refusal.retry_s:
        lines += b"Retry-After: %d\r\n" % max(1, math.ceil(refusal.retry_s))
    if refusal.status not in (400, 401, 403):
        return lines
    parts = {"realm": REALM}
    if refusal.error:
        parts |= {"error": refusal.error, "error_description": _plain(refusal.reason)}
    if wanted := " ".join(refusal.scopes or scopes):
        parts["scope"] = wanted
    if metadata_url:
        parts["resource_metadata"] = metadata_url
    told = ", ".join(f'{name}="{value}"' for name, value in parts.items())
    return b"WWW-Authenticate: Bearer %b\r\n%b" % (told.encode("ascii"), lines)


def _plain(text: str) -> str:
    """As an error_description may be (RFC 6750, section 3): no quotes, no backslashes, ASCII."""
    return "".join(char if " " <= char <= "~" and char not in '"\\' else "'" for char in text)


def metadata_url(resource: str) -> str:
    """Where the metadata of a resource is: the well-known part stands between its host and its path."""
    parts = urlsplit(resource)
    return urlunsplit((parts.scheme, parts.netloc, WELL_KNOWN + parts.path.rstrip("/"), parts.query, ""))


def metadata_paths(auth: Auth, path: str) -> frozenset[str]:
    """The paths under which the metadata is given: by itself, and of the endpoint as it is known outside and here."""
    return frozenset({WELL_KNOWN, WELL_KNOWN + urlsplit(auth.resource).path.rstrip("/"), WELL_KNOWN + path.rstrip("/")})


def metadata_of(auth: Auth, name: str) -> bytes:
    found = {
        "resource": auth.resource,
        "authorization_servers": [issuer.issuer for issuer in auth.issuers],
        "scopes_supported": list(dict.fromkeys((*auth.scopes, *auth.scopes_supported))),
        "bearer_methods_supported": ["header"],
        "resource_name": name,
    }
    return json.dumps({key: value for key, value in found.items() if value}, separators=(",", ":")).encode()
