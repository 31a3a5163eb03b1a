"""The guards of a client: what its requests pass before they are sent, and whether they are made again."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from erlmcp.errors import (
    INTERNAL_ERROR,
    REQUEST_TIMEOUT,
    SERVER_BUSY,
    CallTimeoutError,
    ConfigurationError,
    HttpStatusError,
    InvalidAnswerError,
    McpError,
    NegotiationError,
)
from erlmcp.policy.breaker import SECOND_NS, BreakerEvent
from erlmcp.policy.protection import Guards
from erlmcp.policy.retry import RetryRule
from erlmcp.runtime.again import Again
from erlmcp.runtime.guard import Guard

if TYPE_CHECKING:
    from erlmcp.flags import Flags

TROUBLE: Final = (INTERNAL_ERROR, REQUEST_TIMEOUT, SERVER_BUSY)


def speaks_against(error: BaseException) -> bool:
    """Whether an exception says that the endpoint is in trouble: not where it answered, if only with a refusal of what
    was asked, nor where the request could not be written."""
    if isinstance(error, McpError):
        return error.code in TROUBLE
    if isinstance(error, HttpStatusError):
        return error.status >= 500 or error.status == 429
    return isinstance(error, ConnectionError | TimeoutError | InvalidAnswerError | NegotiationError)


class Guarded:
    """All requests of one client to one endpoint."""

    def __init__(
        self, name: str, guards: Guards, flags: Flags, listener: Callable[[BreakerEvent], object] | None = None
    ) -> None:
        if any(rule.per != "tool" for rule in guards.rates):
            raise ConfigurationError("a client has one endpoint: give it one RateRule, per 'tool'")
        self.guard = Guard(name, guards, flags=flags, is_failure=speaks_against, listener=listener)
        self.again = Again(guards.retry) if isinstance(guards.retry, RetryRule) else None
        self._flags = flags

    async def ask(
        self, flags: Flags, once: Callable[..., Any], timeout_s: float | None, usual_s: float, again: bool
    ) -> Any:
        """``await once(timeout_s)`` within the guard, and made again where that may help; all of it in the time that
        the call has."""
        if flags is not self._flags:
            self._flags = flags
            self.guard.switch(flags)
        if self.again is None:
            return await self._one(once, timeout_s)
        span_s = usual_s if timeout_s is None else timeout_s
        deadline_ns = time.monotonic_ns() + int(span_s * SECOND_NS)
        return await self.again.call(self._one, once, timeout_s, may_repeat=again, deadline_ns=deadline_ns)

    async def _one(self, once: Callable[..., Any], timeout_s: float | None) -> Any:
        guard = self.guard
        token = await guard.enter_in_turn()
        if token <= 0:
            raise guard.refusal(token)
        try:
            found = await once(guard.timeout_s if timeout_s is None else timeout_s)
        except CallTimeoutError:
            guard.expired(token)
            raise
        except BaseException as error:
            guard.failed(token, error)
            raise
        guard.leave(token, True)
        return found
