"""Who wants to hear of changes: legacy sessions, and the ``subscriptions/listen`` streams of 2026-07-28."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from erlmcp.errors import SERVER_BUSY, McpError
from erlmcp.spec import key
from erlmcp.spec import method as m

if TYPE_CHECKING:
    from erlmcp.runtime.exchange import Exchange
    from erlmcp.runtime.session import Session

FLAG_OF = {
    m.TOOLS_CHANGED: "toolsListChanged",
    m.PROMPTS_CHANGED: "promptsListChanged",
    m.RESOURCES_CHANGED: "resourcesListChanged",
}


@dataclass(frozen=True, slots=True)
class Listening:
    """One open ``subscriptions/listen`` request and what it was granted."""

    exchange: Exchange
    methods: frozenset[str]
    uris: frozenset[str]


class Hub:
    """Hands changes to those who asked for them, and to nobody else (spec: basic/utilities/subscriptions)."""

    __slots__ = ("_listenings", "_sessions", "count_max")

    def __init__(self, count_max: int) -> None:
        self.count_max = count_max
        self._sessions: dict[Session, None] = {}
        self._listenings: dict[Exchange, Listening] = {}

    def __len__(self) -> int:
        return len(self._listenings)

    def join(self, session: Session) -> None:
        """A legacy session: it hears of list changes, and of the resources in ``session.resources``."""
        self._sessions[session] = None

    def leave(self, session: Session) -> None:
        self._sessions.pop(session, None)

    def listen(self, exchange: Exchange, methods: frozenset[str], uris: frozenset[str]) -> None:
        """Open a listen stream; the acknowledgement is its first message. Raises McpError -32000 where there are too
        many."""
        if len(self._listenings) >= self.count_max:
            raise McpError(SERVER_BUSY, f"Server busy: subscription_count_max={self.count_max} streams are open")
        granted: dict[str, Any] = {FLAG_OF[method]: True for method in FLAG_OF if method in methods}
        if uris:
            granted["resourceSubscriptions"] = sorted(uris)
        exchange.notify(m.ACKNOWLEDGED, {"notifications": granted, "_meta": self._tag(exchange)})
        self._listenings[exchange] = Listening(exchange, methods, uris)

    def stop(self, exchange: Exchange) -> None:
        """A listen stream ended, from whichever side."""
        self._listenings.pop(exchange, None)

    def publish(self, method: str, uri: str | None = None) -> None:
        """Tell every listener of a change."""
        params: dict[str, Any] | None = None if uri is None else {"uri": uri}
        for session in list(self._sessions):
            if session.standalone is not None and (uri is None or uri in (session.resources or ())):
                session.standalone.notify(method, params)
        for listening in list(self._listenings.values()):
            exchange = listening.exchange
            if exchange.done:
                self.stop(exchange)
            elif (uri in listening.uris) if uri is not None else (method in listening.methods):
                exchange.notify(method, {**(params or {}), "_meta": self._tag(exchange)})

    def close(self) -> None:
        """End every listen stream with its answer (graceful end of a subscription)."""
        for listening in list(self._listenings.values()):
            self.stop(listening.exchange)
            listening.exchange.result({"resultType": "complete", "_meta": self._tag(listening.exchange)})

    @staticmethod
    def _tag(exchange: Exchange) -> dict[str, Any]:
        return {key.SUBSCRIPTION_ID: exchange.call.id}
