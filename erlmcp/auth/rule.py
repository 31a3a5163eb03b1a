"""Whose tokens are good, and what for: frozen records, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from erlmcp.errors import ConfigurationError
from erlmcp.wire.header import LOOPBACK_NAMES

PUBLIC: Final = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
)  # fmt: skip
SECRET: Final = ("HS256", "HS384", "HS512")
SOURCES: Final = ("jwks_url", "jwks", "key", "secret")
SECRET_BYTES_MIN: Final = dict(zip(SECRET, (32, 48, 64), strict=True))  # as the digest has (RFC 7518, section 3.2)
Mistake = tuple[str, str, str]  # of which key, what it is, and the mend


@dataclass(frozen=True, slots=True)
class Issuer:
    """Who makes tokens, and how it is known that it made one, by one of four: ``jwks_url``, where its keys are;
    ``jwks``, a JSON Web Key Set; ``key``, a public key as PEM; ``secret``, which both sides know. ``algorithms`` are
    those of PUBLIC that may be used, of SECRET with a secret; none for all of PUBLIC, and HS256."""

    issuer: str
    jwks_url: str = ""
    jwks: Mapping[str, Any] | None = None
    key: str = ""
    secret: str = field(default="", repr=False)
    algorithms: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _refuse(mistakes_of_issuer(self), "Issuer")

    @property
    def allowed(self) -> frozenset[str]:
        return frozenset(self.algorithms or (SECRET[:1] if self.secret else PUBLIC))


@dataclass(frozen=True, slots=True)
class Auth:
    """What a token must be to be let in.

    ``audience``: it is made for one of these. ``resource`` is the URL of the endpoint as clients know it (RFC 9728),
    where the first audience is none. ``scopes``: it has them all; ``scopes_supported`` are others to be asked for.
    ``caller`` is the claim that names who calls. Keys from a URL are fetched again after ``jwks_refresh_s``, and for a
    key that is not known, but never sooner than ``jwks_refetch_s`` after the last time; while they cannot be fetched
    those that are there serve for ``jwks_stale_s``.
    """

    issuers: tuple[Issuer, ...]
    audience: tuple[str, ...]
    resource: str = ""
    scopes: tuple[str, ...] = ()
    scopes_supported: tuple[str, ...] = ()
    caller: str = "sub"
    leeway_s: float = 30.0
    jwks_refresh_s: float = 300.0
    jwks_refetch_s: float = 10.0
    jwks_stale_s: float = 86400.0

    def __post_init__(self) -> None:
        for name in ("issuers", "audience", "scopes", "scopes_supported"):
            value = getattr(self, name)  # one alone, or a list, is meant as well
            object.__setattr__(self, name, (value,) if isinstance(value, str | Issuer) else tuple(value))
        if not self.resource and self.audience and is_url(self.audience[0]):
            object.__setattr__(self, "resource", self.audience[0])
        _refuse(mistakes_of(self), "Auth")


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls, by a token that was checked. ``name`` is its claim that names the caller, which means something
    together with ``issuer`` alone. ``until``: seconds since 1970."""

    name: str
    issuer: str
    scopes: frozenset[str]
    claims: Mapping[str, Any]
    until: float

    @property
    def id(self) -> str:
        """The same for all tokens of one caller, and for no other's."""
        return f"token {self.issuer}\n{self.name}"


def mistakes_of_issuer(issuer: Issuer) -> Iterator[Mistake]:
    if not issuer.issuer:
        yield "issuer", "is missing", "write what tokens say in iss, for instance https://login.example.org"
    given = [name for name in SOURCES if getattr(issuer, name) not in ("", None)]
    if not given:
        yield "", "says nowhere how tokens are checked", "give one of jwks_url, jwks, key or secret"
    elif len(given) > 1:
        yield given[1], f"stands beside {given[0]}", f"keep {given[0]} or {given[1]}, not both"
    if issuer.jwks_url and not is_safe_url(issuer.jwks_url):
        yield "jwks_url", f"{issuer.jwks_url!r} is no https:// address", "for instance https://login.example.org/keys"
    least = max((SECRET_BYTES_MIN.get(name, 0) for name in issuer.algorithms), default=0) or SECRET_BYTES_MIN["HS256"]
    if issuer.secret and len(issuer.secret.encode()) < least:
        yield "secret", f"has {len(issuer.secret.encode())} bytes", f"take {least} or more, at random"
    known = SECRET if given == ["secret"] else PUBLIC
    for name in issuer.algorithms:
        if name.lower() == "none":
            yield "algorithms", "lists none, by which anybody makes tokens", "remove it"
        elif name not in known and name in PUBLIC + SECRET:
            kind = "a secret" if known is PUBLIC else "public keys"
            yield "algorithms", f"{name} is for {kind}", f"expected some of {', '.join(known)}"
        elif name not in known:
            yield "algorithms", f"{name!r} is unknown", f"expected some of {', '.join(known)}"


def mistakes_of(auth: Auth) -> Iterator[Mistake]:
    if not auth.issuers:
        yield "issuer", "is missing", "name who makes the tokens"
    names = [issuer.issuer for issuer in auth.issuers]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield "issuers", f"{name} is there twice", "give each issuer one entry"
    if not auth.audience or not all(auth.audience):
        yield "audience", "is missing", "write the URL of this endpoint, which tokens name in aud"
    elif not auth.resource:
        yield "resource", f"is missing, as {auth.audience[0]!r} is no URL", "write the URL of this endpoint"
    if auth.resource and not is_url(auth.resource):
        yield "resource", f"{auth.resource!r} is no URL", "write the URL of this endpoint, without # and what follows"
    for name in ("scopes", "scopes_supported"):
        for scope in getattr(auth, name):
            if not is_scope(scope):
                yield name, f"{scope!r} is no scope", "letters, digits and signs make one; no blanks, quotes or \\"
    if not auth.caller:
        yield "caller", "is empty", "name a claim, for instance sub"
    for name in ("leeway_s", "jwks_refresh_s", "jwks_refetch_s", "jwks_stale_s"):
        value = getattr(auth, name)
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            yield name, f"is {value!r}", "write a number of seconds"
    if auth.jwks_stale_s < auth.jwks_refresh_s:
        yield "jwks_stale_s", f"is below jwks_refresh_s={auth.jwks_refresh_s:g}", "make it the larger one"


def _refuse(mistakes: Iterator[Mistake], what: str) -> None:
    for name, text, mend in mistakes:
        raise ConfigurationError(f"{what}{': ' + name if name else ''} {text}; {mend}")


def is_url(text: str) -> bool:
    """Whether a resource can be called so (RFC 8707, section 2: absolute, no fragment)."""
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.fragment and text.isascii()
    except ValueError:
        return False


def is_safe_url(text: str) -> bool:
    """Whether what comes from there is what its owner sent: by TLS, or within this machine."""
    if not is_url(text):
        return False
    parts = urlsplit(text)
    return parts.scheme == "https" or parts.hostname in LOOPBACK_NAMES


def is_scope(text: str) -> bool:
    """By RFC 6749, section 3.3."""
    return bool(text) and all("!" <= char <= "~" and char not in '"\\' for char in text)
