"""One request on its way: from the call that came in to the one answer that goes out."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol

from erlmcp.errors import (
    INTERNAL_ERROR,
    REQUEST_TIMEOUT,
    RESOURCE_NOT_FOUND_LEGACY,
    JsonError,
    LimitError,
    McpError,
    ResourceNotFoundError,
)
from erlmcp.runtime.current import task_name
from erlmcp.runtime.executor import cancel_soon
from erlmcp.spec import key
from erlmcp.spec.method import PROGRESS
from erlmcp.wire.header import credential_of

if TYPE_CHECKING:
    from concurrent.futures import Future

    from erlmcp.core import Call, Template
    from erlmcp.runtime.load import Load
    from erlmcp.runtime.session import Session
    from erlmcp.runtime.timers import Deadline
    from erlmcp.runtime.within import Until
    from erlmcp.wire.peer import Peer

log = logging.getLogger("erlmcp.server")


class Recorder(Protocol):
    """What hears of requests that ended; ``began_ns`` is when the one in hand began the short way, else 0."""

    began_ns: int

    @property
    def is_sampling(self) -> bool: ...
    def finish(self, exchange: Exchange, error: str, status: str, message: str) -> None:
        """``error`` is tool_error, cancelled or ""; ``status`` the code of an error answer, with its message."""

    def found_session(self, began_ns: int) -> None:
        """The session of a request was looked for, from then on."""

    def end_session(self, kind: str, version: str, duration_ns: int) -> None: ...
    async def asking(
        self, session: Session, method: str, params: Any, send: Callable[[Any], Awaitable[dict[str, Any]]]
    ) -> dict[str, Any]:
        """Send a request to the client of a session, with these params or more of them."""


class Channel(Protocol):
    """Where the messages of one request go. Whatever comes after the answer is dropped by the exchange, not here."""

    @property
    def kind(self) -> str:
        """The kind of transport: stdio, tcp, unix, memory, http, http2, asgi or sse."""

    def fill(self, id_raw: bytes, template: Template, values: tuple[object, ...]) -> None: ...
    def result(self, id_raw: bytes, value: object) -> None: ...
    def error(self, id_raw: bytes, code: int, message: str, data: object) -> None: ...
    def notify(self, method: str, params: dict[str, Any] | None) -> None: ...
    def ask(self, id: int, method: str, params: dict[str, Any] | None) -> None: ...
    def whole(self, message: bytes, code: int = 0) -> None:
        """The answer as ready JSON: that of a batch, or one that is handed on. ``code`` is an error's."""

    def detach(self) -> None:
        """End the stream and let the client come back for the rest (SEP-1699); nothing where there is no such
        stream."""

    def drop(self) -> None:
        """The request was cancelled: its answer will not come."""

    def beat(self) -> None:
        """The request has waited for a while: keep what carries it alive."""


class Front(Protocol):
    """Where a call goes on that began the short way (``erlmcp.runtime.stride``) and did not end there."""

    def exchange(self, call: Call, peer: Peer) -> Exchange: ...
    def waits(self, exchange: Exchange) -> None: ...


