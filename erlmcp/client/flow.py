"""Requests and the state of a byte stream: compiled where the core is (``erlmcp.client.ask``), else in plain Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from erlmcp import core

if TYPE_CHECKING:
    from erlmcp.client.ask import Ask as Ask
    from erlmcp.client.ask import Flow as Flow
    from erlmcp.client.ask import Request as Request
elif core.IMPLEMENTATION == "core":
    from erlmcp.client.ask import Ask, Flow, Request
else:
    Ask = None

    class Request:
        """As that of ``erlmcp.client.ask``."""

        __slots__ = (
            "deadline_ns",
            "future",
            "headers",
            "id",
            "is_idempotent",
            "is_sent",
            "method",
            "name",
            "params",
            "timeout_s",
            "told",
        )

        def __init__(
            self,
            method: Any,
            params: Any,
            future: Any,
            name: Any = None,
            headers: Any = None,
            deadline_ns: Any = None,
            timeout_s: float = 0.0,
            is_idempotent: bool = False,
        ) -> None:
            self.id = 0
            self.method, self.params, self.future, self.name, self.headers = method, params, future, name, headers
            self.deadline_ns, self.timeout_s, self.is_idempotent = deadline_ns, timeout_s, is_idempotent
            self.is_sent = False
            self.told = None

        def settle(self, call: Any) -> None:
            if not self.future.done():
                self.future.set_result(call)

        def fail(self, error: Exception) -> None:
            if not self.future.done():
                self.future.set_exception(error)

    class Flow:
        """As that of ``erlmcp.client.ask``, without a short way."""

        write_count = 0
        _is_prompt = False

        def feed(self, data: bytes) -> None:
            for call in self._inbound.feed(data):
                self._receive(call)
            if self._queue:
                self._pump()

        def _flush(self) -> None:
            self._is_dirty = False
            self._flush_pieces()
