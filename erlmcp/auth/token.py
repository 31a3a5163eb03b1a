"""Access tokens (JWT, RFC 9068), checked: by whom, for whom, until when, with which key.

What was checked is remembered until it expires, so that a token costs its signature once. A token is taken apart
before it is believed only as far as it takes to find the key: its issuer has to be one of the configuration, and its
algorithm one that is both allowed there and fits the key; the header alone decides nothing.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import time
from collections.abc import Callable
from typing import Any, Final

import jwt

from erlmcp import core
from erlmcp.auth.admission import Admission
from erlmcp.auth.challenge import INSUFFICIENT_SCOPE, Refusal, invalid
from erlmcp.auth.keyset import Keys, keys_of
from erlmcp.auth.rule import Auth, Issuer, Principal
from erlmcp.errors import ConfigurationError, JsonError, LimitError

TOKEN_CHARS_MAX: Final = 16 * 1024
KNOWN_COUNT_MAX: Final = 10_000  # tokens that are remembered
KNOWN_S_MAX: Final = 24 * 3600.0  # ... for so long at most
NAME_CHARS_MAX: Final = 256
TIME_MAX: Final = 1 << 53
KEY_TRIES_MAX: Final = 8  # keys that are tried for a token that names none
RETRY_S: Final = 5.0
TYPES: Final = frozenset({"jwt", "at+jwt", "application/jwt", "application/at+jwt"})
_JUNK: Final = "the token is no JWT"


class Verifier:
    """``make`` turns a principal into what requests carry."""

    def __init__(self, rule: Auth, make: Callable[[Principal], Any] = lambda principal: principal) -> None:
        self.rule = rule
        self._make = make
        self._known: dict[str, Admission] = {}
        self._issuers: dict[str, tuple[Issuer, Keys]] = {}
        for issuer in rule.issuers:
            try:
                keys = keys_of(issuer, rule, lambda name=issuer.issuer: self._forget(name))  # type: ignore[misc]
            except ValueError as error:
                raise ConfigurationError(f"the keys of {issuer.issuer} cannot be used: {error}") from None
            self._issuers[issuer.issuer] = issuer, keys

    def __len__(self) -> int:
        return len(self._known)

    def begin(self) -> None:
        """Fetch the keys, beside the work."""
        for _, keys in self._issuers.values():
            keys.begin()

    def close(self) -> None:
        for _, keys in self._issuers.values():
            keys.close()
        for admission in self._known.values():
            admission.end()
        self._known.clear()

    def knows(self, token: str) -> bool:
        return token in self._known

    def look(self, token: str, *, may_wait: bool = True) -> Admission | Refusal | None:
        """Who a token is of, or what is wrong with it; None where keys have to be fetched first (``wait``): never if it
        may not wait."""
        known = self._known.get(token)
        if known is not None:
            return known
        try:
            header, claims = _unread(token)
        except ValueError:
            return invalid(_JUNK)
        found = self._keys_for(header, claims, may_wait)
        if not isinstance(found, tuple):
            return found
        issuer, keys, alg = found
        try:
            checked = self._check(token, issuer, keys, alg)
            return self._keep(token, self._principal(issuer, checked))
        except _Fault as fault:
            return fault.refusal

    async def wait(self, token: str) -> None:
        """Until the issuer of a token was asked for its keys, where its answer did not come meanwhile."""
        try:
            header, claims = _unread(token)
        except ValueError:
            return
        if self._keys_for(header, claims, may_wait=True) is None:
            _, keys = self._issuers[claims["iss"]]
            await keys.refresh()

    def _keys_for(
        self, header: dict[str, Any], claims: dict[str, Any], may_wait: bool
    ) -> tuple[Issuer, Any, str] | Refusal | None:
        name, alg, kid = claims.get("iss"), header.get("alg"), header.get("kid")
        if not isinstance(name, str) or name not in self._issuers:
            return invalid("the token is of an issuer that is not trusted here")
        issuer, keys = self._issuers[name]
        if not isinstance(alg, str) or alg not in issuer.allowed:
            return invalid("the token is signed by an algorithm that is not allowed here")
        type = header.get("typ", "JWT")
        if not isinstance(type, str) or type.lower() not in TYPES or "crit" in header:
            return invalid("the token is of a type that is no access token")
        if kid is not None and not isinstance(kid, str):
            return invalid(_JUNK)
        found = keys.look(kid, alg, may_ask=may_wait)
        if found is None:
            return None
        if not found and keys.is_missing:
            return Refusal(503, "", f"the keys of {name} cannot be had now", retry_s=RETRY_S)
        if not found:
            return invalid("the token is signed with a key that its issuer does not have")
        return issuer, found[:KEY_TRIES_MAX], alg

    def _check(self, token: str, issuer: Issuer, keys: Any, alg: str) -> dict[str, Any]:
        """The claims of a token that holds. Raises _Fault."""
        rule = self.rule
        for key in keys:
            try:
                return jwt.decode(
                    token,
                    key.value,
                    algorithms=[alg],
                    audience=rule.audience,
                    issuer=issuer.issuer,
                    leeway=rule.leeway_s,
                    options={"require": ["exp", "iss", "aud"], "verify_sub": False, "verify_jti": False},
                )
            except jwt.InvalidSignatureError:
                continue
            except (jwt.PyJWTError, TypeError, ValueError, OverflowError) as error:  # times that are no numbers
                raise _Fault(_explained(error)) from None
        raise _Fault(invalid("the token's signature is wrong"))

    def _principal(self, issuer: Issuer, claims: dict[str, Any]) -> Principal:
        name = claims.get(self.rule.caller)
        if not isinstance(name, str) or not name or len(name) > NAME_CHARS_MAX or not name.isprintable():
            raise _Fault(invalid(f"the token does not say who calls: {self.rule.caller}", is_guess=False))
        scopes = scopes_of(claims)
        if not scopes.issuperset(self.rule.scopes):
            wanted = " ".join(self.rule.scopes)
            raise _Fault(Refusal(403, INSUFFICIENT_SCOPE, f"the token needs the scopes {wanted}", self.rule.scopes))
        return Principal(name, issuer.issuer, scopes, claims, min(int(claims["exp"]), TIME_MAX))

    def _keep(self, token: str, principal: Principal) -> Admission:
        made = Admission(principal.id, self._make(principal), principal.issuer, ends=True)
        left_s = min(principal.until + self.rule.leeway_s - time.time(), KNOWN_S_MAX)
        made.timer = asyncio.get_running_loop().call_later(max(0.0, left_s), self._end, token, made)
        if len(self._known) >= KNOWN_COUNT_MAX:
            self._known.pop(next(iter(self._known))).forget()  # the one that was shown first
        self._known[token] = made
        return made

    def _end(self, token: str, admission: Admission) -> None:
        """Its time is over."""
        if self._known.get(token) is admission:
            del self._known[token]
        admission.end()

    def _forget(self, issuer: str) -> None:
        """An issuer took keys away: what they signed is checked again."""
        for token, admission in [*self._known.items()]:
            if admission.issuer == issuer:
                self._end(token, admission)


class _Fault(Exception):
    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.reason)
        self.refusal = refusal


def _unread(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The header and the claims of a token, which may be anybody's words. Raises ValueError."""
    parts = token.split(".")
    if len(parts) != 3 or len(token) > TOKEN_CHARS_MAX or not all(parts):
        raise ValueError(_JUNK)
    found = []
    for part in parts[:2]:
        try:
            value = core.decode(base64.b64decode(part + "=" * (-len(part) % 4), b"-_", validate=True))
        except (binascii.Error, JsonError, LimitError, UnicodeError):
            raise ValueError(_JUNK) from None
        if not isinstance(value, dict):
            raise ValueError(_JUNK)
        found.append(value)
    return found[0], found[1]


def _explained(error: Exception) -> Refusal:
    """What is wrong with a token whose signature holds, or that is no token."""
    for kind, reason in (
        (jwt.ExpiredSignatureError, "the token has expired"),
        (jwt.ImmatureSignatureError, "the token is not valid yet"),
        (jwt.InvalidAudienceError, "the token is for another audience"),
        (jwt.InvalidIssuerError, "the token is of another issuer"),
    ):
        if isinstance(error, kind):
            return invalid(reason, is_guess=False)
    if isinstance(error, jwt.MissingRequiredClaimError):
        return invalid(f"the token has no {error.claim}", is_guess=False)
    return invalid("the token's claims are not of the right kinds")


def scopes_of(claims: dict[str, Any]) -> frozenset[str]:
    """``scope``, a text (RFC 9068, section 2.2.3), or ``scp``, as some issuers write it; a list of them, too."""
    value = claims.get("scope", claims.get("scp", ""))
    words = value.split(" ") if isinstance(value, str) else value if isinstance(value, list) else []
    return frozenset(word for word in words if isinstance(word, str) and word)
