"""The streams that a server speaks on by itself: the GET stream of a session, and that of the old pair of endpoints."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from erlmcp.client.http_connection import Answer, Exchange, RequestHead
from erlmcp.client.http_exchange import EventReader, status_error
from erlmcp.errors import ConnectionClosedError, ErlmcpError, InvalidAnswerError, LimitError

if TYPE_CHECKING:
    from erlmcp.client.http import HttpChannel
    from erlmcp.core import SseEvent

log = logging.getLogger("erlmcp.client.http")


class _Stream(Exchange):
    """A GET whose answer is an event stream."""

    __slots__ = ("_owner", "_timer", "events")

    def __init__(self, owner: Listener | OldPair, head: RequestHead, events: EventReader, timeout_s: float) -> None:
        super().__init__(head, None)
        self.events = events
        self._owner = owner
        self._timer: asyncio.TimerHandle | None = asyncio.get_running_loop().call_later(timeout_s, self._time_out)

    def answered(self, answer: Answer) -> None:
        self._stop_timer()
        if answer.status != 200 or answer.body is not None:
            self.is_over = True
            self._leave()
            self._owner.refused(answer)
        else:
            self._owner.opened()

    def part(self, data: bytes) -> None:
        for event in self.events.feed(data):
            if self.is_over:
                return
            if isinstance(event, LimitError):
                log.warning("an event was dropped: %s", event)
            else:
                self._owner.event(event)

    def ended(self) -> None:
        self.lost(ConnectionClosedError("the server ended the stream"))

    def lost(self, error: ErlmcpError, *, is_unsent: bool = False, is_stale: bool = False) -> None:
        self._stop_timer()
        if not self.is_over:
            self.is_over = True
            self._owner.broken(error, was_open=self.connection is not None)

    def abandon(self) -> None:
        self.is_over = True
        self._stop_timer()
        self._leave()

    def _leave(self) -> None:
        if self.connection is not None:
            self.connection.abandon(self)

    def _time_out(self) -> None:
        self.abandon()
        self._owner.broken(ConnectionClosedError("exchange_timeout_s passed before the stream began"), was_open=False)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Listener:
    """The standalone stream of a session: opened again whenever it ends, after the time that the server asked for."""

    __slots__ = ("_channel", "_events", "_failed_count", "_is_closed", "_stream", "_timer")

    def __init__(self, channel: HttpChannel) -> None:
        self._channel = channel
        self._events = EventReader(channel.limits.event_bytes_max)
        self._failed_count = 0
        self._is_closed = False
        self._stream: _Stream | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ask()

    def _ask(self) -> None:
        channel = self._channel
        self._timer = None
        self._events.begin_again()
        head = channel.heads.of_stream(self._events.last_id)
        self._stream = _Stream(self, head, self._events, channel.limits.exchange_timeout_s)
        try:
            channel.pool.send_apart(self._stream)
        except ErlmcpError as error:
            log.debug("no stream from %s: %s", channel.url, error)
            self.close()
            channel.listening()

    def opened(self) -> None:
        self._channel.authorized_aside()
        self._channel.listening()

    def event(self, event: SseEvent) -> None:
        self._failed_count = 0
        if event.event == "message" and event.data:
            self._channel.read(event.data, None)

    def refused(self, answer: Answer) -> None:
        """A server need not have this stream (405); then there is none."""
        self._stream = None
        log.debug("no stream: %s", status_error(self._channel.url, answer))
        if answer.status == 404:
            self._channel.end_session(None)
        elif answer.status >= 500:
            self._again()
        else:
            self._channel.authorize_aside(answer, self._authorized)
        self._channel.listening()

    def _authorized(self) -> None:
        """There is another token."""
        if not self._is_closed:
            self._again()

    def broken(self, error: ErlmcpError, *, was_open: bool) -> None:
        self._stream = None
        self._again()
        self._channel.listening()

    def _again(self) -> None:
        limits = self._channel.limits
        wait_s = min(self._channel.retry_s(self._events) * 2 ** min(self._failed_count, 16), limits.retry_s_max)
        self._failed_count += 1
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._ask)

    def close(self) -> None:
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._stream is not None:
            self._stream.abandon()
            self._stream = None


class OldPair:
    """The HTTP+SSE transport of 2024-11-05: everything that the server says comes on one stream, whose first event
    names where to POST. With the stream the conversation ends."""

    __slots__ = ("_channel", "_is_known", "_stream")

    def __init__(self, channel: HttpChannel) -> None:
        self._channel = channel
        self._is_known = False
        limits = channel.limits
        self._stream = _Stream(
            self, channel.heads.of_stream(""), EventReader(limits.event_bytes_max), limits.exchange_timeout_s
        )
        channel.pool.send_apart(self._stream)

    def opened(self) -> None:
        """It says where to POST in its first event."""

    def event(self, event: SseEvent) -> None:
        if event.event == "endpoint" and not self._is_known:
            target = self._target_of(event.data.decode(errors="replace").strip())
            if target is None:
                self._stream.abandon()
                error = f"{self._channel.url} names an endpoint of another origin: {event.data[:200]!r}"
                self._channel.no_old_pair(InvalidAnswerError(error))
            else:
                self._is_known = True
                self._channel.begin_old(target)
        elif event.event == "message" and event.data:
            self._channel.read(event.data, None)

    def _target_of(self, text: str) -> str | None:
        """The path of the named endpoint, which must be of our own origin: credentials go there."""
        base = urlsplit(self._channel.url)
        found = urlsplit(urljoin(self._channel.url, text))
        if (found.scheme, found.netloc) != (base.scheme, base.netloc) or not text.isascii() or not text.isprintable():
            return None
        return (found.path or "/") + (f"?{found.query}" if found.query else "")

    def refused(self, answer: Answer) -> None:
        self._channel.no_old_pair(None)

    def broken(self, error: ErlmcpError, *, was_open: bool) -> None:
        if self._is_known:
            self._channel.end_old(error)
        else:
            self._channel.no_old_pair(None)

    def close(self) -> None:
        self._stream.abandon()
