"""One conversation with one server: its era, its handshake, and what the server says by itself.

Which era it is (2026-07-28, basic/versioning) is found out by asking ``server/discover`` with a modern ``_meta``: a
DiscoverResult, or an error that only modern servers have, is modern; any other error, and over a byte stream silence,
is a server of the handshake era. Over HTTP silence is an outage, and so are statuses but 400, 404 and 405.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from erlmcp import core
from erlmcp.client.channel import Channel, Request
from erlmcp.client.flow import Ask, Flow
from erlmcp.client.following import Following
from erlmcp.client.result import AnswerResult, error_of, result_of
from erlmcp.errors import (
    HEADER_MISMATCH,
    INTERNAL_ERROR,
    MISSING_CLIENT_CAPABILITY,
    SERVER_BUSY,
    UNSUPPORTED_PROTOCOL_VERSION,
    CallTimeoutError,
    ConnectionClosedError,
    HttpStatusError,
    InvalidAnswerError,
    JsonError,
    LimitError,
    McpError,
    MethodNotFoundError,
    NegotiationError,
)
from erlmcp.spec import key
from erlmcp.spec import method as m
from erlmcp.spec.version import LATEST_LEGACY, LATEST_MODERN, LEGACY, LEGACY_VERSIONS, MODERN, MODERN_VERSIONS

if TYPE_CHECKING:
    from erlmcp.client.bound import ClientLimits
    from erlmcp.client.question import Questions
    from erlmcp.client.subscription import Subscription
    from erlmcp.client.watching import Watching
    from erlmcp.core import Call

log = logging.getLogger("erlmcp.client")

REQUEST, NOTIFICATION, ERROR = 1, 2, 4
SECOND_NS: Final = 1_000_000_000
MODERN_ERRORS: Final = frozenset({HEADER_MISMATCH, MISSING_CLIENT_CAPABILITY, UNSUPPORTED_PROTOCOL_VERSION})
LEGACY_STATUSES: Final = frozenset({400, 404, 405})
COMPLETE: Final = "complete"
NOISE_CHARS_SHOWN: Final = 200
CHANGED: Final = frozenset({m.TOOLS_CHANGED, m.PROMPTS_CHANGED, m.RESOURCES_CHANGED, m.RESOURCE_UPDATED})
Progress = Callable[[float, float | None, str | None], Any]


class Owner(Protocol):
    """The client, as its conversation sees it."""

    limits: ClientLimits
    questions: Questions
    client_info: dict[str, Any]
    log_level: str | None

    @property
    def watching(self) -> Watching | None:
        """Who is told of each request."""

    def heard(self, conversation: Conversation, method: str, params: dict[str, Any]) -> None:
        """A notification that belongs to no single call."""

    def noise(self, text: str) -> None:
        """The server wrote what is no message."""

    def changed(self, method: str, params: dict[str, Any]) -> None:
        """What was kept of the server's answers may not be true any more."""

    def lost(self, conversation: Conversation, error: Exception) -> None: ...


