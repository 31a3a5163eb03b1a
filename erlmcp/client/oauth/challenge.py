"""What a server says to a request that it does not let in: WWW-Authenticate (RFC 9110, section 11.6.1; RFC 6750,
section 3; RFC 9728, section 5.1)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

_TOKEN: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_BETWEEN: Final = re.compile(r"[ \t,]*")
_SCHEME: Final = re.compile(_TOKEN)
_TOKEN68: Final = re.compile(r" +[A-Za-z0-9\-._~+/]+=*[ \t]*(?=,|$)")
# A value without quotes is a token; URLs are found there, too, and read as far as they can be.
_PARAM: Final = re.compile(rf'({_TOKEN})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))', re.S)
_ESCAPED: Final = re.compile(r"\\(.)", re.S)

INSUFFICIENT_SCOPE: Final = "insufficient_scope"


@dataclass(frozen=True, slots=True)
class Challenge:
    """One of the ways in that a server names. ``scheme`` and the names of ``params`` are in small letters."""

    scheme: str = "bearer"
    params: dict[str, str] = field(default_factory=dict)

    @property
    def metadata_url(self) -> str:
        return self.params.get("resource_metadata", "")

    @property
    def scopes(self) -> tuple[str, ...]:
        return tuple(self.params.get("scope", "").split())

    @property
    def is_step_up(self) -> bool:
        """Whether the token was good, and not good for this."""
        return self.params.get("error") == INSUFFICIENT_SCOPE

    def joined(self, other: Challenge) -> Challenge:
        """Both in one: what either wants. This one's words count otherwise."""
        params = {**other.params, **self.params}
        if scopes := dict.fromkeys((*self.scopes, *other.scopes)):
            params["scope"] = " ".join(scopes)
        if self.is_step_up or other.is_step_up:
            params["error"] = INSUFFICIENT_SCOPE
        return Challenge(self.scheme, params)


def parse_challenges(text: str) -> list[Challenge]:
    """Every challenge of a header, in order; what follows text that is none is not read. Never raises. Of a parameter
    that is there twice the first counts."""
    found: list[Challenge] = []
    at = 0
    while True:
        at = _BETWEEN.match(text, at).end()  # type: ignore[union-attr]  # it matches nothing, too
        if found and (param := _PARAM.match(text, at)) is not None:
            name, quoted, plain = param.groups()
            value = plain if quoted is None else _ESCAPED.sub(r"\1", quoted)
            found[-1].params.setdefault(name.lower(), value)
            at = param.end()
            continue
        scheme = _SCHEME.match(text, at)
        if scheme is None:
            return found
        found.append(Challenge(scheme[0].lower()))
        at = scheme.end()
        if (token := _TOKEN68.match(text, at)) is not None:
            at = token.end()


def bearer_of(text: str) -> Challenge:
    """The challenge for a bearer token; an empty one where a server names none."""
    return next((each for each in parse_challenges(text) if each.scheme == "bearer"), Challenge())
