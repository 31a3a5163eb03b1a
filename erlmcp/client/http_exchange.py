"""The exchanges of Streamable HTTP: a request with its answer, a word without one, the streams, the farewell."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from erlmcp import core
from erlmcp.client.http_connection import Answer, Exchange, RequestHead
from erlmcp.client.http_head import JSON
from erlmcp.errors import (
    METHOD_NOT_FOUND,
    ConnectionClosedError,
    ErlmcpError,
    HttpStatusError,
    InvalidAnswerError,
    LimitError,
)
from erlmcp.spec import method as methods

if TYPE_CHECKING:
    from erlmcp.client.channel import Request
    from erlmcp.client.http import HttpChannel
    from erlmcp.client.http_limit import HttpLimits
    from erlmcp.client.http_pool import HttpPool
    from erlmcp.core import Call, SseEvent

log = logging.getLogger("erlmcp.client.http")

ERROR = 4  # core.Call.kind
SEND_COUNT_MAX = 3  # of one exchange, where connections fail that had not begun on it
BODY_KEPT_BYTES = 64 * 1024  # of an answer that was no message, for its error
NO_SUCH_WAY = (400, 404, 405)  # what a server that knows no Streamable HTTP says to a POST


def error_within(body: bytes) -> Call | None:
    """The JSON-RPC error that a refusal's body is, if it is one."""
    inbound = core.Inbound(None, None, framing="content_length", message_bytes_max=max(1, len(body)))
    found = inbound.feed(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
    return found[0] if len(found) == 1 and found[0].kind == ERROR else None


def kind_of(answer: Answer) -> str:
    return answer.headers.get("content-type", "").partition(";")[0].strip().lower()


class EventReader:
    """The events of a stream, over all connections that it came on."""

    __slots__ = ("_bytes_max", "_framer", "last_id", "retry_ms")

    def __init__(self, event_bytes_max: int) -> None:
        self._bytes_max = event_bytes_max
        self._framer = core.SseFramer(event_bytes_max)
        self.last_id = ""
        self.retry_ms: int | None = None

    def feed(self, data: bytes) -> list[SseEvent | LimitError]:
        framer = self._framer
        found = framer.feed(data)
        self.last_id = framer.last_event_id or self.last_id
        if framer.retry_ms is not None:
            self.retry_ms = framer.retry_ms
        return found

    def begin_again(self) -> None:
        """The next bytes are those of another connection: half an event is none."""
        self._framer = core.SseFramer(self._bytes_max)


class Post(Exchange):
    """A request of the client's, until it is answered: by a body, on its stream, or on one that resumes that."""

    __slots__ = (
        "_channel",
        "_events",
        "_refused",
        "_resumed_count",
        "_retry",
        "_sent_count",
        "_timer",
        "authorize_count",
        "bundle",
        "redirect_count",
        "request",
        "session",
        "shown",
    )

    def __init__(self, channel: HttpChannel, request: Request, head: RequestHead, body: bytes, session: str) -> None:
        super().__init__(head, body)
        self.request = request
        self.session = session
        self.bundle: Post | None = None  # that it goes in, where requests go in arrays
        self._channel = channel
        self._events: EventReader | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._retry: Resumption | None = None
        self.shown = channel.heads.authorization  # what its head shows of who calls
        self._resumed_count = self._sent_count = self.redirect_count = self.authorize_count = 0
        # What a server said to ``initialize`` that may know the old pair of endpoints only.
        self._refused: Answer | None = None

    @property
    def deadline_ns(self) -> int | None:
        return self.request.deadline_ns

    @property
    def what(self) -> str:
        return f"{self._what()} of {self._channel.url}"

    @property
    def members(self) -> Iterable[Post]:
        """Itself: a bundle is many."""
        return (self,)

    def sending(self) -> None:
        self.request.is_sent = True
        self._sent_count += 1

    # ---- the answer

    def answered(self, answer: Answer) -> bool:
        channel = self._channel
        body = answer.body
        if answer.status == 200:
            if body is not None and (answer.headers.get("content-type") == JSON or kind_of(answer) == JSON):
                if self.request.method == methods.INITIALIZE:
                    channel.begin_session(answer)
                channel.read(body, self)
                if not self.is_over:
                    self.fail(InvalidAnswerError(f"{channel.url} answered {self._what()} with {_begin_of(body)}"))
                    return True
                return False
            if body is None:
                if self.request.method == methods.INITIALIZE:
                    channel.begin_session(answer)
                self._events = EventReader(channel.limits.event_bytes_max)
                if self.is_over:
                    self.abandon()
                return False
        self._refuse(answer)
        return False

    def part(self, data: bytes) -> None:
        assert self._events is not None
        for event in self._events.feed(data):
            if isinstance(event, LimitError):
                self.fail(event)
                self.abandon()
                return
            self._resumed_count = 0
            if event.event == "message" and event.data:
                self._channel.read(event.data, self)
        if self.is_over and self._timer is None and self.connection is not None:
            # The stream should end now, and its connection carry the next request.
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._channel.limits.linger_s, self.abandon)

    def ended(self) -> None:
        if self.is_over:
            self._stop_timer()
        else:
            self._resume(ConnectionClosedError(f"{self._channel.url} ended the stream without an answer"))

    def lost(self, error: ErlmcpError, *, is_unsent: bool = False, is_stale: bool = False) -> None:
        if self.is_over:
            self._stop_timer()
            return
        if self._events is not None:
            self._resume(error)
            return
        request = self.request
        if is_unsent:
            request.is_sent = False
        if not (is_unsent or (is_stale and request.is_idempotent)) or not 0 < self._sent_count < SEND_COUNT_MAX:
            self.fail(error)
            return
        try:
            self._channel.dispatch(self)
        except ErlmcpError as again:
            self.fail(again)

    def settle(self, call: Call) -> None:
        self.is_over = True
        self.request.settle(call)

    def fail(self, error: ErlmcpError) -> None:
        if not self.is_over:
            self.is_over = True
            self._channel.forget(self)
            self.request.fail(error)

    def abandon(self) -> None:
        """Nobody waits for it any more: end what is under way for it."""
        self.is_over = True
        self._stop_timer()
        if self._retry is not None:
            self._retry.abandon()
        if self.connection is not None:
            self.connection.abandon(self)
        else:
            self._channel.pool.drop(self)
        if self.bundle is not None and self.bundle.is_over:
            self.bundle.abandon()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _what(self) -> str:
        return f"{self.request.method} (id {self.request.id})"

    # ---- an answer that is no result

    def _refuse(self, answer: Answer) -> None:
        channel, status, method = self._channel, answer.status, self.request.method
        if self.is_over:
            return
        if answer.body is None:
            self.fail(status_error(channel.url, answer))
            self.abandon()
            return
        if status in (307, 308) and channel.follow(self, answer):
            return
        if status in (401, 403) and channel.authorize(self, answer):
            return
        if status == 202 and channel.is_old:
            return  # the answer comes on the stream
        call = error_within(answer.body)
        is_own = call is not None and call.id == self.request.id
        is_of_method = is_own and call is not None and _code_of(call) == METHOD_NOT_FOUND
        if status == 404 and self.session and not is_of_method:
            channel.end_session(self)
        elif method == methods.INITIALIZE and status in NO_SUCH_WAY and not is_own and channel.may_be_old():
            self._refused = answer
            channel.try_old(self)
        elif call is not None and (is_own or (status < 500 and status not in (401, 403))):
            channel.forget(self)
            self.settle(call)
        else:
            self.fail(status_error(channel.url, answer))

    def not_old(self) -> None:
        """The server does not know the old pair of endpoints either: what it said at first holds."""
        assert self._refused is not None
        call = error_within(self._refused.body or b"")
        if call is not None:
            self._channel.forget(self)
            self.settle(call)
        else:
            self.fail(status_error(self._channel.url, self._refused))

    # ---- a stream that broke off

    def _resume(self, error: ErlmcpError) -> None:
        """Ask for the rest, where the server numbered its events; the specification has it so up to 2025-11-25."""
        assert self._events is not None
        channel = self._channel
        if (
            not self._events.last_id
            or not channel.may_resume()
            or self._resumed_count >= channel.limits.resume_count_max
        ):
            self.fail(error)
            self._stop_timer()
            return
        self._resumed_count += 1
        self._timer = asyncio.get_running_loop().call_later(channel.retry_s(self._events), self._ask_for_rest)

    def _ask_for_rest(self) -> None:
        assert self._events is not None
        self._timer = None
        if self.is_over:
            return
        self._events.begin_again()
        try:
            self._retry = Resumption(self, self._channel.heads.of_stream(self._events.last_id))
            self._channel.pool.send(self._retry)
        except ErlmcpError as error:
            self.fail(error)

    def resumption_failed(self, error: ErlmcpError, *, is_final: bool) -> None:
        self._retry = None
        if self.is_over:
            self._stop_timer()
        elif is_final:
            self.fail(error)
        else:
            self._resume(error)

    def refused_resumption(self, answer: Answer) -> None:
        """A server that does not know the session any more may still have acted on the request."""
        if answer.status == 404 and self.session:
            self._channel.end_session(None)
            return
        error = status_error(self._channel.url, answer)
        if not self._channel.authorize_aside(answer, partial(self._resume, error)):
            self.fail(error)


