"""Asking again: what an exception says about that, and the two ways of waiting in between."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any, Final

from erlmcp.errors import SERVER_BUSY, BreakerOpenError, HttpStatusError, McpError, RefusedError
from erlmcp.policy.breaker import SECOND_NS
from erlmcp.policy.retry import Retry, RetryRule
from erlmcp.runtime.within import due_ns

RETRY_AFTER_MS_MAX: Final = 1e9
TRANSIENT_STATUSES: Final = frozenset({429, 502, 503, 504})


def is_transient(error: BaseException) -> bool:
    """Whether it may be over soon: lost connections, timeouts, refusals, and the statuses that say so. Not where a
    breaker of ours is open: it is there to fail at once."""
    if isinstance(error, BreakerOpenError):
        return False
    if isinstance(error, HttpStatusError):
        return error.status in TRANSIENT_STATUSES
    if isinstance(error, McpError):
        return error.code == SERVER_BUSY
    return isinstance(error, ConnectionError | TimeoutError)


def was_refused(error: BaseException) -> bool:
    """Whether nobody acted on what was asked."""
    if isinstance(error, HttpStatusError):
        return error.status in (429, 503)
    return isinstance(error, McpError) and error.code == SERVER_BUSY


def retry_after_ns(error: BaseException) -> int:
    """How long the other side wants to be left alone: ``data.retryAfterMs``, or the header Retry-After in seconds."""
    if isinstance(error, RefusedError):
        return int((error.retry_after_s or 0) * SECOND_NS)
    if isinstance(error, McpError) and isinstance(error.data, dict):
        found = error.data.get("retryAfterMs")
        if isinstance(found, int | float) and not isinstance(found, bool):
            return int(min(max(found, 0), RETRY_AFTER_MS_MAX) * 1_000_000)
        return 0
    if isinstance(error, HttpStatusError):
        text = error.headers.get("retry-after", "").strip()
        return int(text) * SECOND_NS if text.isascii() and text.isdigit() and len(text) < 10 else 0
    return 0


class Again:
    """The retries of one function or endpoint."""

    def __init__(
        self,
        rule: RetryRule,
        *,
        is_transient: Callable[[BaseException], bool] = is_transient,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.retry = Retry(rule, chance)
        self.is_transient = is_transient

    def pause_s(
        self, error: BaseException, attempt: int, may_repeat: bool, deadline_ns: int | None = None
    ) -> float | None:
        """How long to wait before the next attempt; None: there is none."""
        if not self.is_transient(error):
            return None
        limits = [each for each in (deadline_ns, due_ns()) if each is not None]
        pause_ns = self.retry.pause_ns(
            time.monotonic_ns(),
            attempt,
            may_repeat=may_repeat,
            was_refused=was_refused(error),
            retry_after_ns=retry_after_ns(error),
            deadline_ns=min(limits, default=None),
        )
        return None if pause_ns is None else pause_ns / SECOND_NS

    async def call(
        self,
        function: Callable[..., Any],
        *args: Any,
        may_repeat: bool = True,
        deadline_ns: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """``await function(...)``, and again where that may help and can be answered before the deadline."""
        self.retry.begin(time.monotonic_ns())
        attempt = 1
        while True:
            try:
                return await function(*args, **kwargs)
            except Exception as error:
                pause_s = self.pause_s(error, attempt, may_repeat, deadline_ns)
                if pause_s is None:
                    raise
            await asyncio.sleep(pause_s)
            attempt += 1

    def call_sync(self, function: Callable[..., Any], *args: Any, may_repeat: bool = True, **kwargs: Any) -> Any:
        """The same for an ordinary function; waits in this thread."""
        self.retry.begin(time.monotonic_ns())
        attempt = 1
        while True:
            try:
                return function(*args, **kwargs)
            except Exception as error:
                pause_s = self.pause_s(error, attempt, may_repeat)
                if pause_s is None:
                    raise
            time.sleep(pause_s)
            attempt += 1
