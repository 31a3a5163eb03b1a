"""Who calls, and what they may see: API keys, access tokens, and allow-lists of names."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from erlmcp.auth.admission import Admission
from erlmcp.auth.challenge import Refusal, invalid
from erlmcp.auth.keeper import NEEDED, Keeper
from erlmcp.errors import ResourceNotFoundError
from erlmcp.gateway.config import GatewayConfig, GrantConfig, KeyConfig, OAuthConfig
from erlmcp.gateway.mount import matches
from erlmcp.limits import Limits

if TYPE_CHECKING:
    from erlmcp.auth.rule import Principal
    from erlmcp.runtime.exchange import Exchange

REFUSAL: Final = "An API key is needed: Authorization: Bearer KEY, or X-API-Key: KEY"
UNKNOWN: Final = "the key is not known here"
BEARER: Final = "bearer "
KNOWN_COUNT_MAX: Final = 4096  # credentials whose owner is remembered
SEEN_COUNT_MAX: Final = 10_000
VIEW_COUNT_MAX: Final = 1024
EVERYTHING: Final = GrantConfig()


class View:
    """What names and URIs are there: those that ``base`` opens, and one of ``grants``, too. ``key`` tells it from other
    views."""

    __slots__ = ("_base", "_grants", "_seen", "is_limited", "key")

    def __init__(self, key: str, grants: tuple[GrantConfig, ...], base: GrantConfig = EVERYTHING) -> None:
        self.is_limited = base != EVERYTHING or EVERYTHING not in grants
        self.key = key if self.is_limited else ""
        self._grants = grants
        self._base = base
        self._seen: dict[str, bool] = {}

    def sees(self, name: str) -> bool:
        found = self._seen.get(name)
        if found is None:
            found = opens(self._base, name) and any(opens(grant, name) for grant in self._grants)
            if len(self._seen) >= SEEN_COUNT_MAX:
                self._seen.clear()
            self._seen[name] = found
        return found


def opens(grant: GrantConfig, name: str) -> bool:
    return (grant.allow is None or matches(name, grant.allow)) and not matches(name, grant.deny)


def view_of(oauth: OAuthConfig, held: frozenset[str]) -> View:
    """What a token sees that has these of the scopes that open something."""
    names = sorted(held)
    grants = tuple(oauth.grants[name] for name in names) if oauth.grants else (EVERYTHING,)
    return View(f"token {' '.join(names)}", grants, oauth.grant)


class Caller:
    """``name`` is that of a key, or what a token says; "" for who has neither. ``id`` is nobody else's, and the same
    for all that one caller shows. ``config`` is that of a key, ``issuer`` and ``scopes`` are a token's."""

    __slots__ = ("config", "id", "is_limited", "issuer", "name", "scopes", "view")

    def __init__(
        self,
        config: KeyConfig | None = None,
        *,
        principal: Principal | None = None,
        view: View | None = None,
    ) -> None:
        self.config = config
        self.name = self.id = self.issuer = ""
        self.scopes: frozenset[str] = frozenset()
        if config is not None:
            self.name, self.id = config.name, f"key {config.name}"
            view = View(self.id, (GrantConfig(config.allow, config.deny),))
        elif principal is not None:
            self.name, self.id, self.issuer = principal.name, principal.id, principal.issuer
            self.scopes = principal.scopes
        self.view = view or View("", (EVERYTHING,))
        self.is_limited = self.view.is_limited

    def sees(self, name: str) -> bool:
        """Whether what has this name, or this URI, is there for the caller."""
        return not self.is_limited or self.view.sees(name)

    def demand(self, uri: str) -> None:
        """Raises ResourceNotFoundError for a URI that is not there for the caller."""
        if not self.sees(uri):
            raise ResourceNotFoundError(uri)


NOBODY: Final = Caller()
_ANYBODY: Final = Admission("", None)  # where no credential is looked at
_STRANGER: Final = Admission("", NOBODY)


