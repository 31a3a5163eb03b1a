"""No more requests than so many in a while."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from erlmcp.compat.fastmcp.server.middleware.middleware import CallNext, Middleware, MiddlewareContext
from erlmcp.errors import SERVER_BUSY, McpError

Identify = Callable[[MiddlewareContext[Any]], str | Awaitable[str]]
CLIENT_COUNT_MAX = 10_000  # of those that are told apart; the one that came first is forgotten


class RateLimitError(McpError):
    """-32000: too many requests."""

    def __init__(self, message: str = "Rate limit exceeded") -> None:
        super().__init__(SERVER_BUSY, message)


class TokenBucketRateLimiter:
    """A bucket of ``capacity`` tokens, filled at ``refill_rate`` a second."""

    def __init__(self, capacity: float, refill_rate: float) -> None:
        self.capacity = capacity
        self.refill_rate = refill_rate
        self.tokens: float = capacity
        self.last_refill = time.monotonic()

    async def consume(self, tokens: int = 1) -> bool:
        """Take tokens out; False where there are not so many."""
        now = time.monotonic()
        self.tokens = min(self.capacity, self.tokens + (now - self.last_refill) * self.refill_rate)
        self.last_refill = now
        if self.tokens < tokens:
            return False
        self.tokens -= tokens
        return True


class SlidingWindowRateLimiter:
    """At most ``max_requests`` in any ``window_seconds``."""

    def __init__(self, max_requests: int, window_seconds: float) -> None:
        self.max_requests = max_requests
        self.window_seconds = window_seconds
        self.requests: deque[float] = deque()

    async def is_allowed(self) -> bool:
        """Count one more; False where it is one too many."""
        now = time.monotonic()
        while self.requests and self.requests[0] < now - self.window_seconds:
            self.requests.popleft()
        if len(self.requests) >= self.max_requests:
            return False
        self.requests.append(now)
        return True


class _Limited(Middleware):
    """One limiter for each client, by what ``get_client_id(context)`` says it is; for all together without it."""

    get_client_id: Identify | None

    def __init__(self, get_client_id: Identify | None) -> None:
        self.get_client_id = get_client_id
        self.limiters: dict[str, Any] = {}

    async def limiter_of(self, context: MiddlewareContext[Any], make: Callable[[], Any]) -> tuple[str, Any]:
        found = "global" if self.get_client_id is None else self.get_client_id(context)
        client = found if isinstance(found, str) else await found
        limiter = self.limiters.get(client)
        if limiter is None:
            if len(self.limiters) >= CLIENT_COUNT_MAX:
                del self.limiters[next(iter(self.limiters))]
            limiter = self.limiters[client] = make()
        return client, limiter


class RateLimitingMiddleware(_Limited):
    """A token bucket: bursts of ``burst_capacity`` (twice the rate without it), ``max_requests_per_second`` in the
    long run."""

    def __init__(
        self,
        max_requests_per_second: float = 10.0,
        burst_capacity: int | None = None,
        get_client_id: Identify | None = None,
        global_limit: bool = False,
    ) -> None:
        if max_requests_per_second <= 0:
            raise ValueError(f"max_requests_per_second must be positive, got {max_requests_per_second}")
        super().__init__(get_client_id)
        self.max_requests_per_second = max_requests_per_second
        self.burst_capacity = burst_capacity or max(1, int(max_requests_per_second * 2))
        self.global_limit = global_limit
        self.global_limiter = self._make()

    def _make(self) -> TokenBucketRateLimiter:
        return TokenBucketRateLimiter(self.burst_capacity, self.max_requests_per_second)

    async def on_request(self, context: MiddlewareContext[Any], call_next: CallNext) -> Any:
        if self.global_limit:
            if not await self.global_limiter.consume():
                raise RateLimitError("Global rate limit exceeded")
            return await call_next(context)
        client, limiter = await self.limiter_of(context, self._make)
        if not await limiter.consume():
            raise RateLimitError(f"Rate limit exceeded for client: {client}")
        return await call_next(context)


class SlidingWindowRateLimitingMiddleware(_Limited):
    """At most ``max_requests`` in any ``window_minutes``."""

    def __init__(self, max_requests: int, window_minutes: float = 1, get_client_id: Identify | None = None) -> None:
        super().__init__(get_client_id)
        self.max_requests = max_requests
        self.window_seconds = window_minutes * 60

    async def on_request(self, context: MiddlewareContext[Any], call_next: CallNext) -> Any:
        client, limiter = await self.limiter_of(
            context, lambda: SlidingWindowRateLimiter(self.max_requests, self.window_seconds)
        )
        if not await limiter.is_allowed():
            minutes = f"{self.window_seconds / 60:g}"
            raise RateLimitError(
                f"Rate limit exceeded: {self.max_requests} requests per {minutes} minutes for client: {client}"
            )
        return await call_next(context)
