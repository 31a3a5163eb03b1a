"""An access token, as it is kept: never in a ``repr``, so in no log and no traceback."""

from __future__ import annotations

import re
import time
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from erlmcp.client.oauth.rule import shown
from erlmcp.errors import AuthorizationError

MARGIN_S: Final = 30.0  # before its end, that a token is renewed; a tenth of its life at most
LIFE_S_MAX: Final = 10.0 * 365 * 86400
_VALUE: Final = re.compile(r"[\x21-\x7e]{1,16384}")
STORED, REFRESHED, GRANTED = "stored", "refreshed", "granted"


@dataclass(frozen=True, slots=True)
class Token:
    """``expires_s`` is of the system's clock, 0 where the issuer did not say. ``asked`` are the scopes that were asked
    for, ``source`` is how it came here."""

    value: str = field(repr=False)
    issuer: str = ""
    refresh: str = field(default="", repr=False)
    expires_s: float = 0.0
    due_s: float = 0.0
    asked: tuple[str, ...] = ()
    client_id: str = ""
    source: str = GRANTED

    def is_due(self, now_s: float) -> bool:
        """Whether it should be renewed before it is used."""
        return 0.0 < self.due_s <= now_s

    def as_dict(self) -> dict[str, Any]:
        """For a store; secret."""
        found = asdict(self)
        del found["source"]
        return {**found, "asked": list(self.asked)}


def is_sendable(value: object) -> bool:
    return isinstance(value, str) and _VALUE.fullmatch(value) is not None


def read_token(found: dict[str, Any], **known: Any) -> Token:
    """A token endpoint's answer (RFC 6749, section 5.1). AuthorizationError where it is no bearer token."""
    value, kind, refresh = found.get("access_token"), found.get("token_type", "Bearer"), found.get("refresh_token")
    if not is_sendable(value):
        raise AuthorizationError("the token endpoint gave no access token")
    if not isinstance(kind, str) or kind.lower() != "bearer":
        raise AuthorizationError(f"the token endpoint gave a token of type {shown(kind)!r}, and only Bearer is known")
    given = found.get("expires_in")
    try:
        life_s = min(float(given), LIFE_S_MAX) if given is not None and not isinstance(given, bool) else 0.0
    except (TypeError, ValueError):
        life_s = 0.0
    now_s = time.time()
    if life_s > 0.0:
        known |= {"expires_s": now_s + life_s, "due_s": now_s + life_s - min(MARGIN_S, life_s / 10)}
    if is_sendable(refresh):
        known["refresh"] = refresh
    return Token(str(value), **known)


def stored_token(found: Any) -> Token | None:
    """What a store has kept; None for what is none."""
    if not isinstance(found, dict) or not is_sendable(found.get("value")):
        return None
    try:
        asked = tuple(str(each) for each in found.get("asked", ()))
        times = {name: float(found.get(name, 0.0)) for name in ("expires_s", "due_s")}
    except (TypeError, ValueError):
        return None
    words = {name: str(found.get(name, "")) for name in ("issuer", "refresh", "client_id")}
    return Token(str(found["value"]), asked=asked, source=STORED, **words, **times)  # type: ignore[arg-type]