class Access(Keeper):
    """Who comes in to a gateway. ``is_open``: everybody."""

    def __init__(self, config: GatewayConfig, limits: Limits | None = None) -> None:
        oauth = config.oauth
        self.oauth = oauth
        self.is_open = not config.keys and oauth is None
        self.anonymous = config.anonymous
        self._callers = {key.digest: Admission(f"key {key.name}", Caller(key)) for key in config.keys}
        self._known: dict[str, Admission] = {}
        self._views: dict[frozenset[str], View] = {}
        super().__init__(None if oauth is None else oauth.auth, limits or Limits(), config.name, self._caller_of)

    def succeed(self, before: Access) -> None:
        """Stand in the place of what held until now: its failures still count, and its tokens, where nothing of them
        changed."""
        self.failures = before.failures
        if before.oauth == self.oauth:
            self.verifier, before.verifier = before.verifier, self.verifier
        before.close()

    def _caller_of(self, principal: Principal) -> Caller:
        """The caller of a token, who sees what its scopes open; those who have the same see the same."""
        oauth = self.oauth
        assert oauth is not None
        held = principal.scopes.intersection(oauth.grants)
        view = self._views.get(held)
        if view is None:
            if len(self._views) >= VIEW_COUNT_MAX:
                self._views.clear()
            view = self._views[held] = view_of(oauth, held)
        return Caller(principal=principal, view=view)

    # -- at the door ---------------------------------------------------------------------------------------------------

    def admit(self, headers: Mapping[str, str], *, may_wait: bool = True) -> Admission | Refusal | None:
        """As that of any keeper; keys come before tokens."""
        if self.is_open:
            return _ANYBODY
        given = headers.get("authorization") or headers.get("x-api-key")
        if given is None:
            return _STRANGER if self.anonymous else Refusal(401, "", self.needed)
        found = self._known.get(given) or self._by_key(given)
        if found is not None:
            return found
        if self.verifier is None or "authorization" not in headers or (self._callers and given.count(".") != 2):
            return invalid(UNKNOWN)
        return super().admit(headers, may_wait=may_wait)

    def knows(self, headers: Mapping[str, str]) -> bool:
        given = headers.get("authorization") or headers.get("x-api-key")
        return self.is_open or given is None or given in self._known or super().knows(headers)

    @property
    def needed(self) -> str:
        """What is told to who shows nothing."""
        if self.rule is None:
            return REFUSAL
        return f"{NEEDED}; or a key, or X-API-Key: KEY" if self._callers else NEEDED

    def _by_key(self, given: str) -> Admission | None:
        """Keys are found by their digests: how long that takes tells of digests, and nothing of keys."""
        key = given[len(BEARER) :].strip() if given.lower().startswith(BEARER) else given
        digest = hashlib.sha256(key.encode("latin-1", "replace")).digest()
        found = self._callers.get(digest)
        if found is None or not hmac.compare_digest(found.principal.config.digest, digest):
            return None
        if len(self._known) >= KNOWN_COUNT_MAX:
            self._known.clear()
        self._known[given] = found
        return found

    # -- within --------------------------------------------------------------------------------------------------------

    def caller(self, headers: Mapping[str, str] | None) -> Caller | None:
        """Whose request it is; None where its credential is no good. Without headers (stdio, sockets that only this
        user can open) it is the operator's own."""
        if self.is_open or headers is None:
            return NOBODY
        found = getattr(headers, "principal", None)  # the door found out
        if found is None:
            admitted = self.admit(headers, may_wait=False)
            found = admitted.principal if isinstance(admitted, Admission) else None
        return found

    def of(self, exchange: Exchange) -> Caller | None:
        return NOBODY if self.is_open else self.caller(exchange.headers)

    def missing_of(self, caller: Caller, name: str) -> tuple[str, ...]:
        """The scope that would let a caller see a name; () where it sees it, or no scope would."""
        oauth = self.oauth
        if oauth is None or not caller.issuer or caller.sees(name) or not opens(oauth.grant, name):
            return ()
        return next(((scope,) for scope, grant in oauth.grants.items() if opens(grant, name)), ())
