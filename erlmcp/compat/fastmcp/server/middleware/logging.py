"""What comes in, for the log."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from erlmcp.compat.fastmcp.server.middleware.middleware import CallNext, Middleware, MiddlewareContext, Params
from erlmcp.compat.fastmcp.values import json_text


def default_serializer(data: Any) -> str:
    """A message as JSON text."""
    return json_text(data.model_dump() if isinstance(data, Params) else data)


class LoggingMiddleware(Middleware):
    """A record ``event=... method=...`` before and after each message. ``include_payloads`` adds the message, up to
    ``max_payload_length`` characters of it; the length and a guess at its tokens are options of their own."""

    structured_logging: ClassVar[bool] = False
    logger_name: ClassVar[str] = "fastmcp.middleware.logging"

    def __init__(
        self,
        *,
        logger: logging.Logger | None = None,
        log_level: int = logging.INFO,
        include_payloads: bool = False,
        include_payload_length: bool = False,
        estimate_payload_tokens: bool = False,
        max_payload_length: int | None = 1000,
        methods: Sequence[str] | None = None,
        payload_serializer: Callable[[Any], str] | None = None,
    ) -> None:
        self.logger = logger or logging.getLogger(self.logger_name)
        self.log_level = log_level
        self.include_payloads = include_payloads
        self.include_payload_length = include_payload_length
        self.estimate_payload_tokens = estimate_payload_tokens
        self.max_payload_length = max_payload_length
        self.methods = methods
        self.payload_serializer = payload_serializer

    async def on_message(self, context: MiddlewareContext[Any], call_next: CallNext) -> Any:
        if self.methods and context.method not in self.methods:
            return await call_next(context)
        self._write({**self._said(context, "start"), **self._payload(context)})
        began = time.perf_counter()
        try:
            found = await call_next(context)
        except Exception as error:
            self._write({**self._said(context, "error", began), "error": str(error)}, logging.ERROR)
            raise
        self._write(self._said(context, "success", began))
        return found

    @staticmethod
    def _said(context: MiddlewareContext[Any], event: str, began: float | None = None) -> dict[str, Any]:
        found: dict[str, Any] = {
            "event": f"{context.type}_{event}",
            "method": context.method or "unknown",
            "source": context.source,
        }
        if began is not None:
            found["duration_ms"] = round((time.perf_counter() - began) * 1000, 2)
        return found

    def _payload(self, context: MiddlewareContext[Any]) -> dict[str, Any]:
        if not (self.include_payloads or self.include_payload_length or self.estimate_payload_tokens):
            return {}
        text = self._serialized(context)
        found: dict[str, Any] = {}
        if self.estimate_payload_tokens:
            found["payload_tokens"] = len(text) // 4
        if self.include_payload_length:
            found["payload_length"] = len(text)
        if self.include_payloads:
            is_long = bool(self.max_payload_length) and len(text) > (self.max_payload_length or 0)
            found["payload"] = text[: self.max_payload_length] + "..." if is_long else text
            found["payload_type"] = type(context.message).__name__
        return found

    def _serialized(self, context: MiddlewareContext[Any]) -> str:
        if self.payload_serializer is not None:
            try:
                return self.payload_serializer(context.message)
            except Exception as error:
                self.logger.warning("Failed to serialize payload due to %s: %s %s", error, context.type, context.method)
        return default_serializer(context.message)

    def _write(self, said: dict[str, Any], level: int | None = None) -> None:
        if self.structured_logging:
            self.logger.log(level or self.log_level, "%s", json.dumps(said))
        else:
            self.logger.log(level or self.log_level, "%s", " ".join(f"{key}={each}" for key, each in said.items()))


class StructuredLoggingMiddleware(LoggingMiddleware):
    """The same as lines of JSON."""

    structured_logging: ClassVar[bool] = True
    logger_name: ClassVar[str] = "fastmcp.middleware.structured_logging"

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"max_payload_length": None, **options})