class Exchange:
    """A request being handled.

    ``peer`` is who asked; ``session`` the conversation it belongs to; ``channel`` where its messages go. It is
    answered exactly once: by ``fill``, ``result`` or ``fail``; or never, when it was cancelled (spec:
    basic/utilities/cancellation).
    ``codec`` is the library that decodes and encodes values; None: the core does.
    """

    __slots__ = (
        "_deadline",
        "_load",
        "_span",
        "_timers",
        "began_ns",
        "call",
        "channel",
        "codec",
        "done",
        "ended",
        "expired",
        "handled_ns",
        "handler_ns",
        "headers",
        "peer",
        "round",
        "session",
        "span",
        "task",
        "until",
        "upstream_ns",
    )

    def __init__(
        self, call: Call, peer: Peer, session: Session, channel: Channel, headers: dict[str, str] | None = None
    ) -> None:
        self.call = call
        self.peer = peer
        self.session = session
        self.channel = channel
        self.headers = headers
        self.codec = session.host.codec
        self.done = False
        self.task: asyncio.Task[None] | Future[None] | None = None
        self.ended: Callable[[Exchange], None] | None = None
        self.round: Any = None  # the multi-round state, owned by the server room
        self.expired = False
        self.until: Until | None = None  # what is handed on to nested calls, and moves with the deadline
        self._deadline: Deadline | None = None
        self._span: tuple[float, int] | None = None  # how far progress moves the deadline, and until when
        self._load: Load | None = None  # where it is counted, once its handler waits
        recorder = session.host.recorder
        # When it began, when its handler began in a thread, and when there was something to answer; 0: not known.
        self.began_ns = 0
        if recorder is not None and call is not None:  # a call of the same process is no message
            self.began_ns, recorder.began_ns = recorder.began_ns or time.perf_counter_ns(), 0
        self.handler_ns = self.handled_ns = 0
        self.upstream_ns = 0  # how long others were asked for it
        self.span: Any = None  # who observes requests keeps what belongs to this one here

    @property
    def params(self) -> Any:
        """The request's params, decoded by the codec that the flags choose."""
        return self.call.params if self.codec is None else self.codec.params_of(self.call)

    @property
    def arguments(self) -> Any:
        """``params["arguments"]``; None where absent."""
        if self.codec is None:
            return self.call.arguments
        params = self.codec.params_of(self.call)
        return params.get("arguments") if isinstance(params, dict) else None

    @property
    def owner(self) -> object:
        """Among whom calls take turns: the caller's credential over HTTP, where there is one; else the conversation."""
        return self.session if self.headers is None else credential_of(self.headers) or self.session

    # -- answers -------------------------------------------------------------------------------------------------------

    def fill_or_raise(self, template: Template, values: tuple[object, ...]) -> None:
        """Answer with a template's result; raises JsonError, with nothing sent, for a value that JSON cannot hold."""
        if self.done:
            return
        if self.began_ns:
            self.handled_ns = time.perf_counter_ns()
        try:
            self.channel.fill(self.call.id_raw, template, values)
        except LimitError as exc:
            self.fail(_does_not_fit(exc))
        else:
            self._close()

    def result(self, value: object) -> None:
        """Answer with this result."""
        if self.done:
            return
        if self.began_ns:
            self.handled_ns = time.perf_counter_ns()
        try:
            self.channel.result(self.call.id_raw, value if self.codec is None else self.codec.encoded(value))
        except LimitError as exc:
            self.fail(_does_not_fit(exc))
        except JsonError as exc:
            self.fail(exc)
        else:
            is_error = value.__class__ is dict and value.get("isError") is True
            self._close("tool_error" if is_error else "")

    def whole(self, message: bytes, code: int = 0, error: str = "") -> None:
        """Answer with a whole message, its id included; ``code`` is that of an error answer, ``error`` tool_error where
        the result says ``isError``."""
        if self.done:
            return
        if self.began_ns:
            self.handled_ns = time.perf_counter_ns()
        try:
            self.channel.whole(message, code)
        except LimitError as exc:
            self.fail(_does_not_fit(exc))
        else:
            self._close(error, str(code) if code else "")

    def result_or_error(self, found: object) -> None:
        """Answer with a result, or with the error where it is one."""
        if isinstance(found, BaseException):
            self.fail(found)
        else:
            self.result(found)

    def fail(self, error: BaseException) -> None:
        """Answer with an error: an McpError as it is, anything else logged and masked."""
        if self.done:
            return
        if isinstance(error, McpError):
            code = error.code
            if isinstance(error, ResourceNotFoundError) and not self.peer.modern:
                code = RESOURCE_NOT_FOUND_LEGACY
            message, data = error.message, error.data
        else:
            log.error("%s failed", self.call.method, exc_info=error, extra={"exchange": self})
            code, data = INTERNAL_ERROR, None
            message = "Internal error" if self.session.mask_errors else f"Internal error: {text_of(error)}"
        try:
            self.channel.error(self.call.id_raw, code, message, data)
        except (TypeError, ValueError, OverflowError) as exc:  # The author's error holds what no error answer can.
            log.error("the error answer of %s could not be written: %s", self.call.method, exc)
            self.channel.error(self.call.id_raw, INTERNAL_ERROR, "Internal error", None)
        self._close("", str(code), message)

    def _close(self, error: str = "", status: str = "", message: str = "") -> None:
        self.done = True
        if self._deadline is not None:
            self._timers.cancel(self._deadline)
            self._deadline = None
        if self.task is not None or self.ended is not None:
            self.session.forget(self)
            if self._load is not None:
                self._load.leave(self)
        if self.ended is not None:
            self.ended(self)
        elif self.began_ns:
            recorder = self.session.host.recorder
            if recorder is not None:
                recorder.finish(self, error, status, message)

    # -- while it runs -------------------------------------------------------------------------------------------------

    @property
    def progress_token(self) -> str | int | None:
        meta = self.call.meta
        token = meta.values.get(key.PROGRESS_TOKEN) if meta is not None else None
        return token if isinstance(token, str | int) and not isinstance(token, bool) else None

    def notify(self, method: str, params: dict[str, Any] | None) -> bool:
        """Send a notification that belongs to this request; False where it was answered or cancelled already."""
        if self.done:
            return False
        self.channel.notify(method, params)
        if self._span is not None and method == PROGRESS:
            self._extend(*self._span)
        return True

    def waits(
        self,
        task: asyncio.Task[None] | Future[None],
        timeout_s: float | None,
        gave_up: Callable[[], None] | None = None,
        hard_s: float | None = None,
    ) -> None:
        """The handler did not end at once: remember it, so that it can be cancelled and timed out.

        ``gave_up`` is called where its time is over; with ``hard_s`` each progress that it reports gives it its time
        anew, so long at most."""
        self.task = task
        if isinstance(task, asyncio.Task):
            task.set_name(task_name(self))
        self.session.remember(self)
        if self._load is None:  # It may wait for one thing after another, and is one call in flight.
            self._load = self.session.host.turn.load
            self._load.enter(self)
        if timeout_s is not None:
            self._timers = self.session.host.timers  # The host may stop before this ends.
            self._deadline = self._timers.add(timeout_s, self._expire, timeout_s, gave_up)
            if hard_s is not None:
                self._span = timeout_s, time.monotonic_ns() + int(hard_s * 1e9)

    def _extend(self, timeout_s: float, last_ns: int) -> None:
        now_ns = time.monotonic_ns()
        due_ns = min(now_ns + int(timeout_s * 1e9), last_ns)
        if self._deadline is not None:
            self._timers.extend(self._deadline, (due_ns - now_ns) / 1e9)
        if self.until is not None:
            self.until.due_ns = due_ns

    def stays(self, ended: Callable[[Exchange], None]) -> None:
        """The request stays open without a handler that runs (a listen stream); ``ended`` is called at its end."""
        self.ended = ended
        self.session.remember(self)

    def _expire(self, timeout_s: float, gave_up: Callable[[], None] | None) -> None:
        self._deadline = None
        self.expired = True
        if gave_up is not None:
            gave_up()
        self.fail(McpError(REQUEST_TIMEOUT, f"Request timed out after {timeout_s:g} s"))
        self._stop()

    def cancel(self) -> None:
        """The client no longer wants the answer: none is sent, and the handler is cancelled."""
        if not self.done:
            if self._load is not None:
                self._load.pass_over(self)
            self._close("cancelled")
            self.channel.drop()
        self._stop()

    def _stop(self) -> None:
        if isinstance(self.task, asyncio.Task):
            cancel_soon(self.task)
        elif self.task is not None:
            self.task.cancel()


def text_of(error: BaseException) -> str:
    """What an exception says of itself; its class where it cannot."""
    try:
        return str(error)
    except Exception:
        return type(error).__name__


def _does_not_fit(error: LimitError) -> McpError:
    """What the client is told of a result that passed a limit on the way out: it hides nothing of the author's."""
    limit = "outbox_bytes_max" if error.limit == "bytes_max" else error.limit
    log.error("a result was not sent: %s=%s was passed", limit, error.maximum)
    return McpError(INTERNAL_ERROR, f"The result cannot be sent: it passes {limit}={error.maximum}")


Handler = Callable[[Exchange], None]
