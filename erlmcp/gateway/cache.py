"""What was read of resources, for as long as its upstream said that it holds (2026-07-28: ``ttlMs``, ``cacheScope``).

A public answer is everybody's, a private one only that caller's whose credential it was read with. A change that an
upstream tells of takes away what it speaks of, and another connection to it all of its answers. What is given out holds
for as long as is left of its time.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from erlmcp import core

if TYPE_CHECKING:
    from erlmcp.core import Call
    from erlmcp.runtime.exchange import Exchange

MS_NS: Final = 1_000_000
TTL_MS_MAX: Final = 7 * 24 * 3600 * 1000
COUNT_MAX: Final = 10_000
BYTES_MAX: Final = 64 * 1024 * 1024
PUBLIC: Final = "*"
PLAIN: Final = frozenset({"uri", "_meta"})


class Answers:
    """By upstream (and with whose credential it was reached), URI and caller."""

    def __init__(self, count_max: int = COUNT_MAX, bytes_max: int = BYTES_MAX) -> None:
        self._core = core.Cache(count_max, bytes_max=bytes_max, now_ns=time.monotonic_ns())
        self._dropped_ns: dict[str, int] = {}  # by upstream, when something of it was not true any more

    def __len__(self) -> int:
        return len(self._core)

    def find(self, upstream: str, whose: str, uri: str) -> dict[str, Any] | None:
        """A result that still holds, with the time that is left to it."""
        self._core.now_ns = now_ns = time.monotonic_ns()
        for owner in (PUBLIC, _private(whose)):
            found: Any = self._core.get(_key(upstream, owner, uri))
            if found is not None:
                text, until_ns = found
                result: dict[str, Any] = core.decode(text)
                result["ttlMs"] = max(0, until_ns - now_ns) // MS_NS
                return result
        return None

    def keep(self, upstream: str, whose: str, uri: str, call: Call, asked_ns: int) -> bool:
        """Keep an answer, where it says that it may be, and nothing of its upstream changed since it was asked for;
        whether it does."""
        text = core.result_text(call)
        if text is None or b'"ttlMs"' not in text or asked_ns <= self._dropped_ns.get(upstream, 0):
            return False
        result = call.result
        if not isinstance(result, dict) or result.get("resultType", "complete") != "complete":
            return False
        ttl_ms = result.get("ttlMs")
        if isinstance(ttl_ms, bool) or not isinstance(ttl_ms, int | float) or ttl_ms <= 0 or len(text) > BYTES_MAX:
            return False
        self._core.now_ns = now_ns = time.monotonic_ns()
        ttl_ns = int(min(ttl_ms, TTL_MS_MAX) * MS_NS)
        owner = PUBLIC if result.get("cacheScope") == "public" else _private(whose)
        value = text, now_ns + ttl_ns
        self._core.put(_key(upstream, owner, uri), value, len(text), ttl_ns, (upstream, _tag(upstream, uri)))
        return True

    def drop(self, upstream: str, uri: str | None = None) -> None:
        """It is not true any more: one resource, or all that an upstream gave."""
        self._dropped_ns[upstream] = time.monotonic_ns()
        self._core.invalidate_tag(upstream if uri is None else _tag(upstream, uri))

    def clear(self) -> None:
        self._core.clear()
        self._dropped_ns.clear()


def _key(upstream: str, owner: str, uri: str) -> str:
    return f"{upstream}\0{owner}\0{uri}"


def _private(whose: str) -> str:
    """Nobody's credential is called like the public."""
    return ":" + whose


def _tag(upstream: str, uri: str) -> str:
    return f"{upstream}\0{uri}"


def is_plain(exchange: Exchange) -> bool:
    """Whether a read is nothing but that: no round of a longer call, no progress wanted."""
    params = exchange.call.params
    return isinstance(params, dict) and params.keys() <= PLAIN and exchange.progress_token is None
