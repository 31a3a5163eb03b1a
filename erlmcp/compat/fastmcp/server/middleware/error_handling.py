"""What becomes of exceptions: records, error answers, and other tries."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Callable
from typing import Any

from erlmcp.compat.fastmcp.exceptions import NotFoundError
from erlmcp.compat.fastmcp.server.middleware.middleware import CallNext, Middleware, MiddlewareContext
from erlmcp.errors import INTERNAL_ERROR, INVALID_PARAMS, REQUEST_TIMEOUT, SERVER_BUSY, McpError


class ErrorHandlingMiddleware(Middleware):
    """Records each error, counts them by type and method, and turns those that are none of JSON-RPC into one."""

    def __init__(
        self,
        logger: logging.Logger | None = None,
        include_traceback: bool = False,
        error_callback: Callable[[Exception, MiddlewareContext[Any]], Any] | None = None,
        transform_errors: bool = True,
    ) -> None:
        self.logger = logger or logging.getLogger("fastmcp.errors")
        self.include_traceback = include_traceback
        self.error_callback = error_callback
        self.transform_errors = transform_errors
        self.error_counts: dict[str, int] = {}

    async def on_message(self, context: MiddlewareContext[Any], call_next: CallNext) -> Any:
        try:
            return await call_next(context)
        except Exception as error:
            self._record(error, context)
            turned = self._turned(error, context)
            if turned is error:
                raise
            raise turned from error

    def _record(self, error: Exception, context: MiddlewareContext[Any]) -> None:
        kind, method = type(error).__name__, context.method or "unknown"
        self.error_counts[f"{kind}:{method}"] = self.error_counts.get(f"{kind}:{method}", 0) + 1
        trace = f"\n{traceback.format_exc()}" if self.include_traceback else ""
        self.logger.error("Error in %s: %s: %s%s", method, kind, error, trace)
        if self.error_callback is not None:
            try:
                self.error_callback(error, context)
            except Exception as fault:
                self.logger.error("Error in error callback: %s", fault)

    def _turned(self, error: Exception, context: MiddlewareContext[Any]) -> Exception:
        if not self.transform_errors or isinstance(error, McpError):
            return error
        kind = type(error.__cause__ or error)
        if kind in (ValueError, TypeError):
            return McpError(INVALID_PARAMS, f"Invalid params: {error}")
        if kind in (FileNotFoundError, KeyError, NotFoundError):
            if (context.method or "").startswith("resources/"):
                return McpError(-32002, f"Resource not found: {error}")
            return McpError(REQUEST_TIMEOUT, f"Not found: {error}")
        if kind is PermissionError:
            return McpError(SERVER_BUSY, f"Permission denied: {error}")
        if kind is TimeoutError:
            return McpError(SERVER_BUSY, f"Request timeout: {error}")
        return McpError(INTERNAL_ERROR, f"Internal error: {error}")

    def get_error_stats(self) -> dict[str, int]:
        """``Type:method`` -> how many there were."""
        return dict(self.error_counts)


class RetryMiddleware(Middleware):
    """Tries a request again where it failed with one of ``retry_exceptions``, or because of one, after waits that
    grow."""

    def __init__(
        self,
        max_retries: int = 3,
        base_delay: float = 1.0,
        max_delay: float = 60.0,
        backoff_multiplier: float = 2.0,
        retry_exceptions: tuple[type[Exception], ...] = (ConnectionError, TimeoutError),
        logger: logging.Logger | None = None,
    ) -> None:
        self.max_retries = max_retries
        self.base_delay = base_delay
        self.max_delay = max_delay
        self.backoff_multiplier = backoff_multiplier
        self.retry_exceptions = retry_exceptions
        self.logger = logger or logging.getLogger("fastmcp.retry")

    async def on_request(self, context: MiddlewareContext[Any], call_next: CallNext) -> Any:
        for attempt in range(self.max_retries):
            try:
                return await call_next(context)
            except Exception as error:
                if not isinstance(error, self.retry_exceptions) and not isinstance(
                    error.__cause__, self.retry_exceptions
                ):
                    raise
                delay_s = min(self.base_delay * self.backoff_multiplier**attempt, self.max_delay)
                self.logger.warning(
                    "Request %s failed (attempt %d/%d): %s: %s. Retrying in %.1fs...",
                    context.method,
                    attempt + 1,
                    self.max_retries + 1,
                    type(error).__name__,
                    error,
                    delay_s,
                )
                await asyncio.sleep(delay_s)
        return await call_next(context)
