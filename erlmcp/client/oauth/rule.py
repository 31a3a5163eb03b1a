"""The decisions of a client that gets itself a token: which URLs, which scopes, which ways to say who it is. No I/O."""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from typing import Final
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit, urlunsplit

from erlmcp.errors import AuthorizationError

RESOURCE_PART: Final = "/.well-known/oauth-protected-resource"
SERVER_PART: Final = "/.well-known/oauth-authorization-server"
OPENID_PART: Final = "/.well-known/openid-configuration"
NONE, BASIC, POST, JWT = "none", "client_secret_basic", "client_secret_post", "private_key_jwt"
METHODS: Final = (NONE, BASIC, POST, JWT)
OFFLINE: Final = "offline_access"
URL_CHARS_MAX: Final = 2048
VERIFIER_BYTES: Final = 48  # 64 characters (RFC 7636, section 4.1: from 43 to 128)


def split(url: str, what: str) -> SplitResult:
    """The parts of a URL that a server names. AuthorizationError for what is none, or carries more than one may."""
    try:
        parts = urlsplit(url)
        port_is_fine = parts.port is None or parts.port > 0
    except ValueError:
        raise AuthorizationError(f"the {what} is no URL: {url[:200]!r}") from None
    is_plain = url.isascii() and url.isprintable() and " " not in url and len(url) <= URL_CHARS_MAX
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_fine or not is_plain:
        raise AuthorizationError(f"the {what} is no http(s) URL: {url[:200]!r}")
    if parts.username is not None or parts.fragment:
        raise AuthorizationError(f"the {what} has a user or a fragment in it: {url[:200]!r}")
    return parts


def is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def check_url(url: str, what: str, *, beside: str) -> str:
    """The URL, where secrets may go there: by https, or to this machine by a server of this machine (``beside``), so
    that no server far away can send us to what listens here."""
    parts = split(url, what)
    if parts.scheme != "https" and not (is_loopback(url) and is_loopback(beside)):
        raise AuthorizationError(f"the {what} {url} is neither https nor of this machine; no secret is sent there")
    return url


def origin_of(url: str) -> str:
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    host = f"[{host}]" if ":" in host else host
    port = parts.port
    is_default = port is None or port == (443 if parts.scheme == "https" else 80)
    return f"{parts.scheme}://{host}" if is_default else f"{parts.scheme}://{host}:{port}"


def resource_of(url: str) -> str:
    """A server's URL as the name of a resource (RFC 8707, section 2): its host in small letters, no fragment, no slash
    for an empty path."""
    parts = urlsplit(url)
    path = "" if parts.path == "/" else parts.path
    return origin_of(url) + path + (f"?{parts.query}" if parts.query else "")


def covers(resource: str, url: str) -> bool:
    """Whether a resource that its metadata names is the server at ``url``, or what that is a part of."""
    ours, theirs = urlsplit(url), split(resource, "resource of the metadata")
    if origin_of(url) != origin_of(resource) or (theirs.query and theirs.query != ours.query):
        return False
    path = theirs.path.rstrip("/")
    return ours.path == theirs.path or ours.path.rstrip("/") == path or ours.path.startswith(path + "/")


def resource_urls(url: str) -> list[str]:
    """Where a server's metadata may be, in order (RFC 9728, section 3.1; MCP: then at the root)."""
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    root = origin_of(url) + RESOURCE_PART
    return list(dict.fromkeys((root + path + (f"?{parts.query}" if parts.query else ""), root)))


def server_urls(issuer: str) -> list[str]:
    """Where an authorization server's metadata may be, in the order of MCP (RFC 8414, section 3.1; OpenID Connect
    Discovery)."""
    origin, path = origin_of(issuer), urlsplit(issuer).path.rstrip("/")
    if not path:
        return [origin + SERVER_PART, origin + OPENID_PART]
    return [origin + SERVER_PART + path, origin + OPENID_PART + path, origin + path + OPENID_PART]


def choose_scopes(
    wanted: Sequence[str],
    challenged: Sequence[str],
    supported: Sequence[str],
    held: Sequence[str],
    by_issuer: Sequence[str],
) -> tuple[str, ...]:
    """Which scopes to ask for: what the program wants, else what the server's challenge names, else what its metadata
    lists, else none; with those that were asked for before (``held``), and with ``offline_access`` where the
    authorization server knows that (SEP-2207)."""
    chosen = tuple(wanted) or tuple(challenged) or tuple(supported)
    if wanted:
        chosen += tuple(challenged)  # a step up
    found = dict.fromkeys((*held, *chosen))
    if found and OFFLINE in by_issuer:
        found[OFFLINE] = None
    return tuple(found)


def choose_method(given: str, supported: Sequence[str], *, has_secret: bool, has_key: bool) -> str:
    """How a client says at the token endpoint who it is. ``given`` is what was agreed on, "" for nothing."""
    if given:
        if given not in METHODS:
            raise AuthorizationError(f"the client is to show itself by {given[:80]!r}, which is not known here")
        return given
    if has_key:
        return JWT
    if not has_secret:
        return NONE
    for method in (BASIC, POST, NONE):
        if method in supported:
            return method
    if supported:
        raise AuthorizationError(f"no way for a client to show itself is known here: {', '.join(supported)[:200]}")
    return BASIC  # RFC 8414, section 2: where nothing is said


def make_verifier() -> str:
    return secrets.token_urlsafe(VERIFIER_BYTES)


def challenge_of(verifier: str) -> str:
    """S256 (RFC 7636, section 4.2)."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode("ascii")).digest()).rstrip(b"=").decode("ascii")


def with_query(url: str, fields: dict[str, str]) -> str:
    """The URL with more in its query."""
    parts = urlsplit(url)
    query = "&".join(part for part in (parts.query, urlencode(fields)) if part)
    return urlunsplit((parts.scheme, parts.netloc, parts.path, query, ""))


def query_of(url: str) -> dict[str, str]:
    """The fields of a callback. AuthorizationError for one that is there twice (RFC 6749, section 3.1)."""
    pairs = parse_qsl(urlsplit(url).query, keep_blank_values=True, max_num_fields=64)
    found = dict(pairs)
    if len(found) != len(pairs):
        raise AuthorizationError("the callback has a field twice")
    return found


def shown(text: object, secret: Iterable[str] = ()) -> str:
    """What a server said, fit for an error: short, printable, and without what must not be told."""
    said = str(text)
    for each in sorted(filter(None, secret), key=len, reverse=True):
        said = said.replace(each, "[...]")
    return "".join(char if char.isprintable() else " " for char in said)[:200]
