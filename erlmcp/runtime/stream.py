"""Resumable event streams of legacy HTTP sessions (2025-03-26 to 2025-11-25, basic/transports: resumability).

Each stream numbers its events; the id of an event names its stream and its number, and is unique within the session.
A client that lost a stream comes back with the last id it saw and gets what came after it, on that stream only: other
sessions' events cannot be named, and other streams' are not replayed. Kept are at most ``event_count_max`` events of
a stream, the last few streams of a session, a stream that has ended for ``event_age_s``, and in a session some
megabytes of events, the oldest going first; the newest event is kept whatever its size.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Any

from erlmcp import core
from erlmcp.errors import JsonError, LimitError, NoBackChannelError

if TYPE_CHECKING:
    from erlmcp.runtime.reply import Reply

STREAM_COUNT_MAX = 32
EVENT_BYTES_MAX = 4 * 1024 * 1024
RETRY_MS = 500


class EventStream:
    """One stream: what was sent on it, and the reply that carries it now (None while the client is away)."""

    __slots__ = ("_events", "_kept", "_number", "_store", "ended", "ended_s", "id", "primes", "reply")

    def __init__(self, id: str, event_count_max: int, store: StreamStore, *, primes: bool) -> None:
        self.id = id
        self.primes = primes
        self._number = 0
        self._kept = event_count_max
        self._store = store
        self._events: deque[tuple[int, bytes]] = deque()
        self.ended_s: float | None = None  # when it was first seen to have ended
        self.reply: Reply | None = None
        self.ended = False

    def attach(self, reply: Reply, after: int | None = None) -> None:
        """Let a reply carry the stream; with ``after`` it first gets the events behind that number."""
        self.reply = reply
        reply.gone = self._lost
        if after is None:
            if self.primes:
                reply.send(core.frame_sse(b"", event=None, id=f"{self.id}-0", retry_ms=RETRY_MS))
            return
        for number, event in list(self._events):
            if number > after:
                reply.send(event)
        if self.ended:
            self.release()

    def push(self, message: bytes) -> None:
        """Send one JSON message, and keep it for a client that comes back."""
        if not self._kept:
            if self.reply is not None:
                self.reply.send(core.frame_sse(message))
            return
        self._number += 1
        event = core.frame_sse(message, id=f"{self.id}-{self._number}")
        self._events.append((self._number, event))
        self._store.kept_bytes += len(event)
        if len(self._events) > self._kept:
            self.forget_oldest()
        self._store.trim(self)
        if self.reply is not None:
            self.reply.send(event)

    def forget_oldest(self) -> None:
        self._store.kept_bytes -= len(self._events.popleft()[1])

    def forget_all(self) -> None:
        """Keep nothing any more: the store does not know the stream."""
        while self._events:
            self.forget_oldest()
        self._kept = 0

    @property
    def event_count(self) -> int:
        return len(self._events)

    def release(self) -> None:
        """End the HTTP answer; the stream itself goes on."""
        reply, self.reply = self.reply, None
        if reply is not None:
            reply.gone = None
            reply.finish()

    def end(self) -> None:
        """The last message was pushed."""
        self.ended = True
        self.release()

    def beat(self) -> None:
        if self.reply is not None:
            self.reply.send(b":\n\n")

    def _lost(self) -> None:
        self.reply = None


class StreamStore:
    """The streams of one session."""

    __slots__ = ("_event_count_max", "_next", "_streams", "kept_bytes", "standalone")

    def __init__(self, event_count_max: int) -> None:
        self._event_count_max = event_count_max  # 0: nothing is kept
        self._next = 0
        self.kept_bytes = 0
        self._streams: OrderedDict[str, EventStream] = OrderedDict()
        self.standalone: StandaloneChannel | None = None

    def make(self, *, primes: bool) -> EventStream:
        self._next += 1
        stream = EventStream(
            f"s{self._next:x}", self._event_count_max, self, primes=primes and self._event_count_max > 0
        )
        if self._event_count_max:
            self._streams[stream.id] = stream
            while len(self._streams) > STREAM_COUNT_MAX:
                self._drop_oldest()
        return stream

    def _drop_oldest(self) -> None:
        oldest = next(iter(self._streams))
        self._drop(next((id for id, stream in self._streams.items() if stream.reply is None), oldest))

    def _drop(self, id: str) -> None:
        self._streams.pop(id).forget_all()

    def trim(self, newest: EventStream) -> None:
        """Make room for the event that ``newest`` got just now."""
        if self.kept_bytes <= EVENT_BYTES_MAX:
            return
        for stream in self._streams.values():
            while self.kept_bytes > EVENT_BYTES_MAX and stream.event_count > (stream is newest):
                stream.forget_oldest()

    def expire(self, now_s: float, age_s: float) -> None:
        """Forget the streams that have ended so long ago."""
        for id, stream in list(self._streams.items()):
            if stream.ended and stream.ended_s is None:
                stream.ended_s = now_s
            elif stream.ended_s is not None and now_s - stream.ended_s >= age_s:
                self._drop(id)

    def find(self, event_id: str) -> tuple[EventStream, int] | None:
        """The stream that an event id belongs to, and the event's number; None where it is not one of this
        session's."""
        name, dash, number = event_id.rpartition("-")
        stream = self._streams.get(name)
        if stream is None or not dash or not number.isascii() or not number.isdigit() or len(number) > 18:
            return None
        return stream, int(number)

    @property
    def is_open(self) -> bool:
        """Whether the client has the GET stream open."""
        return self.standalone is not None and self.standalone.stream.reply is not None

    def close(self) -> None:
        for stream in list(self._streams.values()):
            stream.release()
        if self.standalone is not None:
            self.standalone.stream.release()
        self._streams.clear()


class StandaloneChannel:
    """Messages of a session that belong to no request: the stream that the client opened by GET."""

    __slots__ = ("_out", "stream")

    kind = "http"

    def __init__(self, stream: EventStream) -> None:
        self.stream = stream
        self._out = core.Outbound(framing="none")

    def notify(self, method: str, params: dict[str, Any] | None) -> None:
        try:
            self._out.notification(method, params)
        except (JsonError, LimitError):
            return
        self.stream.push(self._out.take())

    def ask(self, id: int, method: str, params: dict[str, Any] | None) -> None:
        if self.stream.reply is None:
            raise NoBackChannelError(f"{method} cannot be sent: the client's GET stream is closed")
        self._out.request(id, method, params)
        self.stream.push(self._out.take())

    def _no_answers(self, *_: object) -> None:
        raise NoBackChannelError("answers do not travel on the GET stream")

    fill = result = error = whole = drop = _no_answers

    def detach(self) -> None:
        self.stream.release()

    def beat(self) -> None:
        self.stream.beat()
