"""Bearer tokens: what a server that protects itself is told, and asks.

The server is a *resource server*: it checks tokens with a ``TokenVerifier`` and says in its protected-resource metadata
(RFC 9728) who issues them. It issues none itself.
"""

from __future__ import annotations

import contextvars
import sys
import time
from dataclasses import dataclass, field
from typing import Any, Protocol

from erlmcp.errors import ConfigurationError

KNOWN_MAX = 4096
NO_ISSUER = (
    "an authorization server within the MCP server is not served here: serve the routes of "
    "mcp.server.auth.routes.create_auth_routes in an application of their own, and give what checks its tokens as "
    "token_verifier="
)


@dataclass
class AccessToken:
    """A token that was checked, and what it allows."""

    token: str
    client_id: str
    scopes: list[str]
    expires_at: int | None = None
    resource: str | None = None
    subject: str | None = None
    claims: dict[str, Any] | None = None


class TokenVerifier(Protocol):
    """Looks at a bearer token: what it says, or None where it says nothing."""

    async def verify_token(self, token: str) -> AccessToken | None: ...


@dataclass
class AuthSettings:
    """``issuer_url`` issues the tokens for ``resource_server_url``; each must have ``required_scopes``."""

    issuer_url: Any
    resource_server_url: Any = None
    required_scopes: list[str] | None = None
    validate_token_resource: bool = True
    service_documentation_url: Any = None
    client_registration_options: Any = None
    revocation_options: Any = None
    identity_assertion_enabled: bool = False

    def __post_init__(self) -> None:
        for name in ("client_registration_options", "revocation_options", "identity_assertion_enabled"):
            if getattr(self, name):
                raise ConfigurationError(f"AuthSettings.{name}: {NO_ISSUER}")


_TOKEN: contextvars.ContextVar[Any] = contextvars.ContextVar("erlmcp_access_token", default=None)


def get_access_token() -> Any:
    """The access token of the request that is being handled; None where there is none."""
    return _TOKEN.get()


class within_token:
    """A context in which ``get_access_token`` gives this one, that of ``mcp`` too where the app left that import."""

    def __init__(self, token: Any) -> None:
        self._token = token
        self._resets: list[tuple[Any, Any]] = []

    def __enter__(self) -> None:
        self._resets = [(_TOKEN, _TOKEN.set(self._token))]
        module = sys.modules.get("mcp.server.auth.middleware.auth_context")
        if module is not None and self._token is not None:
            from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser

            variable = module.auth_context_var
            self._resets.append((variable, variable.set(AuthenticatedUser(self._token))))

    def __exit__(self, *_error: object) -> None:
        for variable, reset in self._resets:
            variable.reset(reset)


@dataclass
class Bearer:
    """Who may ask: the judge of the ``Authorization`` header of every request to the endpoint."""

    verifier: Any
    settings: Any
    known: dict[str, Any] = field(default_factory=dict)  # header -> the token that it was found to be last

    @property
    def resource(self) -> str | None:
        url = getattr(self.settings, "resource_server_url", None)
        return None if url is None else str(url).rstrip("/")

    @property
    def scopes(self) -> list[str]:
        return list(getattr(self.settings, "required_scopes", None) or [])

    async def judge(self, header: str | None) -> tuple[Any, int, str, str]:
        """(the token, 0, "", "") or (None, the status, the error of RFC 6750, what was wrong)."""
        scheme, _, text = (header or "").partition(" ")
        if scheme.lower() != "bearer" or not text:
            return None, 401, "invalid_token", "Authentication required"
        token = await self.verifier.verify_token(text.strip())
        if token is None or (token.expires_at and token.expires_at < int(time.time())):
            return None, 401, "invalid_token", "Authentication required"
        if self.resource is not None and getattr(self.settings, "validate_token_resource", True):
            meant = getattr(token, "resource", None)
            if meant is None or str(meant).rstrip("/") != self.resource:
                return None, 401, "invalid_token", "Authentication required"
        missing = [scope for scope in self.scopes if scope not in token.scopes]
        if missing:
            return None, 403, "insufficient_scope", f"Required scope: {missing[0]}"
        self.known.pop(header or "", None)  # The last one is the last to go.
        self.known[header or ""] = token
        if len(self.known) > KNOWN_MAX:
            del self.known[next(iter(self.known))]
        return token, 0, "", ""

    def metadata(self) -> dict[str, Any]:
        """The protected-resource metadata (RFC 9728)."""
        found: dict[str, Any] = {
            "resource": str(self.settings.resource_server_url),
            "authorization_servers": [str(self.settings.issuer_url)],
            "bearer_methods_supported": ["header"],
        }
        if self.scopes:
            found["scopes_supported"] = self.scopes
        return found
