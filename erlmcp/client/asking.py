"""How a client gets its answers: connected when it must be, asked again when it may be, round after round."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from time import monotonic_ns
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from erlmcp.client.bound import ClientLimits
from erlmcp.client.channel import Channel, Request
from erlmcp.client.conversation import COMPLETE, SECOND_NS, Conversation, Progress, check_input_required
from erlmcp.client.flow import Ask
from erlmcp.client.following import Following
from erlmcp.client.guarding import Guarded
from erlmcp.client.question import Questions
from erlmcp.client.result import result_of
from erlmcp.client.target import HttpOptions, make_channel
from erlmcp.errors import (
    CallTimeoutError,
    ConnectionClosedError,
    InvalidAnswerError,
    LimitError,
)
from erlmcp.flags import Flags
from erlmcp.runtime.within import DEADLINE, shortened_s
from erlmcp.spec.version import LEGACY

if TYPE_CHECKING:
    from erlmcp.client.watching import Watching
    from erlmcp.core import Call
    from erlmcp.metrics.recorder import Recorder

WAIT_S_MAX: Final = 1e9  # an infinity is a number too
BACKOFF_S: Final = 0.05  # before a round that has nothing but a requestState; twice as long each time ...
BACKOFF_S_MAX: Final = 0.25  # ... up to this


class Asking:
    """The lower half of ``Client``: connecting, and requests to their results."""

    mode: str
    flags: Flags
    client_info: dict[str, Any]
    log_level: str | None
    questions: Questions
    _on_progress: Progress | None
    _reconnect: bool

    def __init__(self, target: Any, limits: ClientLimits, metrics: Recorder | None = None) -> None:
        self.watching = None if metrics is None else self.watched(metrics)
        self.limits = limits
        self._target = target
        self._conversation: Conversation | None = None
        self._opening: asyncio.Task[Conversation] | None = None
        self._waiting_count = 0  # for the opening
        self._closing: asyncio.Task[None] | None = None
        self._leaving: dict[asyncio.Task[None], Channel] = {}  # lost ones, on their way out
        self._is_wanted = False  # between connect and aclose
        self._loss: Exception | None = None
        self._guarded: Guarded | None = None
        self._direct: Any = None  # how simple tools of a server of this process are called
        self._short: Ask | None = None  # how plain calls are made over a byte stream

    @staticmethod
    def watched(metrics: Recorder | None = None) -> Watching:
        """What tells of the requests of one client."""
        from erlmcp.client.watching import Watching  # only for who asks for it

        return Watching(metrics)

    def _make_target(self, flags: Flags, http: HttpOptions, json_rpc_batch: bool) -> None:
        made = make_channel(self._target, self.limits, http, flags, json_rpc_batch=json_rpc_batch)
        self._make, self.name = made

    # -- who the server is ---------------------------------------------------------------------------------------------

    @property
    def is_connected(self) -> bool:
        return self._conversation is not None

    @property
    def channel(self) -> Channel | None:
        """The way to the server, while there is one."""
        return None if self._conversation is None else self._conversation.channel

    @property
    def era(self) -> str:
        """ "modern" (2026-07-28) or "legacy" (the handshake revisions); "" while there is no connection."""
        return "" if self._conversation is None else self._conversation.era

    @property
    def protocol_version(self) -> str:
        return "" if self._conversation is None else self._conversation.version

    @property
    def server_info(self) -> dict[str, Any]:
        """The server's Implementation."""
        return {} if self._conversation is None else self._conversation.server_info

    @property
    def server_capabilities(self) -> dict[str, Any]:
        return {} if self._conversation is None else self._conversation.capabilities

    @property
    def instructions(self) -> str | None:
        return None if self._conversation is None else self._conversation.instructions

    @property
    def _is_http(self) -> bool:
        return self._conversation is not None and self._conversation.channel.is_http

    # -- connecting ----------------------------------------------------------------------------------------------------

    async def connect(self) -> Self:
        """Connect, where that is not done already; from any task.

        Raises ConnectionClosedError where the server cannot be reached (ServerExitedError where it was started and
        ended), NegotiationError where no revision is common, CallTimeoutError where it is silent for
        ``connect_timeout_s``, HttpStatusError. Nothing is left open then.
        """
        if self._closing is not None:
            await asyncio.wait([self._closing])
        self._is_wanted = True
        self._loss = None
        try:
            await self._conversing()
        except BaseException:
            self._is_wanted = self._conversation is not None or self._waiting_count > 0
            raise
        return self

    async def aclose(self) -> None:
        """Close the connection and all that belongs to it; from any task, more than once. Calls in flight fail."""
        self._is_wanted = False
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close())
        await asyncio.wait([self._closing])

    async def __aenter__(self) -> Self:
        return await self.connect()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _conversing(self) -> Conversation:
        """The conversation, begun where there is none."""
        if self._conversation is not None:
            return self._conversation
        if not self._is_wanted:
            raise ConnectionClosedError(f"{self.name}: not connected; use 'async with', or connect()")
        if self._loss is not None and not self._reconnect:
            raise ConnectionClosedError(f"{self.name}: {self._loss}")
        if self._opening is None:
            self._opening = asyncio.get_running_loop().create_task(self._open())
            self._opening.add_done_callback(self._opened)
        opening = self._opening
        self._waiting_count += 1
        try:
            await asyncio.wait([opening])
        except asyncio.CancelledError:
            if self._waiting_count == 1:  # Nobody else waits for it.
                opening.cancel()
            raise
        finally:
            self._waiting_count -= 1
        if opening.cancelled():
            raise ConnectionClosedError(f"{self.name}: the client was closed")
        return opening.result()

    def _opened(self, task: asyncio.Task[Conversation]) -> None:
        self._opening = None
        if not task.cancelled():
            task.exception()  # Who waits for it looks; if nobody does any more, it is nobody's.

    async def _open(self) -> Conversation:
        mode = self.mode
        for is_last in (False, True):
            channel = self._make()
            limit_s = self.limits.connect_timeout_s + getattr(channel, "login_s", 0.0)
            leaving = [task for task, other in self._leaving.items() if other is channel]
            if leaving:  # A channel that was given ready-made is opened again, and must be closed for that.
                await asyncio.wait(leaving)
            conversation = Conversation(self, channel)  # type: ignore[arg-type]  # Client is its owner
            try:
                async with asyncio.timeout(limit_s):
                    await conversation.begin(mode)
                if conversation.loss is not None:  # In the same read as the last word of the handshake.
                    raise conversation.loss
                self._forget()
                self._loss = None
                self._use(conversation)
                self._begun(conversation)
                return conversation
            except BaseException as error:
                await conversation.aclose()
                if isinstance(error, TimeoutError) and not isinstance(error, CallTimeoutError):
                    raise CallTimeoutError("connect_timeout_s", limit_s, "the handshake") from None
                is_retry = isinstance(error, ConnectionClosedError) and conversation.is_probing and mode == "auto"
                if is_last or not is_retry or conversation.channel.is_http:
                    raise
                mode = LEGACY  # Servers there are that end at a request they do not know.
        raise AssertionError("unreachable")

    def _use(self, conversation: Conversation | None) -> None:
        """From here on this is the conversation, with what short ways it has."""
        self._conversation = conversation
        self._direct = self._short = None
        if self.watching is not None:
            self.watching.use(conversation)
        elif conversation is not None and self._guarded is None:
            direct = getattr(conversation.channel, "direct", None)
            self._direct = None if direct is None else direct(conversation.version)
            self._short = conversation.short_way() if self._on_progress is None else None

    def _forget(self) -> None:
        """A conversation ended, or another one begins."""

    def _begun(self, conversation: Conversation) -> None:
        """It can be used."""

    def lost(self, conversation: Conversation, error: Exception) -> None:
        """The conversation ended by itself; the next call begins another."""
        self._loss = error
        if self._conversation is conversation:
            self._use(None)
            self._forget()
            task = asyncio.get_running_loop().create_task(conversation.aclose())
            self._leaving[task] = conversation.channel
            task.add_done_callback(self._leaving.pop)

    async def _close(self) -> None:
        try:
            if self._opening is not None:
                self._opening.cancel()
                await asyncio.wait([self._opening])
            conversation = self._conversation
            self._use(None)
            if conversation is not None:
                await conversation.aclose()
            if self._leaving:
                await asyncio.wait(list(self._leaving))
        finally:
            self._closing = None

    # -- asking --------------------------------------------------------------------------------------------------------

    async def request(
        self,
        method: str,
        params: Mapping[str, Any] | None = None,
        *,
        timeout_s: float | None = None,
        on_progress: Progress | None = None,
        is_idempotent: bool = False,
    ) -> dict[str, Any]:
        """Any request, and its result object as it came: an ``input_required`` result too. Raises McpError for an
        error answer. An ``is_idempotent`` one is sent again where the connection was lost under it."""
        given = None if params is None else dict(params)
        meta = None if given is None else given.pop("_meta", None)
        return await self._once(method, given, None, timeout_s, on_progress, meta, is_idempotent)

    async def notify(self, method: str, params: Mapping[str, Any] | None = None) -> None:
        """Any notification."""
        conversation = await self._conversing()
        conversation.channel.notify(method, None if params is None else dict(params))

    async def _answer(self, request: Request) -> Call:
        """The answer to what was sent the short way; cancelled, the request is taken back."""
        try:
            return await request.future
        except asyncio.CancelledError:
            if self._conversation is not None:
                self._conversation.channel.cancel(request, "no longer wanted")
            raise

    async def _once(
        self,
        method: str,
        params: dict[str, Any] | None,
        name: str | None = None,
        timeout_s: float | None = None,
        on_progress: Progress | None = None,
        meta: dict[str, Any] | None = None,
        again: bool = False,
        headers: dict[str, str] | None = None,
    ) -> dict[str, Any]:
        """One request and its result, within the guards where there are some."""
        send = self._send if self.watching is None else partial(self.watching.send, self._send)
        if self._guarded is None:
            return await send(method, params, name, timeout_s, on_progress, meta, again, headers)

        async def once(timeout_s: float | None) -> dict[str, Any]:
            return await send(method, params, name, timeout_s, on_progress, meta, again, headers)

        found: dict[str, Any]
        found = await self._guarded.ask(self.flags, once, timeout_s, self.limits.timeout_s, again)
        return found

    @property
    def _hard_s(self) -> float:
        """As far as progress may extend the time of a request."""
        guard = None if self._guarded is None else self._guarded.guard
        if guard is None or guard.timeout is None or not guard.is_timing:
            return self.limits.timeout_s_max
        return min(self.limits.timeout_s_max, guard.timeout.rule.hard_s)

    async def _send(
        self,
        method: str,
        params: dict[str, Any] | None,
        name: str | None,
        timeout_s: float | None,
        on_progress: Progress | None,
        meta: dict[str, Any] | None,
        again: bool,
        headers: dict[str, str] | None,
    ) -> dict[str, Any]:
        """One request and its result; a second time over a new connection, where the first was lost under it and the
        server did not get it, or may get it again."""
        wait_s = self.limits.timeout_s if timeout_s is None else min(timeout_s, WAIT_S_MAX)
        if DEADLINE.get() is not None:
            wait_s = shortened_s(wait_s, method)
        progress = on_progress or self._on_progress
        is_second = False
        while True:
            conversation = self._conversation or await self._conversing()
            following = None if progress is None else Following(progress, self._hard_s)
            token = None if following is None else conversation.follow(following)
            request = Request(
                method,
                conversation.dress(params, meta, token),
                conversation.create_future(),
                name,
                headers,
                monotonic_ns() + int(wait_s * SECOND_NS),
                wait_s,
                again,
            )
            if following is not None:
                following.use(request)
            try:
                conversation.send(request)
                try:
                    call = await request.future
                except asyncio.CancelledError:
                    conversation.channel.cancel(request, "no longer wanted")
                    raise
                return result_of(call, method)
            except CallTimeoutError as error:
                raise error if following is None else following.named(error) from None
            except ConnectionClosedError:
                may_again = again or not request.is_sent
                if is_second or not may_again or not self._reconnect or not self._is_wanted:
                    raise
                is_second = True  # Over another connection; over HTTP perhaps within the same conversation.
            finally:
                if token is not None:
                    conversation.progress.pop(token, None)

    async def _ask(
        self,
        method: str,
        params: dict[str, Any] | None,
        name: str | None = None,
        timeout_s: float | None = None,
        on_progress: Progress | None = None,
        meta: dict[str, Any] | None = None,
        again: bool = False,
        headers: dict[str, str] | None = None,
    ) -> dict[str, Any]:
        """The final result of a request, whatever the server asks before."""
        result = await self._once(method, params, name, timeout_s, on_progress, meta, again, headers)
        if result.get("resultType", COMPLETE) == COMPLETE:
            return result
        return await self._finish(result, method, params, name, timeout_s, on_progress, meta, again, headers)

    async def _finish(
        self, result: dict[str, Any], method: str, params: dict[str, Any] | None, *options: Any
    ) -> dict[str, Any]:
        """Answer the server's questions, at most ``input_round_max`` times; the final result."""
        if self.era == LEGACY:
            return result  # The word means nothing there.
        backoff_s = BACKOFF_S
        for _ in range(self.limits.input_round_max):
            check_input_required(result, method)
            asked = result.get("inputRequests")
            more: dict[str, Any] = {}
            if isinstance(asked, dict) and asked:
                more["inputResponses"] = await self._responses(asked)
            elif "requestState" in result:
                await asyncio.sleep(backoff_s)
                backoff_s = min(2 * backoff_s, BACKOFF_S_MAX)
            else:
                raise InvalidAnswerError(f"{method} needs input, and says neither which nor a state")
            if "requestState" in result:
                more["requestState"] = result["requestState"]
            result = await self._once(method, {**(params or {}), **more}, *options)
            if result.get("resultType", COMPLETE) == COMPLETE:
                result.pop("ttlMs", None)  # What was made of answers is not kept.
                return result
        raise LimitError("input_round_max", self.limits.input_round_max, f"{method} asks again and again")

    async def _responses(self, asked: dict[str, Any]) -> dict[str, Any]:
        """The answers to a round's questions, asked side by side. Raises what a handler raises: McpError."""
        questions = []
        for name, item in asked.items():
            if not isinstance(item, dict) or not isinstance(item.get("method"), str):
                raise InvalidAnswerError(f"the input request {name!r} names no method")
            questions.append(self.questions.answer(item["method"], item.get("params")))
        return dict(zip(asked, await asyncio.gather(*questions), strict=True))

    async def _pages(self, method: str, field: str) -> tuple[list[Any], Any]:
        """(all items of a list, the shortest ttlMs of its pages)."""
        found: list[Any] = []
        ttls: list[Any] = []
        params: dict[str, Any] | None = None
        for _ in range(self.limits.page_count_max):
            page = await self._ask(method, params, again=True)
            items = page.get(field)
            if not isinstance(items, list):
                raise InvalidAnswerError(f"the result of {method} has no list of {field}")
            found += items
            ttls.append(page.get("ttlMs"))
            cursor = page.get("nextCursor")
            if not isinstance(cursor, str):
                return found, min((ttl if isinstance(ttl, int | float) else 0 for ttl in ttls), default=0)
            params = {"cursor": cursor}
        raise LimitError("page_count_max", self.limits.page_count_max, f"{method} has no end")
