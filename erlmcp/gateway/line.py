"""One conversation with an upstream: as whom it is held, and who hears what comes on it.

A *shared* line declares no capabilities, so that its upstream asks nothing, and what is said on it belongs to calls by
their ids and progress tokens alone. A line of one handshake session (``session``), or one that is lent to one call,
declares what that client declared; what is said on it is that client's. Over HTTP the stream that a message comes on
tells whose it is, whoever shares the line.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from erlmcp import core
from erlmcp.client.bound import ClientLimits
from erlmcp.client.conversation import NOTIFICATION, REQUEST, Conversation
from erlmcp.client.question import Questions
from erlmcp.errors import (
    SERVER_BUSY,
    CallTimeoutError,
    ConnectionClosedError,
    ErlmcpError,
    McpError,
    MethodNotFoundError,
)
from erlmcp.spec import key
from erlmcp.spec import method as m
from erlmcp.spec.version import LEGACY, MODERN, MODERN_VERSIONS

if TYPE_CHECKING:
    from erlmcp.client.channel import Channel
    from erlmcp.core import Call
    from erlmcp.gateway.forward import Forward
    from erlmcp.gateway.upstream import Upstream
    from erlmcp.runtime.session import Session
    from erlmcp.wire.peer import Peer

log = logging.getLogger("erlmcp.gateway")

INFO: Final = {"name": "erlmcp-gateway", "version": "0.1.0"}
INTERACTIVE: Final = ("elicitation", "sampling", "roots")
QUESTIONS: Final = frozenset({m.ELICIT, m.SAMPLE, m.ROOTS_LIST})


@dataclass(frozen=True, slots=True)
class Voice:
    """As whom a line speaks: the JSON texts of the capabilities that are declared and of what the client is."""

    capabilities: bytes = b"{}"
    info: bytes = field(default=b"", compare=False)
    log_level: str | None = None

    @property
    def is_quiet(self) -> bool:
        return self.capabilities == b"{}" and self.log_level is None


QUIET: Final = Voice()


def voice_of(peer: Peer, log_level: str | None) -> Voice:
    """That of a client: what it can be asked, and from which level on it wants logs."""
    asked = {name: peer.capabilities[name] for name in INTERACTIVE if isinstance(peer.capabilities.get(name), dict)}
    return Voice(core.encode(asked), core.encode(peer.info or INFO), log_level)


class Declared(Questions):
    """What a client declared, as the revision of an upstream writes it. Who answers is not here."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        super().__init__()
        self.given = given

    def capabilities(self, version: str) -> dict[str, Any]:
        return fit_capabilities(self.given, version)


def fit_capabilities(given: Mapping[str, Any], version: str) -> dict[str, Any]:
    """ClientCapabilities without what a revision does not know."""
    found = dict(given)
    if version in MODERN_VERSIONS:
        found.pop("tasks", None)
        if "roots" in found:
            found["roots"] = {}
        return found
    found.pop("extensions", None)
    if version < "2025-06-18":
        found.pop("elicitation", None)
    elif version < "2025-11-25":
        found.update({name: {} for name in ("elicitation", "sampling") if name in found})
    return found


class Talk(Conversation):
    """A conversation whose messages go where its line says."""

    def __init__(self, line: Line, channel: Channel) -> None:
        super().__init__(line, channel)
        self.line = line

    def received(self, call: Call) -> None:
        try:
            if not self.line.heard_by_somebody(call, None):
                super().received(call)
        except Exception:
            log.exception("what %s sent could not be handled", self.line.upstream.name)


