"""Who calls, and what they may see: API keys, and allow-lists of names."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from erlmcp.gateway.config import GatewayConfig, KeyConfig
from erlmcp.gateway.mount import matches

if TYPE_CHECKING:
    from erlmcp.runtime.exchange import Exchange

REFUSAL: Final = "An API key is needed: Authorization: Bearer KEY, or X-API-Key: KEY"
BEARER: Final = "bearer "
KNOWN_COUNT_MAX: Final = 4096  # credentials whose owner is remembered
SEEN_COUNT_MAX: Final = 10_000


class Caller:
    """``name`` is that of a key; "" for who has none."""

    __slots__ = ("_seen", "config", "is_limited", "name")

    def __init__(self, config: KeyConfig | None = None) -> None:
        self.config = config
        self.name = "" if config is None else config.name
        self.is_limited = config is not None and (config.allow is not None or bool(config.deny))
        self._seen: dict[str, bool] = {}

    def sees(self, name: str) -> bool:
        """Whether what has this name, or this URI, is there for the caller."""
        if not self.is_limited:
            return True
        found = self._seen.get(name)
        if found is None:
            assert self.config is not None
            allow = self.config.allow
            found = (allow is None or matches(name, allow)) and not matches(name, self.config.deny)
            if len(self._seen) >= SEEN_COUNT_MAX:
                self._seen.clear()
            self._seen[name] = found
        return found


NOBODY: Final = Caller()


class Access:
    """The keys of a gateway. ``is_open``: nobody needs one."""

    def __init__(self, config: GatewayConfig) -> None:
        self.is_open = not config.keys
        self.anonymous = config.anonymous
        self._callers = {key.digest: Caller(key) for key in config.keys}
        self._known: dict[str, Caller] = {}

    def caller(self, headers: Mapping[str, str] | None) -> Caller | None:
        """Whose request it is; None where its credential is no good. Without headers (stdio, sockets that only this
        user can open) it is the operator's own."""
        if self.is_open or headers is None:
            return NOBODY
        given = headers.get("authorization") or headers.get("x-api-key")
        if given is None:
            return NOBODY if self.anonymous else None
        found = self._known.get(given)
        if found is None:
            key = given[len(BEARER) :].strip() if given.lower().startswith(BEARER) else given
            found = self._callers.get(hashlib.sha256(key.encode("latin-1", "replace")).digest())
            if found is not None:
                if len(self._known) >= KNOWN_COUNT_MAX:
                    self._known.clear()
                self._known[given] = found
        return found

    def of(self, exchange: Exchange) -> Caller | None:
        return NOBODY if self.is_open else self.caller(exchange.headers)
