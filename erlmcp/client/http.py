"""Streamable HTTP, as a client: a POST per request, its answer as JSON or as an event stream.

2026-07-28: requests that know nothing of each other; a closed stream cancels. Handshake revisions: a session that the
server names, a stream of its own that the client keeps open by GET, streams that are resumed where they broke off, a
DELETE at the end; a 404 for the session ends the conversation. A server of 2024-11-05, which refuses the POST of
``initialize``, is asked for its pair of endpoints.

Nothing here is a task: exchanges are driven by what arrives, waits are timers. Every request is in the correlation
until it ends, so the loss of the session, the deadline, an answer on whatever stream, and the end of the channel each
find it there, and the first of them takes it out.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from erlmcp import core
from erlmcp.client.channel import weakly
from erlmcp.client.following import take_overdue
from erlmcp.client.http_auth import status_of, warden_of
from erlmcp.client.http_bundle import Bundle, Turn, turn_of
from erlmcp.client.http_connection import Answer
from erlmcp.client.http_detour import Detours
from erlmcp.client.http_endpoint import make_endpoint
from erlmcp.client.http_exchange import EventReader, Post, Word, make_inbound, say_farewell
from erlmcp.client.http_head import Heads
from erlmcp.client.http_limit import HttpLimits
from erlmcp.client.http_pool import HttpPool
from erlmcp.client.http_stream import Listener, OldPair
from erlmcp.client.tls import Tls
from erlmcp.errors import (
    CallTimeoutError,
    ConfigurationError,
    ConnectionClosedError,
    ErlmcpError,
    HttpStatusError,
    InvalidAnswerError,
    LimitError,
    SessionLostError,
)
from erlmcp.flags import Flags
from erlmcp.spec import key
from erlmcp.spec import method as methods
from erlmcp.spec.version import LEGACY, MODERN

if TYPE_CHECKING:
    from erlmcp.client.channel import Front, Request
    from erlmcp.core import Call
    from erlmcp.errors import McpError

log = logging.getLogger("erlmcp.client.http")

REQUEST, NOTIFICATION, RESULT, ERROR, BATCH = 1, 2, 3, 4, 5  # core.Call.kind


class HttpChannel(Detours):
    """A way to the server at ``url``. For one event loop.

    ``headers`` go with every request (``Authorization`` among them). ``tls`` says whom to trust and what to show; an
    ``ssl.SSLContext`` is taken as it is. ``http2``: with https it is offered, where the library is installed, unless
    this is False; with http it is spoken if this is True. ``unix`` is the path of a socket that stands in place of host
    and port. A ``pool`` may be shared by channels whose endpoint is equal, credentials included; who made it closes it.
    ``auth`` is a token, or what gets tokens (docs/client-auth.md). With ``json_rpc_batch``, where 2025-03-26 is spoken,
    the requests of a turn of the loop are one array.
    ``trust_env``: the environment's proxies are used. A channel that was closed can be opened again.
    """

    is_http = True

    def __init__(
        self,
        url: str,
        *,
        headers: dict[str, str] | None = None,
        tls: Tls | ssl.SSLContext | None = None,
        http2: bool | None = None,
        unix: str | None = None,
        limits: HttpLimits | None = None,
        pool: HttpPool | None = None,
        flags: Flags | None = None,
        json_rpc_batch: bool = False,
        trust_env: bool = True,
        auth: Any = None,
    ) -> None:
        self.url = url
        self.flags = flags = flags or (pool.flags if pool is not None else Flags.load())
        offered = http2 if flags.http2 else False
        self.endpoint = make_endpoint(url, headers=headers, tls=tls, http2=offered, unix=unix, trust_env=trust_env)
        if pool is not None and pool.endpoint != self.endpoint:
            raise ConfigurationError(f"the pool is for another endpoint, or other credentials, than {url}")
        self._owns_pool = pool is None
        self.pool = pool or HttpPool(self.endpoint, limits, flags)
        self.limits = limits = limits or self.pool.limits
        proxy = None if self.endpoint.is_tunnelled else self.endpoint.proxy
        authority, keeps = self.endpoint.authority, flags.keepalive
        self.heads = Heads(url, authority, headers or {}, is_kept_alive=keeps, proxy=proxy)
        self._warden = warden_of(self, auth, headers or {}, pool)
        self._correlation = core.Correlation(limits.inflight_count_max)
        self._inbound = make_inbound(limits, self._correlation, "newline")
        self._inbound_of_lines = make_inbound(limits, self._correlation, "content_length")
        self._out = core.Outbound(framing="none", bytes_max=limits.request_bytes_max, depth_max=limits.depth_max)
        self._front: Front | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ns = 0
        self._held: list[Post] | None = None  # until the server has acknowledged that the handshake is over
        self._refused: list[Post] = []  # as their session is not known ...
        self._ending: asyncio.TimerHandle | None = None  # ... and until when others may learn whether they are, too
        self._words: set[Word] = set()
        self._listener: Listener | None = None
        self._awaited: asyncio.TimerHandle | None = None  # until when the listener's stream is waited for
        self._old: OldPair | None = None
        self._old_asks: Post | None = None
        self.json_rpc_batch = json_rpc_batch and limits.batch_count_max > 1
        self._turn: Turn | None = None  # where requests go in arrays
        self._is_closed = False

    def use_flags(self, flags: Flags) -> None:
        """Other flags, from the next request on; ``prewarm`` and ``http2`` from the next channel."""
        self.flags = flags
        self.heads.keep_alive(flags.keepalive)
        self._turn = turn_of(self)
        if self._owns_pool:
            self.pool.use_flags(flags)

    # ---- the channel, as its client sees it

    async def open(self, front: Front) -> None:
        if self._is_closed:
            if self._owns_pool:
                self.pool = HttpPool(self.endpoint, self.limits, self.flags)
            self.heads.forget()
            self._is_closed = False
        self._front = front
        if self._owns_pool:
            self.pool.watch(self)
        try:
            if self._warden is not None:
                await self._warden.begin()
            if self.flags.prewarm:
                await self.pool.warm()
        except BaseException:
            await self.aclose()
            raise

    def send(self, request: Request) -> None:
        if self._is_closed:
            raise ConnectionClosedError(f"the channel to {self.url} was closed")
        heads = self.heads
        head = heads.kept.get((request.method, request.name)) if request.headers is None else None
        if head is None:
            head = heads.of_request(request)
        post = Post(self, request, head, b"", heads.session)
        post.is_aside = request.method in methods.PROBES
        deadline_ns = request.deadline_ns
        if len(self._correlation) >= self.limits.inflight_count_max:
            raise LimitError("inflight_count_max", self.limits.inflight_count_max, f"too many wait for {self.url}")
        request.id = id = self._correlation.put_next(post, deadline_ns)
        try:
            self._out.request(id, request.method, request.params)
            post.body = self._out.take()
            if self._turn is None:
                self.dispatch(post)
            else:
                self._turn.add(post)
        except BaseException:
            self._correlation.take(id)
            raise
        if deadline_ns is not None and (self._timer is None or deadline_ns < self._timer_ns):
            self._arm(deadline_ns)

    def dispatch(self, post: Post) -> None:
        if self._held is not None:
            self._held += post.members
        elif self._warden is None or self._warden.admits(post):
            self.pool.send(post)

    def dispatch_all(self, posts: list[Post]) -> None:
        """Send them in one array. Those that cannot be sent fail."""
        first = posts[0]
        try:
            self.dispatch(first if len(posts) == 1 else Bundle(self, posts, first.head))
        except ErlmcpError as error:
            for post in posts:
                post.fail(error)

    def notify(self, method: str, params: dict[str, Any] | None) -> None:
        if self._is_closed:
            return
        self._out.notification(method, params)
        self._say(method, self._out.take())

    def answer(self, id_raw: bytes, result: object, error: McpError | None = None) -> None:
        if self._is_closed:
            return
        if error is None:
            self._out.result(id_raw, result)
        else:
            self._out.error(id_raw, error.code, error.message, error.data)
        self._say("", self._out.take())

    def cancel(self, request: Request, reason: str) -> None:
        post = self._correlation.take(request.id)
        if isinstance(post, Post):
            self._give_up(post, reason)

    def negotiated(self, era: str, version: str) -> None:
        self.heads.set(era=era, version=version)
        self._turn = turn_of(self)

    async def aclose(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            if self._warden is not None:
                self._warden.close()
            self._lose(ConnectionClosedError(f"the channel to {self.url} was closed"))
            self._stop_streams()
            for word in [*self._words]:
                word.abandon(ConnectionClosedError("the channel was closed"))
            if self._timer is not None:
                self._timer.cancel()
            if self.heads.session:
                head = self.heads.of_farewell()
                self.heads.set(session="")
                await say_farewell(self.pool, head, self.limits.close_timeout_s)
        if self._owns_pool:
            await self.pool.aclose()

    def stats(self) -> dict[str, int | float]:
        return {**self.pool.stats(), "inflight_count": len(self._correlation)}

    # ---- what arrives

    def read(self, data: bytes, post: Post | None) -> None:
        """One message of the server's, or a batch of them; ``post`` is what it should answer."""
        if b"\n" in data:
            calls = self._inbound_of_lines.feed(b"Content-Length: %d\r\n\r\n%b" % (len(data), data))
        else:
            calls = self._inbound.feed(data + b"\n")
        for call in calls:
            self._take(call, post)

    def _take(self, call: Call, post: Post | None) -> None:
        kind = call.kind
        if kind in (RESULT, ERROR):
            found: Any = call.pending
            if found is None and call.id is None and kind == ERROR and post is not None and not post.is_over:
                self.forget(post)
                post.settle(call)
            elif found is not None:
                found.settle(call)
                if found is not post and (post is None or found.bundle is not post):
                    self._drop_elsewhere(found)
                if self._ending is not None:
                    self.ended()
        elif kind == BATCH:
            for item in call.items:
                self._take(item, post)
        elif kind in (REQUEST, NOTIFICATION):
            if self._front is not None and not self._is_closed:
                try:
                    ((post.request.told if post is not None else None) or self._front.received)(call)
                except Exception:
                    log.exception("what %s sent could not be handled", self.url)
        elif post is not None and not post.is_over:
            post.fail(InvalidAnswerError(f"{self.url} answered {post.request.method} with no message: {call.message}"))
            post.abandon()
        elif post is None:
            log.warning("%s sent no message: %s", self.url, call.message)

    def _drop_elsewhere(self, post: Post) -> None:
        """It was answered on another stream than its own, which need not go on; unless all answers come on another."""
        if self._old is None:
            post.abandon()

    def forget(self, post: Post) -> None:
        """It ended badly."""
        for each in post.members:
            self._correlation.take(each.request.id)
        if self._ending is not None:
            asyncio.get_running_loop().call_soon(self.ended)

    # ---- words without an answer

    def _say(self, method: str, body: bytes, *, is_again: bool = False) -> None:
        head = self.heads.of_word(method)
        is_start = method == methods.INITIALIZED and self.heads.era != MODERN
        session, shown = self.heads.session, self.heads.authorization
        if is_start and self._held is None:
            self._held = []

        def done(error: ErlmcpError | None) -> None:
            self._words.discard(word)
            if self._warden is not None and not is_again and not self._is_closed:
                again = partial(self._say, method, body, is_again=True)
                if self._warden.refused_aside(shown, *status_of(error), again):
                    return
            if error is None:
                self.authorized_aside()
            if isinstance(error, HttpStatusError) and error.status == 404 and session and session == self.heads.session:
                self.end_session(None)
            elif error is not None and not self._is_closed:
                log.warning("%s was not taken: %s", method or "an answer", error)
            if is_start:
                self._begin_work()

        word = Word(head, body, self.pool, self.limits.exchange_timeout_s, done)
        self._words.add(word)
        try:
            self.pool.send(word)
        except ErlmcpError as error:
            word.abandon(error)

    def _begin_work(self) -> None:
        """The handshake is over: listen to what the server says by itself, and send what was held back.

        In that order: a question that belongs to no stream goes to this one, and a server that has none yet drops it.
        So what was held back waits for it, for ``listen_wait_s`` at most: some servers send its head with its first
        event only.
        """
        if self._ending is not None:
            return
        if self.heads.session and self._listener is None and self._old is None and not self._is_closed:
            self._awaited = asyncio.get_running_loop().call_later(self.limits.listen_wait_s, self.listening)
            self._listener = Listener(self)
        else:
            self._release()

    def listening(self) -> None:
        """The listener has its stream, or will have none, or takes too long."""
        if self._awaited is not None:
            self._stop_waiting()
            self._release()

    def _stop_waiting(self) -> None:
        if self._awaited is not None:
            self._awaited.cancel()
            self._awaited = None

    def _release(self) -> None:
        held, self._held = self._held or [], None
        send = self.dispatch if self._turn is None else self._turn.add
        for post in held:
            if not post.is_over:
                try:
                    send(post)
                except ErlmcpError as error:
                    post.fail(error)

    # ---- the session

    def begin_session(self, answer: Answer) -> None:
        """Keep the name that the server gave the session: visible ASCII, or it cannot be sent back."""
        name = answer.headers.get(key.HEADER_SESSION, "")
        if name and not (name.isascii() and name.isprintable() and " " not in name):
            log.warning("%s names a session that cannot be sent back: %r", self.url, name[:80])
            name = ""
        self.heads.set(session=name)

    def end_session(self, post: Post | None) -> None:
        """The server knows the session no more, as it said to ``post`` or to something else.

        What it refused for that was not acted on, so it may be sent again; of what else is in flight only its own
        answer tells. So the end waits for those answers, for ``linger_s``, and what comes meanwhile is held back.
        """
        if post is not None:
            post.request.is_sent = False
            if post.session != self.heads.session:
                post.fail(self._loss())  # of the session before this one
                return
            self._refused += post.members
        if self.heads.session and self._ending is None:
            self._ending = asyncio.get_running_loop().call_later(self.limits.linger_s, self._end_now)
            self._stop_streams()
            self._held = self._held or []
        self.ended()

    def ended(self) -> None:
        """A request ended: if the session's end waited for it, it waits no more."""
        if self._ending is not None and len(self._correlation) <= len(self._refused) + len(self._held or ()):
            self._end_now()

    def _end_now(self) -> None:
        if self._ending is not None:
            self._ending.cancel()
            self._ending = None
            self._end_conversation(self._loss())

    def _loss(self) -> SessionLostError:
        return SessionLostError(f"{self.url} does not know the session any more")

    def _end_conversation(self, error: ErlmcpError) -> None:
        self._stop_streams()
        self.heads.forget()
        self._lose(error)
        if self._front is not None and not self._is_closed:
            self._front.lost(error)

    def _lose(self, error: ErlmcpError) -> None:
        """Fail every request in one pass."""
        self._held = None
        self._refused.clear()
        if self._ending is not None:
            self._ending.cancel()
            self._ending = None
        for _, post in self._correlation.drain():
            assert isinstance(post, Post)
            post.fail(error)
            post.abandon()

    def _stop_streams(self) -> None:
        self._stop_waiting()
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        if self._old is not None:
            self._old.close()
            self._old = None

    def may_resume(self) -> bool:
        return self.heads.era != MODERN and not self._is_closed

    def retry_s(self, events: EventReader) -> float:
        wait_s = self.limits.retry_s if events.retry_ms is None else events.retry_ms / 1000
        return min(wait_s, self.limits.retry_s_max)

    # ---- time

    def due_again(self, post: Post, left_ns: int) -> None:
        """Its time stood still, and goes on: this is what is left."""
        request = post.request
        if self._correlation.take(request.id) is not None:
            request.deadline_ns = due_ns = time.monotonic_ns() + max(0, left_ns)
            self._correlation.put(request.id, post, due_ns)
            if self._timer is None or due_ns < self._timer_ns:
                self._arm(due_ns)

    def _arm(self, deadline_ns: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_ns = deadline_ns
        wait_s = max(0.0, (deadline_ns - time.monotonic_ns()) / 1e9)
        self._timer = asyncio.get_running_loop().call_later(wait_s, weakly(self._expire))

    def _expire(self) -> None:
        self._timer = None
        for _, post in take_overdue(self._correlation, time.monotonic_ns()):
            post.request.fail(CallTimeoutError("timeout_s", post.request.timeout_s, post.request.method))
            self._give_up(post, "no answer in time")
        if (next_ns := self._correlation.next_deadline_ns()) is not None:
            self._arm(next_ns)

    def _give_up(self, post: Post, reason: str) -> None:
        """Close its stream, which says it all in 2026-07-28; the handshake revisions have a word for it."""
        is_told = post.request.is_sent and self.heads.era == LEGACY and post.request.method != methods.INITIALIZE
        post.abandon()
        if is_told and not self._is_closed:
            self.notify(methods.CANCELLED, {"requestId": post.request.id, "reason": reason})
