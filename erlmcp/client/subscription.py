"""Hearing of changes: a ``subscriptions/listen`` stream (2026-07-28), or what a handshake era has for it."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
import weakref
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from erlmcp.client.channel import Request
from erlmcp.client.result import result_of
from erlmcp.errors import CallTimeoutError, ConnectionClosedError, ErlmcpError, LimitError
from erlmcp.spec import method as m
from erlmcp.spec.version import MODERN

if TYPE_CHECKING:
    from erlmcp.client.conversation import Conversation

log = logging.getLogger("erlmcp.client")

FLAG_OF = {
    m.TOOLS_CHANGED: "toolsListChanged",
    m.PROMPTS_CHANGED: "promptsListChanged",
    m.RESOURCES_CHANGED: "resourcesListChanged",
}
_keys = itertools.count(-1, -1)  # of subscriptions that are no request, and so have no id


class Event(NamedTuple):
    """One change. ``uri`` is the resource's, where it is one of a single resource."""

    method: str
    uri: str | None


class Subscription:
    """``async with client.listen(tools=True) as events: async for event in events: ...``

    The iteration ends where the server or ``aclose`` ends the stream, and raises ConnectionClosedError where the
    connection is lost. Not more than ``event_count_max`` events are kept for a reader that is slow: with the next one
    the stream ends in a LimitError. ``granted`` is what the server agreed to tell.
    """

    def __init__(
        self,
        connect: Callable[[], Coroutine[Any, Any, Conversation]],
        methods: frozenset[str],
        uris: frozenset[str],
        place: str = "",
    ) -> None:
        """``place``: of the program's text, where it is to be told of."""
        self._connect = connect
        self.place = place
        self._opened_s = time.monotonic()
        self.methods = methods
        self.uris = uris
        self.granted: dict[str, Any] = {}
        self._conversation: Conversation | None = None
        self._request: Request | None = None
        self._key = 0
        self._events: deque[Event] = deque()
        self._is_acknowledged = False
        self._is_over = False
        self._error: Exception | None = None
        self._wake: asyncio.Future[None] | None = None
        self._held: list[str] = []  # resources, in a handshake era
        self._releases: list[asyncio.Task[Any]] = []

    @property
    def is_over(self) -> bool:
        """Nothing more will come."""
        return self._is_over

    # -- what the conversation calls -----------------------------------------------------------------------------------

    def wants(self, method: str, params: dict[str, Any]) -> bool:
        return params.get("uri") in self.uris if method == m.RESOURCE_UPDATED else method in self.methods

    def told(self, method: str, params: dict[str, Any]) -> None:
        if method == m.ACKNOWLEDGED:
            granted = params.get("notifications")
            self.granted = granted if isinstance(granted, dict) else {}
            self._is_acknowledged = True
            self._stir()
            return
        conversation = self._conversation
        if self._is_over or conversation is None:
            return
        count_max = conversation.owner.limits.event_count_max
        if len(self._events) >= count_max:
            self._leave()
            self.finish(LimitError("event_count_max", count_max, "the reader of a subscription is too slow"))
            return
        uri = params.get("uri")
        self._events.append(Event(method, uri if isinstance(uri, str) else None))
        self._stir()

    def finish(self, error: Exception | None) -> None:
        if not self._is_over:
            self._is_over = True
            self._error = error
            if self._conversation is not None:
                self._conversation.subscriptions.pop(self._key, None)
            self._stir()

    def called_off(self) -> None:
        """The server ends the stream by a notification."""
        self._leave()
        self.finish(None)

    def _stir(self) -> None:
        wake, self._wake = self._wake, None
        if wake is not None and not wake.done():
            wake.set_result(None)

    # -- what the program calls ----------------------------------------------------------------------------------------

    async def open(self) -> Subscription:
        """Begin to listen. Raises McpError where the server refuses, CallTimeoutError where it is silent."""
        conversation = self._conversation = await self._connect()
        if conversation.era == MODERN:
            await self._listen(conversation)
        else:
            await self._subscribe(conversation)
        return self

    async def _listen(self, conversation: Conversation) -> None:
        wanted: dict[str, Any] = {flag: True for method, flag in FLAG_OF.items() if method in self.methods}
        if self.uris:
            wanted["resourceSubscriptions"] = sorted(self.uris)
        loop = asyncio.get_running_loop()
        self._request = request = Request(
            m.LISTEN, conversation.dress({"notifications": wanted}), loop.create_future(), is_idempotent=True
        )
        acknowledged = self._wake = loop.create_future()
        conversation.channel.send(request)
        self._key = request.id
        conversation.subscriptions[request.id] = self
        wait_s = conversation.owner.limits.timeout_s
        try:
            done, _ = await asyncio.wait(
                [acknowledged, request.future], timeout=wait_s, return_when=asyncio.FIRST_COMPLETED
            )
        except asyncio.CancelledError:
            self._leave()
            raise
        if not done:
            self._leave()
            raise CallTimeoutError("timeout_s", wait_s, m.LISTEN)
        if self._is_acknowledged:  # It may be over again by now, which the reader will hear after the events.
            request.future.add_done_callback(partial(_answered, weakref.ref(self)))
            return
        conversation.subscriptions.pop(self._key, None)
        if not request.future.cancelled():
            result_of(request.future.result(), m.LISTEN)
        self._is_over = True  # It had nothing to tell, and said so.

    async def _subscribe(self, conversation: Conversation) -> None:
        self._key = next(_keys)
        conversation.subscriptions[self._key] = self
        try:
            for uri in sorted(self.uris):
                await hold(conversation, uri)
                self._held.append(uri)
        except BaseException:
            self._leave()
            self._is_over = True
            raise
        self.granted = {FLAG_OF[method]: True for method in self.methods}
        if self._held:
            self.granted["resourceSubscriptions"] = list(self._held)

    def _leave(self) -> None:
        """Tell the server that nobody listens."""
        conversation = self._conversation
        if conversation is None or self._is_over:
            return
        conversation.subscriptions.pop(self._key, None)
        held, self._held = self._held, []
        self._releases += withdraw(conversation, self._request, held)

    def __del__(self) -> None:
        """Its program has dropped it and never closed it: say so, and end it."""
        conversation = getattr(self, "_conversation", None)
        if conversation is None or self._is_over or not (self._is_acknowledged or self._held):
            return
        self._is_over = True
        open_s = time.monotonic() - self._opened_s
        what = ", ".join(sorted(self.methods | self.uris))
        log.warning(
            "the subscription to %s of %s was dropped and never closed; it ends after %.0f s", what, self.place, open_s
        )
        conversation.call_soon(withdraw, conversation, self._request, self._held)

    async def aclose(self) -> None:
        """End it; a reader that waits gets the end of the iteration."""
        self._leave()
        self.finish(None)
        if self._releases:
            await asyncio.wait(self._releases)

    async def __aenter__(self) -> Subscription:
        return await self.open()

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Event:
        while not self._events:
            if self._is_over:
                if self._error is not None:
                    raise self._error
                raise StopAsyncIteration
            if self._conversation is None:
                raise ConnectionClosedError("the subscription is not open; use 'async with'")
            if self._wake is None:
                self._wake = asyncio.get_running_loop().create_future()
            self._conversation.readers.add(self)  # Nobody else need keep a task that waits here.
            try:
                await asyncio.wait([self._wake])
            finally:
                self._conversation.readers.discard(self)
        return self._events.popleft()