class Resumption(Exchange):
    """The rest of a stream that broke off, by GET and Last-Event-ID."""

    __slots__ = ("_post",)

    def __init__(self, post: Post, head: RequestHead) -> None:
        super().__init__(head, None, is_aside=True)
        self._post = post

    def answered(self, answer: Answer) -> None:
        if answer.status != 200 or answer.body is not None:
            self.is_over = True
            self._post.refused_resumption(answer)
            self.abandon()

    def part(self, data: bytes) -> None:
        self._post.part(data)
        if self._post.is_over:
            self.abandon()

    def ended(self) -> None:
        self.is_over = True
        error = ConnectionClosedError(f"{self._post.head.target} ended the resumed stream without an answer")
        self._post.resumption_failed(error, is_final=False)

    def lost(self, error: ErlmcpError, *, is_unsent: bool = False, is_stale: bool = False) -> None:
        if not self.is_over:
            self.is_over = True
            self._post.resumption_failed(error, is_final=False)

    def abandon(self) -> None:
        self.is_over = True
        if self.connection is not None:
            self.connection.abandon(self)
        else:
            self._post._channel.pool.drop(self)


class Word(Exchange):
    """A notification, an answer to the server, or the farewell: the server acknowledges it and says nothing else.

    ``done`` is called once, with what went wrong or None. Said twice it does no harm, so it is sent again where a kept
    connection was stale.
    """

    __slots__ = ("_done", "_pool", "_sent_count", "_timer")

    def __init__(
        self,
        head: RequestHead,
        body: bytes | None,
        pool: HttpPool,
        timeout_s: float,
        done: Callable[[ErlmcpError | None], None],
    ) -> None:
        super().__init__(head, body, is_aside=True)
        self._pool = pool
        self._done = done
        self._sent_count = 0
        self._timer = asyncio.get_running_loop().call_later(timeout_s, self._time_out, timeout_s)

    def sending(self) -> None:
        self._sent_count += 1

    def answered(self, answer: Answer) -> None:
        if answer.body is None and self.connection is not None:
            self.connection.abandon(self)
        self._end(None if 200 <= answer.status < 300 else status_error(self._pool.url, answer))

    def lost(self, error: ErlmcpError, *, is_unsent: bool = False, is_stale: bool = False) -> None:
        if self.is_over or not (is_unsent or is_stale) or not 0 < self._sent_count < SEND_COUNT_MAX:
            self._end(error)
            return
        try:
            self._pool.send(self)
        except ErlmcpError as again:
            self._end(again)

    def _time_out(self, timeout_s: float) -> None:
        what = f"no answer within exchange_timeout_s={timeout_s:g} to {self.head.verb} {self.head.target}"
        self.abandon(ConnectionClosedError(what))

    def abandon(self, error: ErlmcpError) -> None:
        if self.connection is not None:
            self.connection.abandon(self)
        else:
            self._pool.drop(self)
        self._end(error)

    def _end(self, error: ErlmcpError | None) -> None:
        if not self.is_over:
            self.is_over = True
            self._timer.cancel()
            self._done(error)


