"""Who is let in: what a request shows is looked at, and answered with who it is or why not."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from erlmcp.auth import challenge
from erlmcp.auth.challenge import Refusal
from erlmcp.auth.failure import Failures
from erlmcp.auth.rule import Auth, Principal
from erlmcp.errors import ConfigurationError
from erlmcp.limits import Limits

if TYPE_CHECKING:
    from erlmcp.auth.admission import Admission
    from erlmcp.auth.token import Verifier

NEEDED: Final = "An access token is needed: Authorization: Bearer TOKEN"
NO_TOKENS: Final = "no access tokens are taken here"
BEARER: Final = "bearer"
MEND: Final = "pip install 'erlmcp[oauth]'"
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # b64token of RFC 6750, section 2.1


class Keeper:
    """Lets in who shows a good token (none without a ``rule``); all who serve one server share it. ``make`` turns a
    principal into what requests carry."""

    def __init__(
        self,
        rule: Auth | None,
        limits: Limits,
        name: str,
        make: Callable[[Principal], Any] = lambda principal: principal,
    ) -> None:
        self.rule = rule
        self.failures = Failures(limits.auth_failure_count_max, limits.auth_failure_s)
        self.verifier: Verifier | None = None if rule is None else make_verifier(rule, make)
        self.metadata = b"" if rule is None else challenge.metadata_of(rule, name)

    def begin(self) -> None:
        if self.verifier is not None:
            self.verifier.begin()

    def close(self) -> None:
        if self.verifier is not None:
            self.verifier.close()

    def paths(self, path: str) -> frozenset[str]:
        """Where the metadata is given, for an endpoint at this path."""
        return frozenset() if self.rule is None else challenge.metadata_paths(self.rule, path)

    def lines_of(self, refusal: Refusal) -> bytes:
        """The header lines of a refusal."""
        rule = self.rule
        if rule is None:
            return challenge.lines_of(refusal)
        return challenge.lines_of(refusal, challenge.metadata_url(rule.resource), rule.scopes)

    def admit(self, headers: Mapping[str, str], *, may_wait: bool = True) -> Admission | Refusal | None:
        """Who asks, or why not. None: something has to be waited for first (``wait``)."""
        token = token_of(headers)
        if isinstance(token, Refusal):
            return token
        return challenge.invalid(NO_TOKENS) if self.verifier is None else self.verifier.look(token, may_wait=may_wait)

    def knows(self, headers: Mapping[str, str]) -> bool:
        """Whether there is nothing to find out: it was let in before, or shows nothing."""
        if "authorization" not in headers:
            return "x-api-key" not in headers
        token = token_of(headers)
        return isinstance(token, str) and self.verifier is not None and self.verifier.knows(token)

    async def wait(self, headers: Mapping[str, str]) -> None:
        token = token_of(headers)
        if isinstance(token, str) and self.verifier is not None:
            await self.verifier.wait(token)


def token_of(headers: Mapping[str, str]) -> str | Refusal:
    """The token of an Authorization header: the one place where it may be (MCP, authorization)."""
    kind, _, token = headers.get("authorization", "").partition(" ")
    if kind.lower() != BEARER:
        return Refusal(401, "", NEEDED)
    token = token.strip()
    if _TOKEN.fullmatch(token) is None:
        return Refusal(400, challenge.INVALID_REQUEST, "Authorization holds no token, or more than one", is_guess=True)
    return token


def make_verifier(rule: Auth, make: Callable[[Principal], Any]) -> Verifier:
    """Raises ConfigurationError where tokens cannot be checked."""
    if not can_verify():
        raise ConfigurationError(f"access tokens need PyJWT: {MEND}")
    from erlmcp.auth.token import Verifier

    return Verifier(rule, make)


def can_verify() -> bool:
    """Whether the libraries are installed that check signatures."""
    return find_spec("jwt") is not None and find_spec("cryptography") is not None