async def hold(conversation: Conversation, uri: str) -> None:
    """Subscribe to a resource in a handshake era, once for all who want it."""
    if uri not in conversation.uris:
        await conversation.ask(m.SUBSCRIBE, {"uri": uri})
    conversation.uris[uri] = conversation.uris.get(uri, 0) + 1


async def release(conversation: Conversation, uri: str) -> None:
    """Unsubscribe where nobody else wants it. Never raises: the server, or the connection, may be past caring."""
    count = conversation.uris.get(uri, 0)
    if count > 1:
        conversation.uris[uri] = count - 1
    elif conversation.uris.pop(uri, None) is not None:
        try:
            await conversation.ask(m.UNSUBSCRIBE, {"uri": uri})
        except ErlmcpError as error:
            log.debug("%s was not unsubscribed from: %s", uri, error)


def withdraw(conversation: Conversation, request: Request | None, held: list[str]) -> list[asyncio.Task[Any]]:
    """End a stream, and what was subscribed to for it; the tasks that do the latter."""
    if conversation.loss is not None:
        return []
    if request is not None:
        conversation.channel.cancel(request, "nobody listens any more")
        request.future.cancel()
    return [conversation.spawn(release(conversation, uri)) for uri in held]


def _answered(known: weakref.ref[Subscription], future: asyncio.Future[Any]) -> None:
    """The stream is over; whoever listened may be gone."""
    found = known()
    if found is None or future.cancelled():
        if found is not None:
            found.finish(None)
        elif not future.cancelled():
            future.exception()  # Looked at: it is nobody's.
        return
    error = future.exception()
    if error is None:
        try:
            result_of(future.result(), m.LISTEN)
        except Exception as refusal:
            error = refusal
    found.finish(error if isinstance(error, Exception) else None)