async def say_farewell(pool: HttpPool, head: RequestHead, timeout_s: float) -> None:
    """DELETE the session; a server may refuse that, or not be there any more."""
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def done(error: ErlmcpError | None) -> None:
        if not ended.done():
            ended.set_result(None)

    word = Word(head, None, pool, timeout_s, done)
    try:
        pool.send(word)
        await ended
    except ErlmcpError as error:
        word.abandon(error)
    finally:
        word.abandon(ConnectionClosedError("the channel was closed"))


def status_error(url: str, answer: Answer) -> HttpStatusError:
    """The answer as an error; for a 200, that it is neither JSON nor an event stream."""
    reason = answer.reason
    if answer.status == 200:
        reason += f" with Content-Type {kind_of(answer) or '(none)'} where JSON or an event stream belongs"
    elif 300 <= answer.status < 400:
        reason += f" to {answer.headers.get('location', '(nowhere)')}, which is not followed"
    body = answer.body or b""
    return HttpStatusError(answer.status, reason, url, body[:BODY_KEPT_BYTES], answer.headers)


def _code_of(call: Call) -> Any:
    error = call.error
    return error.get("code") if isinstance(error, dict) else None


def _begin_of(body: bytes) -> str:
    return repr(body[:80].decode(errors="replace"))


def make_inbound(limits: HttpLimits, correlation: core.Correlation, framing: str) -> core.Inbound:
    """What reads the messages of bodies and events."""
    bytes_max = max(limits.body_bytes_max, limits.event_bytes_max)
    return core.Inbound(
        None,
        correlation,
        framing=framing,
        message_bytes_max=bytes_max,
        string_bytes_max=bytes_max,
        depth_max=limits.depth_max,
    )
