"""How a client shows at the token endpoint who it is, and what that endpoint says."""

from __future__ import annotations

import base64
import time
import uuid
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote_plus

from erlmcp.client.oauth.fetch import Fetcher
from erlmcp.client.oauth.metadata import Issuer
from erlmcp.client.oauth.rule import BASIC, JWT, POST, choose_method, shown
from erlmcp.errors import AuthorizationError, ConfigurationError

ASSERTION: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ASSERTION_S: Final = 120  # for which a client's own token is good


@dataclass(frozen=True, slots=True)
class Identity:
    """A client of an authorization server's. ``method`` is what was agreed on, "" for nothing; ``key`` is a private key
    as PEM, for ``private_key_jwt``."""

    id: str
    secret: str = field(default="", repr=False)
    method: str = ""
    key: str = field(default="", repr=False)
    algorithm: str = "ES256"
    is_kept: bool = False  # registered by us, so it can be done again

    def dress(self, fields: dict[str, str], issuer: Issuer) -> dict[str, str]:
        """Put into the fields of a form what shows who we are; the headers that do."""
        method = choose_method(self.method, issuer.methods, has_secret=bool(self.secret), has_key=bool(self.key))
        if method == BASIC:
            pair = f"{quote_plus(self.id)}:{quote_plus(self.secret)}"  # RFC 6749, section 2.3.1
            return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
        if self.id:
            fields["client_id"] = self.id
        if method == POST:
            fields["client_secret"] = self.secret
        elif method == JWT:
            fields["client_assertion_type"] = ASSERTION
            fields["client_assertion"] = self._assertion(issuer.issuer)
        return {}

    def _assertion(self, audience: str) -> str:
        """RFC 7523, section 3; for the issuer, and no other."""
        now = int(time.time())
        claims = {
            "iss": self.id, "sub": self.id, "aud": audience, "iat": now, "exp": now + ASSERTION_S,
            "jti": uuid.uuid4().hex,
        }  # fmt: skip
        return sign(claims, self.key, self.algorithm)


def sign(claims: dict[str, Any], key: str, algorithm: str) -> str:
    """ConfigurationError where the extra is missing, or the key is none for the algorithm."""
    try:
        import jwt
    except ImportError as error:
        raise ConfigurationError("private_key_jwt needs PyJWT: pip install 'erlmcp[oauth]'") from error
    try:
        return jwt.encode(claims, key, algorithm=algorithm)
    except (jwt.PyJWTError, ValueError, TypeError, NotImplementedError) as error:
        raise ConfigurationError(f"the private key cannot sign with {algorithm}: {type(error).__name__}") from None


async def ask_token(
    fetcher: Fetcher, issuer: Issuer, identity: Identity, fields: dict[str, str], url: str = ""
) -> dict[str, Any]:
    """One request to the token endpoint. AuthorizationError, with its ``error``, where it refuses."""
    url = url or issuer.token_url
    if not url:
        raise AuthorizationError(f"{issuer.issuer} names no token endpoint")
    fields = {name: value for name, value in fields.items() if value}
    headers = identity.dress(fields, issuer)
    status, found = await fetcher.form(url, fields, headers)
    if status == 200 and "error" not in found:
        return found
    hidden = ("code", "code_verifier", "refresh_token", "client_secret", "client_assertion", "assertion")
    secrets = [fields.get(name, "") for name in (*hidden, "subject_token")] + [identity.secret]
    error, what = shown(found.get("error", ""), secrets), shown(found.get("error_description", ""), secrets)
    raise AuthorizationError(f"{url} answered {status} {error}{': ' + what if what else ''}".rstrip(), error)
