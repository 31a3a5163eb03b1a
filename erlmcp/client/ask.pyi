"""The client's half of a tool call over a byte stream, compiled: arguments to bytes, and answers to those who wait."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from erlmcp import core
from erlmcp.client.result import AnswerResult
from erlmcp.core import Call
from erlmcp.errors import ConnectionClosedError

class Request:
    """One request on its way. ``future`` gets the answer: a ``Call`` of kind RESULT or ERROR, not decoded yet."""

    id: int  # given by ``Channel.send``, before it returns
    method: str
    params: dict[str, Any] | None  # JSON values, and ``core.Raw`` among them
    name: str | None  # what params names: a tool, a prompt or a URI; HTTP's Mcp-Name
    headers: dict[str, str] | None  # HTTP's Mcp-Param-*, by their whole names, ready to be sent
    future: asyncio.Future[Call]
    deadline_ns: int | None  # of time.monotonic_ns(); None: it waits until it is cancelled (a listen stream)
    timeout_s: float  # what the deadline was made of, for the error
    is_idempotent: bool  # may be sent again where nobody knows whether it arrived
    # Whether any byte of it may have reached the server. A channel that learns that the server did not act on it
    # (a 404 for its session) sets it back before it fails the request: then it is sent again.
    is_sent: bool
    # What gets the messages that the server sends with the answer, where the way tells which those are (HTTP); without
    # it the front gets them.
    told: Callable[[Call], None] | None
    call: Call | None  # the answer, where it came before anybody waited for it
    def __init__(
        self,
        method: str,
        params: dict[str, Any] | None,
        future: asyncio.Future[Call],
        name: str | None = None,
        headers: dict[str, str] | None = None,
        deadline_ns: int | None = None,
        timeout_s: float = 0.0,
        is_idempotent: bool = False,
    ) -> None: ...
    def settle(self, call: Call) -> None: ...
    def fail(self, error: Exception) -> None: ...

class Flow:
    """What is counted and kept of a conversation over a byte stream; ``erlmcp.client.pipe`` has the rules.

    A subclass brings ``_write(data)``, ``_flush_pieces()``, ``_receive(call)``, ``_pump()`` and ``_arm(deadline_ns)``.
    """

    write_count: int
    _correlation: core.Correlation
    _inbound: core.Inbound
    _outbound: core.Outbound
    _queue: deque[Request]
    _timed: Request | None
    _lost: Callable[[], ConnectionClosedError] | None
    _loop: asyncio.AbstractEventLoop
    _sent_count: int
    _inflight_max: int
    _armed_ns: int
    _is_paused: bool
    _is_dirty: bool
    _is_whole: bool
    _is_prompt: bool  # what is sent is written at once, and not at the end of the turn
    def feed(self, data: bytes) -> None:
        """Handle what was read. Never raises for what the server sent."""

    def _flush(self) -> None:
        """Write what was gathered."""

class Ask:
    """Tool calls of one conversation over ``flow``; ``meta`` is their ``_meta`` as JSON, None where there is none."""

    def __init__(self, flow: Flow, meta: bytes | None, timeout_s: float, result_class: type[AnswerResult]) -> None: ...
    def call(self, name: str, arguments: object, timeout_s: float | None) -> Request | AnswerResult | None:
        """The result where it is there already and plain; else the request that was sent, whose ``call`` is the answer
        or whose ``future`` will get it. None where the call is to be made the general way; nothing was done then.
        Raises what the request failed with at once.
        """

    def result(self, call: Call) -> AnswerResult | None:
        """The result that an answer is, not decoded yet; None for an error, for a result that is one, that is not
        final, or that is not surely neither."""