class Line:
    """The owner of one conversation. ``forwards`` are the calls that wait on it, the oldest first."""

    watching = None  # what is recorded of upstreams is told by the forwards

    def __init__(
        self, upstream: Upstream, voice: Voice = QUIET, session: Session | None = None, *, index: int | None = None
    ) -> None:
        self.upstream = upstream
        self.index = index  # of the instance that it leads to; None: not chosen yet
        self.voice = voice
        self.session = session  # the handshake session that it belongs to
        self.is_lent = False  # to one call
        self.limits: ClientLimits = upstream.limits
        self.questions: Questions = Declared(core.decode(voice.capabilities))
        self.client_info: dict[str, Any] = core.decode(voice.info) if voice.info else INFO
        self.log_level = voice.log_level
        self.forwards: dict[Forward, None] = {}
        self.tokens: dict[int, Forward] = {}
        self.talk: Talk | None = None
        self.is_modern = False
        self.is_http = False
        self.answer_count = 0
        self.unreached_count = self.unreached_at = 0  # connections that were refused since an answer, and since which
        self.gone: asyncio.Future[str] = asyncio.get_running_loop().create_future()  # and why
        self._token = 0

    @property
    def is_shared(self) -> bool:
        return self.session is None and not self.is_lent

    @property
    def conversation(self) -> Talk:
        talk = self.talk
        if talk is None:
            raise ConnectionClosedError(f"{self.upstream.name}: the connection is not open")
        return talk

    async def open(self) -> None:
        """Connect and agree on a revision, within ``start_timeout_s``. Nothing is left behind where it fails."""
        limit_s = self.upstream.config.start_timeout_s
        mode = self.upstream.config.mode
        for is_last in (False, True):
            talk = Talk(self, self.upstream.make_channel(self))
            try:
                async with asyncio.timeout(limit_s):
                    await talk.begin(mode)
                if talk.loss is not None:
                    raise talk.loss
                if self.gone.done():
                    raise ConnectionClosedError(f"{self.upstream.name}: {self.gone.result()}")
                self.talk = talk
                self.is_modern, self.is_http = talk.era == MODERN, talk.channel.is_http
                return
            except BaseException as error:
                await talk.aclose()
                if isinstance(error, TimeoutError) and not isinstance(error, CallTimeoutError):
                    raise CallTimeoutError("start_timeout_s", limit_s, "the handshake") from None
                is_retry = isinstance(error, ConnectionClosedError) and talk.is_probing and mode == "auto"
                if is_last or not is_retry or talk.channel.is_http:
                    raise
                mode = LEGACY  # Servers there are that end at a request they do not know.

    async def aclose(self) -> None:
        talk, self.talk = self.talk, None
        if not self.gone.done():
            self.gone.set_result("it was closed")
        if talk is not None:
            await talk.aclose()

    def give_back(self, *, is_whole: bool = True) -> None:
        """A call that it was lent to is over, or was not made; not whole where the upstream may go on with it."""
        if self.is_lent:
            self.upstream.give_back(self, is_whole=is_whole)

    def take_token(self, forward: Forward) -> int:
        """A progress token of this line's own, which stands for the client's."""
        self._token += 1
        self.tokens[self._token] = forward
        return self._token

    def tell_level(self, level: str) -> None:
        """From which level on logs are wanted. Nobody waits for the answer."""
        self.log_level = level
        request = self.conversation.make(m.SET_LEVEL, {"level": level})
        request.future.add_done_callback(lambda future: future.cancelled() or future.exception())
        with suppress(ErlmcpError):
            self.conversation.channel.send(request)

    # -- what the conversation tells, as its owner ---------------------------------------------------------------------

    def heard(self, conversation: Conversation, method: str, params: dict[str, Any]) -> None:
        """A notification that nothing else here is for."""
        if method == m.TASK_STATUS:
            self.upstream.gateway.service.tasks.told(self, params)
        elif self.session is not None:
            self.upstream.gateway.service.teller.session(self, method, params)

    def noise(self, text: str) -> None:
        log.debug("%s wrote what is no message: %s", self.upstream.name, text)

    def changed(self, method: str, params: dict[str, Any]) -> None:
        self.upstream.hearing.changed(self, method, params)

    def lost(self, conversation: Conversation, error: Exception) -> None:
        if conversation is self.talk:  # Not the one that ended at the question of which era it is.
            if not self.gone.done():
                self.gone.set_result(str(error))
            self.upstream.lost(self)

    # -- what belongs to a call or a session ---------------------------------------------------------------------------

    def heard_by_somebody(self, call: Call, forward: Forward | None) -> bool:
        """Whether a message of the upstream's had its place; ``forward`` is the call on whose stream it came."""
        teller = self.upstream.gateway.service.teller
        if call.kind == NOTIFICATION:
            if call.method == m.PROGRESS:
                teller.progress(self, call)
            elif call.method == m.MESSAGE:
                teller.log(self, call, forward or self.one_of_its_own())
            elif call.method == m.CANCELLED:
                return teller.withdraw(self, call, forward or self.one_of_its_own())
            else:
                return False
            return True
        if call.kind == REQUEST and call.method in QUESTIONS and not self.is_modern:
            teller.question(self, call, forward or self.one_of_its_own())
            return True
        return False

    def one_of_its_own(self) -> Forward | None:
        """The oldest call of the one client whose line this is; None where it is shared."""
        return None if self.is_shared else next(iter(self.forwards), None)

    def answer_none(self, call: Call) -> None:
        self.conversation.channel.answer(call.id_raw, None, MethodNotFoundError(call.method or ""))


def log_level_of(peer: Peer, session_level: str | None) -> str | None:
    """From which level on a client wants logs; None for one that said nothing."""
    return peer.log_level if peer.modern else session_level


def is_wanted(level: Any, least: str | None) -> bool:
    rank = key.LOG_RANK.get(level, 0) if isinstance(level, str) else 0
    return least is None or rank >= key.LOG_RANK[least]


def is_open(task: asyncio.Task[Line]) -> bool:
    """Whether a task has opened a line that is there still."""
    return not task.cancelled() and task.exception() is None and not task.result().gone.done()


async def joined(task: asyncio.Task[Line]) -> Line:
    """The task's line, for one of several who wait; who leaves does not take it from the others."""
    await asyncio.wait([task])
    if task.cancelled():
        raise McpError(SERVER_BUSY, "the connection was closed")
    return task.result()


def take_idle(
    resting: dict[Voice, list[Line]],
    spoken: dict[Voice, asyncio.Task[Line]],
    owned: dict[Session, asyncio.Task[Line]],
) -> Line | None:
    """Out of an upstream's lines, to make room for another: those that are gone, and where nothing is, one that waits
    for calls, as clients can make up as many voices as they like."""
    kept: tuple[dict[Any, asyncio.Task[Line]], ...] = (spoken, owned)
    gone = [(tasks, place) for tasks in kept for place, task in tasks.items() if task.done() and not is_open(task)]
    for tasks, place in gone:
        del tasks[place]
    group = next(filter(None, resting.values()), None)
    if gone:
        return None
    if group is not None:
        return group.pop(0)
    for voice, task in spoken.items():
        if task.done() and not task.result().forwards:
            return spoken.pop(voice).result()
    return None