class Conversation:
    """The front of a channel. ``era``, ``version`` and what the server said of itself are there after ``begin``."""

    def __init__(self, owner: Owner, channel: Channel) -> None:
        self.owner = owner
        self.channel = channel
        self.era = ""
        self.version = ""
        self.loss: Exception | None = None  # why it is over, where it ended by itself
        self.is_probing = False  # asking a server of either era what it is
        self.server_info: dict[str, Any] = {}
        self.capabilities: dict[str, Any] = {}
        self.instructions: str | None = None
        self.meta: dict[str, Any] = {}  # of each request of 2026-07-28 ...
        self.ready_meta: core.Raw | None = None  # ... and its bytes
        self.progress: dict[int, Following] = {}
        self.readers: set[Subscription] = set()  # those that are waited at
        # Weakly: one that its program dropped is found, and ended.
        self.subscriptions: weakref.WeakValueDictionary[int, Subscription] = weakref.WeakValueDictionary()
        self.uris: dict[str, int] = {}  # of handshake eras: how many subscriptions are to a resource
        self.tasks: set[asyncio.Task[Any]] = set()
        self._answering: dict[str | int, asyncio.Task[Any]] = {}
        self._loop = asyncio.get_running_loop()
        self._token = 0
        self.create_future = self._loop.create_future
        self.send = channel.send

    # -- requests ------------------------------------------------------------------------------------------------------

    def make(
        self,
        method: str,
        params: dict[str, Any] | None,
        *,
        name: str | None = None,
        timeout_s: float | None = None,
        is_idempotent: bool = False,
    ) -> Request:
        """A request with its deadline, not sent yet. ``timeout_s`` None: the client's own."""
        wait_s = self.owner.limits.timeout_s if timeout_s is None else timeout_s
        return Request(
            method,
            params,
            self._loop.create_future(),
            name=name,
            deadline_ns=time.monotonic_ns() + int(wait_s * SECOND_NS),
            timeout_s=wait_s,
            is_idempotent=is_idempotent,
        )

    async def exchange(self, request: Request) -> Call:
        """Send a request and wait for its answer; cancelled, it is taken back."""
        watching = self.owner.watching
        return await (self.exchange_plainly(request) if watching is None else watching.exchange(self, request))

    async def exchange_plainly(self, request: Request) -> Call:
        """``exchange``, and nobody watches."""
        self.channel.send(request)
        try:
            return await request.future
        except asyncio.CancelledError:
            self.channel.cancel(request, "no longer wanted")
            raise

    async def ask(self, method: str, params: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
        """One request and its result, without any of the client's comforts."""
        return result_of(await self.exchange(self.make(method, self.dress(params), **options)), method)

    def dress(
        self, params: dict[str, Any] | None, extra: dict[str, Any] | None = None, token: int | None = None
    ) -> dict[str, Any] | None:
        """``params`` with the ``_meta`` that the revision wants, ``extra`` in it, and the token of its progress."""
        if extra is None and token is None:
            ready = self.ready_meta
            if ready is None:
                return params
            return {"_meta": ready} if params is None else {**params, "_meta": ready}
        meta = {**self.meta, **(extra or {})}
        if token is not None:
            meta[key.PROGRESS_TOKEN] = token
        return {**(params or {}), "_meta": meta}

    def follow(self, following: Following) -> int:
        """The token under which a request's progress will be told; ``progress.pop`` ends it."""
        self._token += 1
        self.progress[self._token] = following
        return self._token

    def short_way(self) -> Ask | None:
        """How plain tool calls are made from here on, where the channel has a short way."""
        channel = self.channel
        if Ask is None or not isinstance(channel, Flow):
            return None
        meta = None if self.ready_meta is None else core.encode(self.ready_meta)
        return Ask(channel, meta, self.owner.limits.timeout_s, AnswerResult)

    # -- the beginning -------------------------------------------------------------------------------------------------

    async def begin(self, mode: str) -> None:
        """Open the channel and find out how to talk. ``mode``: "auto", "legacy", or a revision.

        Raises NegotiationError where the revision is not spoken, else what the channel raises; nothing is closed then.
        """
        await self.channel.open(self)
        if mode == LEGACY or mode in LEGACY_VERSIONS:
            await self._initialize(LATEST_LEGACY if mode == LEGACY else mode, is_pinned=mode != LEGACY)
            return
        self.is_probing = True
        is_modern = await self._discover(is_pinned=mode != "auto")
        self.is_probing = False
        if not is_modern:
            await self._initialize(LATEST_LEGACY, is_pinned=False)

    def claim_modern(self) -> None:
        """Make the ``_meta`` of each request from what the client is and wants."""
        owner = self.owner
        self.meta = {
            key.PROTOCOL_VERSION: LATEST_MODERN,
            key.CLIENT_INFO: owner.client_info,
            key.CLIENT_CAPABILITIES: owner.questions.capabilities(LATEST_MODERN),
        }
        if owner.log_level is not None:
            self.meta[key.LOG_LEVEL] = owner.log_level
        self.ready_meta = core.Raw(core.encode(self.meta))
        self.channel.negotiated(MODERN, LATEST_MODERN)

    async def _discover(self, *, is_pinned: bool) -> bool:
        """Whether the server is modern; whatever else it is, is not known then."""
        limits = self.owner.limits
        self.claim_modern()
        wait_s = limits.connect_timeout_s if is_pinned or self.channel.is_http else limits.probe_timeout_s
        found: dict[str, Any] | None = None
        for _ in range(2):
            request = self.make(m.DISCOVER, self.dress(None), timeout_s=wait_s, is_idempotent=True)
            try:
                call = await self.exchange(request)
            except CallTimeoutError:
                if is_pinned or self.channel.is_http:
                    raise
                return self._is_not_modern()
            except HttpStatusError as error:
                if is_pinned or error.status not in LEGACY_STATUSES:
                    raise
                return self._is_not_modern()
            if call.kind != ERROR:
                found = result_of(call, m.DISCOVER)
                break
            refusal = error_of(call)
            if refusal.code not in MODERN_ERRORS:
                if is_pinned:
                    raise NegotiationError(f"the server does not speak {LATEST_MODERN}: {refusal}")
                return self._is_not_modern()
            offered = refusal.data.get("supported") if isinstance(refusal.data, dict) else None
            if refusal.code == UNSUPPORTED_PROTOCOL_VERSION and not _has_modern(offered):
                if is_pinned or not _has_legacy(offered):
                    raise NegotiationError(f"the server speaks {offered}, this client {list(MODERN_VERSIONS)}")
                return self._is_not_modern()
        if found is None or not _has_modern(found.get("supportedVersions")):
            if is_pinned:
                raise NegotiationError(f"the server does not offer {LATEST_MODERN} in its answer to server/discover")
            return self._is_not_modern()
        self.era, self.version = MODERN, LATEST_MODERN
        meta = found.get("_meta")
        self._introduce(found, meta.get(key.SERVER_INFO) if isinstance(meta, dict) else None)
        return True

    def _is_not_modern(self) -> bool:
        self.meta, self.ready_meta = {}, None
        self.channel.negotiated(LEGACY, "")
        return False

    async def _initialize(self, version: str, *, is_pinned: bool) -> None:
        params = {
            "protocolVersion": version,
            "capabilities": self.owner.questions.capabilities(version),
            "clientInfo": self.owner.client_info,
        }
        try:
            found = await self.ask(m.INITIALIZE, params, timeout_s=self.owner.limits.connect_timeout_s)
        except McpError as error:
            if error.code == UNSUPPORTED_PROTOCOL_VERSION and not is_pinned and await self._discover(is_pinned=True):
                return  # A modern server that was slow to answer the probe.
            raise NegotiationError(f"the server refused initialize: {error}") from error
        chosen = found.get("protocolVersion")
        if chosen not in LEGACY_VERSIONS or (is_pinned and chosen != version):
            raise NegotiationError(f"the server answered initialize with version {chosen!r}, {version} was asked for")
        self.era, self.version = LEGACY, chosen
        self._introduce(found, found.get("serverInfo"))
        self.channel.negotiated(LEGACY, chosen)
        self.channel.notify(m.INITIALIZED, None)
        if self.owner.log_level is not None and "logging" in self.capabilities:
            try:
                await self.ask(m.SET_LEVEL, {"level": self.owner.log_level})
            except McpError as error:
                log.warning("the server offers logging, and refuses a level: %s", error)

    def _introduce(self, found: dict[str, Any], info: Any) -> None:
        capabilities, instructions = found.get("capabilities"), found.get("instructions")
        self.server_info = info if isinstance(info, dict) else {}
        self.capabilities = capabilities if isinstance(capabilities, dict) else {}
        self.instructions = instructions if isinstance(instructions, str) else None

    # -- what the server says by itself --------------------------------------------------------------------------------

    def received(self, call: Call) -> None:
        """Never raises for what the server sent or a callback did."""
        try:
            if call.kind == NOTIFICATION:
                params = call.params
                self._hear(call.method or "", params if isinstance(params, dict) else {})
            elif call.kind == REQUEST:
                self._asked(call)
            else:
                self.owner.noise(call.raw[:NOISE_CHARS_SHOWN].decode(errors="replace") or call.message or "")
        except Exception:
            log.exception("what the server sent could not be handled")

    def _hear(self, method: str, params: dict[str, Any]) -> None:
        if method == m.PROGRESS:
            token = params.get(key.PROGRESS_TOKEN)
            following = self.progress.get(token) if isinstance(token, int) else None
            if following is not None:
                following.extend()
                total, message = params.get("total"), params.get("message")
                self.run(following.progress, params.get("progress", 0), total, message)
            return
        if method == m.CANCELLED:
            self._called_off(params.get("requestId"))
            return
        if method in CHANGED:
            self.owner.changed(method, params)
        if method in CHANGED or method == m.ACKNOWLEDGED:
            self._tell_subscriptions(method, params)
        if method != m.ACKNOWLEDGED:
            self.owner.heard(self, method, params)

    def _tell_subscriptions(self, method: str, params: dict[str, Any]) -> None:
        if self.era == MODERN:
            meta = params.get("_meta")
            id = meta.get(key.SUBSCRIPTION_ID) if isinstance(meta, dict) else None
            found = self.subscriptions.get(id) if isinstance(id, int) else None
            if found is not None:
                found.told(method, params)
            return
        for subscription in list(self.subscriptions.values()):
            if subscription.wants(method, params):
                subscription.told(method, params)

    def _called_off(self, id: Any) -> None:
        """The server ends a listen stream, or does not want the answer to its question any more."""
        if not isinstance(id, str | int):
            return
        task = self._answering.get(id)
        if task is not None:
            task.cancel()
        elif self.era == MODERN and isinstance(id, int):
            found = self.subscriptions.get(id)
            if found is not None:
                found.called_off()

    def _asked(self, call: Call) -> None:
        method = call.method or ""
        if self.era == MODERN:
            self.owner.noise(f"the server asked for {method}, which 2026-07-28 has not")
        elif method == m.PING:
            self.channel.answer(call.id_raw, {})
        elif method not in m.SERVER_REQUESTS.get(self.version or LATEST_LEGACY, ()):
            self.channel.answer(call.id_raw, None, MethodNotFoundError(method))
        elif len(self.tasks) >= self.owner.limits.task_count_max:
            busy = f"Client busy: task_count_max={self.owner.limits.task_count_max} questions are being answered"
            self.channel.answer(call.id_raw, None, McpError(SERVER_BUSY, busy))
        else:
            task = self.spawn(self._answer(call, method))
            if call.id is not None:
                id = call.id
                self._answering[id] = task
                task.add_done_callback(lambda _: self._answering.pop(id, None))

    async def _answer(self, call: Call, method: str) -> None:
        try:
            self.channel.answer(call.id_raw, await self.owner.questions.answer(method, call.params))
        except McpError as error:
            self.channel.answer(call.id_raw, None, error)
        except (JsonError, LimitError) as error:
            log.error("the answer to %s could not be written: %s", method, error)
            failed = McpError(INTERNAL_ERROR, f"the client's handler of {method} failed")
            self.channel.answer(call.id_raw, None, failed)

    # -- the program's callbacks ---------------------------------------------------------------------------------------

    def run(self, callback: Callable[..., Any], *args: Any) -> None:
        """Call a callback of the program's, in a task where it is a coroutine. What it raises is logged."""
        try:
            value = callback(*args)
        except Exception:
            log.exception("a callback failed")
            return
        if not inspect.isawaitable(value):
            return
        if len(self.tasks) < self.owner.limits.task_count_max:
            self.spawn(_guard(value))
        else:
            log.warning("a callback was not awaited: task_count_max=%d", self.owner.limits.task_count_max)
            if inspect.iscoroutine(value):
                value.close()

    def spawn(self, coro: Any) -> asyncio.Task[Any]:
        """A task that ends with the conversation at the latest."""
        task: asyncio.Task[Any] = self._loop.create_task(coro)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def call_soon(self, function: Callable[..., Any], *args: Any) -> None:
        """In the loop's next turn, from any thread; not where the loop is gone."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *args)

    # -- the end -------------------------------------------------------------------------------------------------------

    def lost(self, error: Exception) -> None:
        self.loss = error
        self._end(error)
        self.owner.lost(self, error)

    def _end(self, error: Exception) -> None:
        for subscription in list(self.subscriptions.values()):
            subscription.finish(error)
        self.progress.clear()
        for task in self.tasks:
            task.cancel()

    async def aclose(self) -> None:
        """End it and all that belongs to it."""
        self._end(ConnectionClosedError("the client closed the connection"))
        tasks = list(self.tasks)
        try:
            if tasks:
                await asyncio.wait(tasks, timeout=self.owner.limits.close_timeout_s)
        finally:
            await self.channel.aclose()


def _has_modern(versions: Any) -> bool:
    return isinstance(versions, list) and any(version in versions for version in MODERN_VERSIONS)


def _has_legacy(versions: Any) -> bool:
    return isinstance(versions, list) and any(version in versions for version in LEGACY_VERSIONS)


async def _guard(value: Any) -> None:
    try:
        await value
    except Exception:
        log.exception("a callback failed")


def check_input_required(result: dict[str, Any], method: str) -> None:
    """InvalidAnswerError where a result is neither final nor a question that this method may be answered with."""
    kind = result.get("resultType")
    if kind != "input_required" or method not in m.MULTI_ROUND:
        raise InvalidAnswerError(f"the result of {method} is of the unknown resultType {kind!r}")
