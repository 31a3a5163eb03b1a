"""The guards of a server's tools: made when a tool is registered, switched with the flags."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from erlmcp.errors import ConfigurationError
from erlmcp.wire.header import credential_of

if TYPE_CHECKING:
    from erlmcp.flags import Flags
    from erlmcp.policy.breaker import BreakerEvent
    from erlmcp.policy.limiter import Limiter
    from erlmcp.policy.protection import Guards
    from erlmcp.policy.timeouts import TimeoutRule
    from erlmcp.runtime.exchange import Exchange
    from erlmcp.runtime.guard import Guard
    from erlmcp.runtime.session import Session
    from erlmcp.server.tool import Tool
    from erlmcp.wire.header import Verdict

NOBODY: Final = "nobody"  # who calls over HTTP without a credential and a session


class Guarding:
    """What ``Server(guards=...)`` asks for: the default of each tool, and the rate of all of them together.

    ``listeners`` are told of each change of a breaker, with a ``BreakerEvent``. The policies are imported by the first
    guard that needs them: without guards a server starts some 6 ms sooner.
    """

    def __init__(self, default: Guards | None, tools: dict[str, Tool]) -> None:
        self.default: Guards | None = None
        self.total: Limiter | None = None
        if default is not None:
            self._split(default)
        self.listeners: list[Callable[[BreakerEvent], object]] = []
        self._tools = tools

    def _split(self, default: Guards) -> None:
        from erlmcp.policy.limiter import Limiter
        from erlmcp.policy.protection import Guards

        if default.retry:
            raise ConfigurationError("retry is for who calls: give it to a Client, or to a function")
        total = [rule for rule in default.rates if rule.per == "server"]
        rest = tuple(rule for rule in default.rates if rule.per != "server")
        self.default = Guards(default.breaker, rest or None, default.bulkhead, default.timeout)
        self.total = Limiter(total[0]) if total else None

    def timed(
        self, own: Guards | None, timeout: float | str | TimeoutRule | None
    ) -> tuple[Guards | None, float | None]:
        """A tool's guards and fixed timeout, from its options ``guards`` and ``timeout``."""
        has_guards = own is not None or self.default is not None
        if timeout is None or (isinstance(timeout, int | float) and not has_guards):
            return own, timeout
        from erlmcp.policy.protection import Guards
        from erlmcp.policy.timeouts import TimeoutRule

        if isinstance(timeout, str | TimeoutRule):
            return Guards(timeout=timeout).over(own), None
        return Guards(timeout=False).over(own), timeout  # It is fixed, whatever the server's guards say.

    def make(self, name: str, own: Guards | None, fallback: Callable[..., Any] | None, flags: Flags) -> Guard | None:
        """The guard of a tool; None where it needs none."""
        if own is not None and own.retry:
            raise ConfigurationError(f"tool {name!r}: retry is for who calls: give it to a Client, or to a function")
        if own is not None and any(rule.per == "server" for rule in own.rates):
            raise ConfigurationError(f"tool {name!r}: a RateRule per 'server' is for Server(guards=...)")
        rules = self.default if own is None else own.over(self.default)
        if not rules and self.total is None:
            if fallback is not None:
                raise ConfigurationError(f"tool {name!r}: a fallback is for a tool with guards=")
            return None
        from erlmcp.policy.protection import Guards
        from erlmcp.runtime.guard import Guard

        rules = Guards() if rules is None else rules
        return Guard(name, rules, total=self.total, flags=flags, fallback=fallback, listener=self._tell)

    def again(self, guard: Guard | None, flags: Flags) -> Guard | None:
        """Another guard like this one, for a side of the server or another version of the tool: what it learns and
        counts is its own, the rate of all tools together the same."""
        if guard is None:
            return None
        from erlmcp.runtime.guard import Guard

        name, rules, fallback = guard.name, guard.rules, guard.fallback
        return Guard(name, rules, total=self.total, flags=flags, fallback=fallback, listener=self._tell)

    def _tell(self, event: BreakerEvent) -> None:
        for listener in self.listeners:
            listener(event)

    def switch(self, flags: Flags) -> None:
        """Let the guards of all tools go by these flags."""
        for tool in self._tools.values():
            tool.switch(flags)

    def report(self) -> dict[str, dict[str, Any]]:
        """The state of each guarded tool's guard."""
        return {name: tool.guard.report() for name, tool in self._tools.items() if tool.guard is not None}


def caller_of(exchange: Exchange) -> str:
    """Whose rate a call counts for: the credential's where there is one, else the session's, else the connection's.
    Over HTTP, callers without either are one."""
    headers = exchange.headers
    if headers:
        credential = credential_of(headers)
        if credential:
            return _digest(credential)
        if exchange.session.id is None:
            return NOBODY
    return caller_at(exchange.session)


def caller_at(session: Session) -> str:
    """The caller of a conversation without a credential. Not its address: another one may have that later, and would be
    taken for the one that ended."""
    return session.id or f"#{session.serial}"


def caller_behind(verdict: Verdict) -> str:
    """The caller of an HTTP request, by the verdict on its head."""
    if not verdict.caller:
        credential = verdict.credential
        session_id = None if verdict.session is None else verdict.session_id
        verdict.caller = _digest(credential) if credential else session_id or NOBODY
    return verdict.caller


def _digest(credential: str) -> str:
    return hashlib.sha256(credential.encode("utf-8", "replace")).hexdigest()
