"""What is told of a client's requests: their durations to a recorder, their begins and ends to observers.

A client that is watched takes the general way for each request; one that is not pays nothing. A request counts from
where it is made until its answer is there: waiting for a connection, and a second attempt over another one, belong to
it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from erlmcp.client.result import result_of
from erlmcp.errors import ErlmcpError
from erlmcp.metrics.sent import Asked, Sent, Where, outcome_of
from erlmcp.spec.version import LEGACY

if TYPE_CHECKING:
    from erlmcp.client.channel import Channel, Request
    from erlmcp.client.conversation import Conversation
    from erlmcp.core import Call, Histogram
    from erlmcp.metrics.recorder import Recorder

NOWHERE: Where = "memory", "", ""


class Observer(Protocol):
    """Who is told of requests."""

    def begin(self, asked: Asked) -> None: ...
    def finished(
        self, asked: Asked, outcome: tuple[str, str], result: Any, error: BaseException | None, ns: int
    ) -> None: ...
    def session_ended(self, where: Where, version: str, ns: int) -> None: ...


class Watching:
    """The requests of one client. ``recorder`` may be one that others record into as well."""

    def __init__(self, recorder: Recorder | None = None) -> None:
        self.recorder = recorder
        self.observers: list[Observer] = []
        self._sent: Sent | None = None
        self._upstream: Histogram | None = None
        self._conversation: Conversation | None = None
        self._where = NOWHERE
        self._since_ns = 0
        if recorder is not None:
            self._sent, self._upstream = recorder.sent, recorder.point("upstream")

    # -- the conversation ----------------------------------------------------------------------------------------------

    def use(self, conversation: Conversation | None) -> None:
        """From here on this is the client's conversation."""
        before, self._conversation = self._conversation, conversation
        if before is conversation:
            return
        if before is not None:
            self._leave(before)
        if conversation is None:
            return
        self._since_ns = perf_counter_ns()
        self._where = where_of(conversation.channel)
        recorder, pool = self.recorder, getattr(conversation.channel, "pool", None)
        if recorder is not None:
            recorder.start(asyncio.get_running_loop())
            if pool is not None:
                pool.waited = recorder.point("pool").record
                recorder.holds.watch_pool(self._pool_name, pool)

    @property
    def _pool_name(self) -> str:
        return ":".join(("connections", *filter(None, self._where[1:])))

    def _leave(self, before: Conversation) -> None:
        if before.era == LEGACY:
            spent_ns = perf_counter_ns() - self._since_ns
            if self._sent is not None:
                self._sent.session(self._where, before.version, spent_ns)
            for observer in self.observers:
                observer.session_ended(self._where, before.version, spent_ns)
        recorder = self.recorder
        if recorder is not None:
            recorder.holds.pools.pop(self._pool_name, None)
            recorder.stop()

    # -- requests ------------------------------------------------------------------------------------------------------

    async def send(
        self,
        send: Callable[..., Awaitable[dict[str, Any]]],
        method: str,
        params: Any,
        name: str | None,
        timeout_s: float | None,
        on_progress: Any,
        meta: dict[str, Any] | None,
        *options: Any,
    ) -> dict[str, Any]:
        """``send``, watched."""

        async def make(extra: dict[str, Any]) -> dict[str, Any]:
            # Without a key of its own the request keeps the bytes of its _meta that are ready.
            given = {**extra, **(meta or {})} if extra else meta
            return await send(method, params, name, timeout_s, on_progress, given, *options)

        version = "" if self._conversation is None else self._conversation.version
        found: dict[str, Any] = await self._watched(Asked(method, name, params, self._where, version), make)
        return found

    async def exchange(self, conversation: Conversation, request: Request) -> Call:
        """A request of the conversation's own, say of the handshake, watched."""
        params: Any = request.params
        asked = Asked(request.method, request.name, params, where_of(conversation.channel), conversation.version)
        answer: list[Call] = []

        async def make(extra: dict[str, Any]) -> Any:
            if extra and (params is None or isinstance(params, dict)):
                request.params = conversation.dress({k: v for k, v in (params or {}).items() if k != "_meta"}, extra)
            answer.append(await conversation.exchange_plainly(request))
            return result_of(answer[0], request.method)

        try:
            await self._watched(asked, make)
        except ErlmcpError:
            if not answer:
                raise
        return answer[0]

    async def _watched(self, asked: Asked, make: Callable[[dict[str, Any]], Awaitable[Any]]) -> Any:
        for observer in self.observers:
            observer.begin(asked)
        began_ns = perf_counter_ns()
        result: Any = None
        error: BaseException | None = None
        try:
            result = await make(asked.meta)
        except BaseException as exc:
            error = exc
            raise
        finally:
            self._ended(asked, result, error, perf_counter_ns() - began_ns)
        return result

    def _ended(self, asked: Asked, result: Any, error: BaseException | None, spent_ns: int) -> None:
        outcome = outcome_of(result, error)
        if not asked.version and self._conversation is not None:  # it was made before there was one
            asked.version, asked.where = self._conversation.version, self._where
        if self._sent is not None and self._upstream is not None:
            self._sent.record(asked.method, asked.name, outcome, asked.where, asked.version, spent_ns)
            self._upstream.record(max(1, spent_ns))
        for observer in self.observers:
            observer.finished(asked, outcome, result, error, spent_ns)


def where_of(channel: Channel) -> Where:
    """How, and to whom, a channel leads."""
    url = getattr(channel, "url", None) if channel.is_http else getattr(channel, "address", None)
    if not isinstance(url, str):
        return getattr(channel, "kind", "memory"), "", ""
    if url.startswith("unix:"):
        return "unix", url.removeprefix("unix:"), ""
    parts = urlsplit(url)
    if not channel.is_http:
        return "tcp", parts.hostname or "", str(parts.port or "")
    pool: Any = getattr(channel, "pool", None)
    is_http2 = pool is not None and pool.is_http2
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return "http2" if is_http2 else "http", parts.hostname or "", str(port)
